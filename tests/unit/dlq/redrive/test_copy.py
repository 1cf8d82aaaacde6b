"""What the engine does with each message."""

from __future__ import annotations

import _thread
import time
from collections import Counter
from datetime import timedelta

import pytest

from refinerctl.aws.messages import Message, OutgoingMessage
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal, find
from refinerctl.dlq.redrive.routes import Route, SendTo, Stay
from refinerctl.errors import NotFoundError, RefinerctlError, UsageError
from tests.unit.dlq.redrive.conftest import Redrive
from tests.unit.dlq.redrive.memory_queue import BAD, BUSY, DENIED, ENTRY, LOST, NOW, TOO_LONG, MemoryQueue, forward


class TestMoving:
    def test_moves_all_messages_in_full_batches(self, redrive: Redrive) -> None:
        bodies = redrive.fill(100)
        moved = redrive.run()
        assert sorted(redrive.target.bodies()) == sorted(bodies)
        assert (moved.moved, moved.left, moved.failed, moved.sent_twice) == (100, 0, 0, 0)
        calls = Counter(redrive.source.calls)
        assert (redrive.target.calls.count("send"), calls["delete"], calls["release"]) == (10, 10, 0)
        assert calls["receive"] <= 10 + 4

    def test_an_empty_queue(self, redrive: Redrive) -> None:
        assert redrive.run().left == 0
        assert find(redrive.folder)[0].is_finished

    def test_no_queue(self, redrive: Redrive) -> None:
        redrive.source.is_gone = True
        with pytest.raises(NotFoundError):
            redrive.run()

    def test_small_receives_are_sent_in_full_batches(self, redrive: Redrive) -> None:
        redrive.fill(30)
        whole = redrive.source.receive
        redrive.source.receive = lambda count, **more: whole(min(count, 3), **more)  # type: ignore[method-assign]
        assert redrive.run(workers=1).moved == 30
        assert redrive.target.calls.count("send") == 3

    def test_the_journal_holds_no_bodies(self, redrive: Redrive) -> None:
        redrive.source.put("a patient's name")
        redrive.run()
        assert b"patient" not in redrive.journal.read_bytes()

    def test_several_targets(self, redrive: Redrive) -> None:
        redrive.fill(25)
        back = SendTo(redrive.source.address, OutgoingMessage("back"))

        def route(message: Message) -> Route:
            return back if message.body.endswith("7") else forward(redrive.target)(message)

        moved = redrive.run(route)
        assert (moved.moved, len(redrive.target.kept), redrive.source.bodies()) == (25, 23, ["back", "back"])


class TestRoutes:
    def test_skipped_messages_are_received_once_and_released_at_the_end(self, redrive: Redrive) -> None:
        redrive.fill(200)

        def route(message: Message) -> Route:
            return forward(redrive.target)(message) if message.body == "message 137" else Stay("another")

        moved = redrive.run(route)
        assert (moved.moved, moved.skipped, moved.left) == (1, 199, 199)
        assert {item.receives for item in redrive.source.kept.values()} == {1}
        assert redrive.is_released()

    def test_messages_without_a_route_fail_with_its_reason(self, redrive: Redrive) -> None:
        redrive.fill(3)
        moved = redrive.run(lambda message: Stay("no such target", is_failure=True))
        assert (moved.failed, moved.skipped, dict(moved.reasons)) == (3, 0, {"no such target": 3})

    def test_a_limit(self, redrive: Redrive) -> None:
        redrive.fill(100)
        moved = redrive.run(limit=25)
        assert (moved.moved, moved.left, len(redrive.target.kept)) == (25, 75, 25)
        assert redrive.is_released()
        assert sum(item.receives for item in redrive.source.kept.values()) == 0

    def test_a_limit_counts_only_moved_messages(self, redrive: Redrive) -> None:
        redrive.fill(100)
        redrive.target.faults = iter([(BAD, False)])

        def route(message: Message) -> Route:
            return forward(redrive.target)(message) if message.body.endswith(("3", "7")) else Stay("another")

        moved = redrive.run(route, limit=4)
        assert (moved.moved, len(redrive.target.kept), moved.left) == (4, 4, 96)
        assert moved.failed > 0
        assert redrive.is_released()

    def test_an_error_of_the_route_stops_the_run_and_loses_no_message(self, redrive: Redrive) -> None:
        redrive.fill(30)

        def route(message: Message) -> Route:
            if message.body == "message 17":
                raise RefinerctlError("cannot tell")
            return forward(redrive.target)(message)

        moved = redrive.run(route)
        assert str(moved.stopped_by) == "cannot tell"
        assert redrive.is_released()
        assert len(redrive.source.kept) + len(redrive.target.kept) == 30
        assert redrive.resume().moved == 30


