"""Where a message goes, and in which form."""

from __future__ import annotations

import pytest

from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress
from refinerctl.dlq.redrive.routes import REDRIVES, Origin, Routes, SendTo, Stay
from tests.unit.dlq.redrive.messages import (
    DLQ,
    IN,
    ORIGIN,
    OTHER,
    SHARED,
    UNDELIVERED,
    message,
    queue,
    resolve,
    text,
    undelivered,
)


def sent(routes: Routes, given: Message) -> SendTo:
    route = routes(given)
    assert isinstance(route, SendTo), route
    return route


def left(routes: Routes, given: Message) -> Stay:
    route = routes(given)
    assert isinstance(route, Stay), route
    return route


def test_a_message_goes_to_the_only_source_queue() -> None:
    assert sent(Routes(ORIGIN, resolve), message()).queue == IN


def test_with_several_source_queues_each_message_names_its_own() -> None:
    routes = Routes(SHARED, resolve)

    assert sent(routes, message(system={"DeadLetterQueueSourceArn": IN.arn})).queue == IN
    assert sent(routes, message(system={"DeadLetterQueueSourceArn": OTHER.arn})).queue == OTHER
    silent = left(routes, message())
    assert silent.is_failure
    assert "--to QUEUE" in silent.reason


def test_the_source_in_the_message_wins_over_the_only_source_queue() -> None:
    """The redrive policy may have been moved since."""
    assert sent(Routes(ORIGIN, resolve), message(system={"DeadLetterQueueSourceArn": OTHER.arn})).queue == OTHER


def test_a_deleted_source_queue_is_named() -> None:
    gone = left(Routes(ORIGIN, resolve), message(system={"DeadLetterQueueSourceArn": queue("gone").arn}))

    assert gone.is_failure
    assert "queue gone does not exist" in gone.reason


def test_an_undelivered_event_goes_to_its_target_without_eventbridges_attributes() -> None:
    route = sent(Routes(UNDELIVERED, resolve), undelivered(IN.arn, own=text("kept")))

    assert route.queue == IN
    assert route.message.attributes == {"own": text("kept")}


@pytest.mark.parametrize(
    ("arn", "reason"),
    [
        (
            "arn:aws:events:us-east-1:000000000000:event-bus/bus",
            "only AWS can send S3's events to event bus bus",
        ),
        ("arn:aws:lambda:us-east-1:000000000000:function:f", "is not an SQS queue"),
        (queue("in", "eu-west-1").arn, "in another region"),
        (queue("gone").arn, "queue gone does not exist"),
        (UNDELIVERED.queue.arn, "this queue itself"),
        ("nonsense", "is not an SQS queue"),
    ],
)
def test_an_undelivered_event_that_cannot_be_sent_stays_and_says_why(arn: str, reason: str) -> None:
    route = left(Routes(UNDELIVERED, resolve), undelivered(arn))

    assert route.is_failure
    assert reason in route.reason


def test_a_target_whose_consumer_is_broken_gets_nothing() -> None:
    asked: list[str] = []

    def veto(target: QueueAddress) -> str | None:
        asked.append(target.name)
        return "its mapping is Disabled" if target == OTHER else None

    routes = Routes(SHARED, resolve, veto=veto)

    for _ in range(2):
        assert "its mapping is Disabled" in left(routes, message(system={"DeadLetterQueueSourceArn": OTHER.arn})).reason
        assert sent(routes, message(system={"DeadLetterQueueSourceArn": IN.arn})).queue == IN
    assert asked == ["other", "in"]


def test_to_sends_all_messages_to_one_queue() -> None:
    routes = Routes(UNDELIVERED, resolve, to=OTHER)

    route = sent(routes, undelivered("arn:aws:events:us-east-1:000000000000:event-bus/bus"))
    assert route.queue == OTHER
    assert route.message.attributes == {}


def test_attributes_group_and_trace_header_are_kept() -> None:
    attributes = {"raw": MessageAttribute("Binary.custom", b"\x00\xff"), "n": text("1.50", "Number")}
    given = message(
        body="ünï\ncode",
        attributes=attributes,
        system={"MessageGroupId": "g", "MessageDeduplicationId": "d", "AWSTraceHeader": "Root=1", "SenderId": "s"},
    )

    standard = sent(Routes(ORIGIN, resolve), given).message
    fifo = sent(Routes(ORIGIN, resolve, to=queue("in.fifo")), given).message

    assert (standard.body, standard.attributes) == ("ünï\ncode", attributes)
    assert (standard.group, standard.deduplication, standard.trace_header) == ("g", None, "Root=1")
    assert (fifo.group, fifo.deduplication) == ("g", "d")


def test_a_message_without_group_cannot_go_to_a_fifo_queue() -> None:
    assert "has no group" in left(Routes(ORIGIN, resolve, to=queue("in.fifo")), message()).reason


def test_redrives_are_counted_only_with_max_redrives() -> None:
    once = message(attributes={REDRIVES: text("1", "Number")})

    assert sent(Routes(ORIGIN, resolve), message()).message.attributes == {}
    assert sent(Routes(ORIGIN, resolve, max_redrives=2), message()).message.attributes == {
        REDRIVES: text("1", "Number")
    }
    assert sent(Routes(ORIGIN, resolve, max_redrives=2), once).message.attributes == {REDRIVES: text("2", "Number")}
    stopped = left(Routes(ORIGIN, resolve, max_redrives=1), once)
    assert "redriven 1 times already" in stopped.reason
    assert not stopped.is_failure


def test_a_message_with_ten_attributes_has_no_room_for_a_count() -> None:
    full = message(attributes={f"a{number}": text("x") for number in range(10)})
    counted = message(attributes={**{f"a{number}": text("x") for number in range(9)}, REDRIVES: text("1", "Number")})

    assert sent(Routes(ORIGIN, resolve), full).message.attributes == full.attributes
    refused = left(Routes(ORIGIN, resolve, max_redrives=5), full)
    assert refused.is_failure
    assert "10 attributes" in refused.reason
    assert sent(Routes(ORIGIN, resolve, max_redrives=5), counted).message.attributes[REDRIVES].value == "2"


def test_an_undelivered_event_with_ten_attributes_has_room_for_a_count() -> None:
    event = undelivered(IN.arn, **{f"a{number}": text("x") for number in range(4)})

    assert len(sent(Routes(UNDELIVERED, resolve, max_redrives=5), event).message.attributes) == 5


def test_unwanted_messages_stay_without_being_a_failure() -> None:
    route = left(Routes(ORIGIN, resolve, unwanted=lambda _: "filtered"), message())

    assert (route.reason, route.is_failure) == ("filtered", False)


def test_only_edited_messages_are_sent() -> None:
    routes = Routes(ORIGIN, resolve, edited={"1": message(body="new")})

    assert sent(routes, message(body="old")).message.body == "new"
    assert "edited" in left(routes, message("2")).reason


def test_a_queue_without_source_queues_needs_a_target() -> None:
    unknown = Origin(DLQ, UNDELIVERED.kind)

    assert "--to QUEUE" in left(Routes(unknown, resolve), message()).reason
