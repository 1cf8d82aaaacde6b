"""What the machine and the network do to a run: no room on the disk, sleep, clocks that are set, counts that fail."""

from __future__ import annotations

import _thread
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAttributes
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.routes import Route, Stay
from refinerctl.dlq.redrive.state import IdFilter
from refinerctl.errors import TransientError
from tests.unit.dlq.redrive.conftest import Redrive
from tests.unit.dlq.redrive.memory_queue import DENIED, LOST, NOW, FullDisk, forward


class TestDiskFull:
    @pytest.mark.parametrize("kind", ["received", "left", "sent", "deleted"])
    def test_stops_the_run_and_releases_what_stays(self, redrive: Redrive, kind: str) -> None:
        redrive.fill(300)
        written: list[str] = []

        def is_full(line: bytes) -> bool:
            """From the seventh record of the kind on."""
            written.extend(json.loads(line))
            return written.count(kind) > 6

        def route(message: Message) -> Route:
            number = int(message.body.split()[1])
            return forward(redrive.target)(message) if number % 3 == 0 else Stay("another")

        moved = redrive.run(route, disk=FullDisk(is_full))
        assert "No space left" in str(moved.stopped_by)
        hidden = [item for item in redrive.source.kept.values() if item.hidden]
        # What was sent is better not received by anybody now; everything else is visible.
        assert {item.message.body for item in hidden} <= set(redrive.target.bodies())
        assert len(redrive.source.kept) + len(redrive.target.kept) - 300 <= moved.sent_twice
        redrive.source.time_out()
        resumed = redrive.resume(route)
        assert (resumed.stopped_by, len(set(redrive.target.bodies()))) == (None, 100)
        assert len(redrive.target.kept) - 100 <= resumed.sent_twice

    def test_a_request_without_a_record_is_not_sent(self, redrive: Redrive) -> None:
        """And does not change the count of an earlier one that was."""
        redrive.fill(10)
        lefts = itertools.count()
        redrive.target.faults = iter([(LOST, True)])
        moved = redrive.run(disk=FullDisk(lambda line: line.startswith(b'{"left"') and next(lefts) == 1))
        assert moved.stopped_by is not None
        assert (len(redrive.target.kept), moved.sent_twice) == (10, 10)


class TestClocks:
    def test_a_deletion_after_the_machine_slept_is_uncertain(
        self, redrive: Redrive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SQS says that it deletes with a receipt that was replaced, and does not."""
        redrive.fill(10)
        slept = 0.0
        gettime = time.clock_gettime
        monkeypatch.setattr(
            time, "clock_gettime", lambda clock: gettime(clock) + (slept if clock == time.CLOCK_BOOTTIME else 0)
        )
        send = redrive.target.send

        def sleep_after(messages: list[OutgoingMessage], leaving: Callable[[], None]) -> object:
            nonlocal slept
            results = send(messages, leaving)
            slept += 3600
            redrive.source.time_out()
            redrive.source.receive(10, visibility_s=7200, wait_s=0)
            return results

        redrive.target.send = sleep_after  # type: ignore[assignment, method-assign]
        moved = redrive.run(workers=1)
        assert (moved.moved, moved.left, moved.sent_twice) == (0, 10, 10)

    def test_the_local_clock_does_not_change_the_count_of_a_fifo_queue(
        self, redrive: Redrive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Within five minutes a FIFO queue drops what it got before: for that only time that has passed counts."""
        redrive.make_fifo()
        redrive.source.put("one", MessageGroupId="g", MessageDeduplicationId="d")
        redrive.target.faults = iter([(LOST, True)] * 8)
        assert (redrive.run().sent_twice, len(redrive.target.kept)) == (1, 1)
        redrive.target.forget_sent()
        redrive.source.time_out()
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - 7200)
        with RedriveJournal.resume(redrive.journal) as journal:
            journal.begin_part(NOW)  # it had finished
            moved = redrive.go_on(journal)
        assert (moved.moved, moved.sent_twice, len(redrive.target.kept)) == (1, 1, 2)


