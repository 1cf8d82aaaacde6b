"""Lines of log groups as the image and Lambda write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from refinerctl.aws.logs import LogEvent
from tests.unit.fakes import START


def request_id(number: int) -> str:
    return str(UUID(int=number))


@dataclass(frozen=True)
class Lines:
    """Lines of one stream; times are seconds after START."""

    stream: str = "s"
    group: str = "g"

    def text(self, at_s: float, text: str) -> LogEvent:
        return LogEvent(START + timedelta(seconds=at_s), self.group, self.stream, text)

    def record(self, at_s: float, message: str, request: int = 1, message_id: str = "m1", **fields: Any) -> LogEvent:
        head = {"timestamp": (START + timedelta(seconds=at_s)).isoformat(timespec="milliseconds"), "level": "INFO"}
        ids = {"message": message, "requestId": request_id(request), "messageId": message_id}
        return self.text(at_s, json.dumps({**head, **ids, **fields}))

    def received(
        self, at_s: float, request: int = 1, message_id: str = "m1", *, key: str = "In/a", event_s: float = 0.0
    ) -> LogEvent:
        event = (START + timedelta(seconds=event_s)).isoformat()
        return self.record(at_s, "record received", request, message_id, key=key, eventTime=event)

    def done(self, at_s: float, request: int = 1, message_id: str = "m1", duration_ms: float = 40) -> LogEvent:
        return self.record(at_s, "record done", request, message_id, durationMs=duration_ms)

    def failed(
        self, at_s: float, request: int = 1, message_id: str = "m1", *, key: str = "In/a", error: str = "broke"
    ) -> LogEvent:
        given = {"name": "NoSuchKey", "message": error}
        return self.record(at_s, "record failed", request, message_id, key=key, error=given, durationMs=5)

    def start(self, at_s: float, request: int = 1) -> LogEvent:
        return self.text(at_s, f"START RequestId: {request_id(request)} Version: $LATEST\n")

    def report(self, at_s: float, request: int = 1, duration_ms: float = 40, more: str = "") -> LogEvent:
        return self.text(at_s, f"REPORT RequestId: {request_id(request)}\tDuration: {duration_ms} ms\t{more}")

    def timed_out(self, at_s: float, request: int = 1) -> LogEvent:
        return self.text(at_s, f"2026-03-01T14:02:03.000Z {request_id(request)} Task timed out after 3.00 seconds\n\n")
