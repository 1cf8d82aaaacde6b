"""Messages that a run has received and keeps hidden until it ends, or they would be received again and again."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from refinerctl.aws.messages import MAX_BATCH, EntryResult
from refinerctl.dlq.client import QueueClient
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.parallel import concurrently

PAUSES_S = (0.1, 0.5, 2.0, 0.0)  # after each attempt
THREADS = 16
# On Linux the monotonic clock stops while a machine sleeps, but visibility timeouts do not. Only Linux has this clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds on a monotonic clock that includes sleep."""
    return time.clock_gettime(_CLOCK)


class HeldMessages:
    """Their receipts are in a file without a name, in the order in which they become visible: 100,000 take no memory.

    Safe to share between threads. The file is in `folder`, or where temporary files are.
    """

    def __init__(self, queue: QueueClient, visibility_s: int, folder: Path | None = None) -> None:
        self._queue = queue
        self._folder = folder or Path(tempfile.gettempdir())
        self._visibility_s = visibility_s
        self._lock = threading.Lock()
        self._read_at = self._write_at = self._count = 0
        try:
            self._file = tempfile.TemporaryFile("w+b", dir=self._folder)  # noqa: SIM115 - closed by `close`
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

    def extend(self, stopping: threading.Event | None = None) -> None:
        """Extend the visibility timeout of those of which half is over; after `stopping` is set, of no more."""
        while not (stopping and stopping.is_set()) and (items := self._take(clock() + self._visibility_s / 2)):
            hidden_until = clock() + self._visibility_s
            change_visibility(self._queue, items, self._visibility_s)
            try:
                self.hold(items, hidden_until)
            except RefinerctlError:
                change_visibility(self._queue, items, 0)
                raise

    def release(self, released: Callable[[list[str]], object] = lambda _: None) -> int:
        """Make all of them visible at once; `released` gets ids. If SQS does not answer, the rest times out.

        Returns how many SQS did not release.
        """
        refused: list[int] = []

        def work() -> None:
            while items := self._take(float("inf")):
                results = change_visibility(self._queue, items, 0)
                refused.append(sum(not result.is_done for result in results))
                if results[0].cause is not None:
                    return
                released([message_id for message_id, _ in items])

        threads = min(THREADS, 1 + len(self) // MAX_BATCH)
        concurrently([work] * threads, threads)
        return sum(refused) + len(self)

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
        return RefinerctlError(f"cannot write a temporary file in {self._folder}: {error.strerror}")


def change_visibility(queue: QueueClient, items: Sequence[tuple[str, str]], visibility_s: int) -> list[EntryResult]:
    """Hide up to ten, pairs of id and receipt, for so long from now; 0 releases them. Retries transient errors."""
    results: list[EntryResult] = []
    for pause_s in PAUSES_S:
        results = queue.change_visibility([receipt for _, receipt in items], visibility_s)
        if not isinstance(results[0].cause, TransientError):
            break
        time.sleep(pause_s)
    return results
