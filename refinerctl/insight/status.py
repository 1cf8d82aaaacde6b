"""`refinerctl status`: a table, log lines or a live screen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import counted, printable, seconds, table
from refinerctl.errors import RefinerctlError
from refinerctl.options import Duration, examples, global_options
from refinerctl.parallel import attempt

if TYPE_CHECKING:
    from rich.console import Group

    from refinerctl.insight.status_model import FunctionStatus, InputsStatus, PipelineStatus, ServiceStatus, StageStatus

_LOGGED = ("running", "desired", "pending", "protected", "consumers", "backlog_per_task")
SHORT_DIGEST = 19  # sha256: and twelve digits
GAP = 2
TEXT_WIDTH = 80
# If not all columns fit into a screen, those with the highest number are left out first.
COLUMNS = {
    "STAGE": 0,
    "WAITING": 0,
    "IN FLIGHT": 1,
    "DELAYED": 9,
    "OLDEST": 3,
    "DLQ": 0,
    "EXPIRES": 4,
    "UNDELIVERED": 2,
    "INCOMPLETE": 3,
    "ERRORS": 2,
    "THROTTLES": 5,
    "P50": 8,
    "P95": 6,
    "CONCURRENT": 8,
    "LAST DONE": 5,
    "RELEASE": 6,
}
# With a service, what a schedule last ran and what an image is matter more, and fewer columns have values.
SERVICE_COLUMNS = {
    "STAGE": 0,
    "WAITING": 0,
    "IN FLIGHT": 1,
    "OLDEST": 3,
    "DLQ": 0,
    "UNDELIVERED": 2,
    "INCOMPLETE": 5,
    "ERRORS": 1,
    "THROTTLES": 6,
    "P95": 7,
    "LAST DONE": 2,
    "RELEASE": 4,
}
Cell: TypeAlias = tuple[str, bool]
"""A text, and whether it needs attention."""


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
    """Show the status of each stage: queue, DLQs, function, incomplete inputs, last completion, release.

    Alarms in state ALARM come first. Changes nothing and receives no message. A dash means unknown, or that the stage
    has no such part. The queue and the tasks of a service are shown by the metrics that its autoscaler publishes.
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
        if alarms := alarm_line(found):
            app.render.line(alarms)
        for line in text_table(found):
            app.render.line(line)
    for problem in problems(found):
        app.render.warning(problem)


def follow(app: AppContext, read: Callable[[], PipelineStatus], interval_s: float) -> None:
    """Write log lines, or JSON Lines, forever. Only an error of the first read ends it."""
    told: list[str] = []
    found: PipelineStatus | None = read()
    while True:
        if found is not None:
            if app.render.is_json:
                app.render.json(_document(app, found), indent=None)
            else:
                for line in log_lines(found):
                    app.render.line(line)
            before, told = told, problems(found)
            for problem in told:
                if problem not in before:
                    app.render.warning(problem)
        time.sleep(interval_s)
        answer = attempt(read)
        found = answer.value
        if answer.error:
            app.render.warning(f"not up to date: {answer.error.message}")


def _document(app: AppContext, found: PipelineStatus) -> dict[str, Any]:
    return {"env": app.settings.env, "stack": app.settings.stack, **vars(found)}


def problems(found: PipelineStatus) -> list[str]:
    """All problems, of several that differ only in their resource the first."""
    told = [*found.problems, *(f"{stage.name}: {text}" for stage in found.stages for text in stage.problems)]
    told += [
        f"{stage.name}: at least {counted(lost, 'input')} with neither a completion nor a message; to list them, run "
        "`refinerctl inputs --incomplete`"
        for stage in found.stages
        if stage.inputs and (lost := stage.inputs.without_message)
    ]
    alike: dict[str, list[str]] = {}
    for text in told:
        alike.setdefault(text.partition(": ")[2].partition(" on ")[0], []).append(text)
    return [f"{texts[0]}, and {len(texts) - 1} more like it" if texts[1:] else texts[0] for texts in alike.values()]


