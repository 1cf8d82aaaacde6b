"""`refinerctl status`: a table, log lines or a live screen."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import GAP, Cell, fitted, printable, seconds, terminal_width
from refinerctl.errors import DIFFERENCES, RefinerctlError, UsageError
from refinerctl.options import Duration, examples, global_options
from refinerctl.parallel import attempt
from refinerctl.shell import stages_option

if TYPE_CHECKING:
    from rich.console import Group

    from refinerctl.insight.status_model import (
        DlqStatus,
        FunctionStatus,
        InputsStatus,
        PipelineStatus,
        QueueStatus,
        ServiceStatus,
        StageStatus,
    )

# By the values of PipelineHealth.
HEALTH_STYLES = {"healthy": "green", "unhealthy": "red", "unknown": "yellow"}
_LOGGED = ("running", "desired", "pending", "protected", "consumers", "backlog_per_task")
SHORT_DIGEST = 19  # sha256: and twelve digits
UNKNOWN = "unknown"
# An age in a reason, which differs at each interval.
_DURATION = re.compile(r"\b(?:\d+[dhms])+\b")
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


@click.command(
    epilog=examples(
        "refinerctl status --watch",
        "refinerctl status --check --env production",
        "refinerctl status --stage RefinerInput --output json",
    )
)
@click.option("--check", is_flag=True, help="Exit with 5 unless the pipeline is healthy.")
@click.option("--watch", is_flag=True, help="Live screen on a terminal (q quits), log lines elsewhere.")
@click.option("--interval", type=Duration(shortest=0.5), default="5s", show_default=True, help="Interval of --watch.")
@stages_option("Stage to show")
@global_options
@click.pass_context
def status(ctx: click.Context, check: bool, watch: bool, interval: float, names: tuple[str, ...]) -> None:
    """Show whether the pipeline is healthy, and the status of each stage: queue, DLQs, function, incomplete inputs,
    last completion, release.

    Unhealthy: a component does not exist or is disabled, an alarm is in state ALARM, a DLQ has messages, a message has
    waited for more than an hour, an input has neither a completion nor a message, another image than the release's
    runs, or an autoscaler publishes no metrics. Changes nothing and receives no message. A dash means that the stage
    has no such component, or that CloudWatch has no metrics of its function. On a terminal, columns that do not fit are
    left out; JSON has all.
    """
    from refinerctl.insight.health import PipelineHealth, health
    from refinerctl.insight.stage_status import read_status

    if check and watch:
        raise UsageError("--check and --watch are mutually exclusive")
    app = app_context(ctx)
    app.tell_settings()
    stages = app.pipeline.choose(names)

    def read() -> PipelineStatus:
        return read_status(app, stages, datetime.now(UTC))

    if not watch:
        found = read()
        _show(app, found)
        if check and health(found) is not PipelineHealth.HEALTHY:
            ctx.exit(DIFFERENCES)
    elif _has_screen() and not app.render.is_json:
        from refinerctl.insight.watch import watch as show_live

        show_live(read, partial(screen, app.settings.env), interval)
    else:
        follow(app, read, interval)


def _has_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _show(app: AppContext, found: PipelineStatus) -> None:
    from refinerctl.insight.health import health, health_line, reasons

    if app.render.is_json:
        app.render.json(_document(app, found))
        return
    line, has_all = health_line(found, terminal_width())
    app.render.styled([(line, HEALTH_STYLES[health(found)])])
    app.render.note(heading(found, app.settings.env))
    columns = columns_of(found)
    app.render.table(columns, [chosen(cells(found, stage), columns) for stage in found.stages])
    notes = [*service_lines(found), *([] if has_all else [f"- {reason}" for reason in reasons(found)])]
    for line in ["", *notes] if notes else ():
        app.render.line(line)


def follow(app: AppContext, read: Callable[[], PipelineStatus], interval_s: float) -> None:
    """Write log lines, or JSON Lines, forever. Only an error of the first read ends it."""
    from refinerctl.insight.health import reasons

    known: dict[str, str] = {}
    found: PipelineStatus | None = read()
    while True:
        if found is not None:
            if app.render.is_json:
                app.render.json(_document(app, found), indent=None)
            else:
                for line in log_lines(found):
                    app.render.line(line)
            before, known = known, {_DURATION.sub("", reason): reason for reason in reasons(found)}
            for reason in known:
                if reason not in before:
                    app.render.warning(known[reason])
        time.sleep(interval_s)
        answer = attempt(read)
        found = answer.value
        if answer.error:
            app.render.warning(f"not up to date: {answer.error.message}")


def _document(app: AppContext, found: PipelineStatus) -> dict[str, Any]:
    from refinerctl.insight.health import health, reasons

    settings = app.settings
    judged = {"health": health(found), "reasons": reasons(found)}
    return {"env": settings.env, "stack": settings.stack, **judged, **vars(found)}


def columns_of(found: PipelineStatus) -> Mapping[str, int]:
    """The columns of the table: other ones if stages have services."""
    return SERVICE_COLUMNS if any(stage.service for stage in found.stages) else COLUMNS


def service_lines(found: PipelineStatus) -> list[str]:
    """A line for each service, and what no column has room for; none for a pipeline without services."""
    return [line for stage in found.stages if stage.service for line in _about_service(stage.name, stage.service)]


def _about_service(stage: str, service: ServiceStatus) -> Iterator[str]:
    counts = {name: _number(getattr(service, name)) for name in _LOGGED}
    tasks = f"{counts['running']} of {counts['desired']} running, {counts['pending']} pending"
    if service.at is None:
        yield f"{stage}: {tasks}; protected tasks, consumers and backlog per task unknown"
    else:
        queue = f"{counts['consumers']} consumers, backlog per task {counts['backlog_per_task']}"
        yield f"{stage}: {tasks}, {counts['protected']} protected; {queue}"
    if service.rollout not in (None, "COMPLETED"):
        yield f"{stage}: deployment {service.rollout}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def chosen(row: Sequence[Cell], columns: Mapping[str, int]) -> list[Cell]:
    """The cells of a row with all COLUMNS that belong to `columns`."""
    return [cell for title, cell in zip(COLUMNS, row, strict=True) if title in columns]


def cells(found: PipelineStatus, stage: StageStatus) -> list[Cell]:
    """The row of a stage, one cell for each of COLUMNS."""
    queue, dlq, delivery_dlq, function = stage.queue, stage.dlq, stage.delivery_dlq, stage.function
    no_queue, no_dlq = _absent(stage, "queue"), _absent(stage, "dlq")
    no_value = UNKNOWN if function and any(text.startswith("metrics") for text in found.problems) else "-"
    return [
        (stage.name, False),
        _count(queue.visible if queue else None, no_queue),
        _count(queue.in_flight if queue else None, no_queue),
        _count(queue.delayed if queue else None, no_queue),
        (_age(queue), False) if queue else (no_queue, False),
        _bad_count(dlq.depth if dlq else None, no_dlq),
        (_expiry(dlq, delivery_dlq), False),
        _bad_count(delivery_dlq.depth if delivery_dlq else None, _absent(stage, "delivery_dlq")),
        _incomplete(stage.inputs),
        _bad_count(function.errors if function else None, no_value),
        _bad_count(function.throttles if function else None, no_value),
        _milliseconds(function.duration_p50_ms if function else None, no_value),
        _milliseconds(function.duration_p95_ms if function else None, no_value),
        _count(function.concurrency if function else None, no_value),
        (_last_done(found, stage), False),
        _release(function or stage.service, found),
    ]


def _absent(stage: StageStatus, part: str) -> str:
    """The text of a cell without a value: whether there is none or it is unknown. A broker is known by metrics only."""
    return UNKNOWN if part in stage.unread or (stage.service and part != "delivery_dlq") else "-"


def _age(queue: QueueStatus) -> str:
    """An empty queue has no oldest message."""
    is_empty = queue.visible + queue.in_flight + queue.delayed == 0
    return seconds(queue.oldest_age_s) if is_empty or queue.oldest_age_s is not None else UNKNOWN


def _expiry(*dlqs: DlqStatus | None) -> str:
    filled = [dlq for dlq in dlqs if dlq and dlq.depth]
    expiries = [dlq.expires_in_s for dlq in filled if dlq.expires_in_s is not None]
    return f"<{seconds(min(expiries))}" if expiries else UNKNOWN if filled else "-"


def _last_done(found: PipelineStatus, stage: StageStatus) -> str:
    done = stage.last_completion.at if stage.last_completion else None
    if done is None and stage.schedule:
        done = stage.schedule.last_run
    if done is not None:
        return f"{seconds((found.at - done).total_seconds())} ago"
    return UNKNOWN if stage.function or stage.service else "-"


def _count(value: int | None, absent: str) -> Cell:
    return absent if value is None else str(value), False


def _bad_count(value: int | None, absent: str) -> Cell:
    return absent if value is None else str(value), bool(value)


def _incomplete(inputs: InputsStatus | None) -> Cell:
    """Only a lower bound if not all inputs were counted. It needs attention if some are in no queue of the stage."""
    if inputs is None:
        return "-", False
    if not (inputs.all_counted or inputs.incomplete):
        return UNKNOWN, False
    return f"{'' if inputs.all_counted else '>='}{inputs.incomplete}", bool(inputs.without_message)


def _milliseconds(value: float | None, absent: str) -> Cell:
    if value is None:
        return absent, False
    return f"{value:.0f}ms" if value < 10_000 else f"{value / 1000:.1f}s", False


def _release(consumer: FunctionStatus | ServiceStatus | None, found: PipelineStatus) -> Cell:
    if consumer is None:
        return "-", False
    digest = (consumer.digest or UNKNOWN)[:SHORT_DIGEST]
    if consumer.runs_release is None:
        return digest, False
    name = found.release or "the release"
    return (name, False) if consumer.runs_release else (f"not {name}: {digest}", True)


def heading(found: PipelineStatus, env: str) -> str:
    """The heading: environment, release and time."""
    release = found.release or ("without a tag" if found.is_released else "none recorded")
    return f"environment {env}, release {release}, {found.at:%Y-%m-%d %H:%M:%SZ}"


def log_lines(found: PipelineStatus) -> list[str]:
    """A line of `name=value` pairs for each stage; before them one with health and alarms, unless healthy."""
    from refinerctl.insight.health import PipelineHealth, health

    names = [title.lower().replace(" ", "_") for title in COLUMNS]
    state, alarms = health(found), ",".join(alarm.name for alarm in found.alarms)
    pairs = [f"health={state}", *([f"alarms={alarms}"] if alarms else [])]
    lines = [] if state is PipelineHealth.HEALTHY else [f"{found.at:%Y-%m-%dT%H:%M:%SZ} {' '.join(pairs)}"]
    for stage in found.stages:
        row = zip(names, cells(found, stage), strict=True)
        pairs = [f"{name}={text.replace(' ', '_')}" for name, (text, _) in row]
        if stage.service:
            pairs += [f"{name}={_number(getattr(stage.service, name))}" for name in _LOGGED]
        lines.append(f"{found.at:%Y-%m-%dT%H:%M:%SZ} {stage.name} {' '.join(pairs[1:])}")
    return lines


def screen(env: str, found: PipelineStatus, error: RefinerctlError | None, width: int, height: int) -> Group:
    """The live screen: as much as fits. `error`: why there is no newer status."""
    from rich.console import Group
    from rich.text import Text

    from refinerctl.insight.health import health, health_line, reasons

    quits = "q" if sys.stdin.isatty() else "Ctrl-C"
    lines = [Text(f"{heading(found, env)}  ({quits} quits)", style="dim")]
    first, has_all = health_line(found, width)
    lines += [Text(printable(first), style=f"bold {HEALTH_STYLES[health(found)]}"), Text("")]
    services, columns = service_lines(found), columns_of(found)
    rows = [chosen(cells(found, stage), columns) for stage in found.stages]
    for number, row in enumerate(fitted(columns, rows, width)):
        line = Text(style="bold" if number == 0 else "")
        for text, is_bad in row:
            line.append(" " * GAP if line else "")
            line.append(printable(text), style="bold red" if is_bad else "")
        lines.append(line)
    lines += [Text(""), *(Text(printable(text)) for text in services)] if services else []
    warnings = [*([f"not up to date: {error.message}"] if error else []), *([] if has_all else reasons(found))]
    lines += [Text(""), *(Text(printable(text), style="yellow") for text in warnings)]
    if len(lines) > height:
        lines = [*lines[: height - 1], Text(f"… {len(lines) - height + 1} more lines", style="dim")]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)
