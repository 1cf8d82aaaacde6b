"""What a function's log tells about all of its attempts, line by line and in memory that stays the same."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from refinerctl.aws.logs import LogEvent
from refinerctl.insight import function_lines
from refinerctl.insight.function_lines import Mark, PlatformLine, json_line, moment, platform_line
from refinerctl.insight.report.tally import NO_REASON, Tally, Timeline
from refinerctl.stacks.base import error_text

# As few lines as possible. Where terms begin with a question mark, one of them is enough.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
PATTERN = " ".join(
    f'?"{term}"'
    for term in (
        *(function_lines.RECEIVED, function_lines.DONE, function_lines.FAILED, function_lines.IGNORED),
        *("REPORT RequestId", "platform.report", "Task timed out", "ERROR", "Error:", "errorType"),
    )
)

# What is remembered of invocations and streams, far more than are under way at one moment.
MAX_OPEN = 5_000
# As many messages as Lambda takes from a queue at once; a key has 1,024 bytes at most.
MAX_BATCH = 10_000
MAX_TEXT = 1024

Known = TypeVar("Known")

_RECORDS = (function_lines.RECEIVED, function_lines.DONE, function_lines.FAILED, function_lines.IGNORED)


@dataclass(frozen=True)
class _Open:
    """An input that is being worked on."""

    key: str
    event_at: datetime | None


@dataclass
class _Invocation:
    stream: str
    inputs: dict[str, _Open] = field(default_factory=dict)
    error: str | None = None
    error_at: datetime | None = None
    has_inputs: bool = False
    is_reported: bool = False


@dataclass(frozen=True)
class _Unnamed:
    """An error without a request id, until a line of its stream says whose it is."""

    error: str
    at: datetime


class FunctionLog:
    """Takes the lines of one log group in the order of time.

    A function that logs its inputs is counted by them, any other by its invocations. Of invocations, and of streams,
    `max_open` are remembered.
    """

    def __init__(self, timeline: Timeline, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._inputs = Tally(timeline)
        self._invocations = Tally(timeline)
        self._logs_inputs = False
        self._open: OrderedDict[str, _Invocation] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._current: OrderedDict[str, str] = OrderedDict()  # the invocation that gave inputs to a stream
        self._unnamed: OrderedDict[str, _Unnamed] = OrderedDict()

    def take(self, event: LogEvent) -> None:
        record = json_line(event.message)
        if record is not None and record.get("message") in _RECORDS:
            self._take_record(event, record)
        elif (line := platform_line(event.message) or _json_error(record)) is not None:
            self._take_platform(event, line)

    def finish(self) -> Tally:
        """What came out, when there are no more lines."""
        for request_id, invocation in self._open.items():
            self._settle(request_id, invocation)
        for stream in list(self._unnamed):
            self._fail_unnamed(stream)
        self._open.clear()
        return self._inputs if self._logs_inputs else self._invocations

    def _take_record(self, event: LogEvent, record: dict[str, Any]) -> None:
        self._logs_inputs = True
        request_id, message_id, key = (_text(record, name) for name in ("requestId", "messageId", "key"))
        at = moment(record.get("timestamp")) or event.timestamp
        invocation = self._invocation(request_id, event.stream)
        invocation.has_inputs = True
        if record["message"] == function_lines.RECEIVED:
            self._inputs.attempts += 1
            self._fail_unnamed(event.stream)
            self._put(self._current, event.stream, request_id)
            invocation.inputs[message_id] = _Open(key, moment(record.get("eventTime")))
            if len(invocation.inputs) > MAX_BATCH:
                del invocation.inputs[next(iter(invocation.inputs))]
            return
        known = invocation.inputs.pop(message_id, None)
        self._inputs.attempts += known is None  # it began before the first line that was read
        if record["message"] == function_lines.FAILED:
            error = error_text(record.get("error") or NO_REASON)
            self._inputs.fail(at, error, key or (known.key if known else ""), request_id)
        else:
            self._complete(record, at, known)
        if invocation.is_reported and not invocation.inputs:
            del self._open[request_id]

    def _complete(self, record: dict[str, Any], at: datetime, known: _Open | None) -> None:
        if record["message"] == function_lines.IGNORED:  # done with, and nothing that was worked on
            self._inputs.complete(at)
            return
        duration = record.get("durationMs")
        latency = (at - known.event_at).total_seconds() if known and known.event_at else None
        self._inputs.complete(at, float(duration) if isinstance(duration, int | float) else None, latency)

    def _take_platform(self, event: LogEvent, line: PlatformLine) -> None:
        if line.mark is Mark.START:
            self._fail_unnamed(event.stream)
        elif line.request_id is None:
            self._take_unnamed(event, line.error or NO_REASON)
        elif (line.error or line.mark is Mark.REPORT) and line.request_id not in self._ended:
            invocation = self._invocation(line.request_id, event.stream)
            if line.error:
                self._note(invocation, line.error, event.timestamp)
            if line.mark is Mark.REPORT:
                self._report(line.request_id, invocation, event, line.duration_ms)

    def _report(self, request_id: str, invocation: _Invocation, event: LogEvent, duration_ms: float | None) -> None:
        invocation.is_reported = True
        self._put(self._ended, request_id, None)
        if (unnamed := self._unnamed.pop(event.stream, None)) is not None:
            self._note(invocation, unnamed.error, unnamed.at)
        if invocation.error is None:
            self._invocations.attempts += 1
            self._invocations.complete(event.timestamp, duration_ms)
        if invocation.error is not None or not invocation.inputs:
            self._settle(request_id, self._open.pop(request_id))

    def _take_unnamed(self, event: LogEvent, error: str) -> None:
        """It belongs to the inputs that are open in its stream: an environment runs one invocation at a time."""
        request_id = self._current.get(event.stream, "")
        invocation = self._open.get(request_id)
        if invocation is not None and invocation.inputs:
            self._note(invocation, error, event.timestamp)
            if invocation.is_reported:
                self._settle(request_id, self._open.pop(request_id))
            return
        self._fail_unnamed(event.stream)
        while len(self._unnamed) >= self._max_open:
            self._fail_unnamed(next(iter(self._unnamed)))
        self._unnamed[event.stream] = _Unnamed(error, event.timestamp)

    def _fail_unnamed(self, stream: str) -> None:
        """No report came after the error in its stream: in the emulator that stands elsewhere, as of a success."""
        if (unnamed := self._unnamed.pop(stream, None)) is not None:
            self._inputs.attempts += 1
            self._inputs.fail(unnamed.at, unnamed.error)
            self._invocations.fail(unnamed.at, unnamed.error)
            self._invocations.take_back(unnamed.at)

    def _note(self, invocation: _Invocation, error: str, at: datetime) -> None:
        """Of several lines about one failure the one that says most: a sentence rather than a type."""
        invocation.error = max(invocation.error or "", error, key=len)
        invocation.error_at = invocation.error_at or at

    def _settle(self, request_id: str, invocation: _Invocation) -> None:
        """An invocation has ended, or is forgotten. What it was done with before it failed has not failed."""
        if invocation.error is None or invocation.error_at is None:
            return
        self._invocations.attempts += 1
        self._invocations.fail(invocation.error_at, invocation.error, request_id=request_id)
        if not invocation.has_inputs:
            self._inputs.attempts += 1
            self._inputs.fail(invocation.error_at, invocation.error, request_id=request_id)
        for item in invocation.inputs.values():
            self._inputs.fail(invocation.error_at, invocation.error, item.key, request_id)

    def _invocation(self, request_id: str, stream: str) -> _Invocation:
        found = self._open.get(request_id)
        if found is None:
            found = self._open[request_id] = _Invocation(stream)
            if len(self._open) > self._max_open:
                self._settle(*self._open.popitem(last=False))
        return found

    def _put(self, known: OrderedDict[str, Known], name: str, value: Known) -> None:
        """At the end; what is oldest gives way."""
        known[name] = value
        known.move_to_end(name)
        if len(known) > self._max_open:
            known.popitem(last=False)


def _text(record: dict[str, Any], name: str) -> str:
    """Empty where the line has no such thing."""
    return str(record.get(name) or "")[:MAX_TEXT]


def _json_error(record: dict[str, Any] | None) -> PlatformLine | None:
    """What the runtime logs of an exception where the function's log format is JSON."""
    if record is None or not isinstance(record.get("requestId"), str):
        return None
    message = record.get("message")
    error = message if isinstance(message, dict) else record
    return PlatformLine(Mark.ERROR, record["requestId"], error=error_text(error)) if error.get("errorType") else None
