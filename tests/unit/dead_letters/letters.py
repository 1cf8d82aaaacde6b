"""Dead letters for tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress

SENT = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


def queue(name: str) -> QueueAddress:
    return QueueAddress(name, f"https://sqs.example/0/{name}", f"arn:aws:sqs:us-east-1:0:{name}")


def event(key: str, bucket: str = "data-repository", version: str | None = "v1") -> str:
    """A body as EventBridge sends it."""
    entity = {"key": key, "size": 5} | ({"version-id": version} if version else {})
    return json.dumps({"source": "aws.s3", "detail": {"bucket": {"name": bucket}, "object": entity}})


def letter(number: int = 1, body: str | None = None, **given: Any) -> Message:
    fields: dict[str, Any] = {"receive_count": 6, "receipt": f"r{number}"} | given
    if body is None:
        body = event(f"RefinerInput/{number}.txt")
    fields.setdefault("sent_at", SENT + timedelta(minutes=number))
    return Message(body, id=f"m{number}", **fields)


def undelivered(number: int = 1, code: str = "NO_PERMISSIONS", message: str | None = None) -> Message:
    given = {"RULE_ARN": "arn:aws:events:us-east-1:0:rule/bus/a", "TARGET_ARN": queue("a").arn, "ERROR_CODE": code}
    if message is not None:
        given["ERROR_MESSAGE"] = message
    return letter(number, attributes={name: MessageAttribute("String", value) for name, value in given.items()})
