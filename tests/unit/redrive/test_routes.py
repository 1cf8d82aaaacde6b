"""Where a dead letter goes, and in which form."""

from __future__ import annotations

import pytest

from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress
from refinerctl.dlq.redrive.routes import REDRIVES, Routes
from refinerctl.dlq.redrive.types import Leave, Origin, SendTo
from tests.unit.redrive.letters import (
    DLQ,
    IN,
    ORIGIN,
    OTHER,
    SHARED,
    UNDELIVERED,
    letter,
    queue,
    resolve,
    text,
    undelivered,
)


def sent(routes: Routes, given: Message) -> SendTo:
    route = routes(given)
    assert isinstance(route, SendTo), route
    return route


def left(routes: Routes, given: Message) -> Leave:
    route = routes(given)
    assert isinstance(route, Leave), route
    return route


def test_it_goes_back_to_the_queue_that_it_came_from() -> None:
    assert sent(Routes(ORIGIN, resolve), letter()).queue_url == IN.url


def test_of_several_queues_each_message_tells_its_own() -> None:
    routes = Routes(SHARED, resolve)

    assert sent(routes, letter(system={"DeadLetterQueueSourceArn": IN.arn})).queue_url == IN.url
    assert sent(routes, letter(system={"DeadLetterQueueSourceArn": OTHER.arn})).queue_url == OTHER.url
    silent = left(routes, letter())
    assert silent.is_failure
    assert "--to QUEUE" in silent.reason


def test_what_sqs_tells_of_a_message_wins_over_the_only_source() -> None:
    """The redrive policy may have been moved since."""
    assert sent(Routes(ORIGIN, resolve), letter(system={"DeadLetterQueueSourceArn": OTHER.arn})).queue_url == OTHER.url


def test_a_source_that_is_gone_is_named() -> None:
    gone = left(Routes(ORIGIN, resolve), letter(system={"DeadLetterQueueSourceArn": queue("gone").arn}))

    assert gone.is_failure
    assert "there is no queue 'gone'" in gone.reason


def test_an_undelivered_event_goes_to_its_target_without_eventbridges_words() -> None:
    route = sent(Routes(UNDELIVERED, resolve), undelivered(IN.arn, own=text("kept")))

    assert route.queue_url == IN.url
    assert route.outgoing.attributes == {"own": text("kept")}


@pytest.mark.parametrize(
    ("arn", "reason"),
    [
        (
            "arn:aws:events:us-east-1:000000000000:event-bus/bus",
            "event bus bus, which takes events of AWS from AWS alone",
        ),
        ("arn:aws:lambda:us-east-1:000000000000:function:f", "which is no SQS queue"),
        (queue("in", "eu-west-1").arn, "in another region"),
        (queue("gone").arn, "there is no queue 'gone'"),
        (UNDELIVERED.queue.arn, "this very queue"),
        ("nonsense", "which is no SQS queue"),
    ],
)
def test_an_undelivered_event_that_cannot_be_sent_stays_and_says_why(arn: str, reason: str) -> None:
    route = left(Routes(UNDELIVERED, resolve), undelivered(arn))

    assert route.is_failure
    assert reason in route.reason


def test_a_target_whose_consumer_is_broken_gets_nothing() -> None:
    asked: list[str] = []

    def vet(target: QueueAddress) -> str | None:
        asked.append(target.name)
        return "its mapping is Disabled" if target == OTHER else None

    routes = Routes(SHARED, resolve, vet=vet)

    for _ in range(2):
        assert "its mapping is Disabled" in left(routes, letter(system={"DeadLetterQueueSourceArn": OTHER.arn})).reason
        assert sent(routes, letter(system={"DeadLetterQueueSourceArn": IN.arn})).queue_url == IN.url
    assert asked == ["other", "in"]


def test_another_queue_takes_everything() -> None:
    routes = Routes(UNDELIVERED, resolve, to=OTHER)

    route = sent(routes, undelivered("arn:aws:events:us-east-1:000000000000:event-bus/bus"))
    assert route.queue_url == OTHER.url
    assert route.outgoing.attributes == {}


def test_everything_that_a_sender_gave_is_kept() -> None:
    attributes = {"raw": MessageAttribute("Binary.custom", b"\x00\xff"), "n": text("1.50", "Number")}
    given = letter(
        body="ünï\ncode",
        attributes=attributes,
        system={"MessageGroupId": "g", "MessageDeduplicationId": "d", "AWSTraceHeader": "Root=1", "SenderId": "s"},
    )

    standard = sent(Routes(ORIGIN, resolve), given).outgoing
    fifo = sent(Routes(ORIGIN, resolve, to=queue("in.fifo")), given).outgoing

    assert (standard.body, standard.attributes) == ("ünï\ncode", attributes)
    assert (standard.group, standard.deduplication, standard.trace_header) == ("g", None, "Root=1")
    assert (fifo.group, fifo.deduplication) == ("g", "d")


def test_a_fifo_queue_takes_nothing_without_a_group() -> None:
    assert "no message group" in left(Routes(ORIGIN, resolve, to=queue("in.fifo")), letter()).reason


def test_redrives_are_counted_only_when_they_are_limited() -> None:
    once = letter(attributes={REDRIVES: text("1", "Number")})

    assert sent(Routes(ORIGIN, resolve), letter()).outgoing.attributes == {}
    assert sent(Routes(ORIGIN, resolve, max_redrives=2), letter()).outgoing.attributes == {
        REDRIVES: text("1", "Number")
    }
    assert sent(Routes(ORIGIN, resolve, max_redrives=2), once).outgoing.attributes == {REDRIVES: text("2", "Number")}
    stopped = left(Routes(ORIGIN, resolve, max_redrives=1), once)
    assert "redriven 1 times already" in stopped.reason
    assert not stopped.is_failure


def test_a_message_with_ten_attributes_has_no_room_for_a_count() -> None:
    full = letter(attributes={f"a{number}": text("x") for number in range(10)})
    counted = letter(attributes={**{f"a{number}": text("x") for number in range(9)}, REDRIVES: text("1", "Number")})

    assert sent(Routes(ORIGIN, resolve), full).outgoing.attributes == full.attributes
    refused = left(Routes(ORIGIN, resolve, max_redrives=5), full)
    assert refused.is_failure
    assert "10 attributes" in refused.reason
    assert sent(Routes(ORIGIN, resolve, max_redrives=5), counted).outgoing.attributes[REDRIVES].value == "2"


def test_an_undelivered_event_with_ten_attributes_has_room_for_a_count() -> None:
    event = undelivered(IN.arn, **{f"a{number}": text("x") for number in range(4)})

    assert len(sent(Routes(UNDELIVERED, resolve, max_redrives=5), event).outgoing.attributes) == 5


def test_what_is_not_asked_for_stays_without_being_a_failure() -> None:
    route = left(Routes(ORIGIN, resolve, unwanted=lambda _: "filtered"), letter())

    assert (route.reason, route.is_failure) == ("filtered", False)


def test_only_edited_letters_are_sent_as_they_were_edited() -> None:
    routes = Routes(ORIGIN, resolve, edited={"1": letter(body="new")})

    assert sent(routes, letter(body="old")).outgoing.body == "new"
    assert "edited" in left(routes, letter("2")).reason


def test_a_queue_that_serves_no_other_is_asked_for_a_target() -> None:
    unknown = Origin(DLQ, UNDELIVERED.kind)

    assert "--to QUEUE" in left(Routes(unknown, resolve), letter()).reason
