"""What the machine and the network do to a run: no room on the disk, sleep, clocks that are set, counts that fail."""

from __future__ import annotations

import _thread
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAttributes
from refinerctl.dlq.redrive.id_filter import IdFilter
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal
from refinerctl.dlq.redrive.state import Record
from refinerctl.dlq.redrive.types import Leave, Moved, Route
from refinerctl.errors import RefinerctlError, TransientError
from tests.unit.redrive_engine.conftest import Redrive
from tests.unit.redrive_engine.queues import DENIED, LOST, NOW, forward


class FullDisk(RedriveJournal):
    """A journal that cannot be written once `is_full` says so of a record."""

    is_full: Callable[[Record], bool] = staticmethod(lambda record: False)

    def _write(self, record: Record) -> int:
        if self.is_full(record):
            raise RefinerctlError("no space left")
        return super()._write(record)


def run_until_full(redrive: Redrive, is_full: Callable[[Record], bool], route: Callable[[Message], Route]) -> Moved:
    header = JournalHeader(redrive.source.address.url, redrive.source.name)
    with FullDisk.begin(redrive.folder, header) as journal:
        journal.is_full = is_full
        return redrive.go_on(journal, route)


class TestNoRoomOnTheDisk:
    @pytest.mark.parametrize("kind", ["held", "aside", "intent", "left", "sent", "deleted"])
    def test_it_ends_the_run_and_gives_back_what_stays(self, redrive: Redrive, kind: str) -> None:
        redrive.fill(300)
        written: list[str] = []

        def is_full(record: Record) -> bool:
            """From the seventh record of the kind on, for good."""
            written.extend(record)
            return written.count(kind) > 6

        def route(letter: Message) -> Route:
            number = int(letter.body.split()[1])
            return forward(redrive.target)(letter) if number % 3 == 0 else Leave("another")

        moved = run_until_full(redrive, is_full, route)
        assert str(moved.stopped_by) == "no space left"
        hidden = [item for item in redrive.source.kept.values() if item.hidden]
        sent = set(redrive.target.bodies())
        # What was sent is better not received by anybody now; the rest is nobody's.
        assert {item.letter.body for item in hidden} <= sent
        there = len(redrive.source.kept) + len(redrive.target.kept)
        assert there - 300 <= moved.sent_twice
        redrive.source.time_out()
        resumed = redrive.resume(route)
        assert (resumed.stopped_by, len(set(redrive.target.bodies()))) == (None, 100)
        assert len(redrive.target.kept) - 100 <= resumed.sent_twice

    def test_a_request_that_was_not_written_down_has_not_left(self, redrive: Redrive) -> None:
        """It does not take from the count of another that has."""
        redrive.fill(10)
        lefts = itertools.count()
        redrive.target.faults = iter([(LOST, True)])
        moved = run_until_full(redrive, lambda record: "left" in record and next(lefts) == 1, forward(redrive.target))
        assert moved.stopped_by is not None
        assert (len(redrive.target.kept), moved.sent_twice) == (10, 10)


class TestClocks:
    def test_what_became_visible_while_the_machine_slept_may_be_somebody_elses(
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
        moved = redrive.run(lanes=1)
        assert (moved.moved, moved.left, moved.sent_twice) == (0, 10, 10)

    def test_a_clock_that_is_set_back_hides_nothing(self, redrive: Redrive, monkeypatch: pytest.MonkeyPatch) -> None:
        """Within five minutes a FIFO queue drops what it got before: for that only time that has passed counts."""
        redrive.source.name, redrive.target.name = "q-dlq.fifo", "q.fifo"
        redrive.source.put("one", MessageGroupId="g", MessageDeduplicationId="d")
        redrive.target.faults = iter([(LOST, True)] * 8)
        assert (redrive.run().sent_twice, len(redrive.target.kept)) == (1, 1)
        redrive.target._known.clear()
        redrive.source.time_out()
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - 7200)
        with RedriveJournal.resume(redrive.journal) as journal:
            journal.begin_part(NOW)  # it had finished
            moved = redrive.go_on(journal)
        assert (moved.moved, moved.sent_twice, len(redrive.target.kept)) == (1, 1, 2)

    def test_the_time_of_a_file_is_not_that_of_its_requests(self, redrive: Redrive) -> None:
        """What left in one part of a run would seem to have left just now in a later one."""
        redrive.source.now = datetime(9999, 1, 1, tzinfo=UTC)
        redrive.fill(1)
        redrive.run()
        lines = [json.loads(line) for line in redrive.journal.read_text().splitlines()]
        [left] = [line["at"] for line in lines if "left" in line]
        assert abs(left - time.time()) < 2 * 86_400


