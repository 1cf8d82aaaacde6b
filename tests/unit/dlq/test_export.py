"""`dlq export`: every message is passed on once and the queue keeps it."""

from __future__ import annotations

import pytest

from refinerctl.aws.messages import Message
from refinerctl.console import Progress
from refinerctl.dlq.export import Export, export
from refinerctl.dlq.filters import MessageFilter
from tests.unit.dlq.fake_queue import FakeQueue, filled
from tests.unit.dlq.messages import matching
from tests.unit.dlq.test_walk import walk_of


def exported(
    source: FakeQueue, which: MessageFilter | None = None, limit: int | None = None
) -> tuple[Export, list[str]]:
    ids: list[str] = []
    done = export(walk_of(source, which, limit=limit), lambda item: ids.append(item.id), Progress())
    return done, ids


def test_every_message_is_exported_once_and_stays_in_the_queue() -> None:
    source = filled(1234)
    before = source.ids
    done, ids = exported(source)
    assert sorted(ids) == source.ids == before
    assert (done.exported, done.received, done.is_complete) == (1234, 1234, True)
    assert done.notes == ("receive counts of 1,234 messages increased by 1",)


@pytest.mark.parametrize("which", [None, matching("key")])
def test_limit(which: MessageFilter | None) -> None:
    source = filled(300)
    done, ids = exported(source, which, limit=25)
    assert len(ids) == done.exported == 25
    assert done.is_complete
    assert len(source.visible) == 300


def test_filter() -> None:
    done, ids = exported(filled(30), matching("key == 'RefinerInput/7.txt'"))
    assert (ids, done.exported, done.received) == (["m7"], 1, 30)


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
    done, _ = exported(source)
    assert (done.exported, done.is_complete) == (30, False)
