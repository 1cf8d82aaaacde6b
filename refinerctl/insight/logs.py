"""`refinerctl logs`: the log lines of functions and services in order of time, of one invocation, or as they arrive."""

from __future__ import annotations

import heapq
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import AccessDeniedError, RefinerctlError, UsageError
from refinerctl.insight.function_lines import Mark, json_line, pattern_of, platform_line
from refinerctl.options import Moment, examples, global_options
from refinerctl.parallel import concurrently
from refinerctl.stacks.records import error_text

if TYPE_CHECKING:
    from refinerctl.aws.logs import LogEvent, LogGroups
    from refinerctl.inputs.completions import Clock

CLOCK_SKEW = timedelta(minutes=1)
# FilterLogEvents is limited to a few calls per second in an account.
GROUPS_AT_ONCE = 4
POLL_SECONDS = 2.0
ERROR_PAUSE_SECONDS = 10.0
# A line usually arrives within seconds; now and then `follow` reads further back for those that took longer.
OVERLAP = timedelta(minutes=1)
LONG_OVERLAP_SECONDS = 60.0
LONG_OVERLAP = timedelta(minutes=5)
# Number of lines in memory before old ones are removed for the first time.
MIN_REMEMBERED = 10_000

# Fields of a JSON line that are shown elsewhere, or before the other fields.
_TIMES = ("timestamp", "time", "@timestamp", "ts")
_LEVELS = ("level", "severity", "levelname")
_MESSAGES = ("message", "msg")
_COLOURS = {"ERROR": "red", "FATAL": "red", "CRITICAL": "red", "WARN": "yellow", "WARNING": "yellow", "DEBUG": "dim"}


@click.command(
    epilog=examples(
        "refinerctl logs --since 2h",
        "refinerctl logs --stage RefinerInput --follow",
        "refinerctl logs --filter ERROR --output json | jq .message",
    )
)
@click.option("--stage", "--ruleset", "names", multiple=True, metavar="NAME", help="Stage to read; repeatable.")
@click.option("-f", "--follow", "follows", is_flag=True, help="Continue with new lines, until Ctrl-C.")
@click.option(
    "--since", type=Moment(), default="1h", show_default=True, help="Start: a time, or a duration before now."
)
@click.option("--until", type=Moment(), help="End: a time, or a duration before now.  [default: now]")
@click.option("--filter", "pattern", metavar="EXPR", help="CloudWatch pattern: ERROR, '{ $.level = \"ERROR\" }', …")
@click.option("--request-id", metavar="ID", help="Invocation or ECS task whose lines to print, by its ID.")
@global_options
@click.pass_context
def logs(
    ctx: click.Context,
    names: tuple[str, ...],
    follows: bool,
    since: datetime,
    until: datetime | None,
    pattern: str | None,
    request_id: str | None,
) -> None:
    """Print the logs of the functions and services, merged in order of time."""
    if follows and (until or request_id):
        raise UsageError(f"--follow and {'--until' if until else '--request-id'} are mutually exclusive")
    if request_id and pattern:
        raise UsageError("--request-id and --filter are mutually exclusive")
    if until and until <= since:
        raise UsageError(f"--until {until:%Y-%m-%dT%H:%M:%SZ} is not after --since {since:%Y-%m-%dT%H:%M:%SZ}")
    app = app_context(ctx)
    app.tell_settings()
    chosen = app.pipeline.choose(names)
    stages = {stage.consumer.log_group: stage.name for stage in chosen if stage.consumer is not None}
    if not stages:
        raise UsageError(
            f"no function or service: {', '.join(stage.name for stage in chosen) or 'the stack'} has no logs"
        )
    if app.settings.embedded and pattern and pattern.lstrip().startswith("{"):
        app.render.warning("the emulator does not support patterns in braces; all lines are printed")
    lines = partial(read, app.log_groups, tuple(stages))
    # The local clock may be slow; without an end, reading a busy log would not end.
    until = until or datetime.now(UTC) + CLOCK_SKEW
    if follows:
        events = follow(
            partial(lines, pattern=pattern), since, lambda error: app.render.warning(f"{error.message}; trying again")
        )
    elif request_id:
        events = of_request(app.log_groups, tuple(stages), since, until, request_id)
    else:
        events = lines(since, until, pattern)
    is_empty = True
    for event in events:
        _show(app, event, stages[event.group])
        is_empty = False
    if is_empty:
        app.render.note(f"no lines since {since:%Y-%m-%dT%H:%M:%SZ}")


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


def read(
    logs: LogGroups, groups: Sequence[str], since: datetime, until: datetime | None = None, pattern: str | None = None
) -> Iterator[LogEvent]:
    """The lines of all groups in order of time. Only one page of each group is in memory."""
    streams = [logs.events(group, since, pattern, until=until) for group in groups]
    # The first pages at the same time; the others as they are needed.
    firsts = concurrently([partial(next, stream, None) for stream in streams], GROUPS_AT_ONCE)
    whole = [
        itertools.chain((first,), stream) for first, stream in zip(firsts, streams, strict=True) if first is not None
    ]
    yield from heapq.merge(*whole, key=lambda event: event.timestamp)


