"""Message move tasks of SQS: start one, or follow a running one, until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from refinerctl.aws.move_tasks import MoveTask, MoveTasks
from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError

LOOK_SECONDS = 1.0
# SQS lists a task some time after it has started it.
LISTED_WITHIN_SECONDS = 60.0


@dataclass
class TaskRun:
    """One task, and those that lost responses have started before it.

    `moved` is how many messages they have moved so far, also after an error; `is_stuck`: the task cannot go on.
    """

    tasks: MoveTasks
    source_arn: str
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    moved: int = 0
    is_stuck: bool = False
    _handle: str | None = None
    _since: float = 0.0  # tasks that started earlier are not of this run

    def start(self, to_arn: str | None, rate: int | None) -> None:
        """Raises RefusedError if SQS does not start one."""
        latest = max(map(_started, self.tasks.latest(self.source_arn) or ()), default=0.0)
        self._since = latest + 0.001  # SQS counts in milliseconds
        self._handle = self.tasks.start(self.source_arn, to_arn, rate)

    def adopt(self, running: MoveTask) -> None:
        """Follow a task that somebody else has started."""
        self._handle, self._since = running.handle, _started(running)

    def follow(self, progress: Progress) -> None:
        """Wait for the task's end. Ctrl-C and SIGTERM cancel it. Raises RefinerctlError unless it completes."""
        began = self.monotonic()
        first: int | None = None
        try:
            while True:
                listed = self._listed()
                # A task that has ended has no handle; then it is the newest.
                by_handle = (task for task in listed if task.handle and task.handle == self._handle)
                task = next(by_handle, next(iter(listed), None))
                if task is not None:
                    self._handle = self._handle or task.handle
                    self.moved = sum(other.moved for other in listed if _started(other) <= _started(task))
                    first = self.moved if first is None else first
                    progress.update(_standing(task, self.moved - first, self.monotonic() - began))
                    self.is_stuck = task.status == "FAILED"
                    if not task.is_active:
                        _check_completed(task)
                        return
                elif self.monotonic() - began > LISTED_WITHIN_SECONDS:
                    raise RefinerctlError(  # noqa: TRY301
                        "SQS does not list the move task that it started",
                        hint="`dlq redrive --dry-run` shows the queue's running task.",
                    )
                self.sleep(LOOK_SECONDS)
        except RefinerctlError:
            raise
        except BaseException:
            self._cancel(progress)
            raise

    def _listed(self) -> list[MoveTask]:
        """The tasks of this run, newest first."""
        try:
            listed = self.tasks.latest(self.source_arn) or ()
        except RefinerctlError as error:
            hint = "SQS continues to move messages; run `dlq redrive` again to follow."
            raise RefinerctlError(error.message, hint=f"{error.hint} {hint}" if error.hint else hint) from error
        return [task for task in listed if _started(task) >= self._since]

    def _cancel(self, progress: Progress) -> None:
        if self._handle is None:
            return
        progress.step("cancelling the move task")
        try:
            self.moved = max(self.tasks.cancel(self._handle), self.moved)
        except RefinerctlError as error:
            progress.step(error.message)


def _check_completed(task: MoveTask) -> None:
    if task.status == "FAILED":
        raise RefinerctlError(
            f"the move task failed after {task.moved:,} messages: {task.failure or 'no reason given'}",
            hint="A move task stops at the first message that it cannot move. Use --method copy to move the others.",
        )
    if task.status != "COMPLETED":
        raise RefinerctlError(f"the move task was cancelled after {task.moved:,} messages")


def _started(task: MoveTask) -> float:
    return task.started_at.timestamp() if task.started_at else 0.0


def _standing(task: MoveTask, moved_since: int, seconds: float) -> str:
    rate = moved_since / seconds if seconds > 0 else 0.0
    whole = f" of {task.to_move:,}" if task.to_move is not None else ""
    left = ""
    if rate and task.to_move is not None:
        left = f", {max(task.to_move - task.moved, 0) / rate:.0f} s left"
    return f"SQS has moved {task.moved:,}{whole} messages ({rate:.0f}/s{left})"
