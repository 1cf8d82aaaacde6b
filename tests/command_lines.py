"""Command lines as text: those of the documentation, and those that refinerctl prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import click

from refinerctl.cli import cli

Words = tuple[str, ...]

# docs/cli.md is the commands' own help, whose examples tests/unit/test_advice.py has.
PAGES = ("README.md", "docs/**/*.md", "terraform/**/README.md", "images/**/README.md", "templates/**/README.md")
GENERATED = ("docs/cli.md",)
# With the names of the help option: a command keeps those of the first context that it gets.
CONTEXT = click.Context(cli, **cli.context_settings)

_FENCE = re.compile(r"^ *```(\w*)$")
_INLINE = re.compile(r"`((?:refinerctl|make|terraform) [^`]+)`")
_SHOWN = {  # by language of the block: after a prompt, each line, in a list of a CI job
    "console": re.compile(r" *(?:\$ |(?=refinerctl ))(.+)"),
    "text": re.compile(r" *\$ (.+)"),
    "sh": re.compile(r" *([^#\s].*)"),
    "yaml": re.compile(r" *- (refinerctl .+)"),
}
_INNER = re.compile(r"\$\(([^()]+)\)")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_OPERATORS = ("|", "||", "&&", ";", "&")
_KEYWORDS = ("do", "then", "eval")


@dataclass(frozen=True)
class DocumentedCommand:
    """A command of a page, with the whole line that it is in; `is_mentioned`: in a sentence, not in a block."""

    page: str
    number: int
    line: str
    words: Words
    is_mentioned: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.number}: {self.line}"

    @property
    def program(self) -> str:
        return self.words[0]


def documented_commands(root: Path, *pages: str) -> list[DocumentedCommand]:
    """The commands of `pages` (globs; default: all), in their order: in fenced blocks, and in the text."""
    found = []
    for page in sorted({path for pattern in pages or PAGES for path in root.glob(pattern)}):
        name = str(page.relative_to(root))
        if name not in GENERATED and "node_modules" not in page.parts:
            for number, line, is_mentioned in _lines(page.read_text(encoding="utf-8")):
                found += [DocumentedCommand(name, number, line, words, is_mentioned) for words in commands_of(line)]
    return found


def _lines(text: str) -> Iterator[tuple[int, str, bool]]:
    language = None
    for number, line in enumerate(text.splitlines(), 1):
        if (fence := _FENCE.match(line)) is not None:
            language = (fence[1] or "text") if language is None else None
        elif language is None:
            yield from ((number, command, True) for command in _INLINE.findall(line))
        elif (shown := _SHOWN.get(language)) is not None and (found := shown.match(line)) is not None:
            yield number, found[1], False


def commands_of(line: str) -> Iterator[Words]:
    """The words of each command of a line, those in `$(…)` first; without comments, redirections and `for … in`.

    Variables are replaced by their names, and `$(…)` by a word.
    """
    for inner in _INNER.findall(line):
        yield from commands_of(inner)
    text = _VARIABLE.sub(r"\1", _INNER.sub("substituted", line))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _OPERATORS:
            words.append(word)
            continue
        if simple := _simple(words):
            yield simple
        words = []


def _simple(words: list[str]) -> Words:
    while words and (words[0] in _KEYWORDS or re.match(r"[A-Z_]+=", words[0])):
        words = words[1:]
    if words[:1] in (["for"], ["done"], ["substituted"]):
        return ()
    return tuple(takewhile(lambda word: word not in (">", ">>", "<", "2>"), words))


def check(words: Words, *, is_mentioned: bool = False) -> None:
    """Raises click.UsageError for a command, an option or an argument that does not exist or is missing.

    A sentence may mention a command by its name alone. --help is allowed, and a group alone.
    """
    command, rest = resolve(words)
    if rest != ["--help"] and (rest or not (is_mentioned or isinstance(command, click.Group))):
        command.make_context(None, rest, parent=CONTEXT)


def resolve(words: Words) -> tuple[click.Command, list[str]]:
    """The command, the innermost one, and the words after it. Raises click.UsageError if there is none."""
    assert words[0] == "refinerctl", words
    command: click.Command = cli
    rest = list(words[1:])
    while isinstance(command, click.Group) and rest and rest != ["--help"]:
        _options, rest, _order = command.make_parser(CONTEXT).parse_args(rest)  # global options before the command
        if not rest:
            break
        _name, found, rest = command.resolve_command(CONTEXT, rest)
        assert found is not None
        command = found
    return command, rest
