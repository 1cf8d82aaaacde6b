"""What functions have logged, and are logging: of all of them, in the order of time."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from refinerctl.clients.parallel import concurrently
from refinerctl.models import LogEvent, LogSource
from refinerctl.models.function_lines import Mark, pattern_of, platform_line

# FilterLogEvents is allowed a handful of times per second in a whole account.
GROUPS_AT_ONCE = 4
LOOK_SECONDS = 2.0
# An event is there some seconds after its own time; one that takes longer than this is not seen by `follow`.
LOOK_BACK = timedelta(minutes=1)

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


def follow(groups: LogSource, request: LogsRequest) -> Iterator[LogEvent]:
    """The lines up to now, then those to come, for ever; each once.

    Every look goes back behind the newest line that was seen, because lines do not arrive in order; what it has seen
    there already is remembered for as long as a look goes back.
    """
    seen: dict[_Identity, datetime] = {}
    newest, since = request.since, request.since
    while True:
        began = datetime.now(UTC)
        for event in read(groups, replace(request, since=since)):
            if _identity(event) in seen:
                continue
            # The clock here and that of CloudWatch may differ: what is certain are its lines' own times.
            newest = max(newest, event.timestamp)
            if event.timestamp >= _horizon(min(began, newest), request.since):
                seen[_identity(event)] = event.timestamp
            yield event
        since = _horizon(min(began, newest), request.since)
        seen = {identity: at for identity, at in seen.items() if at >= since}
        time.sleep(LOOK_SECONDS)


def of_request(groups: LogSource, request: LogsRequest, request_id: str) -> Iterator[LogEvent]:
    """The lines of one invocation, also those that do not name it: an execution environment runs one at a time.

    They stand between the first and the last line of their stream that do; a line of Lambda's own ends them.
    """
    streams: dict[str, set[str]] = {}
    times: list[datetime] = []
    for event in read(groups, replace(request, pattern=pattern_of(request_id))):
        if request_id in event.message:
            streams.setdefault(event.group, set()).add(event.stream)
            times.append(event.timestamp)
    sections = [
        _section(groups.events(group, min(times), until=max(times), streams=[stream]), request_id)
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


def _horizon(newest: datetime, start: datetime) -> datetime:
    """How far the next look goes back, in whole milliseconds, as CloudWatch has them."""
    moment = max(newest - LOOK_BACK, start)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _identity(event: LogEvent) -> _Identity:
    if event.event_id:
        return (event.event_id,)
    return (event.group, event.stream, event.timestamp.isoformat(), event.message)
