"""HCL with comments removed and plain strings blanked, at unchanged offsets.

python-hcl2's grammar does not accept comments within a line and non-ASCII letters in names, and reads `"$${"` past its
closing quote. So it parses this text, and strings and names are read from the original text at the same offsets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEREDOC = re.compile(r"<<-?([a-zA-Z_][\w.-]*)\r?\n(?:[^\n]*\n)*?[ \t]*\1\r?(?=\n|\Z)", re.ASCII)
_COMMENT = re.compile(r"/\*.*?\*/|(?:#|//)[^\n\r]*", re.DOTALL)
_PLAIN_STRING = re.compile(r'"((?:[^"\\\n$%]|\\[^\n]|\$\$\{|%%\{|\$(?!\{)|%(?!\{))*)"')
_INTERESTING = re.compile(r'["#]|//|/\*|<<')
_IN_TEMPLATE = re.compile(r'\\.|\$\$\{|%%\{|[$%]\{|"', re.DOTALL)
_IN_EXPRESSION = re.compile(r'["{}]')
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def masked(text: str) -> str:
    """`text` with comments as spaces, plain strings and letters of names as ASCII letters, of the same length.

    Strings with an interpolation and heredocs stay as they are.
    """
    return "".join(_pieces(text))


def _pieces(text: str) -> Iterator[str]:
    at = 0
    while found := _INTERESTING.search(text, at):
        start = found.start()
        yield _NOT_ASCII.sub(_letter, text[at:start])
        if match := _COMMENT.match(text, start):
            at = match.end()
            yield " " * (at - start)
        elif match := _PLAIN_STRING.match(text, start):
            at = match.end()
            yield f'"{"x" * len(match[1])}"'
        else:
            at = _end(text, start)
            yield text[start:at]
    yield _NOT_ASCII.sub(_letter, text[at:])


def _letter(match: re.Match[str]) -> str:
    """A character that a name may have: https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#identifiers"""
    return "x" if f"x{match[0]}".isidentifier() else match[0]


def _end(text: str, start: int) -> int:
    """The end of what starts here and stays as it is."""
    if text[start] == '"':
        return _end_of_template(text, start + 1)
    match = _HEREDOC.match(text, start)
    return match.end() if match else start + 2


def _end_of_template(text: str, at: int) -> int:
    """The offset behind the closing quote; without one, the end of the text."""
    while match := _IN_TEMPLATE.search(text, at):
        at = match.end()
        if match[0] == '"':
            return at
        if match[0] in ("${", "%{"):
            at = _end_of_expression(text, at)
    return len(text)


def _end_of_expression(text: str, at: int) -> int:
    depth = 1
    while match := _IN_EXPRESSION.search(text, at):
        at = match.end()
        if match[0] == '"':
            at = _end_of_template(text, at)
        else:
            depth += 1 if match[0] == "{" else -1
        if not depth:
            return at
    return len(text)
