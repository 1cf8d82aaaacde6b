"""Receiving all messages of a queue with several workers: how many, until when, and what stays hidden until the end."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refinerctl.aws.message_queue import MessageQueue
from refinerctl.aws.messages import MAX_BATCH, EntryResult, Message
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.parallel import LOOK_SECONDS, attempt, concurrently

WAIT_S = 1  # the shortest poll that asks all of SQS's servers
# Polls without a message that mean the end: of all workers if the queue's count is 0, of one worker if it is not.
EMPTY_POLLS = 2
EMPTY_POLLS_DESPITE_COUNT = 5
# How many late messages are received at least, whatever the count says, before older ones are given up.
FEWEST_LATE = 100
RECEIVE_ATTEMPTS = 8
RELEASE_PAUSES_S = (0.1, 0.5, 2.0, 0.0)  # after each attempt
RELEASE_THREADS = 16
_FIRST_PAUSE_S = 0.1
# Linux stops the monotonic clock while a machine sleeps; SQS does not wait. Other systems have no clock of this name.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds since some moment, sleep included."""
    return time.clock_gettime(_CLOCK)


def backoff_s(attempt_number: int, max_pause_s: float) -> float:
    """The pause after so many attempts: twice as long each time, at random, so that workers spread."""
    pause = min(max_pause_s, _FIRST_PAUSE_S * 2.0**attempt_number)
    return random.uniform(pause / 2, pause)  # noqa: S311


class Allowance:
    """How many messages may still be sent (`limit`), and how fast (`rate` per second); shared by all workers.

    What is reserved counts against both until it is given back. The rate allows no bursts of more than one batch.
    """

    def __init__(self, limit: int | None = None, rate: float | None = None) -> None:
        self.rate = rate
        self.batch = MAX_BATCH if rate is None else max(1, min(MAX_BATCH, int(rate)))
        self._left = float("inf") if limit is None else limit
        self._reserved = 0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    @property
    def is_spent(self) -> bool:
        """Whether nothing can be reserved any more."""
        return self._left == 0 and self._reserved == 0

    def reserve(self, stopping: threading.Event) -> int:
        """Reserve up to one batch and wait until it may be sent, or until `stopping`. 0: others may give back some."""
        with self._lock:
            count = int(min(self.batch, self._left))
            self._change(-count)
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + (count / self.rate if self.rate else 0)
        stopping.wait(turn - now)
        return count

    def give_back(self, count: int) -> None:
        """So many of those reserved are not sent."""
        with self._lock:
            self._change(count)
            self._next -= count / self.rate if self.rate else 0

    def spend(self, count: int) -> None:
        """So many of those reserved are done."""
        with self._lock:
            self._reserved -= count

    def _change(self, count: int) -> None:
        self._left += count
        self._reserved -= count


@dataclass(frozen=True)
class Batch:
    """Messages that were received, of which `allowed` may be sent; hidden until `hidden_until` by `clock`."""

    messages: Sequence[Message] = ()
    allowed: int = 0
    hidden_until: float = float("inf")


