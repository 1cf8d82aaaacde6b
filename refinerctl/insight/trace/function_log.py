"""What a function's log tells about one input: when it was given to the function, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from refinerctl.aws.log_events import LogEvent, LogSource
from refinerctl.insight import function_lines
from refinerctl.insight.function_lines import (
    Mark,
    error_text,
    from_ms,
    json_line,
    moment,
    pattern_of,
    platform_line,
)
from refinerctl.insight.trace.facts import Attempt, Written

# Far more than any input has: what looks like its key may stand in every line of a log.
MAX_LINES = 20_000
MAX_INVOCATION_LINES = 2_000
MAX_ERRORS = 3
ERROR_LENGTH = 200
# Lambda's own lines have its clock, the function's ours.
SKEW = timedelta(seconds=2)


@dataclass(frozen=True)
class LogWindow:
    """Where and when to look; `timeout_s` is the function's."""

    groups: LogSource
    group: str
    since: datetime
    until: datetime
    timeout_s: int = 900


def attempts(window: LogWindow, key: str, version_id: str | None) -> tuple[Attempt, ...]:
    """The invocations that had this version of `key` (any version: None), oldest first."""
    lines = window.groups.events(window.group, window.since, pattern_of(key), until=window.until)
    return tuple(_grouped(_records_about(islice(lines, MAX_LINES), key, version_id)))


def with_platform(window: LogWindow, attempt: Attempt) -> Attempt:
    """What Lambda itself says of the invocation: its duration, and what ended it where the function could not tell."""
    until = min(attempt.started + timedelta(seconds=window.timeout_s) + 5 * SKEW, window.until)
    since = attempt.started - 5 * SKEW
    named = window.groups.events(window.group, since, pattern_of(attempt.request_id), until=until)
    for event in islice(named, MAX_INVOCATION_LINES):
        line = platform_line(event.message)
        if line is not None and line.request_id == attempt.request_id and line.mark is not Mark.START:
            attempt = _ended(attempt, event.timestamp, line.duration_ms, line.error)
    if not _has_told(attempt) and " " not in (attempt.error or ""):  # a type at most, and no sentence
        attempt = _with_unnamed_error(window, attempt, until)
    return attempt


def function_errors(window: LogWindow) -> tuple[str, ...]:
    """The last errors that the function has logged in the window: all there is if it names no keys."""
    found: dict[str, datetime] = {}
    for pattern in ("ERROR", '"Task timed out"'):
        for event in islice(
            window.groups.events(window.group, window.since, pattern, until=window.until), MAX_INVOCATION_LINES
        ):
            line = platform_line(event.message)
            if line is not None and line.error:
                found[line.error[:ERROR_LENGTH]] = event.timestamp
    return tuple(sorted(found, key=lambda error: found[error])[-MAX_ERRORS:])


def _has_told(attempt: Attempt) -> bool:
    return attempt.ignored is not None or attempt.completion_key is not None


def _ended(attempt: Attempt, at: datetime, duration_ms: float | None, error: str | None) -> Attempt:
    """A batch may fail after this record is done: then it is given again, but this attempt was none that failed."""
    own = attempt.ended is not None
    return replace(
        attempt,
        ended=attempt.ended if own or (error is None and duration_ms is None) else at,
        duration_ms=attempt.duration_ms if attempt.duration_ms is not None else duration_ms,
        error=attempt.error if own and (attempt.error or _has_told(attempt)) else _clearer(attempt.error, error),
    )


def _clearer(known: str | None, other: str | None) -> str | None:
    """Of several lines about one failure the one that says most: a sentence rather than a type."""
    return max(filter(None, (known, other)), key=len, default=None)


def _with_unnamed_error(window: LogWindow, attempt: Attempt, until: datetime) -> Attempt:
    """An error that stands in the stream right after, without a request id: a stream has one invocation at a time."""
    events = window.groups.events(window.group, attempt.started, until=until, streams=[attempt.stream])
    for event in islice(events, MAX_INVOCATION_LINES):
        record = json_line(event.message)
        if (
            record
            and record.get("message") == function_lines.RECEIVED
            and record.get("requestId") != attempt.request_id
        ):
            break
        line = platform_line(event.message)
        if line is None:
            continue
        if line.error and line.request_id in (None, attempt.request_id):
            return replace(attempt, ended=event.timestamp, error=_clearer(attempt.error, line.error))
        if line.mark is Mark.START and line.request_id != attempt.request_id:
            break
    return attempt


def _records_about(
    events: Iterable[LogEvent], key: str, version_id: str | None
) -> Iterator[tuple[LogEvent, dict[str, Any]]]:
    """The JSON lines of the messages that named this key and version."""
    messages: set[str] = set()
    for event in events:
        record = json_line(event.message)
        if record is None or record.get("key") != key:
            continue
        if record.get("message") == function_lines.RECEIVED and (
            version_id is None or record.get("versionId") in (None, version_id)
        ):
            messages.add(str(record.get("messageId")))
        if str(record.get("messageId")) in messages:
            yield event, record


def _grouped(records: Iterable[tuple[LogEvent, dict[str, Any]]]) -> list[Attempt]:
    found: dict[tuple[str, str], Attempt] = {}
    for event, record in records:
        identity = (str(record.get("requestId")), str(record.get("messageId")))
        at = moment(record.get("timestamp")) or event.timestamp
        known = found.get(identity) or Attempt(identity[0], event.stream, at)
        found[identity] = _with(known, record, at)
    return sorted(found.values(), key=lambda attempt: attempt.started)


def _with(attempt: Attempt, record: dict[str, Any], at: datetime) -> Attempt:
    match record.get("message"):
        case function_lines.RECEIVED:
            count = record.get("receiveCount")
            return replace(
                attempt,
                started=at,
                names_version=record.get("versionId") is not None,
                receive_count=count if isinstance(count, int) else None,
                sent_at=from_ms(record.get("sentTimestamp")),
                event_at=moment(record.get("eventTime")),
            )
        case function_lines.OUTPUT:
            written = Written(str(record.get("outputKey")), at)
            return replace(attempt, outputs=(*attempt.outputs, written))
        case function_lines.COMPLETION:
            return replace(attempt, completion_key=str(record.get("completionKey")))
        case function_lines.DONE:
            return replace(attempt, ended=at, duration_ms=_number(record.get("durationMs")))
        case function_lines.FAILED:
            error = error_text(record.get("error") or "no reason given")
            return replace(attempt, ended=at, duration_ms=_number(record.get("durationMs")), error=error)
        case function_lines.IGNORED:
            return replace(attempt, ended=at, ignored=str(record.get("reason")))
    return attempt


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
