"""HCL with comments removed and plain strings and heredocs blanked, at unchanged offsets.

python-hcl2's grammar does not accept comments within a line and non-ASCII letters in names, and reads `"$${"` past its
closing quote; its heredocs take quadratic time. So it parses this text, and strings and names are read from the
original text at the same offsets. Time is linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEREDOC = re.compile(r"(<<-?([a-zA-Z_][\w.-]*)\r?\n)((?:[^\n]*\n)*?)([ \t]*\2\r?(?=\n|\Z))", re.ASCII)
_HEREDOC_START = re.compile(r"<<-?[a-zA-Z_][\w.-]*\r?\n", re.ASCII)
_INVALID = "~"  # no token begins with it
_COMMENT = re.compile(r"/\*.*?\*/|(?:#|//)[^\n\r]*", re.DOTALL)
_PLAIN_STRING = re.compile(r'"((?:[^"\\\n$%]|\\[^\n]|\$\$\{|%%\{|\$(?!\{)|%(?!\{))*)"')
_INTERESTING = re.compile(r'["#]|//|/\*|<<')
_IN_TEMPLATE = re.compile(r'\\.|\$\$\{|%%\{|[$%]\{|"', re.DOTALL)
_IN_EXPRESSION = re.compile(r'["{}]')
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def masked(text: str) -> str:
    """`text`, as long as it is, with comments as spaces, and plain strings, heredocs and letters of names in ASCII.

    A heredoc has one line between its first and its last. Strings with an interpolation stay as they are.
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
        elif match := _HEREDOC.match(text, start):
            at = match.end()
            yield match[1] + (_INVALID * (len(match[3]) - 1) + "\n" if match[3] else "") + match[4]
        elif text[start] == '"':
            at = _end_of_template(text, start + 1)
            yield text[start:at]
        elif text.startswith("/*", start) or _HEREDOC_START.match(text, start):
            at = len(text)  # without an end
            yield _INVALID * (at - start)
        else:
            at = start + 2
            yield text[start:at]
    yield _NOT_ASCII.sub(_letter, text[at:])


def _letter(match: re.Match[str]) -> str:
    """A character that a name may have: https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#identifiers"""
    return "x" if f"x{match[0]}".isidentifier() else match[0]


def _end_of_template(text: str, at: int) -> int:
    """The offset behind the closing quote; without one, the end of the text."""
    # One for each template and each expression that is open: the number of the expression's braces, 0 for a template.
    levels = [0]
    while levels:
        match = (_IN_EXPRESSION if levels[-1] else _IN_TEMPLATE).search(text, at)
        if match is None:
            return len(text)
        at = match.end()
        if match[0] == '"':
            if levels[-1]:
                levels.append(0)
            else:
                levels.pop()
        elif not levels[-1]:
            if match[0] in ("${", "%{"):
                levels.append(1)
        else:
            levels[-1] += 1 if match[0] == "{" else -1
            if not levels[-1]:
                levels.pop()
    return at