class TestArrivals:
    def test_a_run_ends_although_the_queue_is_being_filled(self, redrive: Redrive) -> None:
        redrive.fill(50)
        redrive.source.on_receive = lambda: [redrive.source.put("new", NOW + timedelta(seconds=2)) for _ in range(30)]
        moved = redrive.run()
        assert (moved.moved, moved.skipped, moved.stopped_by) == (50, 0, None)
        assert set(redrive.source.bodies()) == {"new"}
        assert redrive.is_released()

    def test_old_messages_are_found_behind_many_new_ones(self, redrive: Redrive) -> None:
        for _ in range(300):
            redrive.source.put("new", NOW + timedelta(seconds=2))
        redrive.fill(5)
        assert redrive.run().moved == 5

    def test_a_message_that_fails_again_is_counted_and_not_sent_again(self, redrive: Redrive) -> None:
        redrive.fill(20)

        def fail_again() -> None:
            for message_id, item in list(redrive.target.kept.items()):
                del redrive.target.kept[message_id]
                redrive.source.put(item.message.body, item.message.sent_at, message_id)

        redrive.source.on_receive = fail_again
        moved = redrive.run(workers=1)
        assert (moved.moved, moved.returned) == (20, moved.left)
        assert moved.returned > 0
        assert redrive.target.calls.count("send") == 2

    def test_a_message_that_is_delivered_twice_is_sent_once(self, redrive: Redrive) -> None:
        redrive.fill(4)
        redrive.source.on_receive = lambda: None if "send" in redrive.target.calls else redrive.source.time_out()
        moved = redrive.run(workers=1)
        assert (moved.moved, moved.left, moved.sent_twice, len(redrive.target.kept)) == (4, 0, 0, 4)

    def test_a_message_that_is_delivered_after_its_deletion_is_deleted_again(self, redrive: Redrive) -> None:
        redrive.fill(10)
        original = dict(redrive.source.kept)

        def deliver_again() -> None:
            if len(redrive.target.kept) == 10:
                redrive.source.kept.update(original)
                original.clear()
                redrive.source.time_out()

        redrive.source.on_receive = deliver_again
        moved = redrive.run(workers=1)
        assert (moved.moved, moved.left, len(redrive.target.kept)) == (10, 0, 10)


