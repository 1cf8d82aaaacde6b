"""Messages that were looked at and stay: hidden until the end, or they would be received again and again.

Their receipts are in a file without a name, so that 200,000 of them take no memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from refinerctl.aws.messages import MAX_BATCH
from refinerctl.dlq.redrive import awake
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.ports import Queue
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.parallel import concurrently

# SQS hides a message for at most 12 hours. Killed without being resumed, this is how long they stay away.
VISIBILITY_S = 1800
_THREADS = 16
# After each attempt to give some back that met passing trouble.
_PAUSES_S = (0.1, 0.5, 2.0, 0.0)
# Extended when less than this part of it is left.
_MARGIN = 0.5

_Kept = tuple[float, str, str]  # hidden until, id, receipt


class _Spool:
    """First in, first out, in a file. What could be written can be read when there is no more room, too."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile("w+b", dir=folder)  # noqa: SIM115 - lives as long as we
        self._read_at = 0
        self._write_at = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, items: Sequence[_Kept]) -> None:
        """Raises OSError if there is no room."""
        lines = "".join(f"{until}\t{message_id}\t{receipt}\n" for until, message_id, receipt in items).encode()
        if os.pwrite(self._file.fileno(), lines, self._write_at) < len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._write_at += len(lines)
        self._count += len(items)

    def take(self, before: float) -> list[_Kept]:
        """Up to ten from the front that are hidden only until `before`."""
        self._file.seek(self._read_at)
        taken: list[_Kept] = []
        while len(taken) < min(MAX_BATCH, self._count):
            line = self._file.readline()
            until, message_id, receipt = line.decode().rstrip("\n").split("\t")
            if float(until) > before:
                break
            taken.append((float(until), message_id, receipt))
            self._read_at += len(line)
        self._count -= len(taken)
        return taken

    def close(self) -> None:
        self._file.close()


class Aside:
    """Shared by all lanes. Raises RefinerctlError if there is no place for its files."""

    def __init__(self, source: Queue, journal: RedriveJournal) -> None:
        self._source = source
        self._journal = journal
        self._lock = threading.Lock()
        # Each in the order in which its messages become visible: the first few are hidden for a short time only.
        try:
            self._short = _Spool(journal.path.parent)
            self._long = _Spool(journal.path.parent)
        except OSError as error:
            raise self._failed(error) from error

    def __len__(self) -> int:
        return len(self._short) + len(self._long)

    def put(self, items: Sequence[tuple[str, str]], hidden_until: float) -> None:
        """Pairs of id and receipt. Raises RefinerctlError if there is no room for them on the disk."""
        self._journal.aside([message_id for message_id, _ in items])
        is_long = hidden_until - awake.now() > VISIBILITY_S * _MARGIN
        self._put(self._long if is_long else self._short, [(hidden_until, *item) for item in items])

    def keep_hidden(self) -> None:
        """Hide those longer that would be visible soon."""
        now = awake.now()
        for spool, margin_s in ((self._short, 60), (self._long, VISIBILITY_S * _MARGIN)):
            while True:
                kept = self._take(now + margin_s, spool)
                if not kept:
                    break
                receipts = [receipt for _, _, receipt in kept]
                self._source.change_visibility(receipts, VISIBILITY_S)
                try:
                    self._put(
                        self._long, [(now + VISIBILITY_S, message_id, receipt) for _, message_id, receipt in kept]
                    )
                except RefinerctlError:
                    self._source.change_visibility(receipts, 0)
                    raise

    def give_back(self) -> None:
        """All of them, at once; the rest of them, where SQS does not answer, comes back by itself."""
        threads = min(_THREADS, 1 + len(self) // MAX_BATCH)
        concurrently([self._give_back_batches] * threads, threads)

    def close(self) -> None:
        self._short.close()
        self._long.close()

    def _put(self, spool: _Spool, items: Sequence[_Kept]) -> None:
        try:
            with self._lock:
                spool.put(items)
        except OSError as error:
            raise self._failed(error) from error

    def _take(self, before: float, spool: _Spool) -> list[_Kept]:
        try:
            with self._lock:
                return spool.take(before)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> RefinerctlError:
        return RefinerctlError(f"cannot use files in {self._journal.path.parent}: {error.strerror}")

    def _give_back_batches(self) -> None:
        while True:
            kept = self._take(float("inf"), self._long) or self._take(float("inf"), self._short)
            pairs = [(message_id, receipt) for _, message_id, receipt in kept]
            if not kept or not give_back(self._source, self._journal, pairs):
                return


def give_back(source: Queue, journal: RedriveJournal, items: Sequence[tuple[str, str]]) -> bool:
    """Let these be received by others at once; whether that was heard. If not, they come back when their time is up.

    A journal that cannot be written does not keep them: who resumes it gives them back again.
    """
    is_heard = True
    for start in range(0, len(items), MAX_BATCH):
        batch = items[start : start + MAX_BATCH]
        for pause_s in _PAUSES_S:
            results = source.change_visibility([receipt for _, receipt in batch], 0)
            if not isinstance(results[0].cause, TransientError):
                break
            time.sleep(pause_s)
        is_heard &= results[0].cause is None
        if results[0].cause is None:  # else who resumes this may have more luck
            with contextlib.suppress(RefinerctlError):
                journal.returned([message_id for message_id, _ in batch])
    return is_heard
