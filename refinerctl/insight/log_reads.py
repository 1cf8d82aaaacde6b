"""Reads log groups: merged in order of time, as lines arrive, of one invocation, or about one input."""

from __future__ import annotations

import heapq
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.insight.function_lines import Mark, json_line, pattern_of, platform_line, request_id_of
from refinerctl.parallel import concurrently

if TYPE_CHECKING:
    from refinerctl.aws.logs import LogEvent, LogGroups
    from refinerctl.inputs.completions import Clock
    from refinerctl.stacks.records import ReadLogLine

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
# Limits of the lines about one input: the last invocations, each of which may have lasted as long as Lambda allows.
MAX_LINES = 20_000
MAX_INVOCATIONS = 10
LONGEST_INVOCATION = timedelta(minutes=15)
SKEW = timedelta(seconds=10)


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

    An error of the first read, and AccessDeniedError, end it. After any other error, which `on_error` gets, it resumes.
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


@dataclass(frozen=True)
class InputLines:
    """The lines about input `key` in log groups; `functions` are the log groups of functions."""

    logs: LogGroups
    groups: Sequence[str]
    functions: Sequence[str]
    key: str
    read_line: ReadLogLine

    def naming(self, since: datetime, until: datetime | None = None) -> Iterator[LogEvent]:
        """The lines that name it."""
        for event in read(self.logs, self.groups, since, until, pattern_of(self.key)):
            if self._is_about(event):
                yield event

    def all(self, since: datetime, until: datetime) -> list[LogEvent]:
        """The lines that name it, and the lines of its last invocations that name no other input."""
        named = list(itertools.islice(self.naming(since, until), MAX_LINES))
        times: dict[str, list[datetime]] = {}
        for event in named:
            request_id = request_id_of(event.message) if event.group in self.functions else None
            if request_id:
                times.setdefault(request_id, []).append(event.timestamp)
        reads = [
            partial(self._invocation, request_id, found[0] - SKEW, min(found[-1] + LONGEST_INVOCATION, until))
            for request_id, found in list(times.items())[-MAX_INVOCATIONS:]
        ]
        more = concurrently(reads, GROUPS_AT_ONCE)
        every = {_identity(event): event for events in (named, *more) for event in events}
        return sorted(every.values(), key=lambda event: event.timestamp)

    def _invocation(self, request_id: str, since: datetime, until: datetime) -> list[LogEvent]:
        found = of_request(self.logs, self.functions, since, until, request_id)
        return [event for event in itertools.islice(found, MAX_LINES) if self._is_about(event) is not False]

    def _is_about(self, event: LogEvent) -> bool | None:
        """Whether a line is about the input or another one; None if it does not say."""
        record = json_line(event.message)
        if record is None:
            return True if self.key in event.message else None
        line = self.read_line(record)
        if line is not None and line.key is not None:
            return line.key == self.key
        escaped = json.dumps(self.key, ensure_ascii=False)[1:-1]
        return True if escaped in json.dumps(record, ensure_ascii=False) else None


def _whole_ms(moment: datetime) -> datetime:
    """As CloudWatch records times."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _identity(event: LogEvent) -> tuple[str, ...]:
    if event.event_id:
        return (event.event_id,)
    return (event.group, event.stream, event.timestamp.isoformat(), event.message)
