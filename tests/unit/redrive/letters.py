"""Queues and dead letters for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from refinerctl.dlq.redrive.types import Origin
from refinerctl.dlq.types import DeadLetter, DeadLetterKind, MessageAttribute, QueueAddress
from refinerctl.errors import NotFoundError

SENT = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


def queue(name: str, region: str = "us-east-1") -> QueueAddress:
    return QueueAddress(name, f"https://sqs.test/000000000000/{name}", f"arn:aws:sqs:{region}:000000000000:{name}")


def text(value: str, data_type: str = "String") -> MessageAttribute:
    return MessageAttribute(data_type, value)


def letter(id_: str = "1", body: str = "{}", **given: Any) -> DeadLetter:
    return DeadLetter(id_, body, SENT, 3, receipt=f"receipt of {id_}", **given)


def undelivered(target_arn: str, **attributes: MessageAttribute) -> DeadLetter:
    """As EventBridge leaves an event that it could not deliver."""
    said = {
        "RULE_ARN": text("arn:aws:events:us-east-1:000000000000:rule/bus/in"),
        "TARGET_ARN": text(target_arn),
        "ERROR_CODE": text("NO_PERMISSIONS"),
        "ERROR_MESSAGE": text("not authorized"),
        "EXHAUSTED_RETRY_CONDITION": text("MaximumRetryAttempts"),
        "RETRY_ATTEMPTS": text("0", "Number"),
    }
    return letter("undelivered", attributes={**said, **attributes})


IN, OTHER, DLQ = queue("in"), queue("other"), queue("in-dlq")
ORIGIN = Origin(DLQ, DeadLetterKind.PROCESSING, (IN,))
SHARED = Origin(DLQ, DeadLetterKind.PROCESSING, (IN, OTHER))
UNDELIVERED = Origin(queue("in-delivery-dlq"), DeadLetterKind.DELIVERY)

_KNOWN = {item.arn: item for item in (IN, OTHER, DLQ, queue("in.fifo"), UNDELIVERED.queue)}


def resolve(arn: str) -> QueueAddress:
    if arn not in _KNOWN:
        raise NotFoundError(f"there is no queue {arn.rpartition(':')[2]!r}")
    return _KNOWN[arn]
