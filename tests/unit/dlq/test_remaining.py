"""A queue counts as empty only if its counts have shown that for long enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import TYPE_CHECKING, cast

import pytest

from refinerctl.aws.messages import QueueAddress, QueueAttributes
from refinerctl.dlq.remaining import LOOKS_IN_DOUBT, LOOKS_UNEXPLAINED, Remaining
from refinerctl.errors import AccessDeniedError, RefinerctlError, TransientError
from tests.unit.dlq.messages import queue

if TYPE_CHECKING:
    from refinerctl.aws.message_queue import MessageQueue

AT = datetime(2026, 3, 1, tzinfo=UTC)
NONE = (0, 0, 0)


class Counts:
    """A queue of which SQS gives these counts (visible, in flight, delayed), the last one forever; or an error."""

    def __init__(
        self, *counts: tuple[int, int, int] | RefinerctlError, name: str = "a-dlq", lag_s: float = 0.0
    ) -> None:
        self.asked = 0
        self.counts_lag_s = lag_s
        self._name = name
        self._counts: Iterator[tuple[int, int, int] | RefinerctlError] = chain(counts, repeat(counts[-1]))

    @property
    def address(self) -> QueueAddress:
        return queue(self._name)

    def attributes(self, attempts: int = 1) -> QueueAttributes:
        self.asked += 1
        found = next(self._counts)
        if isinstance(found, RefinerctlError):
            raise found
        return QueueAttributes(AT, *found)


def watched(counts: Counts, start: Iterable[int], held: int = 0, seen: int = 0, expected: int = 0) -> Remaining:
    remaining = Remaining(cast("MessageQueue", counts), QueueAttributes(AT, *start), pause_s=0.0)
    for _ in range(1000):
        if remaining.look(held, seen, expected):
            return remaining
    raise AssertionError("it never ends")


def test_two_looks_suffice_if_all_counts_agree() -> None:
    counts = Counts((0, 20, 0))
    assert watched(counts, (20, 0, 0), held=20, seen=20).is_none
    assert counts.asked == 2


@pytest.mark.parametrize("seen", [19, 21])
def test_more_looks_are_needed_if_the_first_count_was_wrong(seen: int) -> None:
    counts = Counts(NONE)
    assert watched(counts, (20, 0, 0), seen=seen).is_none
    assert counts.asked == LOOKS_IN_DOUBT


def test_a_first_count_of_acknowledged_messages_needs_no_more_looks() -> None:
    """RabbitMQ still counts what a killed run has acknowledged."""
    counts = Counts((0, 20, 0), NONE, lag_s=10.0)
    assert watched(counts, (100, 100, 0), seen=100, expected=100).is_none
    assert counts.asked == 3


def test_one_look_proves_nothing() -> None:
    counts = Counts(NONE, (0, 3, 0))
    remaining = watched(counts, (20, 0, 0), seen=20)
    assert (remaining.is_none, remaining.count) == (False, 3)


def test_counts_that_lag_are_waited_for() -> None:
    counts = Counts((20, 0, 0), (12, 0, 0), (12, 0, 0), NONE)
    assert watched(counts, (20, 0, 0), seen=20).is_none


def test_a_count_below_what_is_held_is_old() -> None:
    """A killed run has just hidden 4,899 messages, which SQS does not count yet."""
    counts = Counts(NONE, (0, 100, 0), (0, 5000, 0))
    remaining = watched(counts, (101, 0, 0), held=101, seen=101)
    assert (remaining.is_none, remaining.count) == (False, 4899)
    assert "4,899 in flight (received by another consumer or by a killed run)" in remaining.sentence


def test_a_count_that_stays_below_what_is_held_proves_nothing() -> None:
    remaining = watched(Counts(NONE), (10, 0, 0), held=10, seen=10)
    assert not remaining.is_none
    assert remaining.sentence == "an unknown number of messages may be left in a-dlq: the queue's counts lag"


def test_messages_in_flight_from_the_start_are_not_waited_for() -> None:
    counts = Counts((0, 5, 0))
    assert not watched(counts, (20, 5, 0), seen=20, expected=5).is_none
    assert counts.asked == LOOKS_IN_DOUBT


def test_others_may_be_due_to_lag_and_are_waited_for_longer() -> None:
    counts = Counts((0, 5, 2))
    remaining = watched(counts, (20, 0, 0), seen=20)
    assert counts.asked == LOOKS_UNEXPLAINED
    assert remaining.sentence.startswith("7 messages may be left in a-dlq: 5 in flight")
    assert remaining.sentence.endswith("2 delayed")


def test_a_lost_response_leaves_doubt() -> None:
    counts = Counts(NONE)
    remaining = Remaining(cast("MessageQueue", counts), QueueAttributes(AT, 10, 0, 0), pause_s=0.0)
    remaining.lost_response(30)
    assert not any(remaining.look(held=0, seen=10) for _ in range(LOOKS_IN_DOUBT - 2))
    assert not remaining.is_none


def test_what_a_lost_response_hides_for_long_is_reported_and_not_waited_for() -> None:
    counts = Counts((0, 10, 0))
    remaining = Remaining(cast("MessageQueue", counts), QueueAttributes(AT, 20, 0, 0), pause_s=0.0)
    remaining.lost_response(1800)
    looks = [remaining.look(held=0, seen=10) for _ in range(LOOKS_IN_DOUBT)]
    assert looks[-1]
    assert "10 in flight (received by another consumer or by a killed run, or in 1 lost response)" in remaining.sentence


def test_counts_that_cannot_be_read_prove_nothing() -> None:
    remaining = watched(Counts(TransientError("no response")), (20, 0, 0), seen=20)
    assert (remaining.is_none, remaining.count) == (False, None)
    assert "an unknown number of messages may be left in a-dlq" in remaining.sentence


def test_a_permanent_error_ends_it() -> None:
    with pytest.raises(AccessDeniedError):
        watched(Counts(AccessDeniedError("denied")), (20, 0, 0))