def text_table(found: PipelineStatus) -> list[str]:
    """The stages' table, with a line for each service below it; with services it fits into 80 characters."""
    rows = [cells(found, stage) for stage in found.stages]
    if not (services := service_lines(found)):
        return list(table(list(COLUMNS), [[text for text, _ in row] for row in rows]))
    shown = fitted([_chosen(row, SERVICE_COLUMNS) for row in rows], TEXT_WIDTH, SERVICE_COLUMNS)
    others = [f"{row[0][0]}: {row[-1][0]}" for row in rows if row[-1][1]]  # images of another release
    return [*("  ".join(text for text, _ in row).rstrip() for row in shown), "", *services, *others]


def service_lines(found: PipelineStatus) -> list[str]:
    """A line for each service, and what no column has room for; none for a pipeline without services."""
    return [line for stage in found.stages if stage.service for line in _about_service(stage.name, stage.service)]


def _about_service(stage: str, service: ServiceStatus) -> Iterator[str]:
    tasks = f"{_number(service.running)} of {_number(service.desired)} running, {_number(service.pending)} pending"
    queue = f"{_number(service.consumers)} consumers, backlog per task {_number(service.backlog_per_task)}"
    yield f"{stage}: {tasks}, {_number(service.protected)} protected; {queue}"
    if service.rollout not in (None, "COMPLETED"):
        yield f"{stage}: deployment {service.rollout}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _chosen(row: Sequence[Cell], columns: Mapping[str, int]) -> list[Cell]:
    return [cell for title, cell in zip(COLUMNS, row, strict=True) if title in columns]


def cells(found: PipelineStatus, stage: StageStatus) -> list[Cell]:
    """The row of a stage, one cell for each of COLUMNS."""
    queue, dlq, delivery_dlq, function = stage.queue, stage.dlq, stage.delivery_dlq, stage.function
    expiries = [dlq.expires_in_s for dlq in (dlq, delivery_dlq) if dlq and dlq.expires_in_s is not None]
    done = stage.last_completion.at if stage.last_completion else None
    if done is None and stage.schedule:
        done = stage.schedule.last_run
    return [
        (stage.name, False),
        _count(queue.visible if queue else None),
        _count(queue.in_flight if queue else None),
        _count(queue.delayed if queue else None),
        (seconds(queue.oldest_age_s if queue else None), False),
        _bad_count(dlq.depth if dlq else None),
        (f"<{seconds(min(expiries))}" if expiries else "-", False),
        _bad_count(delivery_dlq.depth if delivery_dlq else None),
        _incomplete(stage.inputs),
        _bad_count(function.errors if function else None),
        _bad_count(function.throttles if function else None),
        _milliseconds(function.duration_p50_ms if function else None),
        _milliseconds(function.duration_p95_ms if function else None),
        _count(function.concurrency if function else None),
        (f"{seconds((found.at - done).total_seconds())} ago" if done else "-", False),
        _release(function or stage.service, found),
    ]


def _count(value: int | None) -> Cell:
    return "-" if value is None else str(value), False


def _bad_count(value: int | None) -> Cell:
    return "-" if value is None else str(value), bool(value)


def _incomplete(inputs: InputsStatus | None) -> Cell:
    """Only a lower bound if not all inputs were counted. It is bad if some are in no queue of the stage."""
    if inputs is None or not (inputs.all_counted or inputs.incomplete):
        return "-", False
    return f"{'' if inputs.all_counted else '>='}{inputs.incomplete}", bool(inputs.without_message)


def _milliseconds(value: float | None) -> Cell:
    if value is None:
        return "-", False
    return f"{value:.0f}ms" if value < 10_000 else f"{value / 1000:.1f}s", False


def _release(consumer: FunctionStatus | ServiceStatus | None, found: PipelineStatus) -> Cell:
    digest = ((consumer.digest if consumer else None) or "-")[:SHORT_DIGEST]
    if consumer is None or consumer.runs_release is None:
        return digest, False
    name = found.release or "the release"
    return (name, False) if consumer.runs_release else (f"not {name}: {digest}", True)


