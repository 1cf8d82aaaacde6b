"""The only writer: data to standard output, everything else to standard error."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from refinerctl.waits import LONG_S, TERMINAL_S, WAITS

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PLAIN_UPDATE_SECONDS = 10.0
GAP = 2
NARROWEST = 20  # the last column of a table may be cut or wrapped to this
WRAPPED = 40  # columns are left out before the last one is wrapped to less than this

Cell: TypeAlias = tuple[str, bool]
"""A text of a table, and whether it needs attention."""


class Progress:
    """What an operation tells about its progress. This one shows nothing."""

    def step(self, text: str) -> None:
        """A milestone: shown once, and kept."""

    def update(self, text: str) -> None:
        """The state of the current step; the next update replaces it."""

    def advance(self, size: int) -> None:
        """Add to the number of bytes that are done."""

    def part(self, name: str, done: int, size: int) -> None:
        """`done` of `size` bytes of blob `name` are copied; fewer than before if it starts again."""


class Renderer:
    """Writes for a person at a terminal, or plain lines for a CI job; JSON for scripts."""

    def __init__(self, output: str, verbosity: int) -> None:
        self.is_json = output == "json"
        self.document: Any = None  # the result of the run, once there is one
        self.is_quiet = verbosity < 0
        self._verbosity = verbosity
        self._on_terminal = sys.stderr.isatty() and not in_ci_job()
        self._sections = itertools.count(1)

    def line(self, text: str = "") -> None:
        """One line of data."""
        print(printable(text), flush=True)  # noqa: T201

    def styled(self, parts: Iterable[tuple[str, str]]) -> None:
        """One line of data in parts, each with its style."""
        plain = not wants_colour()
        line = ""
        for part, style in parts:
            text = printable(part, keep="\n\t")
            line += text if plain or not style else f"\x1b[{_STYLES[style]}m{text}\x1b[0m"
        print(line.replace("\n", "\n    "), flush=True)  # noqa: T201

    def table(self, columns: Mapping[str, int], rows: Iterable[Sequence[Cell | str]], *, wrap: bool = False) -> None:
        """Print a table. `columns` maps titles to numbers; on a terminal, columns that do not fit are left out.

        `fitted` says which, and what `wrap` does. Cells that need attention are red there.
        """
        filled = [[cell if isinstance(cell, tuple) else (cell, False) for cell in row] for row in rows]
        safe = [[(printable(text), is_bad) for text, is_bad in row] for row in filled]
        for row in fitted(columns, safe, terminal_width(), wrap=wrap):
            self.styled([part for text, bad in row for part in ((text, "red" if bad else ""), (" " * GAP, ""))][:-1])

    def fields(self, parts: Sequence[tuple[str, int]]) -> None:
        """Print a line of a listing that is too long for a table: texts with numbers.

        On a terminal, the texts with the highest numbers are left out if the line does not fit; the first text and
        those with 0 stay.
        """
        shown = _shown([len(text) for text, _ in parts], [number for _, number in parts], terminal_width(), 0)
        self.line((" " * GAP).join(parts[n][0] for n in shown).rstrip())

    def wrapped(self, start: Sequence[tuple[str, str]], text: str) -> None:
        """Print a line: `start` in parts with styles, then `text`, which is wrapped and indented on a terminal."""
        indent, width = sum(len(part) for part, _ in start), terminal_width()
        first, *others = [text]
        if width is not None and indent + len(text) > width:
            room = max(width - indent, NARROWEST)
            first, *others = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
        self.styled([*start, (first, "")])
        for line in others:
            self.line(" " * indent + line)

    def content(self, content: bytes) -> None:
        """An object's content, unchanged; on a terminal without control characters."""
        if sys.stdout.isatty():
            text = content.decode("utf-8", errors="replace")
            content = printable(text, keep="\n\t").encode()
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        if content and not content.endswith(b"\n"):
            sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()

    def json(self, document: Any, *, indent: int | None = 2) -> None:
        """One JSON document; without indent a line of JSON Lines."""
        text = json.dumps(document, indent=indent, default=as_json, ensure_ascii=False)
        print(_UNPRINTABLE.sub(_json_escape, text), flush=True)  # noqa: T201

    def result(self, document: Any) -> None:
        """The result of the whole run: printed with --output json, kept for --notify."""
        self.document = document
        if self.is_json:
            self.json(document)

    def note(self, text: str) -> None:
        """Print a message that is not data."""
        if self._verbosity >= 0:
            self._stderr(text)

    def detail(self, text: str) -> None:
        """Print a message only with -v."""
        if self._verbosity > 0:
            self._stderr(text)

    def warning(self, text: str) -> None:
        self._stderr(f"warning: {text}")

    @contextmanager
    def progress(self, total_bytes: int | None = None, title: str = "") -> Iterator[Progress]:
        """Progress on standard error: live on a terminal, lines with timestamps elsewhere, nothing with --quiet.

        With a title, a GitLab job's log has it as a section.
        """
        if self._verbosity < 0:
            yield Progress()
        elif self._on_terminal:
            with WAITS.beside(LONG_S), _live(total_bytes) as live:
                yield live
        else:
            with self.section(title):
                yield PlainProgress(total_bytes)

    @contextmanager
    def section(self, title: str, *, collapsed: bool = False) -> Iterator[None]:
        """A part of the log that GitLab can fold, in a GitLab job; nothing elsewhere, or without a title.

        https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
        """
        in_gitlab = os.environ.get("GITLAB_CI") == "true"
        if not title or not in_gitlab or self.is_json or self._verbosity < 0 or self._on_terminal:
            yield
            return
        # A script may run several commands: a name must not occur twice in a log.
        name = f"refinerctl_{os.getpid()}_{next(self._sections)}"
        option = "[collapsed=true]" if collapsed else ""
        _section_mark(f"section_start:{time.time():.0f}:{name}{option}", printable(title))
        try:
            yield
        finally:
            _section_mark(f"section_end:{time.time():.0f}:{name}")

    def report_waits(self) -> None:
        """From now on print which servers the command waits for, if they are slow."""
        WAITS.tell, WAITS.first_s = self.note, TERMINAL_S if self._on_terminal else LONG_S

    def _stderr(self, text: str) -> None:
        """In one write, so that lines of several threads do not get mixed."""
        prefix = "" if self._on_terminal else f"{datetime.now(UTC):%H:%M:%SZ} "
        print(f"{prefix}{printable(text)}\n", end="", file=sys.stderr, flush=True)  # noqa: T201


