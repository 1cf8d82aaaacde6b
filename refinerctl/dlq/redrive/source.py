"""Where a copy gets its messages: when to receive, when nothing is left, what stays hidden until the end."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from refinerctl.aws.message_queue import MessageQueue
from refinerctl.aws.messages import MAX_BATCH, EntryResult, Message
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.shared import Batch, InHand, Run, backoff_s, clock
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.parallel import LOOK_SECONDS, attempt, concurrently

WAIT_S = 1  # the shortest poll that queries all servers of SQS
# Polls without a message that mean the end: of all workers if the queue's count is 0, of one worker if it is not.
EMPTY_POLLS = 2
EMPTY_POLLS_DESPITE_COUNT = 5
# How many late messages are received at least, whatever the count says, before older ones are given up.
FEWEST_LATE = 100
RECEIVE_ATTEMPTS = 8
# Once the run is stopping, only what was sent already is worth a few attempts.
DELETE_ATTEMPTS = 8
LAST_DELETE_ATTEMPTS = 3
RELEASE_PAUSES_S = (0.1, 0.5, 2.0, 0.0)  # after each attempt
RELEASE_THREADS = 16


class Source(ABC):
    """Where messages come from; shared by all workers. A source that nobody else receives from has nothing to hide."""

    @abstractmethod
    def receive(self, empty_polls: int) -> Batch | None:
        """The next messages, maybe none; None at the end. The caller's last `empty_polls` were empty."""

    @abstractmethod
    def delete(self, items: Sequence[InHand]) -> None:
        """These were sent."""

    def hold(self, items: Sequence[InHand]) -> None:  # noqa: B027 - nothing to do without others
        """Keep these, and hide them until the end of the run."""

    def release(self, items: Sequence[InHand]) -> None:  # noqa: B027 - nothing to do without others
        """Keep these, and make them visible."""


class QueueSource(Source):
    """A DLQ as the source of a copy; messages that were sent at `run.start` or later stay in it.

    With `is_selective` most of what is received stays, so that whole batches are received whatever the limit.
    `unseen`: how many the queue counts at the end and does not deliver.
    """

    def __init__(
        self, queue: MessageQueue, run: Run, held: HeldMessages, visibility_s: int, *, is_selective: bool
    ) -> None:
        self.unseen = 0
        self._queue = queue
        self._run = run
        self._held = held
        self._visibility_s = visibility_s
        self._is_selective = is_selective
        # What an earlier part of the run has sent is received again and deleted, also beyond the limit.
        self._sent_before = run.journal.state.undeleted
        self._lock = threading.Lock()
        self._empty_polls = 0
        self._late_allowed: int | None = None
        self._visible_at_end: int | None = None

    def receive(self, empty_polls: int) -> Batch | None:
        run, allowance = self._run, self._run.allowance
        is_owed = any(message_id in run.journal.state.unsettled for message_id in self._sent_before)
        if run.stopping.is_set() or self._is_over(empty_polls) or (allowance.is_spent and not is_owed):
            return None
        allowed = allowance.reserve(run.stopping)
        if not allowed and not allowance.is_spent:  # other workers may release some
            run.stopping.wait(LOOK_SECONDS)
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
            if self._run.stopping.is_set():
                break
            try:
                return self._queue.receive(count, visibility_s=self._visibility_s, wait_s=WAIT_S)
            except TransientError:
                if number == RECEIVE_ATTEMPTS:
                    raise
                self._run.stopping.wait(backoff_s(number, self._run.max_pause_s))
        return []

    def _count(self, found: Sequence[Message]) -> None:
        """Older messages may be behind late ones, but not behind more of them than there are now."""
        with self._lock:
            if any(message.sent_at < self._run.start for message in found):
                self._empty_polls, self._late_allowed, self._visible_at_end = 0, None, None
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
        with self._lock:
            if self._visible_at_end != 0:  # of many workers one asks
                self._visible_at_end = self._visible()
            self.unseen = self._visible_at_end or 0
            return self._visible_at_end == 0 or empty_polls >= EMPTY_POLLS_DESPITE_COUNT

    def _visible(self) -> int | None:
        found = attempt(self._queue.attributes)
        if found.error is not None and not isinstance(found.error, TransientError):
            raise found.error
        return found.value.visible if found.value else None

    def hold(self, items: Sequence[InHand]) -> None:
        for item in items:
            self._held.hold([(item.id, item.receipt)], item.hidden_until)

    def release(self, items: Sequence[InHand]) -> None:
        for start in range(0, len(items), MAX_BATCH):
            pairs = [(item.id, item.receipt) for item in items[start : start + MAX_BATCH]]
            release_and_record(self._queue, self._run.journal, pairs)

    def delete(self, items: Sequence[InHand]) -> None:
        """What cannot be deleted stays sent in the journal: received again, it is deleted and not sent."""
        run, waiting = self._run, list(items)
        for number in range(1, DELETE_ATTEMPTS + 1):
            results = self._queue.delete([run.journal.receipt(item.id, item.receipt) for item in waiting])
            now = clock()
            # A receipt that is not the newest any more gets the same answer, and deletes nothing.
            done = [item.id for item, result in zip(waiting, results, strict=True) if result.is_done]
            run.journal.deleted([item.id for item in waiting if item.id in done and item.hidden_until > now])
            if (cause := results[0].cause) is not None and not isinstance(cause, TransientError):
                run.fail(cause)
                return
            pairs = zip(waiting, results, strict=True)
            waiting = [item for item, result in pairs if not result.is_done and not result.is_sender_fault]
            if not waiting or (number >= LAST_DELETE_ATTEMPTS and run.stopping.is_set()):
                return
            run.stopping.wait(backoff_s(number, run.max_pause_s))


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
        """Extend the visibility timeout of those of which half is over."""
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


def release_and_record(queue: MessageQueue, journal: RedriveJournal, items: Sequence[tuple[str, str]]) -> None:
    """If the journal cannot be written, a resumed run releases them again."""
    if release(queue, items):
        attempt(partial(journal.released, [message_id for message_id, _ in items]))
