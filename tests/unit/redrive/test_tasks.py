"""Following one of SQS's own tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from refinerctl.aws.move_tasks import MoveTasks
from refinerctl.dlq.redrive.tasks import LISTED_WITHIN_SECONDS, TaskRun
from refinerctl.dlq.redrive.types import MoveTask
from refinerctl.errors import RefinerctlError
from tests.unit.fakes import Clock, Recorder
from tests.unit.redrive.letters import DLQ, SENT

OLD = MoveTask("COMPLETED", moved=7, to_move=7, started_at=SENT)


@dataclass
class FakeTasks(MoveTasks):
    """Lists what it is given, one answer after the other, the last one again and again."""

    answers: list[tuple[MoveTask, ...]]
    cancelled: list[str] = field(default_factory=list)
    started: list[tuple[str, str | None, int | None]] = field(default_factory=list)
    on_look: Callable[[], None] = lambda: None

    def latest(self, source_arn: str) -> tuple[MoveTask, ...]:
        self.on_look()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def start(self, source_arn: str, destination_arn: str | None = None, rate: int | None = None) -> str:
        self.started.append((source_arn, destination_arn, rate))
        return "handle"

    def cancel(self, handle: str) -> int:
        self.cancelled.append(handle)
        return 25


def task(moved: int, status: str = "RUNNING", failure: str | None = None) -> MoveTask:
    """A task that was started after the old one; only a running one has a handle."""
    handle = "handle" if status in ("RUNNING", "CANCELLING") else None
    return MoveTask(status, handle, moved, 40, failure=failure, started_at=SENT + timedelta(minutes=1))


def run_of(tasks: FakeTasks) -> TaskRun:
    clock = Clock()
    return TaskRun(tasks, DLQ.arn, "arn:to", 100, sleep=clock.sleep, monotonic=clock.monotonic)


def test_it_is_followed_to_its_end() -> None:
    tasks, seen = FakeTasks([(task(10), OLD), (task(30), OLD), (task(40, "COMPLETED"), OLD)]), Recorder()
    run = run_of(tasks)

    run.start((OLD,))
    moved = run.follow(seen)

    assert tasks.started == [(DLQ.arn, "arn:to", 100)]
    assert moved.moved == 40
    assert seen.updates[1] == "SQS has moved 30 of 40 messages (20/s, 0 s left)"
    assert tasks.cancelled == []


def test_an_earlier_task_is_not_taken_for_this_one() -> None:
    """SQS lists a task only some time after it has accepted it."""
    run = run_of(FakeTasks([(OLD,), (OLD,), (task(40, "COMPLETED"), OLD)]))

    run.start((OLD,))

    assert run.follow(Recorder()).moved == 40


def test_a_task_that_is_never_listed() -> None:
    run = run_of(FakeTasks([(OLD,)]))

    run.start((OLD,))

    with pytest.raises(RefinerctlError, match="does not list"):
        run.follow(Recorder())
    assert run.monotonic() > LISTED_WITHIN_SECONDS


def test_somebody_elses_task_is_followed() -> None:
    run = run_of(FakeTasks([(task(10),), (task(40, "COMPLETED"),)]))

    run.adopt(task(10))

    assert run.follow(Recorder()).moved == 40


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (task(12, "FAILED", failure="AccessDenied"), "failed after 12 messages: AccessDenied"),
        (task(12, "CANCELLED"), "was cancelled after 12 messages"),
    ],
)
def test_a_task_that_does_not_complete_is_an_error(last: MoveTask, reason: str) -> None:
    run = run_of(FakeTasks([(task(10),), (last,)]))
    run.start(())

    with pytest.raises(RefinerctlError, match=reason):
        run.follow(Recorder())

    assert run.moved.moved == 12


def test_ctrl_c_cancels_it_and_what_was_moved_is_known() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    tasks = FakeTasks([(task(10),)])
    run = run_of(tasks)
    run.start(())
    looks = iter([lambda: None, interrupt])
    tasks.on_look = lambda: next(looks)()

    with pytest.raises(KeyboardInterrupt):
        run.follow(Recorder())

    assert tasks.cancelled == ["handle"]
    assert run.moved.moved == 25


def test_who_cannot_look_any_more_is_told_that_sqs_goes_on() -> None:
    tasks = FakeTasks([(task(5),)])

    def expired() -> None:
        if len(recorder.updates) > 1:
            raise RefinerctlError("the AWS credentials are expired", hint="Log in again.")

    recorder, tasks.on_look = Recorder(), expired
    run = run_of(tasks)
    run.adopt(task(5))
    with pytest.raises(RefinerctlError, match="expired") as stopped:
        run.follow(recorder)

    assert stopped.value.hint == "Log in again. SQS goes on moving; `dlq redrive` follows it again."
    assert (run.moved.moved, tasks.cancelled) == (5, [])