def in_ci_job() -> bool:
    """Whether this is a CI job: nobody answers questions, and nobody sees a line that changes, even with a terminal."""
    return os.environ.get("CI") == "true" or os.environ.get("GITLAB_CI") == "true"


def can_ask() -> bool:
    """Whether there is someone at a terminal who can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty() and not in_ci_job()


def wants_colour() -> bool:
    """Colour on standard output: on a terminal, in a CI job only with FORCE_COLOR; never with NO_COLOR."""
    is_asked_for = bool(os.environ.get("FORCE_COLOR"))
    return not os.environ.get("NO_COLOR") and (is_asked_for or (sys.stdout.isatty() and not in_ci_job()))


def _section_mark(mark: str, title: str = "") -> None:
    print(f"\x1b[0K{mark}\r\x1b[0K{title}", file=sys.stderr, flush=True)  # noqa: T201


class PlainProgress(Progress):
    """Lines for a log: every step, and the current state at intervals."""

    def __init__(self, total_bytes: int | None, every_s: float = PLAIN_UPDATE_SECONDS) -> None:
        self._total = total_bytes
        self._every_s = every_s
        self._done = 0
        self._parts: dict[str, int] = {}
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def step(self, text: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%SZ} {printable(text)}\n", end="", file=sys.stderr, flush=True)  # noqa: T201
        self._last = time.monotonic()

    def update(self, text: str) -> None:
        if time.monotonic() - self._last >= self._every_s:
            self.step(text)

    def advance(self, size: int) -> None:
        with self._lock:
            self._done += size
        whole = f" of {self._total / 1e6:.1f}" if self._total else ""
        self.update(f"{self._done / 1e6:.1f}{whole} MB")

    def part(self, name: str, done: int, size: int) -> None:
        before, self._parts[name] = self._parts.get(name, 0), done
        self.advance(done - before)


class _LiveProgress(Progress):
    """A line that changes, below the steps so far; under it a bar for each blob."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self._tasks: dict[str, TaskID] = {}
        self._parts: dict[str, int] = {}

    def step(self, text: str) -> None:
        self._bar.console.print(printable(text), markup=False, highlight=False)
        self._bar.update(self._task, description=printable(text))

    def update(self, text: str) -> None:
        self._bar.update(self._task, description=printable(text))

    def advance(self, size: int) -> None:
        self._bar.advance(self._task, size)

    def part(self, name: str, done: int, size: int) -> None:
        before, self._parts[name] = self._parts.get(name, 0), done
        self.advance(done - before)
        if done >= size and name in self._tasks:
            self._bar.remove_task(self._tasks.pop(name))
        elif name in self._tasks:
            self._bar.update(self._tasks[name], completed=done)
        elif done < size:
            self._tasks[name] = self._bar.add_task(f"  {printable(name)[:19]}", total=size)