class TestFailures:
    def test_a_message_that_the_target_refuses_stays(self, redrive: Redrive) -> None:
        redrive.fill(12)
        redrive.source.put("bad")
        moved = redrive.run()
        assert (moved.moved, moved.failed, dict(moved.reasons)) == (12, 1, {"bad characters": 1})
        assert redrive.source.bodies() == ["bad"]
        assert redrive.is_released()

    def test_a_refused_batch_is_split(self, redrive: Redrive) -> None:
        redrive.fill(10)
        redrive.target.faults = iter([(TOO_LONG, False), None, (TOO_LONG, False)])
        moved = redrive.run()
        assert (moved.moved, moved.failed, moved.sent_twice) == (10, 0, 0)

    def test_a_message_that_is_refused_alone_fails(self, redrive: Redrive) -> None:
        redrive.fill(1)
        redrive.target.faults = iter([(TOO_LONG, False)])
        assert redrive.run().failed == 1
        assert redrive.is_released()

    def test_refused_requests_do_not_count_as_sent_twice(self, redrive: Redrive) -> None:
        redrive.fill(10)
        redrive.target.faults = iter([(BUSY, False), (ENTRY, False), (BUSY, False)])
        moved = redrive.run()
        assert (moved.moved, moved.sent_twice, len(redrive.target.kept)) == (10, 0, 10)

    def test_unanswered_requests_count_as_sent_twice(self, redrive: Redrive) -> None:
        redrive.fill(10)
        redrive.target.faults = iter([(LOST, True), (BUSY, False), (LOST, True)])
        moved = redrive.run()
        assert (moved.moved, moved.sent_twice, len(redrive.target.kept)) == (10, 20, 30)

    def test_a_target_that_never_answers_is_given_up(self, redrive: Redrive) -> None:
        redrive.fill(1)
        redrive.target.faults = iter([(LOST, False)] * 8)
        moved = redrive.run()
        assert (moved.moved, moved.failed, moved.left, moved.sent_twice) == (0, 1, 1, 8)

    @pytest.mark.parametrize("where", ["send", "delete"])
    def test_a_permanent_error_stops_the_run(self, redrive: Redrive, where: str) -> None:
        redrive.fill(60)
        queue = redrive.target if where == "send" else redrive.source
        queue.faults = iter([None, (DENIED, False), (DENIED, False)])
        moved = redrive.run()
        assert str(moved.stopped_by) == "access denied"
        there = len(redrive.source.kept) + len(redrive.target.kept)
        assert there - 60 == moved.sent_twice
        queue.faults = iter(())
        resumed = redrive.resume()
        assert (resumed.moved, resumed.sent_twice, len(redrive.target.kept)) == (60, 0, 60)

    def test_a_message_whose_deletion_failed_is_not_sent_again(self, redrive: Redrive) -> None:
        redrive.fill(5)
        redrive.source.faults = iter([(BAD, False)])
        redrive.source.on_receive = lambda: redrive.source.time_out() if "delete" in redrive.source.calls else None
        moved = redrive.run(workers=1)
        assert (moved.moved, moved.sent_twice, len(redrive.target.kept), moved.left) == (5, 0, 5, 0)


class TestStopping:
    def test_an_interrupt_releases_what_was_not_sent(self, redrive: Redrive) -> None:
        redrive.fill(1000)

        def interrupt() -> None:
            if redrive.source.calls.count("receive") == 5:
                _thread.interrupt_main()
            if redrive.source.calls.count("receive") > 5:
                time.sleep(0.1)

        redrive.source.on_receive = interrupt
        moved = redrive.run()
        assert isinstance(moved.stopped_by, KeyboardInterrupt)
        assert 0 < moved.moved < 1000
        assert len(redrive.source.kept) + len(redrive.target.kept) == 1000
        assert redrive.is_released()
        redrive.source.on_receive = lambda: None
        assert redrive.resume().moved == 1000

    def test_a_finished_run_leaves_nothing_to_resume(self, redrive: Redrive) -> None:
        redrive.fill(3)
        moved = redrive.run()
        redrive.source.put("later")
        assert redrive.resume().moved == moved.moved
        assert redrive.source.bodies() == ["later"]

    def test_the_journal_of_another_queue(self, redrive: Redrive) -> None:
        header = JournalHeader("https://sqs/other", "other")
        with (
            RedriveJournal.begin(redrive.folder, header) as journal,
            pytest.raises(UsageError, match="of another source: other"),
        ):
            redrive.go_on(journal)

    def test_a_rate(self, redrive: Redrive) -> None:
        redrive.fill(30)
        began = time.monotonic()
        assert redrive.run(rate=40).moved == 30
        assert time.monotonic() - began > 0.4


def fifo(redrive: Redrive) -> MemoryQueue:
    redrive.make_fifo()
    return redrive.source


def put(queue: MemoryQueue, body: str, group: str) -> None:
    queue.put(body, MessageGroupId=group, MessageDeduplicationId=f"id of {body}")


