"""Messages that fail again after a redrive, and whether they have the same error."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from refinerctl.aws.logs import LogEvent
from refinerctl.dlq.redrive.watch import MAX_HELD, Comparison, Original, Watch, compare
from refinerctl.errors import TransientError
from tests.unit.dlq.redrive.memory_queue import Kept, MemoryQueue
from tests.unit.dlq.redrive.messages import SENT, message
from tests.unit.dlq.test_errors import finder
from tests.unit.fakes import Clock, FakeLogGroups, Recorder

if TYPE_CHECKING:
    from refinerctl.aws.message_queue import MessageQueue

ORIGINALS = {f"new-{number}": Original(f"old-{number}", SENT) for number in (1, 2)}


def memory(name: str, *ids: str) -> MemoryQueue:
    return MemoryQueue(name, kept={id_: Kept(message(id_)) for id_ in ids})


@dataclass
class Stage:
    """Messages `new-1` and `new-2` were sent."""

    clock: Clock = field(default_factory=Clock)
    dlq: MemoryQueue = field(default_factory=lambda: memory("in-dlq"))
    target: MemoryQueue = field(default_factory=lambda: memory("in", "new-1", "new-2"))

    def watch(self, seconds: float = 60) -> Watch:
        dlq, target = cast("MessageQueue", self.dlq), cast("MessageQueue", self.target)
        return Watch([dlq], [target], ORIGINALS, seconds, sleep=self.clock.sleep, monotonic=self.clock.monotonic)

    def fail(self, *ids: str) -> None:
        self.dlq.kept |= {id_: self.target.kept.pop(id_) for id_ in ids}

    def is_released(self, count: int) -> bool:
        return len(self.dlq.kept) == count and not any(item.hidden for item in self.dlq.kept.values())


def test_ends_when_all_is_processed() -> None:
    stage = Stage()
    stage.clock.at(10, stage.target.kept.clear)
    watch = stage.watch()

    watch.run(Recorder())

    assert (watch.returned, watch.is_settled) == ({}, True)
    assert 10 < stage.clock.now < 30


def test_a_lost_response_may_hold_messages_that_returned() -> None:
    stage, lost = Stage(), [TransientError("no response", is_uncertain=True)]
    stage.target.kept.clear()

    def lose() -> None:
        if lost:
            raise lost.pop()

    stage.dlq.on_receive = lose
    watch = stage.watch()

    watch.run(Recorder())

    assert not watch.is_settled
    assert stage.clock.now >= 60


def test_ends_when_all_messages_have_returned() -> None:
    stage = Stage()
    stage.clock.at(4, lambda: stage.fail("new-1", "new-2"))
    watch = stage.watch()

    watch.run(Recorder())

    assert (list(watch.returned), watch.is_settled) == (["new-1", "new-2"], True)
    assert stage.clock.now < 10


def test_counts_only_what_was_sent_and_releases_all() -> None:
    stage = Stage(dlq=memory("in-dlq", *(f"other-{number}" for number in range(25))))
    stage.clock.at(4, lambda: stage.fail("new-1"))
    stage.clock.at(6, stage.target.kept.clear)
    seen, watch = Recorder(), stage.watch()

    watch.run(seen)

    assert list(watch.returned) == ["new-1"]
    assert stage.is_released(26)
    assert any("1 of 2 returned to a DLQ" in text for text in seen.updates)


def test_ends_when_the_time_is_over() -> None:
    stage = Stage()
    watch = stage.watch(20)

    watch.run(Recorder())

    assert not watch.is_settled
    assert 20 <= stage.clock.now < 25


def test_an_interrupt_keeps_the_returned_messages_and_releases_them() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    stage = Stage()
    stage.clock.at(2, lambda: stage.fail("new-1"))
    stage.clock.at(6, interrupt)
    watch = stage.watch()

    with pytest.raises(KeyboardInterrupt):
        watch.run(Recorder())

    assert list(watch.returned) == ["new-1"]
    assert stage.is_released(1)


def test_holds_a_limited_number_of_messages() -> None:
    stage = Stage(dlq=memory("in-dlq", *map(str, range(MAX_HELD + 50))))
    watch = stage.watch(5)

    watch.run(Recorder())

    assert watch.is_partial
    assert stage.is_released(MAX_HELD + 50)


def body(key: str) -> str:
    return json.dumps({"detail": {"bucket": {"name": "b"}, "object": {"key": key}}})


def failed(message_id: str, key: str, error: str, minutes: int) -> LogEvent:
    record = {"message": "record failed", "messageId": message_id, "key": key, "requestId": "r", "error": error}
    at = SENT + timedelta(minutes=minutes)
    return LogEvent(at, "/aws/lambda/a", "s", json.dumps(record), f"{message_id}-{minutes}")


def compared(*events: LogEvent) -> Comparison:
    logs = FakeLogGroups()
    logs.written += events
    messages = [message("new-1", body("in/a.txt")), message("new-2", body("in/b.txt"))]
    before, now = (finder(logs, until=SENT + timedelta(hours=hours)) for hours in (1, 3))
    return compare({item.id: item for item in messages}, ORIGINALS, before, now)


BEFORE = [
    failed("old-1", "in/a.txt", "NoSuchKey: there is no in/a.txt", 1),
    failed("old-2", "in/b.txt", "NoSuchKey: there is no in/b.txt", 2),
]


def test_the_same_error_of_other_keys_is_the_same() -> None:
    now = [
        failed("new-1", "in/a.txt", "NoSuchKey: there is no in/a.txt", 61),
        failed("new-2", "in/b.txt", "NoSuchKey: there is no in/b.txt", 62),
    ]
    same = compared(*BEFORE, *now)

    assert (same.compared, same.same, list(same.errors.values())) == (2, 2, [2])
    assert same.sentence(2, 40).startswith("2 of 40 failed again the same way: NoSuchKey: ")


def test_another_error_is_not_the_same() -> None:
    same = compared(
        *BEFORE,
        failed("new-1", "in/a.txt", "AccessDenied: no", 61),
        failed("new-2", "in/b.txt", "NoSuchKey: there is no in/b.txt", 62),
    )

    assert (same.compared, same.same) == (2, 1)
    assert "1 of the 2 errors found are the same as before" in same.sentence(2, 40)


def test_errors_that_are_not_logged_are_not_compared() -> None:
    same = compared()

    assert (same.compared, same.same) == (0, 0)
    assert same.sentence(2, 40) == "2 of 40 returned to a DLQ"


def test_the_most_frequent_of_several_errors_is_named() -> None:
    same = Comparison(15, 15, {"NoSuchKey: gone": 12, "InvalidEventError: not JSON": 3})

    assert same.sentence(15, 15) == "15 of 15 failed again the same way, most often: NoSuchKey: gone"
