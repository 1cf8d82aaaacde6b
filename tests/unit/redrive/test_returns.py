"""What comes back after a redrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAddress, QueueAttributes
from refinerctl.dlq.redrive.returns import MAX_HELD, Original, SentMessages, Tracked, Watch
from tests.unit.fakes import Clock, Recorder
from tests.unit.redrive.letters import DLQ, IN, SENT, letter


@dataclass
class FakeQueue:
    """Visible messages, and those in somebody's hands by receipt."""

    address: QueueAddress
    visible: list[Message] = field(default_factory=list)
    held: dict[str, Message] = field(default_factory=dict)
    sends: int = 0

    def attributes(self) -> QueueAttributes:
        return QueueAttributes(SENT, len(self.visible), len(self.held), 0, 262_144)

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        found, self.visible = self.visible[:count], self.visible[count:]
        self.held |= {item.receipt: item for item in found}
        return found

    def send(
        self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = lambda: None
    ) -> list[EntryResult]:
        leaving()
        results = [EntryResult(f"new-{self.sends + number}") for number, _ in enumerate(messages)]
        self.sends += len(messages)
        return [EntryResult(error="no"), *results[1:]] if messages[0].body == "bad" else results

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        return [EntryResult() for _ in receipts]

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        assert visibility_s == 0
        self.visible += [self.held.pop(receipt) for receipt in receipts]
        return [EntryResult() for _ in receipts]


@dataclass
class Stage:
    """What was sent: `new-1` and `new-2`."""

    clock: Clock = field(default_factory=Clock)
    dead: FakeQueue = field(default_factory=lambda: FakeQueue(DLQ))
    target: FakeQueue = field(default_factory=lambda: FakeQueue(IN, [letter("new-1"), letter("new-2")]))
    sent: SentMessages = field(
        default_factory=lambda: SentMessages({f"new-{number}": Original(f"old-{number}", SENT) for number in (1, 2)})
    )

    def watch(self, seconds: float = 60) -> Watch:
        return Watch(
            [self.dead], [self.target], self.sent, seconds, sleep=self.clock.sleep, monotonic=self.clock.monotonic
        )

    def done(self) -> None:
        self.target.visible.clear()

    def die(self, *ids: str) -> None:
        self.target.visible = [item for item in self.target.visible if item.id not in ids]
        self.dead.visible += [letter(item) for item in ids]


def test_what_is_sent_is_remembered_with_what_it_was() -> None:
    sent = SentMessages()
    recorded = sent.of(FakeQueue(IN))

    recorded.send([Tracked("bad", original_id="0"), Tracked("x", original_id="1", original_sent_at=SENT)], lambda: None)
    recorded.send([OutgoingMessage("not tracked")], lambda: None)
    sent.add([("0", "new-9"), ("other", "new-1")])

    assert sent.originals == {"new-1": Original("1", SENT), "new-9": Original("0", None)}


def test_it_ends_when_all_is_processed() -> None:
    stage = Stage()
    stage.clock.at(10, stage.done)

    watched = stage.watch().run(Recorder())

    assert (watched.returned, watched.is_settled) == ((), True)
    assert 10 < stage.clock.now < 30


def test_it_ends_when_all_has_come_back() -> None:
    stage = Stage()
    stage.clock.at(4, lambda: stage.die("new-1", "new-2"))

    watched = stage.watch().run(Recorder())

    assert [(item.letter.id, item.original.id, item.queue) for item in watched.returned] == [
        ("new-1", "old-1", DLQ),
        ("new-2", "old-2", DLQ),
    ]
    assert watched.is_settled
    assert stage.clock.now < 10


def test_others_are_not_counted_and_all_are_given_back() -> None:
    stage = Stage(dead=FakeQueue(DLQ, [letter(f"other-{number}") for number in range(25)]))
    stage.clock.at(4, lambda: stage.die("new-1"))
    stage.clock.at(6, stage.done)
    seen = Recorder()

    watched = stage.watch().run(seen)

    assert [item.letter.id for item in watched.returned] == ["new-1"]
    assert len(stage.dead.visible) == 26
    assert stage.dead.held == {}
    assert any("1 of 2 came back" in text for text in seen.updates)


def test_the_time_may_be_over_before() -> None:
    stage = Stage()

    watched = stage.watch(20).run(Recorder())

    assert not watched.is_settled
    assert 20 <= stage.clock.now < 25


def test_an_interrupted_watch_knows_what_it_has_seen_and_gives_it_back() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    stage = Stage()
    stage.clock.at(2, lambda: stage.die("new-1"))
    stage.clock.at(6, interrupt)
    watch = stage.watch()

    with pytest.raises(KeyboardInterrupt):
        watch.run(Recorder())

    assert [item.original.id for item in watch.returned] == ["old-1"]
    assert len(stage.dead.visible) == 1


def test_no_more_is_held_than_fits() -> None:
    stage = Stage(dead=FakeQueue(DLQ, [letter(str(number)) for number in range(MAX_HELD + 50)]))

    watched = stage.watch(5).run(Recorder())

    assert watched.is_partial
    assert len(stage.dead.visible) == MAX_HELD + 50