class Receiver:
    """Receives what was sent before `before`; shared by all workers.

    With `is_selective` most of what is received stays, so that whole batches are received whatever the limit. `is_owed`
    says whether messages are looked for beyond the limit. `unseen`: how many the queue counts at the end and does not
    deliver.
    """

    def __init__(
        self,
        queue: MessageQueue,
        allowance: Allowance,
        stopping: threading.Event,
        *,
        before: datetime,
        visibility_s: int,
        max_pause_s: float,
        is_selective: bool = False,
        is_owed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.unseen = 0
        self._queue = queue
        self._allowance = allowance
        self._stopping = stopping
        self._before = before
        self._visibility_s = visibility_s
        self._max_pause_s = max_pause_s
        self._is_selective = is_selective
        self._is_owed = is_owed
        self._lock = threading.Lock()
        self._empty_polls = 0
        self._late_allowed: int | None = None

    def receive(self, empty_polls: int) -> Batch | None:
        """The next messages, maybe none; None at the end. The caller's last `empty_polls` were empty.

        Raises RefinerctlError if the queue cannot be received from.
        """
        allowance, stopping = self._allowance, self._stopping
        if stopping.is_set() or self._is_over(empty_polls) or (allowance.is_spent and not self._is_owed()):
            return None
        allowed = allowance.reserve(stopping)
        if not allowed and not allowance.is_spent:  # others may give back some
            stopping.wait(LOOK_SECONDS)
            return Batch()
        hidden_until = clock() + self._visibility_s
        try:
            found = self._poll(allowance.batch if self._is_selective or not allowed else allowed)
            self._count(found)
        except BaseException:
            allowance.give_back(allowed)
            raise
        return Batch(found, allowed, hidden_until)

    def _poll(self, count: int) -> list[Message]:
        for number in range(1, RECEIVE_ATTEMPTS + 1):
            if self._stopping.is_set():
                break
            try:
                return self._queue.receive(count, visibility_s=self._visibility_s, wait_s=WAIT_S)
            except TransientError:
                if number == RECEIVE_ATTEMPTS:
                    raise
                self._stopping.wait(backoff_s(number, self._max_pause_s))
        return []

    def _count(self, found: Sequence[Message]) -> None:
        """Older messages may be behind late ones, but not behind more of them than there are now."""
        with self._lock:
            if any(message.sent_at < self._before for message in found):
                self._empty_polls, self._late_allowed = 0, None
            elif not found:
                self._empty_polls += 1
            elif self._late_allowed is not None:
                self._late_allowed -= len(found)
            elif (visible := self._visible()) is not None:
                self._late_allowed = max(visible, FEWEST_LATE)

    def _is_over(self, empty_polls: int) -> bool:
        """Only if the caller's own last poll was empty: others poll again after what they have in flight."""
        if self._late_allowed is not None and self._late_allowed <= 0:
            return True
        if not empty_polls or self._empty_polls < EMPTY_POLLS:
            return False
        visible = self._visible()
        self.unseen = visible or 0
        return visible == 0 or empty_polls >= EMPTY_POLLS_DESPITE_COUNT

    def _visible(self) -> int | None:
        found = attempt(self._queue.attributes)
        if found.error is not None and not isinstance(found.error, TransientError):
            raise found.error
        return found.value.visible if found.value else None


class HeldMessages:
    """Messages that stay in the queue, hidden until the end, or they would be received again and again.

    Their receipts are in a file without a name, in the order in which they become visible: 100,000 take no memory.
    """

    def __init__(self, queue: MessageQueue, folder: Path, visibility_s: int) -> None:
        self._queue = queue
        self._folder = folder
        self._visibility_s = visibility_s
        self._lock = threading.Lock()
        self._read_at = self._write_at = self._count = 0
        try:
            self._file = tempfile.TemporaryFile("w+b", dir=folder)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise self._failed(error) from error

    def __len__(self) -> int:
        return self._count

    def hold(self, items: Sequence[tuple[str, str]], hidden_until: float) -> None:
        """Pairs of id and receipt. Raises RefinerctlError without room on the disk."""
        lines = "".join(f"{hidden_until}\t{message_id}\t{receipt}\n" for message_id, receipt in items).encode()
        try:
            with self._lock:
                if os.pwrite(self._file.fileno(), lines, self._write_at) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
                self._write_at += len(lines)
                self._count += len(items)
        except OSError as error:
            raise self._failed(error) from error

    def extend(self) -> None:
        """Hide those longer of whose time half is over."""
        while items := self._take(clock() + self._visibility_s / 2):
            hidden_until = clock() + self._visibility_s
            self._queue.change_visibility([receipt for _, receipt in items], self._visibility_s)
            try:
                self.hold(items, hidden_until)
            except RefinerctlError:
                release(self._queue, items)
                raise

    def release(self, released: Callable[[list[str]], object]) -> None:
        """Make all of them visible at once; `released` gets ids. If SQS does not answer, the rest times out."""

        def work() -> None:
            while items := self._take(float("inf")):
                if not release(self._queue, items):
                    return
                released([message_id for message_id, _ in items])

        threads = min(RELEASE_THREADS, 1 + len(self) // MAX_BATCH)
        concurrently([work] * threads, threads)

    def close(self) -> None:
        self._file.close()

    def _take(self, before: float) -> list[tuple[str, str]]:
        """Up to ten from the front that become visible before then."""
        taken: list[tuple[str, str]] = []
        with self._lock:
            self._file.seek(self._read_at)
            while len(taken) < min(MAX_BATCH, self._count):
                line = self._file.readline()
                until, message_id, receipt = line.decode().rstrip("\n").split("\t")
                if float(until) > before:
                    break
                taken.append((message_id, receipt))
                self._read_at += len(line)
            self._count -= len(taken)
        return taken

    def _failed(self, error: OSError) -> RefinerctlError:
        return RefinerctlError(f"cannot use files in {self._folder}: {error.strerror}")


def release(queue: MessageQueue, items: Sequence[tuple[str, str]]) -> bool:
    """Make up to ten visible, pairs of id and receipt; whether SQS did so. If not, they become visible in time."""
    results: list[EntryResult] = []
    for pause_s in RELEASE_PAUSES_S:
        results = queue.change_visibility([receipt for _, receipt in items], 0)
        if not isinstance(results[0].cause, TransientError):
            break
        time.sleep(pause_s)
    return results[0].cause is None
