"""`refinerctl logs`: the log lines of functions and services."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import terminal_width
from refinerctl.errors import UsageError
from refinerctl.inputs.names import input_key
from refinerctl.insight.function_lines import json_line
from refinerctl.insight.log_reads import InputLines, follow, of_request, read
from refinerctl.options import Moment, examples, global_options
from refinerctl.shell import stages_option
from refinerctl.stacks.base import Stage
from refinerctl.stacks.records import error_text

if TYPE_CHECKING:
    from refinerctl.aws.logs import LogEvent

CLOCK_SKEW = timedelta(minutes=1)
DEFAULT_WIDTH = 80

# Fields of a JSON line that are shown elsewhere, or before the other fields.
_TIMES = ("timestamp", "time", "@timestamp", "ts")
_LEVELS = ("level", "severity", "levelname")
_MESSAGES = ("message", "msg")
_COLOURS = {"ERROR": "red", "FATAL": "red", "CRITICAL": "red", "WARN": "yellow", "WARNING": "yellow", "DEBUG": "dim"}


@click.command(
    epilog=examples(
        "refinerctl logs --stage RefinerInput --follow --short",
        "refinerctl logs --key report.txt --since 2d",
        "refinerctl logs --filter ERROR --json | jq .message",
    )
)
@stages_option("Stage to read")
@click.option("-f", "--follow", "follows", is_flag=True, help="Continue with new lines, until Ctrl-C.")
@click.option(
    "--since", type=Moment(), default="1h", show_default=True, help="Start: a time, or a duration before now."
)
@click.option("--until", type=Moment(), help="End: a time, or a duration before now.  [default: now]")
@click.option("--filter", "pattern", metavar="EXPR", help="CloudWatch pattern: ERROR, '{ $.level = \"ERROR\" }', …")
@click.option("--key", metavar="KEY", help="Input whose lines to print: its key, or its name below the prefix.")
@click.option("--request-id", metavar="ID", help="Invocation or ECS task whose lines to print, by its ID.")
@click.option("--short", is_flag=True, help="Short lines, cut to the width of the terminal or to 80 characters.")
@global_options
@click.pass_context
def logs(
    ctx: click.Context,
    names: tuple[str, ...],
    follows: bool,
    since: datetime,
    until: datetime | None,
    pattern: str | None,
    key: str | None,
    request_id: str | None,
    short: bool,
) -> None:
    """Print the logs of the functions and services, merged in order of time.

    With --key: the lines that name the input, and the lines of its invocations that name no other input. With --json:
    JSON Lines, one for each event.
    """
    exclusive = {"--key": key, "--request-id": request_id, "--filter": pattern}
    if len(given := [name for name, value in exclusive.items() if value]) > 1:
        raise UsageError(f"{' and '.join(given)} are mutually exclusive")
    if follows and (until or request_id):
        raise UsageError(f"--follow and {'--until' if until else '--request-id'} are mutually exclusive")
    if until and until <= since:
        raise UsageError(f"--until {until:%Y-%m-%dT%H:%M:%SZ} is not after --since {since:%Y-%m-%dT%H:%M:%SZ}")
    app = app_context(ctx)
    app.tell_settings()
    stages = _stages_with_logs(app, names)
    if app.settings.embedded and pattern and pattern.lstrip().startswith("{"):
        app.render.warning("the emulator does not support patterns in braces; all lines are printed")
    groups, functions = tuple(stages), [group for group, stage in stages.items() if stage.function is not None]
    about = key and InputLines(app.log_groups, groups, functions, input_key(app, key), app.stack.read_log_line)
    # The local clock may be slow; without an end, reading a busy log would not end.
    until = until or datetime.now(UTC) + CLOCK_SKEW
    events: Iterable[LogEvent]
    if follows:
        lines = about.naming if about else partial(read, app.log_groups, groups, pattern=pattern)
        events = follow(lines, since, lambda error: app.render.warning(f"{error.message}; trying again"))
    elif about:
        events = about.all(since, until)
    elif request_id:
        events = of_request(app.log_groups, groups, since, until, request_id)
    else:
        events = read(app.log_groups, groups, since, until, pattern)
    if not _show_all(app, events, stages, short=short):
        named = f" about {about.key}" if about else ""
        app.render.note(f"no lines{named} since {since:%Y-%m-%dT%H:%M:%SZ}")


def _stages_with_logs(app: AppContext, names: tuple[str, ...]) -> dict[str, Stage]:
    """The stages of these names, or all, that have logs, by log group. Raises UsageError if there are none."""
    chosen = app.pipeline.choose(names)
    found = {stage.consumer.log_group: stage for stage in chosen if stage.consumer is not None}
    if not found:
        raise UsageError(
            f"no function or service: {', '.join(stage.name for stage in chosen) or 'the stack'} has no logs"
        )
    return found


def _show_all(app: AppContext, events: Iterable[LogEvent], stages: dict[str, Stage], *, short: bool) -> bool:
    """Print the lines, and return whether there were any."""
    has_lines = False
    stage_width, width = max(len(stage.name) for stage in stages.values()), terminal_width() or DEFAULT_WIDTH
    for event in events:
        has_lines = True
        if short and not app.render.is_json:
            app.render.styled(short_line(event, stages[event.group], stage_width, width, datetime.now(UTC)))
        else:
            _show(app, event, stages[event.group].name)
    return has_lines


def short_line(event: LogEvent, stage: Stage, stage_width: int, width: int, now: datetime) -> list[tuple[str, str]]:
    """A line in `width` characters, in parts with their colours: the time, what happened, to which input."""
    text = event.message.strip()
    is_today = event.timestamp.date() == now.date()
    at = f"{event.timestamp:%H:%M:%S}" if is_today else f"{event.timestamp:%m-%d %H:%M:%S}"
    parts = [(f"{at}  {stage.name:<{stage_width}}  ", "dim")]
    record = json_line(event.message)
    if record:
        rest = dict(record)
        level, message = str(_take(rest, _LEVELS) or ""), str(_take(rest, _MESSAGES) or "")
        name = str(rest.get("key") or "").removeprefix(stage.prefix or "")
        error = error_text(rest["error"]) if rest.get("error") else str(rest.get("reason") or "")
        parts.append((f"{level} " if level.upper() != "INFO" else "", _COLOURS.get(level.upper(), "")))
        text = "  ".join(part for part in (message, name, error) if part)
    room = width - sum(len(part) for part, _ in parts)
    text = text.partition("\n")[0].replace("\t", " ")
    return [*parts, (text if len(text) <= room else f"{text[: max(room - 1, 0)]}…", "")]


def _show(app: AppContext, event: LogEvent, stage: str) -> None:
    text = event.message.replace("\r\n", "\n").rstrip("\n")
    record = json_line(text)
    if app.render.is_json:
        fields = {"group": event.group, "stream": event.stream, "event_id": event.event_id, "message": text}
        parsed = {"record": record} if record is not None else {}
        app.render.json({"timestamp": event.timestamp, "stage": stage, **fields, **parsed}, indent=None)
        return
    at = f"{event.timestamp:%Y-%m-%dT%H:%M:%S}.{event.timestamp.microsecond // 1000:03}Z"
    parts = list(pretty(record)) if record else []
    app.render.styled([(f"{at}  {stage}  ", "dim"), *(parts or [(text, "")])])


def pretty(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The parts of a JSON line and their colours: level, message, then `name=value` for all other fields."""
    rest = {name: value for name, value in record.items() if name not in _TIMES}
    level = str(_take(rest, _LEVELS) or "")
    if level:
        yield f"{level} ", _COLOURS.get(level.upper(), "")
    if (message := _take(rest, _MESSAGES)) is not None:
        yield str(message), "bold"
    fields = "  ".join(f"{name}={_value(name, value)}" for name, value in rest.items())
    if fields:
        yield f"  {fields}", ""


def _take(record: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if isinstance(record.get(name), str):
            return record.pop(name)
    return None


def _value(name: str, value: Any) -> str:
    if name == "error" and isinstance(value, dict):
        return error_text(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
