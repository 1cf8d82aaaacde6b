"""Queues and messages for tests of redrives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress
from refinerctl.dlq.queues import DlqKind
from refinerctl.dlq.redrive.routes import Origin
from refinerctl.errors import NotFoundError

SENT = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


def queue(name: str, region: str = "us-east-1") -> QueueAddress:
    return QueueAddress(name, f"https://sqs.test/000000000000/{name}", f"arn:aws:sqs:{region}:000000000000:{name}")


def text(value: str, data_type: str = "String") -> MessageAttribute:
    return MessageAttribute(data_type, value)


def message(id_: str = "1", body: str = "{}", **given: Any) -> Message:
    return Message(body, SENT, 3, id=id_, receipt=f"receipt of {id_}", **given)


def undelivered(target_arn: str, **attributes: MessageAttribute) -> Message:
    """As EventBridge leaves an event that it could not deliver."""
    said = {
        "RULE_ARN": text("arn:aws:events:us-east-1:000000000000:rule/bus/in"),
        "TARGET_ARN": text(target_arn),
        "ERROR_CODE": text("NO_PERMISSIONS"),
        "ERROR_MESSAGE": text("not authorized"),
        "EXHAUSTED_RETRY_CONDITION": text("MaximumRetryAttempts"),
        "RETRY_ATTEMPTS": text("0", "Number"),
    }
    return message("undelivered", attributes={**said, **attributes})


IN, OTHER, DLQ = queue("in"), queue("other"), queue("in-dlq")
ORIGIN = Origin(DLQ, DlqKind.PROCESSING, (IN,))
SHARED = Origin(DLQ, DlqKind.PROCESSING, (IN, OTHER))
UNDELIVERED = Origin(queue("in-delivery-dlq"), DlqKind.DELIVERY)

_KNOWN = {item.arn: item for item in (IN, OTHER, DLQ, queue("in.fifo"), UNDELIVERED.queue)}


def resolve(arn: str) -> QueueAddress:
    if arn not in _KNOWN:
        raise NotFoundError(f"queue {arn.rpartition(':')[2]} does not exist")
    return _KNOWN[arn]