class TestFifo:
    def test_the_order_within_each_group_is_kept(self, redrive: Redrive) -> None:
        queue = fifo(redrive)
        for number in range(60):
            put(queue, f"{number:02}", f"group {number % 7}")
        redrive.target.faults = iter([None, (ENTRY, False), None, (BUSY, False), (LOST, True)])
        moved = redrive.run(workers=3)
        assert (moved.moved, moved.left, moved.sent_twice) == (60, 0, 0)
        for group in range(7):
            there = [body for body in redrive.target.bodies() if int(body) % 7 == group]
            assert there == sorted(there)

    def test_a_failed_message_stops_its_group(self, redrive: Redrive) -> None:
        queue = fifo(redrive)
        for body, group in (("a1", "a"), ("bad", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")):
            put(queue, body, group)
        moved = redrive.run()
        assert sorted(redrive.target.bodies()) == ["a1", "b1", "b2"]
        assert redrive.source.bodies() == ["bad", "a3"]
        assert (moved.moved, moved.failed) == (3, 2)
        assert redrive.is_released()

    def test_a_duplicate_that_the_target_drops_stays_and_is_counted(self, redrive: Redrive) -> None:
        queue = fifo(redrive)
        put(queue, "one", "a")
        queue.put("another", MessageGroupId="b", MessageDeduplicationId="id of one")
        moved = redrive.run()
        assert (moved.moved, moved.dropped_duplicates, moved.failed, moved.sent_twice) == (1, 1, 0, 0)
        assert len(redrive.source.kept) + len(redrive.target.kept) == 2

    def test_a_message_that_failed_within_five_minutes_is_a_duplicate_of_itself(self, redrive: Redrive) -> None:
        """It failed within the five minutes: SQS answers with the id that it has had all the time."""
        fifo(redrive)
        [result] = redrive.target.send([OutgoingMessage("one", group="a", deduplication="id of one")], lambda: None)
        redrive.target.kept.clear()
        redrive.source.put("one", message_id=result.message_id, MessageGroupId="a", MessageDeduplicationId="id of one")
        moved = redrive.run()
        assert (moved.moved, moved.dropped_duplicates, redrive.source.bodies()) == (0, 1, ["one"])
        assert redrive.is_released()


class TestResuming:
    """What an earlier part, which was killed, left in its journal."""

    @pytest.fixture
    def killed(self, redrive: Redrive) -> Redrive:
        """It had five in hand: the first two were sent for certain, the third maybe, the others not."""
        redrive.fill(5)
        redrive.killed(5, left=3, sent=2)
        return redrive

    def test_resuming_does_not_wait_for_the_visibility_timeout(self, killed: Redrive) -> None:
        moved = killed.resume()
        assert (moved.moved, moved.left, moved.sent_twice) == (5, 0, 1)
        assert Counter(killed.target.bodies()) == {
            "message 0": 1, "message 1": 1, "message 2": 2, "message 3": 1, "message 4": 1
        }  # fmt: skip

    def test_resuming_with_expired_receipts(self, killed: Redrive) -> None:
        killed.source.time_out()
        for message in killed.source.receive(10, visibility_s=30, wait_s=0):
            killed.source.kept[message.id].hidden = False
        moved = killed.resume()
        assert (moved.moved, moved.left, moved.sent_twice, len(killed.target.kept)) == (5, 0, 1, 6)

    def test_messages_in_flight_elsewhere_are_left(self, killed: Redrive) -> None:
        killed.source.time_out()
        killed.source.receive(10, visibility_s=30, wait_s=0)
        moved = killed.resume()
        # The first two are in both queues: with a receipt that is not the newest SQS deletes nothing.
        assert (moved.moved, moved.left, moved.sent_twice) == (0, 5, 3)
        assert moved.left_over is not None
        assert "5 in flight" in moved.left_over
        killed.source.time_out()
        moved = killed.resume()
        assert (moved.moved, moved.left, moved.sent_twice, len(killed.target.kept)) == (5, 0, 1, 6)
        assert moved.left_over is None

    def test_resuming_without_the_queue_fails_and_can_be_repeated(self, killed: Redrive) -> None:
        killed.source.is_gone = True
        with pytest.raises(NotFoundError):
            killed.resume()
        killed.source.is_gone = False
        assert killed.resume().moved == 5
