"""`refinerctl logs`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.logs import LogEvent
from refinerctl.errors import UsageError
from refinerctl.insight.function_lines import json_line
from refinerctl.options import Moment, global_options
from refinerctl.stacks.base import error_text
from refinerctl.stacks.names import RulesetNames
from refinerctl.stations import chosen_rulesets

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOCK_SKEW = timedelta(minutes=1)
# What a line has elsewhere already, or what stands in front of the other fields.
_TIMES = ("timestamp", "time", "@timestamp", "ts")
_LEVELS = ("level", "severity", "levelname")
_MESSAGES = ("message", "msg")
_COLOURS = {"ERROR": "red", "FATAL": "red", "CRITICAL": "red", "WARN": "yellow", "WARNING": "yellow", "DEBUG": "dim"}


@click.command()
@click.option("--ruleset", "names", multiple=True, metavar="NAME", help="Only this ruleset's function; repeatable.")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until Ctrl-C.")
@click.option(
    "--since", type=Moment(), default="1h", show_default=True, help="From then on: a time, or how long ago (1h)."
)
@click.option("--until", type=Moment(), help="Up to then.  [default: now]")
@click.option(
    "--filter", "pattern", metavar="EXPR", help="CloudWatch's filter pattern: ERROR, '{ $.level = \"ERROR\" }', …"
)
@click.option("--request-id", metavar="ID", help="Only this invocation, with all its lines.")
@global_options
@click.pass_context
def logs(
    ctx: click.Context,
    names: tuple[str, ...],
    follow: bool,
    since: datetime,
    until: datetime | None,
    pattern: str | None,
    request_id: str | None,
) -> None:
    """Print what the functions log, all of them merged in the order of time."""
    if follow and (until or request_id):
        raise UsageError(f"--follow does not end: leave out {'--until' if until else '--request-id'}")
    if request_id and pattern:
        raise UsageError("--request-id shows all lines of an invocation: leave out --filter")
    if until and until <= since:
        raise UsageError(f"--until {until:%Y-%m-%dT%H:%M:%SZ} is not after --since {since:%Y-%m-%dT%H:%M:%SZ}")
    app = app_context(ctx)
    app.tell_settings()
    rulesets = [ruleset for ruleset in chosen_rulesets(app, names) if ruleset.has_function]
    if not rulesets:
        raise UsageError("this ruleset has no function, and so no logs", hint="It is a completion ruleset.")
    if app.settings.embedded and pattern and pattern.lstrip().startswith("{"):
        app.render.warning("the emulator knows no patterns in braces: these are all lines")
    count = 0
    for event in _events(app, rulesets, follow, since, until, pattern, request_id):
        _show(app, event, {ruleset.log_group: ruleset.name for ruleset in rulesets}[event.group])
        count += 1
    if not count:
        app.render.note(f"no lines since {since:%Y-%m-%dT%H:%M:%SZ}")


def _events(
    app: AppContext,
    rulesets: Iterable[RulesetNames],
    follow: bool,
    since: datetime,
    until: datetime | None,
    pattern: str | None,
    request_id: str | None,
) -> Iterator[LogEvent]:
    from refinerctl.insight import logs as operation

    groups = tuple(ruleset.log_group for ruleset in rulesets)
    request = operation.LogsRequest(groups, since, until, pattern)
    if follow:
        return operation.follow(
            app.log_groups, request, lambda error: app.render.warning(f"{error.message}; trying again")
        )
    # This clock may be behind; and without an end a busy log would have none.
    request = operation.LogsRequest(groups, since, until or datetime.now(UTC) + CLOCK_SKEW, pattern)
    if request_id:
        return operation.of_request(app.log_groups, request, request_id)
    return operation.read(app.log_groups, request)


def _show(app: AppContext, event: LogEvent, ruleset: str) -> None:
    text = event.message.replace("\r\n", "\n").rstrip("\n")
    record = json_line(text)
    if app.render.is_json:
        app.render.json(_document(event, ruleset, text, record), indent=None)
        return
    at = f"{event.timestamp:%Y-%m-%dT%H:%M:%S}.{event.timestamp.microsecond // 1000:03}Z"
    parts = [(f"{at}  {ruleset}  ", "dim")]
    parts += (list(pretty(record)) if record else []) or [(text, "")]
    app.render.styled(parts)


def _document(event: LogEvent, ruleset: str, text: str, record: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "timestamp": event.timestamp,
        "ruleset": ruleset,
        "group": event.group,
        "stream": event.stream,
        "event_id": event.event_id,
        "message": text,
        **({"record": record} if record is not None else {}),
    }


def pretty(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A JSON line as text and its colours: level, message, then `name=value` for everything else."""
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
    import json

    if name == "error" and isinstance(value, dict):
        return error_text(value)
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
