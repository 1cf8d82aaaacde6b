"""Messages, queues and filters for tests of room `dlq`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress
from refinerctl.dlq.filters import Expression, MessageFilter

SENT = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


def queue(name: str) -> QueueAddress:
    return QueueAddress(name, f"https://sqs.example/0/{name}", f"arn:aws:sqs:us-east-1:0:{name}")


def event(key: str, bucket: str = "data-repository", version: str | None = "v1") -> str:
    """A body as EventBridge sends it."""
    entity = {"key": key, "size": 5} | ({"version-id": version} if version else {})
    return json.dumps({"source": "aws.s3", "detail": {"bucket": {"name": bucket}, "object": entity}})


def message(number: int = 1, body: str | None = None, **given: Any) -> Message:
    fields: dict[str, Any] = {"receive_count": 6, "receipt": f"r{number}"} | given
    if body is None:
        body = event(f"RefinerInput/{number}.txt")
    fields.setdefault("sent_at", SENT + timedelta(minutes=number))
    return Message(body, id=f"m{number}", **fields)


def undelivered(number: int = 1, text: str | None = None, source: str = "RULE_ARN") -> Message:
    """A message as EventBridge moves it to the DLQ of a rule, or of a schedule."""
    given = {source: "arn:aws:events:us-east-1:0:rule/bus/a", "ERROR_CODE": "NO_PERMISSIONS"}
    if text is not None:
        given["ERROR_MESSAGE"] = text
    return message(number, attributes={name: MessageAttribute("String", value) for name, value in given.items()})


def matching(text: str, **given: Any) -> MessageFilter:
    """A filter by a JMESPath expression."""
    return MessageFilter(expression=Expression.parse(text), **given)