class TestCounts:
    def test_failing_counts_do_not_end_a_run(self, redrive: Redrive) -> None:
        """Old messages behind many new ones, while SQS is too busy to count."""
        for _ in range(60):
            redrive.source.put("new", NOW + timedelta(seconds=2))
        redrive.fill(5)
        facts, asked = redrive.source.attributes, itertools.count()

        def count(attempts: int = 1) -> QueueAttributes:
            if next(asked) in range(1, 4):
                raise TransientError("too many requests")
            return facts()

        redrive.source.attributes = count  # type: ignore[method-assign]
        assert redrive.run(workers=1).moved == 5

    def test_a_count_that_is_too_low_does_not_end_a_run(self, redrive: Redrive) -> None:
        """SQS's counts are approximate, and behind by a minute."""
        for _ in range(60):
            redrive.source.put("new", NOW + timedelta(seconds=2))
        redrive.fill(5)
        facts = redrive.source.attributes
        redrive.source.attributes = lambda attempts=1: replace(facts(), visible=0)  # type: ignore[method-assign]
        assert redrive.run(workers=1).moved == 5

    def test_without_counts_nobody_knows_what_is_left(self, redrive: Redrive) -> None:
        redrive.fill(5)
        facts, asked = redrive.source.attributes, itertools.count()

        def count(attempts: int = 1) -> QueueAttributes:
            if next(asked):
                raise TransientError("too many requests")
            return facts()

        redrive.source.attributes = count  # type: ignore[method-assign]
        moved = redrive.run(workers=1)
        assert (moved.moved, moved.left) == (5, None)
        assert moved.left_over is not None
        assert "an unknown number of messages may be left" in moved.left_over


class TestResumedLimit:
    @pytest.mark.parametrize("rest", [0, 1])
    def test_messages_sent_before_are_deleted_beyond_the_limit(self, redrive: Redrive, rest: int) -> None:
        """Its receipts are not good any more: it has to be received again, also once the limit is reached."""
        redrive.fill(20)
        redrive.killed(3, left=3, sent=3)
        redrive.source.time_out()
        with RedriveJournal.resume(redrive.journal) as journal:
            moved = redrive.go_on(journal, limit=rest)
            assert journal.is_finished
        assert (moved.moved, moved.sent_twice, moved.left) == (3 + rest, 0, 17 - rest)
        assert len(redrive.target.kept) == 3 + rest
        assert redrive.is_released()


def test_empty_answers_without_a_long_poll_do_not_cause_many_calls(redrive: Redrive) -> None:
    """As SQS does with too many messages in flight, here while another worker sends the only message of a group."""
    redrive.make_fifo()
    redrive.source.put("one", MessageGroupId="g", MessageDeduplicationId="d")
    send = redrive.target.send

    def take_long(messages: Sequence[OutgoingMessage], leaving: Callable[[], None]) -> list[EntryResult]:
        time.sleep(0.5)
        return send(messages, leaving)

    redrive.target.send = take_long  # type: ignore[method-assign]
    assert redrive.run(workers=4).moved == 1
    assert redrive.source.calls.count("receive") < 100


def test_a_body_with_half_a_surrogate_pair_stays(redrive: Redrive) -> None:
    """JSON can hold what no queue takes."""
    redrive.fill(2)
    bad = redrive.source.put("\ud83d")
    moved = redrive.run()
    assert (moved.moved, moved.failed, list(redrive.source.kept)) == (2, 1, [bad])


def test_an_interrupt_while_resuming_releases_all(redrive: Redrive) -> None:
    redrive.fill(20)
    redrive.killed(10, left=0, sent=0)
    hide = redrive.source.change_visibility

    def interrupt(receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        _thread.interrupt_main()
        return hide(receipts, visibility_s)

    redrive.source.change_visibility = interrupt  # type: ignore[method-assign]
    moved = redrive.resume()
    assert isinstance(moved.stopped_by, KeyboardInterrupt)
    assert (moved.left, redrive.is_released()) == (20, True)


def test_releasing_ends_after_a_permanent_error(redrive: Redrive) -> None:
    redrive.fill(3_000)
    calls = itertools.count()

    def change_visibility(receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        next(calls)
        return [DENIED] * len(receipts)

    redrive.source.change_visibility = change_visibility  # type: ignore[method-assign]
    moved = redrive.run(lambda message: Stay("another"), workers=1)
    assert moved.skipped == 3_000
    assert next(calls) <= 16


def test_an_id_filter_has_few_false_positives() -> None:
    known = IdFilter(capacity=1_000, size_bytes=1 << 11)
    for number in range(20_000):
        known.add(f"ours {number}")
    assert all(f"ours {number}" in known for number in range(0, 20_000, 7))
    assert sum(f"another {number}" in known for number in range(20_000)) < 20_000 * 0.02
