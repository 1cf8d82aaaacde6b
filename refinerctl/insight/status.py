"""`refinerctl status`: a table, log lines or a live screen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import RefinerctlError
from refinerctl.options import Duration, examples, global_options
from refinerctl.tables import seconds

if TYPE_CHECKING:
    from rich.console import Group

    from refinerctl.insight.stage_status import FunctionStatus, PipelineStatus, StageStatus

SHORT_DIGEST = 19  # sha256: and twelve digits
GAP = 2


@click.command(
    epilog=examples(
        "refinerctl status", "refinerctl status --watch", "refinerctl status --stage RefinerInput --output json"
    )
)
@click.option("--watch", is_flag=True, help="Live screen on a terminal (q quits), log lines elsewhere.")
@click.option("--interval", type=Duration(shortest=0.5), default="5s", show_default=True, help="Interval of --watch.")
@click.option("--stage", "--ruleset", "names", multiple=True, metavar="NAME", help="Stage to show; repeatable.")
@global_options
@click.pass_context
def status(ctx: click.Context, watch: bool, interval: float, names: tuple[str, ...]) -> None:
    """Show the status of each stage: queue, DLQs, function, last completion, release.

    Changes nothing and receives no message. A dash means unknown, or that the stage has no such part.
    """
    from refinerctl.insight.stage_status import read_status

    app = app_context(ctx)
    app.tell_settings()
    stages = app.pipeline.choose(names)

    def read() -> PipelineStatus:
        return read_status(app, stages, datetime.now(UTC))

    if not watch:
        _show(app, read())
    elif _has_screen() and not app.render.is_json:
        from refinerctl.insight.watch import watch as show_live

        show_live(read, partial(screen, app.settings.env), interval)
    else:
        follow(app, read, interval)


def _has_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _show(app: AppContext, found: PipelineStatus) -> None:
    if app.render.is_json:
        app.render.json(_document(app, found))
    else:
        app.render.note(heading(found, app.settings.env))
        for row in fitted([cells(found, stage) for stage in found.stages], None):
            app.render.line("  ".join(cell.text for cell in row).rstrip())
    for problem in problems(found):
        app.render.warning(problem)


def follow(app: AppContext, read: Callable[[], PipelineStatus], interval_s: float) -> None:
    """Write log lines, or JSON Lines, forever. Only an error of the first read ends it."""
    told: set[str] = set()
    found = read()
    while True:
        if app.render.is_json:
            app.render.json(_document(app, found), indent=None)
        else:
            for line in log_lines(found):
                app.render.line(line)
        for problem in problems(found):
            if problem not in told:
                app.render.warning(problem)
        told = set(problems(found))
        found = _read_later(app, read, interval_s)


def _read_later(app: AppContext, read: Callable[[], PipelineStatus], interval_s: float) -> PipelineStatus:
    while True:
        time.sleep(interval_s)
        try:
            return read()
        except RefinerctlError as error:
            app.render.warning(f"not up to date: {error.message}")


def _document(app: AppContext, found: PipelineStatus) -> dict[str, Any]:
    return {"env": app.settings.env, "stack": app.settings.stack, **vars(found)}


def problems(found: PipelineStatus) -> list[str]:
    """All problems, of several that differ only in their resource the first."""
    told = [*found.problems, *(f"{stage.name}: {text}" for stage in found.stages for text in stage.problems)]
    alike: dict[str, list[str]] = {}
    for text in told:
        alike.setdefault(text.partition(": ")[2].partition(" on ")[0], []).append(text)
    return [f"{texts[0]}, and {len(texts) - 1} more like it" if texts[1:] else texts[0] for texts in alike.values()]


@dataclass(frozen=True)
class Cell:
    """`is_bad`: needs attention."""

    text: str
    is_bad: bool = False


def _count(value: int | None) -> Cell:
    return Cell("-" if value is None else str(value))


def _bad_count(value: int | None) -> Cell:
    return Cell("-" if value is None else str(value), is_bad=bool(value))


def _milliseconds(value: float | None) -> Cell:
    if value is None:
        return Cell("-")
    return Cell(f"{value:.0f}ms" if value < 10_000 else f"{value / 1000:.1f}s")


def _expires(stage: StageStatus, _found: PipelineStatus) -> Cell:
    dlqs = (stage.dlq, stage.delivery_dlq)
    expiries = [dlq.expires_in_s for dlq in dlqs if dlq is not None and dlq.expires_in_s is not None]
    return Cell(f"<{seconds(min(expiries))}" if expiries else "-")


def _release(function: FunctionStatus, found: PipelineStatus) -> Cell:
    digest = (function.digest or "-")[:SHORT_DIGEST]
    if function.runs_release is None:
        return Cell(digest)
    name = found.release or "the release"
    return Cell(name) if function.runs_release else Cell(f"not {name}: {digest}", is_bad=True)


@dataclass(frozen=True)
class Column:
    """`part` of a stage is what `cell` shows; a stage without that part has a dash.

    If not all columns fit, those with the highest `rank` are left out first.
    """

    title: str
    rank: int
    part: Callable[[StageStatus], Any]
    cell: Callable[[Any, PipelineStatus], Cell]


_STAGE: Callable[[StageStatus], Any] = lambda stage: stage  # noqa: E731
_QUEUE, _DLQ, _DELIVERY_DLQ = attrgetter("queue"), attrgetter("dlq"), attrgetter("delivery_dlq")
_FUNCTION, _DONE = attrgetter("function"), attrgetter("last_completion")
COLUMNS = (
    Column("STAGE", 0, _STAGE, lambda stage, _: Cell(stage.name)),
    Column("WAITING", 0, _QUEUE, lambda queue, _: _count(queue.visible)),
    Column("IN FLIGHT", 1, _QUEUE, lambda queue, _: _count(queue.in_flight)),
    Column("DELAYED", 9, _QUEUE, lambda queue, _: _count(queue.delayed)),
    Column("OLDEST", 3, _QUEUE, lambda queue, _: Cell(seconds(queue.oldest_age_s))),
    Column("DLQ", 0, _DLQ, lambda dlq, _: _bad_count(dlq.depth)),
    Column("EXPIRES", 4, _STAGE, _expires),
    Column("UNDELIVERED", 2, _DELIVERY_DLQ, lambda dlq, _: _bad_count(dlq.depth)),
    Column("ERRORS", 2, _FUNCTION, lambda function, _: _bad_count(function.errors)),
    Column("THROTTLES", 5, _FUNCTION, lambda function, _: _bad_count(function.throttles)),
    Column("P50", 8, _FUNCTION, lambda function, _: _milliseconds(function.duration_p50_ms)),
    Column("P95", 6, _FUNCTION, lambda function, _: _milliseconds(function.duration_p95_ms)),
    Column("CONCURRENT", 8, _FUNCTION, lambda function, _: _count(function.concurrency)),
    Column("LAST DONE", 5, _DONE, lambda done, found: Cell(f"{seconds((found.at - done.at).total_seconds())} ago")),
    Column("RELEASE", 6, _FUNCTION, _release),
)


def cells(found: PipelineStatus, stage: StageStatus) -> tuple[Cell, ...]:
    """The row of a stage, one cell for each of COLUMNS."""
    parts = [(column, column.part(stage)) for column in COLUMNS]
    return tuple(Cell("-") if part is None else column.cell(part, found) for column, part in parts)


def heading(found: PipelineStatus, env: str) -> str:
    """Where and when."""
    release = found.release or ("without a tag" if found.is_released else "none recorded")
    return f"environment {env}, release {release}, {found.at:%Y-%m-%d %H:%M:%SZ}"


def log_lines(found: PipelineStatus) -> list[str]:
    """A line of `name=value` pairs for each stage."""
    names = [column.title.lower().replace(" ", "_") for column in COLUMNS]
    lines = []
    for stage in found.stages:
        row = cells(found, stage)
        pairs = (f"{name}={cell.text.replace(' ', '_')}" for name, cell in zip(names[1:], row[1:], strict=True))
        lines.append(f"{found.at:%Y-%m-%dT%H:%M:%SZ} {stage.name} {' '.join(pairs)}")
    return lines


def fitted(rows: Sequence[Sequence[Cell]], width: int | None) -> list[list[Cell]]:
    """Header and rows with equal widths, and as many columns as fit into `width` characters (None: all)."""
    full = [[Cell(column.title) for column in COLUMNS], *rows]
    widths = [max(len(row[number].text) for row in full) for number in range(len(COLUMNS))]
    shown = set(range(len(COLUMNS)))
    for number in sorted(shown, key=lambda number: (-COLUMNS[number].rank, -number))[:-1]:
        if width is None or sum(widths[other] + GAP for other in shown) - GAP <= width:
            break
        shown.discard(number)
    return [[Cell(row[n].text.ljust(widths[n]), row[n].is_bad) for n in sorted(shown)] for row in full]


def screen(env: str, found: PipelineStatus, error: RefinerctlError | None, width: int, height: int) -> Group:
    """The live screen: as much as fits. `error`: why there is no newer status."""
    from rich.console import Group
    from rich.text import Text

    from refinerctl.console import printable

    quits = "q" if sys.stdin.isatty() else "Ctrl-C"
    lines = [Text(f"{heading(found, env)}  ({quits} quits)", style="dim"), Text("")]
    for number, row in enumerate(fitted([cells(found, stage) for stage in found.stages], width)):
        line = Text(style="bold" if number == 0 else "")
        for cell in row:
            line.append(" " * GAP if line else "")
            line.append(printable(cell.text), style="bold red" if cell.is_bad else "")
        lines.append(line)
    warnings = [*([f"not up to date: {error.message}"] if error else []), *problems(found)]
    lines += [Text(""), *(Text(printable(text), style="yellow") for text in warnings)]
    if len(lines) > height:
        lines = [*lines[: height - 1], Text(f"… {len(lines) - height + 1} more lines", style="dim")]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)