class TestCountsThatFail:
    def test_they_are_no_sign_of_the_end(self, redrive: Redrive) -> None:
        """Old letters behind many new ones, while SQS is too busy to count."""
        for _ in range(60):
            redrive.source.put("new", NOW + timedelta(seconds=2))
        redrive.fill(5)
        facts, asked = redrive.source.attributes, itertools.count()

        def count() -> QueueAttributes:
            if next(asked) in range(1, 4):
                raise TransientError("too many requests")
            return facts()

        redrive.source.attributes = count  # type: ignore[method-assign]
        assert redrive.run(lanes=1).moved == 5

    def test_too_low_a_count_does_not_end_it(self, redrive: Redrive) -> None:
        """SQS's counts are approximate, and behind by a minute."""
        for _ in range(60):
            redrive.source.put("new", NOW + timedelta(seconds=2))
        redrive.fill(5)
        facts = redrive.source.attributes
        redrive.source.attributes = lambda: replace(facts(), visible=0)  # type: ignore[method-assign]
        assert redrive.run(lanes=1).moved == 5


class TestALimitThatIsResumed:
    @pytest.mark.parametrize("rest", [0, 1])
    def test_what_was_sent_before_is_deleted_and_does_not_count(self, redrive: Redrive, rest: int) -> None:
        """Its receipts are not good any more: it has to be received again, also once the limit is reached."""
        redrive.fill(20)
        letters = redrive.source.receive(3, visibility_s=120, wait_s=0)
        header = JournalHeader(redrive.source.address.url, redrive.source.name)
        with RedriveJournal.begin(redrive.folder, header) as journal:
            journal.begin_part(NOW)
            ids = [letter.id for letter in letters]
            journal.held([(letter.id, letter.receipt) for letter in letters], NOW.timestamp())
            journal.intent(ids, redrive.target.address.url)
            journal.left(ids, NOW.timestamp())
            results = redrive.target.send([OutgoingMessage(letter.body) for letter in letters], lambda: None)
            journal.sent([(item, result.message_id or "") for item, result in zip(ids, results, strict=True)])
        redrive.source.time_out()
        with RedriveJournal.resume(redrive.journal) as journal:
            moved = redrive.go_on(journal, limit=rest)
            assert journal.is_finished
        assert (moved.moved, moved.sent_twice, moved.left) == (3 + rest, 0, 17 - rest)
        assert len(redrive.target.kept) == 3 + rest
        assert redrive.is_given_back()


def test_a_source_that_answers_at_once_is_not_asked_all_the_time(redrive: Redrive) -> None:
    """A file has nothing to wait for, while another lane sends what its group had."""
    redrive.source.name, redrive.target.name = "q-dlq.fifo", "q.fifo"
    redrive.source.put("one", MessageGroupId="g", MessageDeduplicationId="d")
    send = redrive.target.send

    def take_long(messages: Sequence[OutgoingMessage], leaving: Callable[[], None]) -> list[EntryResult]:
        time.sleep(0.5)
        return send(messages, leaving)

    redrive.target.send = take_long  # type: ignore[method-assign]
    assert redrive.run(lanes=4).moved == 1
    assert redrive.source.calls.count("receive") < 100


def test_half_a_character_is_refused_and_stays(redrive: Redrive) -> None:
    """JSON can hold what no queue takes."""
    redrive.fill(2)
    bad = redrive.source.put("\ud83d")
    moved = redrive.run()
    assert (moved.moved, moved.failed, list(redrive.source.kept)) == (2, 1, [bad])


def test_an_interruption_while_it_settles_what_was_left(redrive: Redrive) -> None:
    redrive.fill(20)
    letters = redrive.source.receive(10, visibility_s=120, wait_s=0)
    header = JournalHeader(redrive.source.address.url, redrive.source.name)
    with RedriveJournal.begin(redrive.folder, header) as journal:
        journal.begin_part(NOW)
        journal.held([(letter.id, letter.receipt) for letter in letters], NOW.timestamp() + 120)
    hide = redrive.source.change_visibility

    def interrupt(receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        _thread.interrupt_main()
        return hide(receipts, visibility_s)

    redrive.source.change_visibility = interrupt  # type: ignore[method-assign]
    moved = redrive.resume()
    assert isinstance(moved.stopped_by, KeyboardInterrupt)
    assert (moved.left, redrive.is_given_back()) == (20, True)


def test_nobody_gives_back_thousands_of_messages_in_vain(redrive: Redrive) -> None:
    redrive.fill(3_000)
    calls = itertools.count()

    def change_visibility(receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        next(calls)
        return [DENIED] * len(receipts)

    redrive.source.change_visibility = change_visibility  # type: ignore[method-assign]
    moved = redrive.run(lambda letter: Leave("another"), lanes=1)
    assert moved.skipped == 3_000
    assert next(calls) <= 16


def test_ids_that_are_taken_for_others_are_few_whatever_their_number() -> None:
    known = IdFilter(capacity=1_000, size_bytes=1 << 11)
    for number in range(20_000):
        known.add(f"ours {number}")
    assert all(f"ours {number}" in known for number in range(0, 20_000, 7))
    assert sum(f"another {number}" in known for number in range(20_000)) < 20_000 * 0.02