def follow(
    read_since: Callable[[datetime], Iterator[LogEvent]],
    since: datetime,
    on_error: Callable[[RefinerctlError], None],
    clock: Clock = time,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[LogEvent]:
    """The lines up to now, then new ones, forever; each once.

    An error of the first read, and AccessDeniedError, end it; `on_error` is told of all others, and it resumes.
    """
    reads = OverlappingReads(read_since, since, clock, now)
    has_begun = False
    while True:
        pause = POLL_SECONDS
        try:
            yield from reads.new_lines()
            has_begun = True
        except RefinerctlError as error:
            if not has_begun or isinstance(error, AccessDeniedError):
                raise
            on_error(error)
            pause = ERROR_PAUSE_SECONDS
        clock.sleep(pause)


class OverlappingReads:
    """Repeated reads that yield each line once.

    Lines do not arrive in order: every read goes back behind the newest line of the reads before it. `remembered` holds
    the lines that were yielded since then.
    """

    def __init__(
        self,
        read_since: Callable[[datetime], Iterator[LogEvent]],
        start: datetime,
        clock: Clock,
        now: Callable[[], datetime],
    ) -> None:
        self.remembered: dict[tuple[str, ...], datetime] = {}
        self._read_since = read_since
        self._start = start
        self._clock = clock
        self._now = now
        self._since = start
        self._newest = start
        self._complete_until = start  # all earlier lines have arrived, except late ones
        self._room = MIN_REMEMBERED
        self._long_overlap_at = clock.monotonic()

    def new_lines(self) -> Iterator[LogEvent]:
        began = self._now()
        is_long = self._clock.monotonic() - self._long_overlap_at >= LONG_OVERLAP_SECONDS
        since = self._back(LONG_OVERLAP) if is_long else self._since
        for event in self._read_since(since):
            if _identity(event) not in self.remembered:
                # The clocks here and of CloudWatch may differ: only the times of its lines are certain.
                self._newest = max(self._newest, event.timestamp)
                self._advance(began)
                self._remember(event)
                yield event
            if not is_long:  # if the read fails, the next one begins here
                self._since = max(self._since, _whole_ms(event.timestamp))
        self._advance(began)
        self._since = self._back(OVERLAP)
        self._forget()
        if is_long:
            self._long_overlap_at = self._clock.monotonic()

    def _remember(self, event: LogEvent) -> None:
        """The first read may be one of millions of lines."""
        if len(self.remembered) >= self._room:
            self._forget()
            self._room = 2 * len(self.remembered) + MIN_REMEMBERED
        self.remembered[_identity(event)] = event.timestamp

    def _forget(self) -> None:
        oldest = self._back(LONG_OVERLAP)
        self.remembered = {identity: at for identity, at in self.remembered.items() if at >= oldest}

    def _advance(self, began: datetime) -> None:
        """Never moves back, even if the clock does: removed lines would be yielded again."""
        self._complete_until = max(self._complete_until, min(began, self._newest))

    def _back(self, overlap: timedelta) -> datetime:
        return _whole_ms(max(self._complete_until - overlap, self._start))


def of_request(
    logs: LogGroups, groups: Sequence[str], since: datetime, until: datetime | None, request_id: str
) -> Iterator[LogEvent]:
    """All lines of one invocation, also those that do not name it: an execution environment runs one at a time.

    They stand between the first and the last line of their stream that name it; while Lambda has not written the last
    one, the invocation is still running.
    """
    streams: dict[str, set[str]] = {}
    times: list[datetime] = []
    has_ended = False
    for event in read(logs, groups, since, until, pattern_of(request_id)):
        if request_id in event.message:
            streams.setdefault(event.group, set()).add(event.stream)
            times.append(event.timestamp)
            line = platform_line(event.message)
            has_ended = has_ended or (line is not None and line.mark is Mark.REPORT)
    if has_ended:
        until = max(times)
    sections = [
        _section(logs.events(group, min(times), until=until, streams=[stream]), request_id)
        for group, names in streams.items()
        for stream in sorted(names)
    ]
    yield from heapq.merge(*sections, key=lambda event: event.timestamp)


def _section(events: Iterator[LogEvent], request_id: str) -> Iterator[LogEvent]:
    """The lines of one invocation in a stream. Others may share its first and its last millisecond."""
    inside = True
    for event in events:
        line = platform_line(event.message)
        is_other = line is not None and line.request_id not in (None, request_id)
        if line is not None and line.mark is Mark.START:
            inside = not is_other
        if (inside and not is_other) or request_id in event.message:
            yield event
        if line is not None and line.mark is Mark.REPORT:
            inside = False


def _whole_ms(moment: datetime) -> datetime:
    """As CloudWatch records times."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _identity(event: LogEvent) -> tuple[str, ...]:
    if event.event_id:
        return (event.event_id,)
    return (event.group, event.stream, event.timestamp.isoformat(), event.message)
