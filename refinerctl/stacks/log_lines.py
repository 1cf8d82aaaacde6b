"""The JSON lines that this repository's images log, see images/refiner/README.md."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from refinerctl.stacks.records import NO_REASON, RecordEvent, RecordLine, error_text

RECORD_MESSAGES = {
    RecordEvent.RECEIVED: "record received",
    RecordEvent.OUTPUT: "output written",
    RecordEvent.COMPLETION: "completion written",
    RecordEvent.DONE: "record done",
    RecordEvent.FAILED: "record failed",
    RecordEvent.IGNORED: "record ignored",
    RecordEvent.CLAIMED: "record claimed",
    RecordEvent.PUBLISHED: "record published",
    RecordEvent.UNPUBLISHED: "publish failed",
}
# A worker that is stopped returns its message: that attempt has not succeeded either.
_EVENTS = {message: event for event, message in RECORD_MESSAGES.items()} | {"record returned": RecordEvent.FAILED}
# How a worker logs that it has rejected a message, which RabbitMQ then moves to the DLQ.
_REJECTED = "rejected"


def read_log_line(line: Mapping[str, Any]) -> RecordLine | None:
    """A JSON line about one input; None for any other. A task has no request: its id takes that one's place."""
    event = _EVENTS.get(str(line.get("message")))
    if event is None:
        return None
    error = line.get("error") or line.get("reason")
    count, duration, size = line.get("receiveCount"), line.get("durationMs"), line.get("bytes")
    return RecordLine(
        event,
        request_id=str(line.get("requestId") or line.get("taskId") or ""),
        message_id=str(line.get("messageId") or ""),
        key=_text(line.get("key")),
        version_id=_text(line.get("versionId")),
        at=read_time(line.get("timestamp")),
        event_at=read_time(line.get("eventTime")),
        sent_at=_time_ms(line.get("sentTimestamp")),
        receive_count=count if isinstance(count, int) else None,
        duration_ms=float(duration) if isinstance(duration, int | float) else None,
        error=error_text(error or NO_REASON) if event in (RecordEvent.FAILED, RecordEvent.UNPUBLISHED) else None,
        reason=_text(line.get("reason")),
        output_key=_text(line.get("outputKey")),
        completion_key=_text(line.get("completionKey")),
        size_bytes=size if isinstance(size, int) else None,
        traceparent=_text(line.get("traceparent")),
        is_final=line.get("outcome") == _REJECTED,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def read_time(text: object) -> datetime | None:
    """The time in UTC of a text in ISO 8601; None for any other value."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(str(text))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # a time before the year 1, once it is in UTC
        return None


def _time_ms(value: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, int | float) else None
    except (OverflowError, OSError, ValueError):
        return None
