"""Inspect, export and purge, over a queue in memory."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from refinerctl.aws.messages import EntryResult, Message
from refinerctl.aws.objects import ObjectEvent
from refinerctl.console import Silent
from refinerctl.dlq import purge as purging
from refinerctl.dlq import walk as walking
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.export import ExportRequest, export
from refinerctl.dlq.filters import Expression, MessageFilter
from refinerctl.dlq.inspect import LookRequest, inspect
from refinerctl.dlq.purge import PurgeRequest, purge
from refinerctl.dlq.views import ObjectState
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, TransientError
from tests.unit.dead_letters.fake_queue import FakeQueue, failing
from tests.unit.dead_letters.letters import event, letter, undelivered
from tests.unit.dead_letters.test_errors import Logs, failed, finder

ALL = MessageFilter()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "PAUSE_S", 0.0)
    monkeypatch.setattr(purging, "PAUSE_S", 0.0)


class FakeObjects:
    def __init__(self, **states: ObjectState) -> None:
        self.states = states
        self.asked: list[ObjectEvent] = []
        self._lock = threading.Lock()

    def of(self, about: ObjectEvent) -> ObjectState:
        with self._lock:
            self.asked.append(about)
        return self.states.get(about.key.rpartition("/")[2].removesuffix(".txt"), ObjectState.EXISTS)


def filled(count: int) -> FakeQueue:
    return FakeQueue([letter(number) for number in range(count)])


def by(text: str) -> MessageFilter:
    return MessageFilter(expression=Expression.parse(text))


def no_errors() -> ErrorFinder:
    return finder(Logs())


class TestInspect:
    def look(self, source: FakeQueue, which: MessageFilter = ALL, limit: int = 10, **more: Any) -> Any:
        errors = more.pop("errors", None) or no_errors()
        objects = more.pop("objects", None) or FakeObjects()
        return inspect(source, LookRequest(which, limit, **more), errors, objects, Silent())

    def test_shows_and_gives_back_before_anything_else_is_asked(self) -> None:
        source = filled(3)
        hidden: list[int] = []

        class Objects(FakeObjects):
            def of(self, about: ObjectEvent) -> ObjectState:
                hidden.append(len(source.in_flight))
                return super().of(about)

        looked = self.look(source, objects=Objects(**{"1": ObjectState.GONE}))

        assert hidden == [0, 0, 0]
        assert {seen.letter.id: seen.object_state for seen in looked.letters}["m1"] is ObjectState.GONE
        assert (looked.received, looked.matched, looked.is_whole) == (3, 3, True)
        assert looked.notes == ("looking raised the receive counts of 3 messages by 1",)
        assert len(source.visible) == 3

    def test_tells_how_far_it_is(self) -> None:
        told: list[str] = []

        class Told(Silent):
            def update(self, text: str) -> None:
                told.append(text)

        inspect(filled(1500), LookRequest(ALL, 1500, group=True), no_errors(), FakeObjects(), Told())

        assert any(re.fullmatch(r"looked at 1,500 of 1,500 messages \(.+/s, 0 s left\)", text) for text in told)

    def test_an_empty_queue(self) -> None:
        looked = self.look(filled(0))
        assert (looked.letters, looked.received, looked.notes) == ((), 0, ())

    def test_no_more_than_asked_for(self) -> None:
        source = filled(100)
        assert len(self.look(source, limit=7).letters) == 7
        assert source.calls.count("receive") == 1

    def test_a_filter_finds_what_is_far_behind_and_stops_there(self) -> None:
        source = filled(900)
        looked = self.look(source, by("key == 'RefinerInput/777.txt'"), limit=1)
        assert [seen.letter.id for seen in looked.letters] == ["m777"]
        assert len(source.visible) == 900

    def test_a_filter_by_error_and_a_body_that_is_no_event(self) -> None:
        logs = Logs()
        logs.say(2, "record failed", **failed("NoSuchKey"))
        logs.say(4, "record failed", **failed("AccessDenied"))
        source = FakeQueue([letter(1), letter(2, "no event"), letter(4)])
        looked = self.look(source, by("contains(error, 'NoSuchKey')"), errors=finder(logs))
        (seen,) = looked.letters
        assert (seen.letter.id, seen.object, seen.error.text) == ("m2", None, "NoSuchKey: gone")
        assert (looked.received, looked.matched) == (3, 1)

    def test_groups(self) -> None:
        logs = Logs()
        for number in range(40):
            logs.say(number, "record failed", **failed("NoSuchKey", f"no key RefinerInput/{number}.txt"))
        source = FakeQueue([*(letter(number) for number in range(40)), undelivered(50), undelivered(51)])
        looked = self.look(source, limit=1000, group=True, errors=finder(logs))
        assert [(group.count, group.example_key) for group in looked.groups] == [
            (40, looked.groups[0].example_key),
            (2, "RefinerInput/50.txt"),
        ]
        assert looked.groups[0].signature.startswith("NoSuchKey")
        assert looked.letters == ()

    def test_each_object_is_asked_for_once(self) -> None:
        objects = FakeObjects()
        self.look(FakeQueue([letter(n, event("RefinerInput/same.txt")) for n in range(5)]), objects=objects)
        assert len(objects.asked) == 1

    def test_what_cannot_be_received_is_an_error(self) -> None:
        source = filled(3)
        source.fail = failing("receive", [AccessDeniedError("denied")])
        with pytest.raises(AccessDeniedError, match="denied"):
            self.look(source)


class TestExport:
    def run(self, source: FakeQueue, which: MessageFilter = ALL, limit: int | None = None) -> Any:
        self.taken: list[str] = []
        take: Callable[[Message], None] = lambda item: self.taken.append(item.id)  # noqa: E731
        return export(source, ExportRequest(which, limit), no_errors(), take, Silent())

    def test_everything_once_and_the_queue_as_it_was(self) -> None:
        source = filled(1234)
        before = source.ids
        done = self.run(source)
        assert sorted(self.taken) == source.ids == before
        assert (done.exported, done.received, done.is_whole) == (1234, 1234, True)
        assert done.notes == ("looking raised the receive counts of 1,234 messages by 1",)

    @pytest.mark.parametrize("which", [ALL, by("key")])
    def test_a_limit(self, which: MessageFilter) -> None:
        source = filled(300)
        done = self.run(source, which, limit=25)
        assert len(self.taken) == done.exported == 25
        assert done.is_whole
        assert len(source.visible) == 300

    def test_a_filter(self) -> None:
        done = self.run(filled(30), by("key == 'RefinerInput/7.txt'"))
        assert (self.taken, done.exported, done.received) == (["m7"], 1, 30)

    def test_a_writer_that_fails_leaves_the_queue_as_it_was(self) -> None:
        source = filled(50)

        def fail(_: Message) -> None:
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            export(source, ExportRequest(ALL), no_errors(), fail, Silent())
        assert len(source.visible) == 50

    def test_what_sqs_does_not_give_is_told(self) -> None:
        source = filled(50)
        source.on_receive = lambda: setattr(source, "largest_receive", 10 if len(source.visible) > 20 else 0)
        done = self.run(source)
        assert (done.exported, done.is_whole) == (30, False)


class TestPurge:
    def run(self, source: FakeQueue, which: MessageFilter = ALL, **more: Any) -> Any:
        self.kept: list[str] = []
        keep = more.pop("keep", lambda letters: self.kept.extend(item.id for item in letters))
        return purge(source, PurgeRequest(which, keep), no_errors(), Silent())

    def test_all_that_was_written_down_and_nothing_else(self) -> None:
        source = filled(500)
        ids = source.ids
        done = self.run(source)
        assert sorted(self.kept) == ids
        assert (done.deleted, done.exported, done.skipped, done.failed, done.left) == (500, 500, 0, 0, 0)
        assert source.ids == []
        assert source.in_flight == {}

    def test_only_what_is_meant(self) -> None:
        source = filled(50)
        done = self.run(source, by("starts_with(key, 'RefinerInput/1')"))
        assert (done.deleted, done.skipped, done.left) == (11, 39, 39)
        assert len(source.visible) == 39
        assert not {"m1", "m10", "m19"} & set(source.ids)

    def test_written_down_before_it_is_deleted(self) -> None:
        source = filled(30)
        order: list[str] = []

        def keep(letters: Sequence[Message]) -> None:
            assert all(item.receipt in source.in_flight for item in letters)
            order.append("kept")

        self.run(source, keep=keep)
        assert order

    def test_what_cannot_be_written_down_stays(self) -> None:
        source = filled(30)

        def fail(_: Sequence[Message]) -> None:
            raise RefinerctlError("disk full")

        done = self.run(source, keep=fail)
        assert isinstance(done.stopped_by, RefinerctlError)
        assert (done.deleted, done.exported, done.left) == (0, 0, None)
        assert len(source.visible) == 30

    def test_without_an_export(self) -> None:
        source = filled(30)
        done = self.run(source, keep=None)
        assert (done.deleted, done.exported) == (30, 0)

    def test_what_cannot_be_deleted_is_counted_and_stays(self) -> None:
        source = filled(30)
        source.refuse_delete = {"m3", "m17"}
        done = self.run(source)
        assert (done.deleted, done.failed, done.left) == (28, 2, 2)
        assert done.notes[0] == "2 messages could not be deleted: still in the queue, and are in the export as well"
        assert source.ids == ["m17", "m3"]

    def test_a_call_that_fails_for_a_while_is_tried_again(self) -> None:
        source = filled(10)
        cause = TransientError("throttled")
        answers = [[EntryResult(error="Throttled", cause=cause)] * 10] * 3
        delete = source.delete
        source.delete = lambda receipts: answers.pop() if answers else delete(receipts)  # type: ignore[method-assign]
        assert self.run(source).deleted == 10

    def test_no_permission_to_delete_ends_it_with_all_given_back(self) -> None:
        source = filled(30)
        cause = AccessDeniedError("access denied: DeleteMessageBatch")
        source.delete = lambda receipts: [EntryResult(error="AccessDenied", cause=cause)] * len(receipts)  # type: ignore[method-assign]
        done = self.run(source)
        assert done.stopped_by is cause
        assert len(source.visible) == 30

    def test_an_interrupted_purge_tells_what_it_did(self) -> None:
        source = filled(1000)
        rounds: list[int] = []

        def keep(letters: Sequence[Message]) -> None:
            rounds.append(len(letters))
            if len(rounds) == 2:
                raise KeyboardInterrupt

        done = self.run(source, keep=keep)
        assert isinstance(done.stopped_by, KeyboardInterrupt)
        assert done.deleted == done.exported == rounds[0]
        assert len(source.visible) == 1000 - rounds[0]

    def test_what_comes_meanwhile_stays(self) -> None:
        source = filled(20)
        late = [letter(900)]
        source.fail = lambda call: source.visible.extend([late.pop()] if call == "hide" and late else [])
        source.refuse_delete = {"m1"}  # so that something is given back, at the end
        done = self.run(source)
        assert done.deleted == 19
        assert "m900" in source.ids
        assert "m900" not in self.kept


class TestErrorsThatAreNotKnown:
    """A filter that is true of messages without an error must not take those whose error nobody could see."""

    def test_logs_that_cannot_be_read_delete_nothing(self) -> None:
        logs, source = Logs(), filled(20)
        logs.denied = True
        done = purge(source, PurgeRequest(by("error == null")), finder(logs), Silent())

        assert (done.deleted, len(source.ids)) == (0, 20)
        assert isinstance(done.stopped_by, RefinerctlError)
        assert "cannot be read: access denied" in done.stopped_by.message

    def test_what_was_not_looked_up_is_not_meant(self) -> None:
        errors = no_errors()
        errors.max_lookups = 3
        source = filled(20)
        done = purge(source, PurgeRequest(by("error == null")), errors, Silent())
        assert (done.deleted, done.skipped) == (3, 17)

    def test_a_function_that_never_logged_has_no_errors(self) -> None:
        class NoGroup(Logs):
            def events(self, *_: Any, **__: Any) -> Any:
                raise NotFoundError("there is no log group /aws/lambda/a")

        source = filled(5)
        done = purge(source, PurgeRequest(by("error == null")), finder(NoGroup()), Silent())
        assert (done.deleted, done.stopped_by) == (5, None)
