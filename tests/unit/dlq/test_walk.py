"""A walk receives every message once and releases all that it did not delete."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from refinerctl.aws.messages import EntryResult, Message
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.walk import WORKERS, Walk, progress_text, visibility_timeout_s
from refinerctl.errors import AccessDeniedError, TransientError
from tests.unit.dlq.fake_queue import FakeQueue, failing, filled
from tests.unit.dlq.messages import matching, message

if TYPE_CHECKING:
    from refinerctl.aws.message_queue import MessageQueue


def walk_of(source: FakeQueue, which: MessageFilter | None = None, **given: Any) -> Walk:
    errors = given.pop("errors", None) or ErrorFinder()
    given = {"pause_s": 0.0, **given}
    return Walk(cast("MessageQueue", source), which or MessageFilter(), errors, **given)


def walked(source: FakeQueue, **given: Any) -> tuple[Walk, list[str]]:
    with walk_of(source, **given) as walk:
        found = [item.id for part in walk.chunks() for item in part]
    return walk, found


@pytest.mark.parametrize("count", [0, 1, 10, 11, 2000])
def test_every_message_is_received_once_and_released(count: int) -> None:
    source = filled(count)
    before = source.ids

    walk, found = walked(source)

    assert sorted(found) == source.ids == before
    assert source.in_flight == {}
    assert (walk.received, walk.remaining.count, walk.is_complete) == (count, 0, True)
    assert {item.receive_count for item in source.visible} <= {7}
    assert "delete" not in source.calls


@pytest.mark.parametrize(("limit", "calls"), [(3, 1), (10, 1), (25, 3)])
@pytest.mark.parametrize("name", ["limit", "max_received"])
def test_no_more_than_the_limit_is_received(limit: int, calls: int, name: str) -> None:
    source = filled(100)
    walk, found = walked(source, **{name: limit})
    assert len(found) == walk.received == limit
    assert source.calls.count("receive") == calls
    assert (walk.remaining.count, walk.is_complete) == (100 - limit, False)
    assert len(source.visible) == 100


def test_incomplete_if_sqs_does_not_return_all_messages() -> None:
    source = filled(50)
    source.on_receive = lambda: setattr(source, "largest_receive", 10 if len(source.visible) > 20 else 0)
    walk, found = walked(source)
    assert (len(found), walk.is_complete) == (30, False)


def test_limit_counts_messages_that_match_the_filter() -> None:
    source = filled(300)
    walk, found = walked(source, which=matching("ends_with(key, '7.txt')"), limit=3)
    assert (len(found), walk.matched) == (3, 3)
    assert walk.received >= 27
    assert len(source.visible) == 300


def test_limit_is_reached_with_receives_of_one_message() -> None:
    source = filled(100)
    source.largest_receive = 1
    assert len(walked(source, limit=25, workers=4)[1]) == 25


@pytest.mark.parametrize(("count", "expected"), [(10, 10), (2000, 20), (10**7, 43_200)])
def test_visibility_timeout_is_as_short_as_the_walk_allows(count: int, expected: int) -> None:
    assert visibility_timeout_s(count) == expected


def test_all_messages_are_received_with_the_visibility_timeout_of_the_walk() -> None:
    source = filled(5)
    walked(source)
    assert set(source.visibilities) == {10}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_messages_are_released_after_an_error(error: type[BaseException]) -> None:
    source = filled(300)
    walk = walk_of(source)

    def fail() -> None:
        with walk:
            next(walk.chunks())
            raise error

    with pytest.raises(error):
        fail()
    assert len(source.visible) == 300
    assert source.in_flight == {}
    assert walk.receives >= 10


def test_message_that_is_received_twice_is_returned_once_and_released() -> None:
    source = filled(30)
    with walk_of(source, workers=1) as walk:
        chunks = walk.chunks()
        first = next(chunks)
        source.time_out(first[0].receipt)
        found = first + [item for chunk in chunks for item in chunk]
    assert len({item.id for item in found}) == len(found) == walk.received == 30
    assert walk.receives == 31
    assert len(source.visible) == 30


def test_walk_ends_although_the_queue_is_being_filled() -> None:
    source = filled(50)
    numbers = iter(range(1000, 10**9))
    source.on_receive = lambda: source.visible.extend(message(next(numbers)) for _ in range(10))
    walk, found = walked(source)
    assert 50 <= len(found) <= 50 * 10 + 10_000 + 10 * WORKERS
    assert not walk.is_complete
    assert source.in_flight == {}


def test_transient_errors_are_retried() -> None:
    source = filled(30)
    source.fail = failing("receive", [TransientError("throttled")] * 4)
    assert len(walked(source)[1]) == 30


def test_transient_errors_of_the_last_workers_do_not_fail_the_walk() -> None:
    source = filled(30)
    calls: list[None] = []

    def fail(name: str) -> None:
        if name == "receive" and not source.visible:
            calls.append(None)
            if len(calls) % 2:
                raise TransientError("throttled")

    source.fail = fail
    assert len(walked(source, workers=3)[1]) == 30


def test_permanent_error_is_raised_after_the_messages_before_it() -> None:
    source = filled(30)
    source.fail = failing("receive", [None, AccessDeniedError("denied")])
    found: list[str] = []

    def take() -> None:
        with walk_of(source, workers=1) as walk:
            for chunk in walk.chunks():
                found.extend(item.id for item in chunk)

    with pytest.raises(AccessDeniedError, match="denied"):
        take()
    assert len(found) == 10
    assert len(source.visible) == 30


def test_notes_count_messages_that_could_not_be_released() -> None:
    source = filled(3)
    with walk_of(source) as walk:
        for chunk in filter(None, walk.chunks()):
            source.in_flight.pop(chunk[0].receipt)  # somebody else deleted it
    assert list(walk.notes()) == [
        "receive counts of 3 messages increased by 1",
        "1 message could not be released: invisible for at most 10 s",
    ]


def test_messages_in_flight_elsewhere_are_not_received() -> None:
    source = filled(2)
    source.others = 3
    walk, _ = walked(source)
    assert not walk.is_complete
    assert walk.remaining.sentence == (
        "3 messages may be left in a-dlq: 3 in flight (received by another consumer or by a killed run)"
    )


def test_a_fifo_queue_returns_only_the_first_messages_of_each_group() -> None:
    source = filled(5, "a.fifo")
    source.on_receive = lambda: setattr(source, "largest_receive", 0 if source.in_flight else 1)
    walk, found = walked(source)
    assert (len(found), walk.is_complete) == (1, False)
    assert "only the first messages of each message group" in walk.remaining.sentence


def test_a_count_that_is_too_low_ends_no_walk() -> None:
    source = filled(5000)
    counts, calls = source.attributes, iter(range(10**6))
    source.attributes = lambda attempts=1: replace(counts(), visible=500 if next(calls) < 3 else len(source.visible))  # type: ignore[method-assign]
    walk, found = walked(source)
    assert (len(found), walk.is_complete) == (5000, True)


def test_messages_of_a_lost_response_are_waited_for() -> None:
    source = filled(30)
    hidden: list[str] = []

    def lose(_: str) -> None:
        """The second receive is done, and its response is lost; the messages are visible again after a moment."""
        if len(source.visibilities) == 1 and not hidden:
            taken = source.visible[:10]
            source.visible = source.visible[10:]
            source.others = 10
            hidden.extend(message.id for message in taken)
            threading.Timer(0.2, give_back, [taken]).start()
            raise TransientError("no response", is_uncertain=True)

    def give_back(taken: list[Message]) -> None:
        source.others = 0
        source.visible += taken

    source.fail = lambda name: lose(name) if name == "receive" else None
    walk, found = walked(source, workers=1, pause_s=0.01)
    assert set(hidden) < set(found)
    assert (len(found), walk.is_complete) == (30, True)


def test_messages_stay_hidden_while_the_caller_takes_its_time() -> None:
    source = filled(30)
    walk = walk_of(source, workers=1)
    walk.visibility_s = 3
    with walk:
        for chunk in walk.chunks():
            if len(source.visible) == 10:
                time.sleep(4)
                source.attributes()  # now those are visible whose time is over
                assert len(source.in_flight) == 20
                walk.delete(chunk)
    assert (walk.deleted, len(source.ids), walk.is_complete) == (10, 20, True)


class TestDelete:
    def test_deleted_messages_are_not_released(self) -> None:
        source = filled(20)
        with walk_of(source) as walk:
            for chunk in walk.chunks():
                walk.delete(chunk)
        assert walk.deleted == 20
        assert source.ids == []
        assert "change_visibility" not in source.calls

    def test_transient_errors_are_retried(self) -> None:
        source = filled(10)
        throttled = EntryResult(error="Throttled", cause=TransientError("throttled"))
        answers = [[throttled] * 10] * 3
        assert self.delete_all(source, lambda: answers.pop() if answers else []) == 10

    def test_message_that_cannot_be_deleted_is_released(self) -> None:
        source = filled(10)
        source.refuse_delete = {"m3"}
        assert self.delete_all(source) == 9
        assert source.ids == ["m3"]

    def test_messages_of_a_fifo_group_become_available_by_deletes(self) -> None:
        source = filled(25, "a.fifo")
        source.on_receive = lambda: setattr(source, "largest_receive", 0 if source.in_flight else 10)
        with walk_of(source) as walk:
            for chunk in walk.chunks():
                time.sleep(0.05)  # meanwhile SQS returns none
                walk.delete(chunk)
        assert (walk.received, walk.is_complete) == (25, True)

    def delete_all(self, source: FakeQueue, answer: Callable[[], list[EntryResult]] = list) -> int:
        delete = source.delete
        source.delete = lambda receipts: answer() or delete(receipts)  # type: ignore[method-assign]
        with walk_of(source) as walk:
            for chunk in walk.chunks():
                walk.delete(chunk)
        return walk.deleted


def test_progress_text_has_rate_and_time_left() -> None:
    assert progress_text(1200, 5000, 2.0) == "1,200 of 5,000 messages (600/s, 6 s left)"
    assert progress_text(1200, None, 2.0) == "1,200 messages (600/s)"
    assert progress_text(0, 10, 0.0) == "0 of 10 messages (0/s)"
