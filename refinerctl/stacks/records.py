"""What an image's log says about one input, whatever the form of its lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

NO_REASON = "no reason given"


class RecordEvent(StrEnum):
    """The event of an input that a line of an image's log records."""

    RECEIVED = "received"
    OUTPUT = "output"
    COMPLETION = "completion"
    DONE = "done"
    FAILED = "failed"
    IGNORED = "ignored"
    CLAIMED = "claimed"
    PUBLISHED = "published"
    UNPUBLISHED = "unpublished"


class RecordLine(NamedTuple):
    """A line of an image's log about one input. Times in UTC, durations in milliseconds; None: not in the line.

    A tuple, as logs have millions of lines. `message_id` tells the inputs of one invocation apart. `is_final`: the
    message is not delivered again after this failure.
    """

    event: RecordEvent
    request_id: str
    message_id: str
    key: str | None = None
    version_id: str | None = None
    at: datetime | None = None
    event_at: datetime | None = None
    sent_at: datetime | None = None
    receive_count: int | None = None
    duration_ms: float | None = None
    error: str | None = None
    reason: str | None = None
    output_key: str | None = None
    completion_key: str | None = None
    size_bytes: int | None = None
    traceparent: str | None = None
    is_final: bool = False


ReadLogLine: TypeAlias = Callable[[Mapping[str, Any]], RecordLine | None]


def error_text(error: object) -> str:
    """An error in one line, from the forms that functions and runtimes log: `NoSuchKey: message`."""
    if not isinstance(error, dict):
        return str(error).strip()
    name = error.get("code") or error.get("name") or error.get("errorType")
    message = error.get("message") or error.get("errorMessage")
    return ": ".join(str(part) for part in (name, message) if part) or NO_REASON
