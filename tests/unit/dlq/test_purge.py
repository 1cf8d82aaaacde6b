"""`dlq purge`: only messages that match and have been saved are deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from refinerctl.aws.messages import Message
from refinerctl.console import Progress, fitted
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.purge import COLUMNS, Purge, purge
from refinerctl.errors import RefinerctlError
from tests.unit.dlq.fake_queue import FakeQueue, filled
from tests.unit.dlq.messages import matching, message
from tests.unit.dlq.test_errors import Logs, finder
from tests.unit.dlq.test_walk import walk_of

Save = Callable[[Sequence[Message]], None]


def purged(source: FakeQueue, which: MessageFilter | None = None, save: Save | None = None, **given: Any) -> Purge:
    return purge(walk_of(source, which, **given), Progress(), save)


class Saved:
    """Remembers what it saved."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, messages: Sequence[Message]) -> None:
        self.ids += [item.id for item in messages]


def test_messages_are_saved_before_they_are_deleted() -> None:
    source = filled(30)
    order: list[str] = []

    def save(messages: Sequence[Message]) -> None:
        assert all(item.receipt in source.in_flight for item in messages)
        order.append("saved")

    purged(source, save=save)
    assert order


def test_messages_that_cannot_be_saved_stay() -> None:
    source = filled(30)

    def fail(_: Sequence[Message]) -> None:
        raise RefinerctlError("disk full")

    done = purged(source, save=fail)
    assert isinstance(done.stopped_by, RefinerctlError)
    assert (done.deleted, done.exported, done.left) == (0, 0, None)
    assert len(source.visible) == 30


def test_messages_that_cannot_be_deleted_are_counted_and_stay() -> None:
    source = filled(30)
    source.refuse_delete = {"m3", "m17"}
    done = purged(source, save=Saved())
    assert (done.deleted, done.failed, done.left) == (28, 2, 2)
    assert done.left_over is not None
    assert done.notes[0] == ("deletion of 2 messages not confirmed: still in the queue, and also in the file")
    assert source.ids == ["m17", "m3"]


def test_interrupted_purge_counts_what_it_deleted() -> None:
    source = filled(1000)
    sizes: list[int] = []

    def save(messages: Sequence[Message]) -> None:
        sizes.append(len(messages))
        if len(sizes) == 2:
            raise KeyboardInterrupt

    done = purged(source, save=save)
    assert isinstance(done.stopped_by, KeyboardInterrupt)
    assert done.deleted == done.exported == sizes[0]
    assert len(source.visible) == 1000 - sizes[0]


def test_messages_that_arrive_meanwhile_stay() -> None:
    source, saved = filled(20), Saved()
    late = [message(900)]
    source.fail = lambda call: source.visible.extend([late.pop()] if call == "change_visibility" and late else [])
    source.refuse_delete = {"m1"}  # so that a message is released at the end
    assert purged(source, save=saved).deleted == 19
    assert "m900" in source.ids
    assert "m900" not in saved.ids


def test_a_message_whose_visibility_timeout_is_over_is_not_counted_as_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQS confirms a deletion with an old receipt, and deletes nothing."""
    source, slept = filled(20), 0.0
    gettime = time.clock_gettime
    monkeypatch.setattr(
        time, "clock_gettime", lambda clock: gettime(clock) + (slept if clock == time.CLOCK_BOOTTIME else 0)
    )

    def save(messages: Sequence[Message]) -> None:
        """The machine sleeps, and meanwhile another consumer receives some of the messages."""
        nonlocal slept
        slept += 3600
        for item in messages[:5]:
            source.time_out(item.receipt)
        source.receive(5, visibility_s=7200, wait_s=0)

    done = purged(source, save=save, workers=2)
    assert (done.deleted, done.failed, done.left) == (15, 5, 5)
    assert done.left_over is not None
    assert "5 in flight" in done.left_over


def test_messages_of_a_dry_run_fit_80_columns_with_their_whole_keys() -> None:
    id_, key = "8f5df350-6a1c-4b2b-9e0e-0a1b2c3d4e51", f"RefinerInput/{'a long name ' * 5}.txt"
    rows = [[(text, False) for text in (id_, "2026-03-01T14:00:00Z", key)]]
    header, *lines = fitted(COLUMNS, rows, 80, wrap=True)
    assert [text.strip() for text, _ in header] == ["MESSAGE", "KEY"]
    assert [text.strip() for (text, _), _ in lines] == [id_, ""]
    assert " ".join(text for _, (text, _) in lines) == key


class TestUnknownErrors:
    """A filter that matches messages without an error must not delete those whose error could not be looked up."""

    def test_unreadable_logs_delete_nothing(self) -> None:
        logs, source = Logs(), filled(20)
        logs.denied = True
        done = purged(source, matching("error == null"), errors=finder(logs))

        assert (done.deleted, len(source.ids)) == (0, 20)
        assert isinstance(done.stopped_by, RefinerctlError)
        assert "cannot be read: access denied" in done.stopped_by.message

    def test_messages_that_were_not_looked_up_do_not_match(self) -> None:
        errors = finder(Logs())
        errors.max_lookups = 3
        done = purged(filled(20), matching("error == null"), errors=errors)
        assert (done.deleted, done.skipped) == (3, 17)

    def test_function_without_logs_has_no_errors(self) -> None:
        done = purged(filled(5), matching("error == null"), errors=finder(Logs()))
        assert (done.deleted, done.stopped_by) == (5, None)