@contextmanager
def _live(total_bytes: int | None) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar
    from rich.table import Column

    text = TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
    )
    amount = [] if total_bytes is None else [BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn()]
    columns = [SpinnerColumn(), text, *amount, TimeElapsedColumn()]
    # rich prints steps and all other messages above the bar. It must not wrap them: a command in one is copied.
    with Bar(*columns, console=Console(stderr=True, soft_wrap=True), transient=True, expand=True) as bar:
        yield _LiveProgress(bar, bar.add_task("", total=total_bytes))


_STYLES = {"red": 31, "green": 32, "yellow": 33, "dim": 2, "bold": 1}


def printable(text: str, keep: str = "") -> str:
    """Text without control characters: a key or an error may contain any character."""
    return "".join(char if char.isprintable() or char in keep else f"\\x{ord(char):02x}" for char in text)


# Characters that must be escaped on a terminal, or that UTF-8 cannot encode; none is part of JSON's syntax.
_UNPRINTABLE = re.compile(r"[^\n -~]")


def _json_escape(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1].replace("\x7f", "\\u007f")


def as_json(value: Any) -> Any:
    """The form in JSON of what `json` does not know."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def fitted(
    columns: Mapping[str, int], rows: Sequence[Sequence[Cell]], width: int | None, *, wrap: bool = False
) -> list[list[Cell]]:
    """Header and rows as texts of equal widths; an empty one is a dash, so that `awk` can split the columns.

    If they do not fit into `width` characters, columns with the highest number are left out first, those with a
    negative one never. The first column, which has names, stays whole; a text of the last column that is too long ends
    in an ellipsis, or continues on lines of its own with `wrap`.
    """
    full = [[(title, False) for title in columns], *([(text or "-", bad) for text, bad in row] for row in rows)]
    widths = [max(len(row[n][0]) for row in full) for n in range(len(columns))]
    last = len(widths) - 1
    least = [*widths[:-1], min(widths[-1], WRAPPED if wrap else NARROWEST)]
    shown = _shown(least, list(columns.values()), width, -1)
    if width is not None and shown[-1] == last > 0:
        widths[last] = min(widths[last], max(width - sum(widths[n] + GAP for n in shown[:-1]), NARROWEST))
    lines: list[list[Cell]] = []
    for row in full:
        text, room = row[last][0], widths[last]
        parts = textwrap.wrap(text, room, break_on_hyphens=False) if wrap and len(text) > room else [_cut(text, room)]
        for number, part in enumerate(parts):
            texts = [part if n == last else "" if number else row[n][0] for n in shown]
            lines.append([(cell.ljust(widths[n]), row[n][1]) for n, cell in zip(shown, texts, strict=True)])
    return [[*line[:-1], (line[-1][0].rstrip(), line[-1][1])] for line in lines]


def _shown(widths: Sequence[int], numbers: Sequence[int], width: int | None, kept: int) -> list[int]:
    """The indexes of the columns that fit: the first, those with a number up to `kept`, then those with the lowest."""
    shown = list(range(len(widths)))
    while width is not None and sum(widths[n] + GAP for n in shown) - GAP > width:
        others = [n for n in shown[1:] if numbers[n] > kept]
        if not others:
            break
        shown.remove(max(others, key=lambda n: (numbers[n], n)))
    return shown


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def terminal_width() -> int | None:
    """The width of the terminal; None if lines have no limit: in a pipe, a file or a CI job."""
    try:
        is_terminal = sys.stdout.isatty() and not in_ci_job()
        return os.get_terminal_size(sys.stdout.fileno()).columns or None if is_terminal else None
    except OSError:
        return None


def counted(count: int, noun: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(size_bytes: float) -> str:
    """In units of 1,000, as ECR's console has them."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def seconds(value: float | None) -> str:
    """A duration in its two largest units: `45s`, `3m12s`, `2h5m`, `13d4h`; a dash for None."""
    if value is None:
        return "-"
    left = round(max(0.0, value))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if parts:
            return parts[0] + (f"{count}{unit}" if count else "")
        if count:
            parts.append(f"{count}{unit}")
    return parts[0] if parts else "0s"
