"""HCL as `terraform fmt` writes it, for what is put into a file of variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# A map that begins with a bare `for` is a for expression; the others are values.
_NOT_BARE = {"for", "in", "if", "null", "true", "false"}
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def attribute(key: str, value: Any, indent: str = "") -> list[str]:
    """The lines of `key = value`. A map takes a line for each of its members, an empty one a single line."""
    if not isinstance(value, Mapping) or not value:
        return [indent + attribute_line(key, value)]
    return [f"{indent}{bare_key(key)} = {{", *_members(value, f"{indent}  "), f"{indent}}}"]


def attribute_line(key: str, value: Any) -> str:
    """`key = value` in one line, whatever the value."""
    return f"{bare_key(key)} = {one_line(value)}"


def one_line(value: Any) -> str:
    """Any value in one line."""
    if isinstance(value, Mapping):
        members = ", ".join(attribute_line(key, item) for key, item in value.items())
        return f"{{ {members} }}" if members else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(one_line, value))}]"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def quoted(text: str) -> str:
    """A string that holds exactly `text`: neither escapes nor templates in it mean anything."""
    inner = "".join(_ESCAPES.get(char) or (char if char.isprintable() else _numbered(char)) for char in text)
    return '"' + inner.replace("${", "$${").replace("%{", "%%{") + '"'


def bare_key(key: str) -> str:
    """A key without quotes where it needs none."""
    return key if _BARE.fullmatch(key) and key not in _NOT_BARE else quoted(key)


def _members(members: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Plain ones below each other with their `=` in one column, each map after an empty line."""
    plain = {bare_key(key): value for key, value in members.items() if not isinstance(value, Mapping) or not value}
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        yield f"{indent}{name.ljust(width)} = {one_line(value)}"
    is_first = not plain
    for key, value in members.items():
        if isinstance(value, Mapping) and value:
            if not is_first:
                yield ""
            is_first = False
            yield from attribute(key, value, indent)


def _numbered(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
