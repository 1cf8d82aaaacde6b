"""What functions have logged, and are logging: of all of them, in the order of time."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from refinerctl.aws.log_events import LogSource
from refinerctl.aws.logs import LogEvent
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.insight.function_lines import Mark, pattern_of, platform_line
from refinerctl.parallel import concurrently

# FilterLogEvents is allowed a handful of times per second in a whole account.
GROUPS_AT_ONCE = 4
LOOK_SECONDS = 2.0
# An event is there some seconds after its own time, as a rule; now and then `follow` looks for those that took longer.
LOOK_BACK = timedelta(minutes=1)
LATE_LOOK_SECONDS = 60.0
LATE_LOOK_BACK = timedelta(minutes=5)
# So many lines are remembered before the first look for what can be forgotten.
ROOM = 10_000
# After trouble that the client could not sit out.
TROUBLE_SECONDS = 10.0

_Identity = tuple[str, ...]


@dataclass(frozen=True)
class LogsRequest:
    """Which lines. `pattern` is CloudWatch's own filter syntax."""

    groups: tuple[str, ...]
    since: datetime
    until: datetime | None = None
    pattern: str | None = None


def read(groups: LogSource, request: LogsRequest) -> Iterator[LogEvent]:
    """The lines of all groups in time order; a page of each group is in memory, however much there is."""
    streams = [groups.events(group, request.since, request.pattern, until=request.until) for group in request.groups]
    # The first pages at the same time; the others as they are needed.
    firsts = concurrently([partial(next, stream, None) for stream in streams], GROUPS_AT_ONCE)
    whole = [
        itertools.chain((first,), stream) for first, stream in zip(firsts, streams, strict=True) if first is not None
    ]
    yield from heapq.merge(*whole, key=lambda event: event.timestamp)


def follow(
    groups: LogSource, request: LogsRequest, on_trouble: Callable[[RefinerctlError], None]
) -> Iterator[LogEvent]:
    """The lines up to now, then those to come, for ever; each once.

    Every look goes back behind the newest line that was seen, because lines do not arrive in order; what it has seen
    there already is remembered for as long as a look goes back. Once it has begun, only AccessDeniedError ends it:
    `on_trouble` hears of all others, and it goes on where it was.
    """
    looks = _Looks(request.since)
    has_begun = False
    while True:
        pause = LOOK_SECONDS
        try:
            yield from looks.take(groups, request)
            has_begun = True
        except RefinerctlError as error:
            if not has_begun or isinstance(error, AccessDeniedError):
                raise
            on_trouble(error)
            pause = TROUBLE_SECONDS
        time.sleep(pause)


class _Looks:
    """What was seen so far, and where the next look begins."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._since = start
        self._newest = start
        self._certain = start  # lines before were all there, but for those that are late
        self._seen: dict[_Identity, datetime] = {}
        self._room = ROOM
        self._late_look = time.monotonic()

    def take(self, groups: LogSource, request: LogsRequest) -> Iterator[LogEvent]:
        """The lines that are new."""
        began = datetime.now(UTC)
        is_late_look = time.monotonic() - self._late_look >= LATE_LOOK_SECONDS
        since = self._horizon(LATE_LOOK_BACK) if is_late_look else self._since
        for event in read(groups, replace(request, since=since)):
            if _identity(event) not in self._seen:
                # The clock here and that of CloudWatch may differ: what is certain are its lines' own times.
                self._newest = max(self._newest, event.timestamp)
                self._advance(began)
                self._remember(event)
                yield event
            if not is_late_look:  # should the look break off, the next one begins here
                self._since = max(self._since, _whole_ms(event.timestamp))
        self._advance(began)
        self._since = self._horizon(LOOK_BACK)
        self._forget()
        if is_late_look:
            self._late_look = time.monotonic()

    def _remember(self, event: LogEvent) -> None:
        """A first look may be one through millions of lines."""
        if len(self._seen) >= self._room:
            self._forget()
            self._room = 2 * len(self._seen) + ROOM
        self._seen[_identity(event)] = event.timestamp

    def _forget(self) -> None:
        oldest = self._horizon(LATE_LOOK_BACK)
        self._seen = {identity: at for identity, at in self._seen.items() if at >= oldest}

    def _advance(self, began: datetime) -> None:
        """Never back, whatever is done to the clock: what is no longer remembered would be shown again."""
        self._certain = max(self._certain, min(began, self._newest))

    def _horizon(self, back: timedelta) -> datetime:
        return _whole_ms(max(self._certain - back, self._start))


def of_request(groups: LogSource, request: LogsRequest, request_id: str) -> Iterator[LogEvent]:
    """The lines of one invocation, also those that do not name it: an execution environment runs one at a time.

    They stand between the first and the last line of their stream that do; a line of Lambda's own ends them. While that
    has not been written, the invocation goes on.
    """
    streams: dict[str, set[str]] = {}
    times: list[datetime] = []
    has_ended = False
    for event in read(groups, replace(request, pattern=pattern_of(request_id))):
        if request_id in event.message:
            streams.setdefault(event.group, set()).add(event.stream)
            times.append(event.timestamp)
            line = platform_line(event.message)
            has_ended = has_ended or (line is not None and line.mark is Mark.REPORT)
    until = max(times, default=None) if has_ended else request.until
    sections = [
        _section(groups.events(group, min(times), until=until, streams=[stream]), request_id)
        for group, names in streams.items()
        for stream in sorted(names)
    ]
    yield from heapq.merge(*sections, key=lambda event: event.timestamp)


def _section(events: Iterator[LogEvent], request_id: str) -> Iterator[LogEvent]:
    """Of a stream's lines those of one invocation; another's may share its first or last millisecond."""
    inside = True
    for event in events:
        line = platform_line(event.message)
        other = line is not None and line.request_id not in (None, request_id)
        if line is not None and line.mark is Mark.START:
            inside = not other
        if (inside and not other) or request_id in event.message:
            yield event
        if line is not None and line.mark is Mark.REPORT:
            inside = False


def _whole_ms(moment: datetime) -> datetime:
    """As CloudWatch has times."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _identity(event: LogEvent) -> _Identity:
    if event.event_id:
        return (event.event_id,)
    return (event.group, event.stream, event.timestamp.isoformat(), event.message)
