"""Sending messages of a file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from refinerctl.console import Progress
from refinerctl.dlq.records import to_line
from refinerctl.dlq.redrive.copy import CopyRules, RedriveResult
from refinerctl.dlq.redrive.from_file import ExportedFile, copy_file
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal, find
from refinerctl.errors import RefinerctlError
from refinerctl.files import DISK, Disk
from tests.unit.dlq.redrive.memory_queue import BAD, DENIED, LOST, Killed, MemoryQueue, Power, PoweredDisk, forward
from tests.unit.dlq.redrive.messages import DLQ, message, queue

if TYPE_CHECKING:
    from refinerctl.aws.message_queue import MessageQueue

LINES = [to_line(message(str(number), f"body {number}"), DLQ) + "\n" for number in range(25)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "messages.jsonl"
    found.write_text("".join(LINES))
    return found


def run(path: Path, target: MemoryQueue, disk: Disk = DISK, **rules: Any) -> RedriveResult:
    """Begin, or continue what was begun."""
    file, work_folder = ExportedFile.check(path), path.parent
    found = find(work_folder, file.url)
    journal = (
        RedriveJournal.resume(found[0].path, disk)
        if found
        else RedriveJournal.begin(work_folder, JournalHeader(file.url, "in-dlq"), disk)
    )
    copy_rules = CopyRules(**{"workers": 2, "max_pause_s": 0.0, **rules})
    with journal:
        queue_at = lambda _address: cast("MessageQueue", target)  # noqa: E731
        return copy_file(file, queue_at, forward(target), copy_rules, journal, Progress())


def bodies(target: MemoryQueue) -> list[int]:
    return sorted(int(body.split()[1]) for body in target.bodies())


def test_sends_each_message_once_in_full_batches(path: Path) -> None:
    target = MemoryQueue("q")

    result = run(path, target)

    assert (result.moved, result.left, result.sent_twice, result.stopped_by) == (25, 0, 0, None)
    assert bodies(target) == list(range(25))
    assert target.calls.count("send") == 3
    assert path.read_text() == "".join(LINES)


def test_a_finished_run_sends_nothing_more(path: Path) -> None:
    target = MemoryQueue("q")
    first = run(path, target)

    assert run(path, target) == first
    assert len(target.kept) == 25


@pytest.mark.parametrize("kill_after", range(3, 40, 4))
def test_a_killed_run_is_resumed(path: Path, kill_after: int) -> None:
    target = MemoryQueue("q", power=Power(kill_after))
    with contextlib.suppress(Killed):
        run(path, target, PoweredDisk(target.power))
    target.power = Power()

    result = run(path, target)

    assert (result.moved, result.left) == (25, 0)
    assert set(bodies(target)) == set(range(25))
    assert len(target.kept) - 25 <= result.sent_twice


def test_counts_what_may_have_been_sent_twice(path: Path) -> None:
    result = run(path, MemoryQueue("q", faults=iter([(LOST, True)])), workers=1)

    assert (result.moved, result.sent_twice) == (25, 10)


def test_a_limit_a_rate_and_the_rest_with_a_later_run(path: Path) -> None:
    target = MemoryQueue("q")

    assert run(path, target, limit=7, rate=500).moved == 7
    assert len(target.kept) == 7


def test_an_error_that_no_retry_helps_against_stops_the_run(path: Path) -> None:
    target = MemoryQueue("q", faults=iter([None, (DENIED, False)]))

    stopped = run(path, target, workers=1)
    resumed = run(path, target)

    assert isinstance(stopped.stopped_by, RefinerctlError)
    assert (stopped.moved, stopped.left) == (10, 15)
    assert (resumed.moved, resumed.sent_twice, bodies(target)) == (25, 0, list(range(25)))


def test_messages_that_failed_are_sent_by_the_resumed_run(path: Path) -> None:
    target = MemoryQueue("q", faults=iter([None, (BAD, False)]))

    first = run(path, target, workers=1)
    resumed = run(path, target)

    assert (first.failed, first.moved, first.left) == (5, 20, 5)
    assert (resumed.moved, resumed.failed, resumed.left, bodies(target)) == (25, 0, 0, list(range(25)))


def test_queues_of_a_file(path: Path) -> None:
    other = queue("other-dlq")
    path.write_text(f"{to_line(message('1'), DLQ)}\n{to_line(message('2'), other)}\n")

    assert ExportedFile.check(path).queues == (DLQ, other)