def heading(found: PipelineStatus, env: str) -> str:
    """The heading: environment, release and time."""
    release = found.release or ("without a tag" if found.is_released else "none recorded")
    return f"environment {env}, release {release}, {found.at:%Y-%m-%d %H:%M:%SZ}"


def alarm_line(found: PipelineStatus, width: int = TEXT_WIDTH) -> str | None:
    """The alarms in state ALARM, as many as fit into `width` characters, but at least one; None without any."""
    names = [
        f"{alarm.name} ({seconds((found.at - alarm.since).total_seconds() if alarm.since else None)})"
        for alarm in found.alarms
    ]
    for shown in range(len(names), 0, -1):
        left = f", and {len(names) - shown} more" if shown < len(names) else ""
        line = f"ALARM  {', '.join(names[:shown])}{left}"
        if len(line) <= width or shown == 1:
            return line
    return None


def log_lines(found: PipelineStatus) -> list[str]:
    """A line of `name=value` pairs for each stage; before them one for the alarms in state ALARM, if there are any."""
    names = [title.lower().replace(" ", "_") for title in COLUMNS]
    alarms = ",".join(alarm.name for alarm in found.alarms)
    lines = [f"{found.at:%Y-%m-%dT%H:%M:%SZ} alarms={alarms}"] if alarms else []
    for stage in found.stages:
        row = zip(names, cells(found, stage), strict=True)
        pairs = [f"{name}={text.replace(' ', '_')}" for name, (text, _) in row]
        if stage.service:
            pairs += [f"{name}={_number(getattr(stage.service, name))}" for name in _LOGGED]
        lines.append(f"{found.at:%Y-%m-%dT%H:%M:%SZ} {stage.name} {' '.join(pairs[1:])}")
    return lines


def fitted(rows: Sequence[Sequence[Cell]], width: int, columns: Mapping[str, int] = COLUMNS) -> list[list[Cell]]:
    """Header and rows with equal widths, and as many of `columns` as fit into `width` characters."""
    full = [[(title, False) for title in columns], *rows]
    widths = [max(len(text) for text, _ in column) for column in zip(*full, strict=True)]
    shown = list(range(len(widths)))
    ranks = list(columns.values())
    while len(shown) > 1 and sum(widths[n] + GAP for n in shown) - GAP > width:
        shown.remove(max(shown, key=lambda n: (ranks[n], n)))
    return [[(row[n][0].ljust(widths[n]), row[n][1]) for n in shown] for row in full]


def screen(env: str, found: PipelineStatus, error: RefinerctlError | None, width: int, height: int) -> Group:
    """The live screen: as much as fits. `error`: why there is no newer status."""
    from rich.console import Group
    from rich.text import Text

    quits = "q" if sys.stdin.isatty() else "Ctrl-C"
    lines = [Text(f"{heading(found, env)}  ({quits} quits)", style="dim")]
    if alarms := alarm_line(found, width):
        lines.append(Text(printable(alarms), style="bold red"))
    lines.append(Text(""))
    services = service_lines(found)
    columns = SERVICE_COLUMNS if services else COLUMNS
    rows = [_chosen(cells(found, stage), columns) for stage in found.stages]
    for number, row in enumerate(fitted(rows, width, columns)):
        line = Text(style="bold" if number == 0 else "")
        for text, is_bad in row:
            line.append(" " * GAP if line else "")
            line.append(printable(text), style="bold red" if is_bad else "")
        lines.append(line)
    lines += [Text(""), *(Text(printable(text)) for text in services)] if services else []
    warnings = [*([f"not up to date: {error.message}"] if error else []), *problems(found)]
    lines += [Text(""), *(Text(printable(text), style="yellow") for text in warnings)]
    if len(lines) > height:
        lines = [*lines[: height - 1], Text(f"… {len(lines) - height + 1} more lines", style="dim")]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)
