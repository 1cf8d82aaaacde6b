"""`dlq export`: every message is passed on once and the queue keeps it."""

from __future__ import annotations

import pytest

from refinerctl.aws.messages import Message
from refinerctl.console import Progress
from refinerctl.dlq.export import export
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.walk import Walk
from tests.unit.dlq.fake_queue import FakeQueue, filled
from tests.unit.dlq.messages import matching
from tests.unit.dlq.test_walk import walk_of


def exported(source: FakeQueue, which: MessageFilter | None = None, limit: int | None = None) -> tuple[Walk, list[str]]:
    ids: list[str] = []
    walk = walk_of(source, which, limit=limit)
    export(walk, lambda item: ids.append(item.id), Progress())
    return walk, ids


def test_every_message_is_exported_once_and_stays_in_the_queue() -> None:
    source = filled(1234)
    before = source.ids
    walk, ids = exported(source)
    assert sorted(ids) == source.ids == before
    assert (walk.matched, walk.received, walk.is_complete) == (1234, 1234, True)
    assert list(walk.notes()) == ["receive counts of 1,234 messages increased by 1"]


@pytest.mark.parametrize("which", [None, matching("key")])
def test_limit(which: MessageFilter | None) -> None:
    source = filled(300)
    walk, ids = exported(source, which, limit=25)
    assert len(ids) == walk.matched == 25
    assert len(source.visible) == 300


def test_filter() -> None:
    walk, ids = exported(filled(30), matching("key == 'RefinerInput/7.txt'"))
    assert (ids, walk.matched, walk.received) == (["m7"], 1, 30)


def test_failing_writer_leaves_the_queue_as_it_was() -> None:
    source = filled(50)

    def fail(_: Message) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        export(walk_of(source), fail, Progress())
    assert len(source.visible) == 50


def test_incomplete_if_sqs_does_not_return_all_messages() -> None:
    source = filled(50)
    source.on_receive = lambda: setattr(source, "largest_receive", 10 if len(source.visible) > 20 else 0)
    walk, _ = exported(source)
    assert (walk.matched, walk.is_complete) == (30, False)
