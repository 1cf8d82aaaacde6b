"""Adds an entry to a map in a tfvars file, or removes one. No other byte of the file is changed.

The layout of an added entry tells how it was added, so that removing it restores the same bytes. Lines are those of
`masked`: a comment over several lines counts as one, and has no bracket.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.files import FileEdit, read_file
from refinerctl.terraform.hcl import HclFile

if TYPE_CHECKING:
    from lark import Tree

# A map that begins with a bare `for` is a for expression; the other words are values.
_NOT_BARE = {"for", "in", "if", "null", "true", "false"}
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
_BOM = b"\xef\xbb\xbf"
_INDENT = "  "

MARKER = "# Replaces the default in the stack's variables.tf, and includes its entries."


def add_entry(path: Path, attribute: str, key: str, value: Mapping[str, Any], defaults: Mapping[str, Any]) -> FileEdit:
    """Add `key = value` to the map `attribute`, which has no such key yet.

    If the file does not set `attribute`, its `defaults` are written too: they would be lost otherwise.
    Raises RefinerctlError, with line and column, for a file that does not parse or whose `attribute` is not a map.
    """
    return _edited(path, attribute, key, value, defaults)


def remove_entry(path: Path, attribute: str, key: str, defaults: Mapping[str, Any]) -> FileEdit:
    """Remove `key` from the map `attribute`, with the comments right above it. Raises what `add_entry` does."""
    return _edited(path, attribute, key, None, defaults)


def _edited(path: Path, name: str, key: str, value: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> FileEdit:
    """`value` None removes the entry."""
    before = read_file(path)
    content = before or b""
    mark = _BOM if content.startswith(_BOM) else b""
    try:
        text = content.removeprefix(_BOM).decode()
    except UnicodeDecodeError:
        raise RefinerctlError(f"{path} is not UTF-8") from None
    newline = newline_of(text, 0)
    block = newline.join([MARKER, *attribute(name, defaults)])
    file = HclFile(path, text)
    if name not in file.variables():
        file = HclFile(path, _with_block(text, block, newline))
    values = file.variables()
    (tree,) = (child for child in file.children() if file.name_of(child) == name)
    place = _Map(file, tree)
    if value is not None:
        after = place.with_entry(key, value)
        wanted = {**values, name: {**values[name], key: value}}
    else:
        after = place.without_entry(key)
        entries = {other: entry for other, entry in values[name].items() if other != key}
        wanted = {**values, name: entries}
        if entries == defaults and (shorter := _without_block(after, block, newline)) is not None:
            del wanted[name]
            after = shorter
    if _values(path, after) != wanted:
        raise RefinerctlError(f"{path} has a layout that cannot be edited safely", hint="Edit it by hand.")
    return FileEdit(path, before, mark + after.encode())


def _values(path: Path, text: str) -> Any:
    """None if the edit has made the file invalid."""
    try:
        return HclFile(path, text).variables()
    except RefinerctlError:
        return None


def _with_block(text: str, block: str, newline: str) -> str:
    """`text` with the defaults at its end."""
    if not text or text.endswith("\n"):
        return f"{text}{newline if text else ''}{block}{newline}"
    return f"{text}{newline}{newline}{block}"


def _without_block(text: str, block: str, newline: str) -> str | None:
    """`text` without what `_with_block` has added; None if it has added nothing."""
    if text == block + newline:
        return ""
    if text.endswith(f"\n{newline}{block}{newline}"):
        return text.removesuffix(f"{newline}{block}{newline}")
    if text.endswith(f"{newline}{newline}{block}"):
        return text.removesuffix(f"{newline}{newline}{block}")
    return None


class _Map:
    """A map in the text of a file, and its layout."""

    def __init__(self, file: HclFile, attribute: Tree[Any]) -> None:
        self._file = file
        self._text, self._masked = file.text, file.masked
        self._attribute = attribute
        tree = file.map_of(attribute)
        self._open = tree.meta.start_pos  # of the opening brace
        self._close = tree.meta.end_pos - 1  # of the closing one
        self._elements = list(self._find(tree))
        self._newline = newline_of(self._text, self._open)

    def _find(self, tree: Tree[Any]) -> Iterator[_Element]:
        for child, following in pairwise(tree.children):
            if getattr(child, "data", None) == "object_elem":
                own_end = child.meta.end_pos
                end = following.end_pos if following == "," else own_end  # type: ignore[union-attr]  # a token, then
                yield _Element(self._file.key_of(child), child.meta.start_pos, own_end, end)

    def with_entry(self, key: str, value: Mapping[str, Any]) -> str:
        at, new = self._addition(key, value)
        return self._text[:at] + new + self._text[at:]

    def _addition(self, key: str, value: Mapping[str, Any]) -> tuple[int, str]:
        """Where to add which text: lines of its own, unless `terraform fmt` would then reformat its neighbours."""
        line, last = attribute_line(key, value), self._elements[-1] if self._elements else None
        block = self._newline.join(attribute(key, value, _INDENT))
        comma = "," if last and last.has_comma else ""
        closing_line = self._line_start(self._close)
        if not self._masked[closing_line : self._close].strip():
            return closing_line, f"{self._newline}{block}{comma}{self._newline}"
        if last:
            return last.end, f" {line}," if comma else f", {line}"
        if self._has_neighbours():
            return self._open + 1, f" {line} "
        return self._open + 1, f"{self._newline}{block}{self._newline}"

    def _has_neighbours(self) -> bool:
        """Whether there are attributes right above or below, whose `=` may be aligned with this one's."""
        start, end = self._line_start(self._attribute.meta.start_pos), self._line_end(self._attribute.meta.end_pos)
        above = self._masked[self._line_start(start - 1) : start] if start else ""
        below = self._masked[end : self._line_end(end)]
        return bool(below.strip()) or above.strip() not in ("", "}", "]")

    def without_entry(self, key: str) -> str:
        places = [number for number, element in enumerate(self._elements) if element.key == key]
        if len(places) != 1:
            where = f"{self._file.path}: {self._file.name_of(self._attribute)}"
            raise NotFoundError(f"{where} has {'no' if not places else 'more than one'} {key}")
        start, end = self._extent(places[0])
        return self._text[:start] + self._text[end:]

    def _extent(self, number: int) -> tuple[int, int]:
        """What is removed with an element: what `_addition` put around it, and the comments right above."""
        element = self._elements[number]
        line = self._line_start(element.start)
        is_first_on_line = not self._masked[line : element.start].strip()
        is_last_on_line = not self._masked[element.end : self._line_end(element.end)].strip()
        if is_first_on_line and is_last_on_line:
            return self._whole_lines(line, self._line_end(element.end))
        following = self._elements[number + 1] if number + 1 < len(self._elements) else None
        if following and "\n" not in self._masked[element.end : following.start]:
            return element.start, following.start
        if is_first_on_line:
            start = self._above(line)
            above = self._line_start(start - 1)
            if self._text[above:start] != self._masked[above:start]:
                return start, element.end  # that line may end in a comment, which must not include the next one
            return len(self._text[:start].removesuffix("\n").removesuffix("\r")), element.end
        if number:
            previous = self._elements[number - 1]
            return (previous.end if element.has_comma else previous.own_end), element.end
        return self._alone(element)

    def _whole_lines(self, line: int, end: int) -> tuple[int, int]:
        start = self._above(line)
        inside = self._text[self._open + 1 : start]
        if self._is_empty_line(start) or inside not in ("\n", "\r\n"):
            return start, end
        # Right below the opening brace.
        if end <= self._close and "\n" not in self._masked[end : self._close] and len(self._elements) == 1:
            return self._open + 1, end  # an empty map again
        return start, self._line_end(end) if self._is_empty_line(end) else end

    def _above(self, line: int) -> int:
        """Start of the comments right above a line, and of one empty line above these."""
        while line > self._open and self._is_comment(previous := self._line_start(line - 1), line):
            line = previous
        previous = self._line_start(line - 1)
        return previous if previous > self._open and self._is_empty_line(previous) else line

    def _is_empty_line(self, start: int) -> bool:
        return not self._text[start : self._line_end(start)].strip()

    def _is_comment(self, start: int, end: int) -> bool:
        return not self._masked[start:end].strip() and bool(self._text[start:end].strip())

    def _alone(self, element: _Element) -> tuple[int, int]:
        """The only element, in a map of one line."""
        start, end = element.start, element.end
        if not self._text[self._open + 1 : start].strip():
            start = self._open + 1
        return start, end + (self._text[end] == " ")

    def _line_start(self, at: int) -> int:
        return self._masked.rfind("\n", 0, max(at, 0)) + 1

    def _line_end(self, at: int) -> int:
        """The offset behind the line's newline."""
        end = self._masked.find("\n", at)
        return len(self._masked) if end < 0 else end + 1


@dataclass(frozen=True)
class _Element:
    """Offsets of an element; `end` is behind its comma, if it has one."""

    key: str
    start: int
    own_end: int
    end: int

    @property
    def has_comma(self) -> bool:
        return self.end > self.own_end


def newline_of(text: str, at: int) -> str:
    """The newline in use at that offset; in a text of one line the one that Terraform writes."""
    found = text.find("\n", at)
    if found < 0:
        found = text.find("\n")
    return "\r\n" if found > 0 and text[found - 1] == "\r" else "\n"


def attribute(key: str, value: Any, indent: str = "") -> list[str]:
    """The lines of `key = value`. A map takes one line for each member, an empty map a single line."""
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
    """A quoted string whose value is exactly `text`."""
    inner = "".join(_ESCAPES.get(char) or (char if char.isprintable() else _numbered(char)) for char in text)
    return '"' + inner.replace("${", "$${").replace("%{", "%%{") + '"'


def bare_key(key: str) -> str:
    """A key, without quotes if it needs none."""
    return key if _BARE.fullmatch(key) and key not in _NOT_BARE else quoted(key)


def _members(members: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Simple values with their `=` aligned, then each map after an empty line."""
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
