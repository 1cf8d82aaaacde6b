"""Following a message move task of SQS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from refinerctl.aws.move_tasks import MoveTask, MoveTasks
from refinerctl.dlq.redrive.move_task import LISTED_WITHIN_SECONDS, TaskRun
from refinerctl.errors import RefinerctlError
from tests.unit.dlq.redrive.messages import DLQ, SENT
from tests.unit.fakes import Clock, Recorder

OLD = MoveTask("COMPLETED", moved=7, to_move=7, started_at=SENT)


@dataclass
class FakeTasks(MoveTasks):
    """Lists the old task until one is started, then one answer after the other, the last one again and again."""

    answers: list[tuple[MoveTask, ...]]
    is_started: bool = False
    cancelled: list[str] = field(default_factory=list)
    on_list: Callable[[], None] = lambda: None

    def latest(self, source_arn: str) -> tuple[MoveTask, ...]:
        if not self.is_started:
            return (OLD,)
        self.on_list()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def start(self, source_arn: str, destination_arn: str | None = None, rate: int | None = None) -> str:
        assert (source_arn, destination_arn, rate) == (DLQ.arn, "arn:to", 100)
        self.is_started = True
        return "handle"

    def cancel(self, handle: str) -> int:
        self.cancelled.append(handle)
        return 25


def task(moved: int, status: str = "RUNNING", failure: str | None = None) -> MoveTask:
    """Started after the old one; only a running task has a handle."""
    handle = "handle" if status == "RUNNING" else None
    return MoveTask(status, handle, moved, 40, failure=failure, started_at=SENT + timedelta(minutes=1))


def run_of(*answers: tuple[MoveTask, ...], adopted: bool = False) -> tuple[TaskRun, FakeTasks]:
    clock, tasks = Clock(), FakeTasks(list(answers), is_started=adopted)
    run = TaskRun(tasks, DLQ.arn, sleep=clock.sleep, monotonic=clock.monotonic)
    if adopted:
        run.adopt(task(0))
    else:
        run.start("arn:to", 100)
    return run, tasks


def test_follows_a_task_to_its_end() -> None:
    run, tasks = run_of((task(10), OLD), (task(30), OLD), (task(40, "COMPLETED"), OLD))
    seen = Recorder()

    run.follow(seen)

    assert run.moved == 40
    assert seen.updates[1] == "SQS has moved 30 of 40 messages (20/s, 0 s left)"
    assert tasks.cancelled == []


@pytest.mark.parametrize("adopted", [True, False])
def test_an_earlier_task_is_not_followed(adopted: bool) -> None:
    """SQS lists a task only some time after it has accepted it."""
    first = (task(10), OLD) if adopted else (OLD,)
    run, _ = run_of(first, (task(40, "COMPLETED"), OLD), adopted=adopted)

    run.follow(Recorder())

    assert run.moved == 40


def test_fails_if_sqs_never_lists_the_task() -> None:
    run, _ = run_of((OLD,))

    with pytest.raises(RefinerctlError, match="does not list"):
        run.follow(Recorder())
    assert run.monotonic() > LISTED_WITHIN_SECONDS


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (task(12, "FAILED", failure="AccessDenied"), "failed after 12 messages: AccessDenied"),
        (task(12, "CANCELLED"), "was cancelled after 12 messages"),
    ],
)
def test_fails_if_the_task_does_not_complete(last: MoveTask, reason: str) -> None:
    run, _ = run_of((task(10),), (last,))

    with pytest.raises(RefinerctlError, match=reason):
        run.follow(Recorder())

    assert run.moved == 12


def test_ctrl_c_cancels_the_task_and_keeps_the_count() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    run, tasks = run_of((task(10),))
    looks = iter([lambda: None, interrupt])
    tasks.on_list = lambda: next(looks)()

    with pytest.raises(KeyboardInterrupt):
        run.follow(Recorder())

    assert tasks.cancelled == ["handle"]
    assert run.moved == 25


def test_a_task_that_cannot_be_listed_any_more_continues() -> None:
    run, tasks = run_of((task(5),))
    seen = Recorder()

    def expired() -> None:
        if len(seen.updates) > 1:
            raise RefinerctlError("the AWS credentials have expired", hint="Log in again.")

    tasks.on_list = expired
    with pytest.raises(RefinerctlError, match="expired") as stopped:
        run.follow(seen)

    assert stopped.value.hint == "Log in again. SQS continues to move messages; run `dlq redrive` again to follow."
    assert (run.moved, tasks.cancelled) == (5, [])


def test_messages_of_a_task_whose_start_got_no_response_count() -> None:
    """The request is repeated: a second task starts after the first one has moved everything."""
    first = MoveTask("COMPLETED", moved=40, to_move=40, started_at=SENT + timedelta(seconds=30))
    run, _ = run_of((task(0), first, OLD), (task(0, "COMPLETED"), first, OLD))

    run.follow(Recorder())

    assert run.moved == 40
