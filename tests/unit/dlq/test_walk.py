"""A walk through a queue: every message once, and all of them back."""

from __future__ import annotations

import time

import pytest

from refinerctl.dlq import walk as walking
from refinerctl.dlq.walk import Walk, WalkRules
from refinerctl.errors import AccessDeniedError, TransientError
from tests.unit.dlq.fake_queue import FakeQueue, failing
from tests.unit.dlq.messages import letter


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "PAUSE_S", 0.0)


def filled(count: int) -> FakeQueue:
    return FakeQueue([letter(number) for number in range(count)])


def walked(source: FakeQueue, rules: WalkRules | None = None, chunk: int = 50) -> tuple[Walk, list[str]]:
    with Walk(source, rules or WalkRules()) as walk:
        found = [item.id for part in walk.chunks(chunk) for item in part]
    return walk, found


@pytest.mark.parametrize("count", [0, 1, 10, 11, 2000])
def test_every_message_once_and_all_back(count: int) -> None:
    source = filled(count)
    before = source.ids

    walk, found = walked(source)

    assert sorted(found) == source.ids == before
    assert source.in_flight == {}
    assert (walk.received, walk.left, walk.is_whole) == (count, 0, True)
    assert {item.receive_count for item in source.visible} <= {7}
    assert "delete" not in source.calls


@pytest.mark.parametrize(("limit", "calls"), [(3, 1), (10, 1), (25, 3)])
def test_no_more_than_wanted(limit: int, calls: int) -> None:
    source = filled(100)
    walk, found = walked(source, WalkRules(limit))
    assert len(found) == walk.received == limit
    assert source.calls.count("receive") == calls
    assert (walk.left, walk.is_whole) == (100 - limit, False)
    assert len(source.visible) == 100


def test_a_limit_is_reached_although_sqs_gives_few_at_a_time() -> None:
    source = filled(100)
    source.largest_receive = 1
    assert len(walked(source, WalkRules(25, lanes=4))[1]) == 25


def test_hidden_for_as_long_as_it_may_take_and_no_longer() -> None:
    for there, limit, expected in ((10, None, 10), (2000, None, 20), (2000, 10, 10), (10**7, None, 43_200)):
        assert WalkRules(limit).visibility_s(there) == expected
    source = filled(5)
    walked(source)
    assert set(source.visibilities) == {10}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_in_hand_is_given_back_however_it_ends(error: type[BaseException]) -> None:
    source = filled(300)
    walk = Walk(source, WalkRules())

    def fail() -> None:
        with walk:
            next(walk.chunks(20))
            raise error

    with pytest.raises(error):
        fail()
    assert len(source.visible) == 300
    assert source.in_flight == {}
    assert walk.receives >= 10


def test_a_message_that_comes_again_is_shown_once_and_given_back() -> None:
    source = filled(30)
    with Walk(source, WalkRules(lanes=1)) as walk:
        chunks = walk.chunks(10)
        first = next(chunks)
        source.again(first[0].receipt)
        found = first + [item for chunk in chunks for item in chunk]
    assert len({item.id for item in found}) == len(found) == walk.received == 30
    assert walk.receives == 31
    assert len(source.visible) == 30


def test_a_queue_that_is_being_filled_comes_to_an_end() -> None:
    source = filled(50)
    numbers = iter(range(1000, 10**9))
    source.on_receive = lambda: source.visible.extend(letter(next(numbers)) for _ in range(10))
    walk, found = walked(source)
    assert 50 <= len(found) <= 50 * 1.1 + 100 + 10 * 30
    assert walk.is_whole  # all that was there
    assert source.in_flight == {}


def test_what_passes_is_tried_again() -> None:
    source = filled(30)
    source.fail = failing("receive", [TransientError("throttled")] * 4)
    assert len(walked(source)[1]) == 30


def test_what_stays_is_raised_after_what_was_received() -> None:
    source = filled(30)
    source.fail = failing("receive", [None, AccessDeniedError("denied")])
    found: list[str] = []

    def take() -> None:
        with Walk(source, WalkRules(lanes=1)) as walk:
            for chunk in walk.chunks(10):
                found.extend(item.id for item in chunk)

    with pytest.raises(AccessDeniedError, match="denied"):
        take()
    assert len(found) == 10
    assert len(source.visible) == 30


def test_what_cannot_be_given_back_is_told() -> None:
    source = filled(3)
    with Walk(source, WalkRules()) as walk:
        for chunk in walk.chunks(10):
            source.in_flight.pop(chunk[0].receipt)  # somebody else deleted it
    notes = list(walk.notes())
    assert "looking raised the receive counts of 3 messages by 1" in notes
    assert "1 message could not be given back: hidden for 10 s at most" in notes


def test_others_hands_and_fifo_queues_are_told() -> None:
    source = FakeQueue([letter(1), letter(2)], "a.fifo")
    source.in_hands = 2
    walk, _ = walked(source, WalkRules(1))
    assert list(walk.notes())[1:] == [
        "2 messages in somebody's hands, not looked at",
        "of a FIFO queue only the first messages of each message group can be received",
    ]


def test_what_is_deleted_is_not_given_back() -> None:
    source = filled(20)
    with Walk(source, WalkRules()) as walk:
        for chunk in walk.chunks(10):
            source.delete([item.receipt for item in chunk])
            walk.gone(chunk)
            assert not any(walk.holds(item) for item in chunk)
    assert source.calls.count("hide") == 0
    assert walk.kept_back == 0


def test_a_fifo_queue_goes_on_once_what_holds_its_group_is_deleted() -> None:
    source = FakeQueue([letter(number) for number in range(25)], "a.fifo")
    source.on_receive = lambda: setattr(source, "largest_receive", 0 if source.in_flight else 10)
    with Walk(source, WalkRules()) as walk:
        for chunk in walk.chunks(10):
            time.sleep(0.05)  # meanwhile SQS gives nothing
            source.delete([item.receipt for item in chunk])
            walk.gone(chunk)
    assert (walk.received, walk.is_whole) == (25, True)


def test_the_others_end_does_not_make_an_error_of_what_passes() -> None:
    source = filled(30)
    calls: list[None] = []

    def fail(name: str) -> None:
        if name == "receive" and not source.visible:
            calls.append(None)
            if len(calls) % 2:
                raise TransientError("throttled")

    source.fail = fail
    assert len(walked(source, WalkRules(lanes=3))[1]) == 30
