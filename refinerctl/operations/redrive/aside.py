"""Messages that were looked at and stay: hidden until the end, or they would be received again and again.

Their receipts are in a file without a name, so that 200,000 of them take no memory.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from refinerctl.clients.parallel import concurrently
from refinerctl.clients.redrive_journal import RedriveJournal
from refinerctl.models.dead_letters import MAX_BATCH
from refinerctl.operations.redrive.ports import Queue

# SQS hides a message for at most 12 hours. Killed without being resumed, this is how long they stay away.
VISIBILITY_S = 1800
_THREADS = 16
# Extended when less than this part of it is left.
_MARGIN = 0.5

_Kept = tuple[float, str, str]  # hidden until, id, receipt


class _Spool:
    """First in, first out, in a file."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 - lives as long as we
        self._read_at = 0
        self._write_at = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, items: Sequence[_Kept]) -> None:
        self._file.seek(self._write_at)
        self._file.writelines(f"{until}\t{message_id}\t{receipt}\n" for until, message_id, receipt in items)
        self._write_at = self._file.tell()
        self._count += len(items)

    def take(self, before: float) -> list[_Kept]:
        """Up to ten from the front that are hidden only until `before`."""
        self._file.seek(self._read_at)
        taken: list[_Kept] = []
        while len(taken) < min(MAX_BATCH, self._count):
            until, message_id, receipt = self._file.readline().rstrip("\n").split("\t")
            if float(until) > before:
                break
            taken.append((float(until), message_id, receipt))
            self._read_at = self._file.tell()
        self._count -= len(taken)
        return taken

    def close(self) -> None:
        self._file.close()


class Aside:
    """Shared by all lanes."""

    def __init__(self, source: Queue, journal: RedriveJournal) -> None:
        self._source = source
        self._journal = journal
        self._lock = threading.Lock()
        # Each in the order in which its messages become visible: the first few are hidden for a short time only.
        self._short = _Spool(journal.path.parent)
        self._long = _Spool(journal.path.parent)

    def __len__(self) -> int:
        return len(self._short) + len(self._long)

    def put(self, items: Sequence[tuple[str, str]], hidden_until: float) -> None:
        """Pairs of id and receipt."""
        self._journal.aside([message_id for message_id, _ in items])
        is_long = hidden_until - time.monotonic() > VISIBILITY_S * _MARGIN
        with self._lock:
            (self._long if is_long else self._short).put([(hidden_until, *item) for item in items])

    def keep_hidden(self) -> None:
        """Hide those longer that would be visible soon."""
        now = time.monotonic()
        for spool, margin_s in ((self._short, 60), (self._long, VISIBILITY_S * _MARGIN)):
            while True:
                with self._lock:
                    kept = spool.take(now + margin_s)
                if not kept:
                    break
                self._source.hide([receipt for _, _, receipt in kept], VISIBILITY_S)
                with self._lock:
                    self._long.put([(now + VISIBILITY_S, message_id, receipt) for _, message_id, receipt in kept])

    def give_back(self) -> None:
        """All of them, at once."""
        threads = min(_THREADS, 1 + len(self) // MAX_BATCH)
        concurrently([self._give_back_batches] * threads, threads)

    def close(self) -> None:
        self._short.close()
        self._long.close()

    def _give_back_batches(self) -> None:
        while True:
            with self._lock:
                kept = self._long.take(float("inf")) or self._short.take(float("inf"))
            if not kept:
                return
            give_back(self._source, self._journal, [(message_id, receipt) for _, message_id, receipt in kept])


def give_back(source: Queue, journal: RedriveJournal, items: Sequence[tuple[str, str]]) -> None:
    """Let these be received by others at once. If it fails, they come back by themselves when their time is up."""
    for start in range(0, len(items), MAX_BATCH):
        batch = items[start : start + MAX_BATCH]
        results = source.hide([receipt for _, receipt in batch], 0)
        if results[0].cause is None:  # else who resumes this may have more luck
            journal.returned([message_id for message_id, _ in batch])
