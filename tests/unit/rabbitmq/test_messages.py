"""Messages of RabbitMQ: what is read, what is sent again, and what identifies them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from refinerctl.aws.messages import MessageAttribute, OutgoingMessage, QueueAddress
from refinerctl.dlq.records import from_record, to_record
from refinerctl.rabbitmq.amqp import Delivery, Tag
from refinerctl.rabbitmq.messages import (
    message_digest,
    outgoing_properties,
    read_delivery,
    sent_id,
    source_queues,
    to_publication,
)

DIED = datetime(2026, 3, 1, 14, 2, tzinfo=UTC)
QUEUE = QueueAddress("a-dlq", "amqps://host:5671/%2F/a-dlq", "")


def death(queue: str = "a", count: int = 1, at: datetime = DIED) -> dict[str, Any]:
    return {
        "queue": queue,
        "reason": "delivery_limit",
        "count": count,
        "time": at,
        "exchange": "",
        "routing-keys": ["a"],
    }


def delivery(headers: dict[str, Any] | None = None, body: bytes = b"{}") -> Delivery:
    own = {"x-death": [death()], "x-first-death-queue": "a", "x-delivery-count": 2, **(headers or {})}
    return Delivery(Tag(1, 1), body, own, {"message_id": "m", "timestamp": 1_700_000_000, "user_id": "old"})


def test_broker_s_headers_are_shown_and_not_sent() -> None:
    message = read_delivery(delivery({"traceparent": "00-1", "CC": ["other"]}))

    assert (message.receive_count, message.moved_at, message.sent_at.year) == (3, DIED, 2023)
    assert json.loads(message.system["x-death"])[0]["reason"] == "delivery_limit"
    assert message.attributes == {"traceparent": MessageAttribute("String", "00-1")}
    assert outgoing_properties(message) == {"message_id": "m", "timestamp": "1700000000"}


HEADERS = [
    "text",
    "",
    7,
    -(2**40),
    b"\x00\xff",
    True,
    None,
    [1, "a", None],
    {"a": {"b": [b"\x01"]}},
    datetime(2026, 1, 1, tzinfo=UTC),
]


@pytest.mark.parametrize("value", HEADERS, ids=repr)
@pytest.mark.parametrize("body", [b"text", "ü".encode(), b"\xff\x00binary", b""])
def test_content_is_sent_as_it_was(value: object, body: bytes) -> None:
    message = read_delivery(delivery({"h": value}, body))
    restored = from_record(to_record(replace(message, id="i"), QUEUE)).message

    publication = to_publication(
        OutgoingMessage(restored.body, restored.attributes, properties=outgoing_properties(restored))
    )

    assert publication.body == body
    assert publication.headers == {"h": value}
    assert publication.properties == {"message_id": "m", "timestamp": 1_700_000_000}


def test_identity() -> None:
    """The id is the same at each receive; it changes when the message fails again, and the content's id does not."""
    first = read_delivery(delivery())
    again = read_delivery(delivery({"x-delivery-count": 9}))
    later = read_delivery(delivery({"x-death": [death(count=2, at=DIED.replace(minute=9))]}))

    assert message_digest(first) == message_digest(again)
    assert message_digest(first) != message_digest(later)
    assert first.content_id == later.content_id
    outgoing = OutgoingMessage(first.body, first.attributes, properties=outgoing_properties(first))
    assert sent_id(outgoing) == first.content_id
    for other in (delivery(body=b"1"), delivery({"h": 1})):
        assert read_delivery(other).content_id != first.content_id


def test_source_is_where_it_failed_first() -> None:
    assert source_queues(read_delivery(delivery())) == ("a",)
    both = read_delivery(delivery({"x-death": [death("retry"), death("a")]}))
    assert source_queues(both) == ("a", "retry")
    assert source_queues(read_delivery(Delivery(Tag(1, 1), b""))) == ()


def test_more_headers_than_sqs_has_attributes() -> None:
    message = replace(read_delivery(delivery({f"h{number}": number for number in range(20)})), id="i")
    assert len(from_record(to_record(message, QUEUE)).message.attributes) == 20
