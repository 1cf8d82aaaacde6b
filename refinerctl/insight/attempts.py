"""A function's log, read as attempts: each time that the function was given an input, and how that ended.

Two kinds of lines tell of an attempt: those of the image, which name the input and are read by the stack, and those of
the platform, which name only the invocation. `read_attempts` pairs them, line by line and in bounded memory;
`FunctionLog` asks for the lines that are needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from refinerctl.insight.function_lines import (
    Mark,
    PlatformLine,
    json_line,
    pattern_of,
    platform_line,
    platform_record,
    platform_text,
    request_id_of,
)
from refinerctl.parallel import concurrently
from refinerctl.stacks.records import NO_REASON, ReadLogLine, RecordEvent, RecordLine

if TYPE_CHECKING:
    from refinerctl.aws.logs import LogEvent, LogGroups

# Maximum number of invocations and streams in memory: far more than run concurrently.
MAX_OPEN = 5_000
# As many messages as Lambda takes from a queue at once.
MAX_BATCH = 10_000
MAX_OUTPUTS = 1_000
MAX_TEXT = 1_024  # of a key or an id, in characters
MAX_ERROR = 2_000

# Limits of a lookup: a short key may occur in every line of a log.
MAX_LINES = 20_000
MAX_LINES_OF_INVOCATION = 2_000
MAX_INVOCATIONS = 10
LOOKUPS_AT_ONCE = 4
# The platform's lines have Lambda's clock, the image's lines that of the execution environment.
SKEW = timedelta(seconds=10)

_OF_PRODUCERS = (RecordEvent.CLAIMED, RecordEvent.PUBLISHED, RecordEvent.UNPUBLISHED)
_ENDS = (RecordEvent.DONE, RecordEvent.FAILED, RecordEvent.IGNORED)
_ERROR_PATTERNS = ("ERROR", '"Task timed out"', '"Error:"')
_PLATFORM_TERMS = ("REPORT RequestId", "platform.report", "Task timed out", "ERROR", "Error:", "errorType")

Known = TypeVar("Known")


@dataclass(frozen=True)
class WrittenOutput:
    """An output, as the function logged it."""

    key: str
    at: datetime


@dataclass(slots=True)
class Attempt:
    """One attempt of a function or a task to process an input. It is filled in line by line, and complete when yielded.

    `request_id` is that of the invocation, or the task's id. `is_final`: the message is not delivered again.
    `message_id` None: an invocation that named no input. `request_id` empty: an error that names no invocation.
    `ended` None: no line says that it has ended. Times in UTC, durations in milliseconds.
    """

    request_id: str
    stream: str
    started: datetime
    message_id: str | None = None
    key: str | None = None
    version_id: str | None = None
    receive_count: int | None = None
    sent_at: datetime | None = None
    event_at: datetime | None = None
    ended: datetime | None = None
    duration_ms: float | None = None
    error: str | None = None
    ignored: str | None = None
    outputs: tuple[WrittenOutput, ...] = ()
    completion_key: str | None = None
    is_final: bool = False


def read_attempts(lines: Iterable[LogEvent], read_line: ReadLogLine, max_open: int = MAX_OPEN) -> Iterator[Attempt]:
    """The attempts in the lines of one log group, which are in order of time; each as soon as it is known how it ended.

    Attempts whose end no line tells come last. Memory is bounded: of more than `max_open` invocations the oldest is
    treated like that, too.
    """
    pairing = _Pairing(max_open)
    for event in lines:
        record = json_line(event.message)
        line = platform_text(event.message) if record is None else read_line(record) or platform_record(record)
        if isinstance(line, RecordLine):
            if line.event not in _OF_PRODUCERS:
                pairing.add_record(event, line)
        elif line is not None:
            pairing.add_platform(event, line)
        if pairing.finished:
            yield from pairing.finished
            pairing.finished.clear()
    pairing.finish()
    yield from pairing.finished


def attempts_pattern(log_terms: Mapping[RecordEvent, str]) -> str:
    """A filter pattern for as few lines as `read_attempts` needs to count attempts; outputs are not among them.

    Where terms begin with a question mark, one of them is enough. Not all emulators understand it.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    """
    events = (RecordEvent.RECEIVED, *_ENDS)
    terms = [log_terms[event] for event in events if event in log_terms]
    return " ".join(f'?"{term}"' for term in (*terms, *_PLATFORM_TERMS))


@dataclass(slots=True)
class _Invocation:
    """`stream` has the lines about its inputs; the emulator writes the platform's lines into others.

    `ended` is the time of the platform's report, `error_at` that of the first error.
    """

    request_id: str
    stream: str
    started: datetime
    inputs: dict[str, Attempt] = field(default_factory=dict)
    had_inputs: bool = False
    error: str | None = None
    error_at: datetime | None = None
    ended: datetime | None = None
    duration_ms: float | None = None

    def fail(self, error: str, at: datetime) -> None:
        """Of several lines about one failure the longest counts: a sentence rather than a type."""
        self.error = max(self.error or "", error[:MAX_ERROR], key=len)
        self.error_at = self.error_at or at


class _Pairing:
    """Pairs lines. An execution environment, which has a log stream, runs one invocation at a time."""

    def __init__(self, max_open: int) -> None:
        self.finished: list[Attempt] = []
        self._max_open = max_open
        self._invocations: OrderedDict[str, _Invocation] = OrderedDict()
        self._running: OrderedDict[str, str] = OrderedDict()  # stream: request id
        self._unnamed: OrderedDict[str, Attempt] = OrderedDict()  # stream: an error of an invocation not known yet

    def add_record(self, event: LogEvent, line: RecordLine) -> None:
        at = line.at or event.timestamp
        invocation = self._invocation(line.request_id[:MAX_TEXT], event, at)
        invocation.had_inputs, invocation.stream = True, event.stream
        if line.event is RecordEvent.RECEIVED:
            self._give_up_unnamed(event.stream)
        message_id = line.message_id[:MAX_TEXT]
        attempt = invocation.inputs.get(message_id)
        if attempt is None:
            attempt = Attempt(invocation.request_id, event.stream, at, message_id)
            invocation.inputs[message_id] = attempt
            if len(invocation.inputs) > MAX_BATCH:
                self._end(invocation.inputs.pop(next(iter(invocation.inputs))), invocation)
        _fill_in(attempt, line, at)
        if line.event in _ENDS:
            attempt.ended = at
            self.finished.append(invocation.inputs.pop(message_id))

    def add_platform(self, event: LogEvent, line: PlatformLine) -> None:
        if line.request_id is None:
            self._add_unnamed(event, line.error or NO_REASON)
            return
        invocation = self._invocation(line.request_id[:MAX_TEXT], event, event.timestamp)
        if line.mark is Mark.START:
            self._give_up_unnamed(event.stream)
        if line.error:
            invocation.fail(line.error, event.timestamp)
        if line.mark is Mark.REPORT:
            # Not complete yet: Lambda may log the reason of a failure after its report.
            invocation.ended, invocation.duration_ms = event.timestamp, line.duration_ms
            if (unnamed := self._unnamed.pop(event.stream, None)) is not None:
                invocation.fail(unnamed.error or NO_REASON, unnamed.started)

    def finish(self) -> None:
        """There are no more lines."""
        while self._invocations:
            self._close(next(iter(self._invocations)))
        self.finished += self._unnamed.values()

    def _add_unnamed(self, event: LogEvent, error: str) -> None:
        """It is the error of the running invocation, or of the one whose report comes next in the stream."""
        running = self._invocations.get(self._running.get(event.stream, ""))
        if running is not None and (running.inputs or running.ended is None):
            running.fail(error, event.timestamp)
            return
        self._give_up_unnamed(event.stream)
        at = event.timestamp
        self._unnamed[event.stream] = Attempt("", event.stream, at, ended=at, error=error[:MAX_ERROR])
        if len(self._unnamed) > self._max_open:
            self._give_up_unnamed(next(iter(self._unnamed)))

    def _give_up_unnamed(self, stream: str) -> None:
        if (unnamed := self._unnamed.pop(stream, None)) is not None:
            self.finished.append(unnamed)

    def _invocation(self, request_id: str, event: LogEvent, at: datetime) -> _Invocation:
        """The invocation that runs in this stream now. The one before it there is over if it was reported."""
        found = self._invocations.get(request_id)
        if found is None:
            found = self._invocations[request_id] = _Invocation(request_id, event.stream, at)
            if len(self._invocations) > self._max_open:
                self._close(next(iter(self._invocations)))
        if (before := self._running.get(event.stream)) != request_id:
            previous = self._invocations.get(before or "")
            if previous is not None and previous.ended and previous.stream == event.stream:
                self._close(previous.request_id)
            self._running[event.stream] = request_id
            self._running.move_to_end(event.stream)
            if len(self._running) > self._max_open:
                self._running.popitem(last=False)
        return found

    def _close(self, request_id: str) -> None:
        """The end of the invocation is that of the inputs that were not done before."""
        invocation = self._invocations.pop(request_id)
        for attempt in invocation.inputs.values():
            self._end(attempt, invocation)
        if not invocation.had_inputs:
            self._end(Attempt(request_id, invocation.stream, invocation.started), invocation)

    def _end(self, attempt: Attempt, invocation: _Invocation) -> None:
        attempt.ended = invocation.error_at or invocation.ended
        attempt.duration_ms = invocation.duration_ms
        attempt.error = invocation.error
        self.finished.append(attempt)


def _fill_in(attempt: Attempt, line: RecordLine, at: datetime) -> None:
    if line.key is not None:
        attempt.key = line.key[:MAX_TEXT]
    attempt.version_id = line.version_id or attempt.version_id
    attempt.receive_count = line.receive_count or attempt.receive_count
    attempt.sent_at = line.sent_at or attempt.sent_at
    attempt.event_at = line.event_at or attempt.event_at
    if line.duration_ms is not None:
        attempt.duration_ms = line.duration_ms
    if line.event is RecordEvent.OUTPUT and len(attempt.outputs) < MAX_OUTPUTS:
        attempt.outputs = (*attempt.outputs, WrittenOutput(line.output_key or "", at))
    elif line.event is RecordEvent.COMPLETION:
        attempt.completion_key = line.completion_key
    elif line.event is RecordEvent.FAILED:
        attempt.error, attempt.is_final = (line.error or NO_REASON)[:MAX_ERROR], line.is_final
    elif line.event is RecordEvent.IGNORED:
        attempt.ignored = line.reason or NO_REASON


@dataclass(frozen=True)
class FunctionLog:
    """The log group of one function, from `since` to `until` (UTC). `timeout_s` is the function's."""

    logs: LogGroups
    group: str
    read_line: ReadLogLine
    since: datetime
    until: datetime
    timeout_s: int = 900

    def lines(self, pattern: str | None, since: datetime | None = None) -> Iterator[LogEvent]:
        return self.logs.events(self.group, since or self.since, pattern, until=self.until)

    def about(self, text: str, since: datetime | None = None, most: int = MAX_INVOCATIONS) -> tuple[Attempt, ...]:
        """The attempts at one input, oldest first. `text` is its key or the id of its message.

        For the last `most` attempts whose end the function did not log, the platform's lines are read, too. Each
        invocation is an attempt if the stack cannot read the lines that name `text`.
        """
        named = list(islice(self.lines(pattern_of(text), since), MAX_LINES))
        found = self._read(named, text, {})
        known = {attempt.request_id for attempt in found}
        invocations = {attempt.request_id: attempt.started for attempt in found if attempt.ended is None}
        for event in named:
            request_id = self._request_of(event, text)
            if request_id and request_id not in known:
                invocations.setdefault(request_id, event.timestamp)
        last = sorted(invocations.items(), key=lambda item: item[1])[-most:]
        more = concurrently([partial(self._invocation, *item) for item in last], LOOKUPS_AT_ONCE)
        lines = dict.fromkeys([*named, *(event for events in more for event in events)])
        return tuple(self._read(lines, text, invocations))

    def last_errors(self, most: int, since: datetime | None = None) -> tuple[str, ...]:
        """The last errors that the function logged, each once, the latest last; for functions that name no inputs."""
        found: dict[str, datetime] = {}
        for pattern in _ERROR_PATTERNS:
            for event in islice(self.lines(pattern, since), MAX_LINES_OF_INVOCATION):
                line = platform_line(event.message)
                if line is not None and line.error:
                    found[line.error[:MAX_ERROR]] = event.timestamp
        return tuple(sorted(found, key=lambda error: found[error])[-most:])

    def _read(self, lines: Iterable[LogEvent], text: str, invocations: Mapping[str, datetime]) -> list[Attempt]:
        """The attempts at the input, and of `invocations` those that name no input."""
        ordered = sorted(lines, key=lambda event: event.timestamp)
        about = [
            attempt
            for attempt in read_attempts(ordered, self.read_line)
            if text in (attempt.key, attempt.message_id)
            or (attempt.message_id is None and attempt.request_id in invocations)
        ]
        return sorted(about, key=lambda attempt: attempt.started)

    def _request_of(self, event: LogEvent, text: str) -> str | None:
        """The invocation of a line that names the input in a form that the stack cannot read."""
        record = json_line(event.message)
        if record is not None and self.read_line(record) is not None:
            return None
        is_named = text in event.message if record is None else text in record.values()
        return request_id_of(event.message) if is_named else None

    def _invocation(self, request_id: str, at: datetime) -> list[LogEvent]:
        """The lines that name the invocation; if these hold no error, also those of its stream that do not name it."""
        since = at - SKEW
        until = min(at + timedelta(seconds=self.timeout_s) + SKEW, self.until)
        read = partial(self.logs.events, self.group, until=until)
        named = list(islice(read(since, pattern_of(request_id)), MAX_LINES_OF_INVOCATION))
        errors = [line.error for event in named if (line := platform_line(event.message)) is not None and line.error]
        if any(" " in error for error in errors):  # a sentence, not only the error's type
            return named
        streams = sorted({event.stream for event in named if platform_line(event.message) is None})
        return [*named, *(islice(read(at, streams=streams), MAX_LINES_OF_INVOCATION) if streams else ())]
