"""`refinerctl status`."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import RefinerctlError
from refinerctl.insight.status_types import PipelineStatus
from refinerctl.insight.status_view import GAP, cells, fitted, heading, log_lines
from refinerctl.options import Duration, global_options
from refinerctl.stations import chosen_rulesets

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from refinerctl.insight.watch import Frame


@click.command()
@click.option("--watch", is_flag=True, help="Stay and show changes: live on a terminal (q quits), else as lines.")
@click.option(
    "--interval", type=Duration(shortest=0.5), default="5s", show_default=True, help="How often --watch looks."
)
@click.option("--ruleset", "names", multiple=True, metavar="NAME", help="Only this ruleset; repeatable.")
@global_options
@click.pass_context
def status(ctx: click.Context, watch: bool, interval: float, names: tuple[str, ...]) -> None:
    """Show how each ruleset is doing: queues, dead letters, function, last completion, release.

    Changes nothing and receives no message. A dash stands for what is not known, never for none.
    """
    app = app_context(ctx)
    app.tell_settings()
    look = _look(app, names)
    if not watch:
        _show(app, look())
    elif _has_a_screen() and not app.render.is_json:
        from refinerctl.insight.watch import watch as show_live

        show_live(look, lambda frame, width, height: _screen(app, frame, width, height), interval)
    else:
        _follow(app, look, interval)


def _has_a_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _look(app: AppContext, names: tuple[str, ...]) -> Callable[[], PipelineStatus]:
    from refinerctl.insight.status import Stations
    from refinerctl.insight.status import status as operation

    rulesets = chosen_rulesets(app, names)
    # The ledger is found by the backend's files: without them nothing was released from here.
    stations = Stations(app.queues, app.functions, app.metrics, app.bucket, lambda: app.ledger.read())
    return lambda: operation(rulesets, app.old_pipeline, stations, datetime.now(UTC))


def _show(app: AppContext, seen: PipelineStatus) -> None:
    if app.render.is_json:
        app.render.json(_document(app, seen))
    else:
        app.render.note(heading(seen, app.settings.env))
        for row in fitted([cells(seen, ruleset) for ruleset in seen.rulesets], None):
            app.render.line("  ".join(cell.text for cell in row).rstrip())
    for problem in _problems(seen):
        app.render.warning(problem)


def _follow(app: AppContext, look: Callable[[], PipelineStatus], interval_s: float) -> None:
    """For a log: lines with the time in front, or JSON Lines. Only the first look's error ends it."""
    told: set[str] = set()
    seen = look()
    while True:
        if app.render.is_json:
            app.render.json(_document(app, seen), indent=None)
        else:
            for line in log_lines(seen):
                app.render.line(line)
        for problem in _problems(seen):
            if problem not in told:
                app.render.warning(problem)
        told = set(_problems(seen))
        seen = _next(app, look, interval_s)


def _next(app: AppContext, look: Callable[[], PipelineStatus], interval_s: float) -> PipelineStatus:
    while True:
        time.sleep(interval_s)
        try:
            return look()
        except RefinerctlError as error:
            app.render.warning(f"not up to date: {error.message}")


def _document(app: AppContext, seen: PipelineStatus) -> dict[str, Any]:
    return {"env": app.settings.env, "stack": app.settings.stack, **vars(seen)}


def _problems(seen: PipelineStatus) -> list[str]:
    """What stands below the table: of many alike (a right that is missing) the first."""
    told = [*seen.problems, *(f"{ruleset.name}: {text}" for ruleset in seen.rulesets for text in ruleset.problems)]
    alike: dict[str, list[str]] = {}
    for text in told:
        alike.setdefault(text.partition(": ")[2].partition(" on ")[0], []).append(text)
    return [f"{texts[0]}, and {len(texts) - 1} more like it" if texts[1:] else texts[0] for texts in alike.values()]


def _screen(app: AppContext, frame: Frame[PipelineStatus], width: int, height: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from refinerctl.console import printable

    seen = frame.seen
    quits = "q" if sys.stdin.isatty() else "Ctrl-C"
    lines = [Text(f"{heading(seen, app.settings.env)}  ({quits} quits)", style="dim"), Text("")]
    for number, row in enumerate(fitted([cells(seen, ruleset) for ruleset in seen.rulesets], width)):
        line = Text(style="bold" if number == 0 else "")
        for cell in row:
            line.append(" " * GAP if line else "")
            line.append(printable(cell.text), style="bold red" if cell.is_bad else "")
        lines.append(line)
    error = [f"not up to date: {frame.error.message}"] if frame.error else []
    lines += [Text(""), *(Text(printable(text), style="yellow") for text in (*error, *_problems(seen)))]
    if len(lines) > height:
        lines = [*lines[: height - 1], Text(f"… {len(lines) - height + 1} lines more", style="dim")]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)
