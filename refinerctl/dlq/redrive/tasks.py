"""SQS's own redrive: start a message move task, or take over a running one, and follow it to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from refinerctl.console import Progress
from refinerctl.dlq.redrive.types import Method, Moved, MoveTask
from refinerctl.errors import RefinerctlError

if TYPE_CHECKING:
    from refinerctl.aws.move_tasks import MoveTasks

LOOK_SECONDS = 1.0
# SQS lists a task some time after it has accepted it.
LISTED_WITHIN_SECONDS = 60.0


@dataclass
class TaskRun:
    """One task: `moved` says at any time how far it is, so that an interrupted run can tell."""

    tasks: MoveTasks
    source_arn: str
    destination_arn: str | None = None
    rate: int | None = None
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    moved: Moved = field(default_factory=lambda: Moved(str(Method.MOVE_TASK)))
    _handle: str | None = None
    _known: int = 0

    def start(self, before: tuple[MoveTask, ...]) -> None:
        """Start the task; `before` are those that the queue had until now.

        Raises RefusedError if SQS does not start one.
        """
        self._known = _newest(before)
        self._handle = self.tasks.start(self.source_arn, self.destination_arn, self.rate)

    def adopt(self, running: MoveTask) -> None:
        """Follow a task that somebody else has started."""
        self._handle = running.handle

    def follow(self, progress: Progress) -> Moved:
        """Wait for the task's end; on Ctrl-C and SIGTERM it is cancelled. Raises RefinerctlError if it failed."""
        began = self.monotonic()
        first: int | None = None
        try:
            while True:
                task = self._own()
                if task is not None:
                    first = task.moved if first is None else first
                    self.moved = replace(self.moved, moved=task.moved)
                    progress.update(_standing(task, task.moved - first, self.monotonic() - began))
                    if not task.is_active:
                        return self._ended(task)
                else:
                    self._check_listed(began)
                self.sleep(LOOK_SECONDS)
        except RefinerctlError:
            raise
        except BaseException:
            self._cancel(progress)
            raise

    def _check_listed(self, began: float) -> None:
        if self.monotonic() - began > LISTED_WITHIN_SECONDS:
            raise RefinerctlError(
                "SQS does not list the move task that it started",
                hint="`dlq redrive --dry-run` shows what runs on the queue.",
            )

    def _own(self) -> MoveTask | None:
        try:
            listed = self.tasks.latest(self.source_arn) or ()
        except RefinerctlError as error:
            goes_on = "SQS goes on moving; `dlq redrive` follows it again."
            raise RefinerctlError(error.message, hint=f"{error.hint} {goes_on}" if error.hint else goes_on) from error
        by_handle = next((task for task in listed if task.handle and task.handle == self._handle), None)
        # One that has ended has no handle any more: then it is the newest.
        return by_handle or next((task for task in listed if _started(task) > self._known), None)

    def _ended(self, task: MoveTask) -> Moved:
        if task.status == "FAILED":
            raise RefinerctlError(
                f"the move task failed after {task.moved:,} messages: {task.failure or 'no reason'}",
                hint="It ends at the first message that it cannot move; --method copy moves the others.",
            )
        if task.status != "COMPLETED":
            raise RefinerctlError(f"the move task was cancelled after {task.moved:,} messages")
        return self.moved

    def _cancel(self, progress: Progress) -> None:
        if self._handle is None:
            return
        progress.step("cancelling the move task")
        try:
            self.moved = replace(self.moved, moved=max(self.tasks.cancel(self._handle), self.moved.moved))
        except RefinerctlError as error:
            progress.step(error.message)


def _started(task: MoveTask) -> int:
    return int(task.started_at.timestamp() * 1000) if task.started_at else 0


def _newest(tasks: tuple[MoveTask, ...]) -> int:
    return max((_started(task) for task in tasks), default=-1)


def _standing(task: MoveTask, moved_since: int, seconds: float) -> str:
    rate = moved_since / seconds if seconds > 0 else 0.0
    whole = f" of {task.to_move:,}" if task.to_move is not None else ""
    left = ""
    if rate and task.to_move is not None:
        left = f", {max(task.to_move - task.moved, 0) / rate:.0f} s left"
    return f"SQS has moved {task.moved:,}{whole} messages ({rate:.0f}/s{left})"
