"""The journal of a redrive: each step is on disk before the next one, so that `--resume` can continue it after a kill.

One file of JSON Lines per run in the work folder, readable by its owner only, without message bodies: a header, then
the records that `RedriveState` explains. A record survives a kill once it is written; `left`, `sent` and `finished`
also wait for the disk, because they have to survive a power failure.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from refinerctl.dlq.redrive.state import Record, RedriveState
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError
from refinerctl.files import DISK, Disk

FOLDER = "redrives"
# Retention of finished runs.
KEPT_DAYS = 30
_FORMAT = 2
_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700
_TAIL_BYTES = 4096
_NEW = ".new"  # until it has a header


@dataclass(frozen=True)
class JournalHeader:
    """The source of a run, and its options, which are for `--resume` and are shown to nobody else."""

    source_url: str
    queue: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundJournal:
    """A journal in the work folder. `is_finished`: there is nothing left to resume."""

    path: Path
    header: JournalHeader
    is_finished: bool

    @property
    def run(self) -> str:
        return self.path.stem


def find(work_folder: Path, source_url: str | None = None) -> list[FoundJournal]:
    """The journals of a source, or of all, newest first; without those that cannot be read."""
    found = []
    for path in sorted((work_folder / FOLDER).glob("*.jsonl"), reverse=True):
        with contextlib.suppress(RefinerctlError, OSError):
            header = _read_header(path)
            if source_url in (None, header.source_url):
                found.append(FoundJournal(path, header, _is_finished(path)))
    return found


class RedriveJournal:
    """An open journal, locked against other processes; safe to share between threads.

    Each method that is named like a record writes it, and raises RefinerctlError if it cannot.
    """

    def __init__(self, path: Path, header: JournalHeader, descriptor: int, disk: Disk) -> None:
        self.path = path
        self.header = header
        self.state = RedriveState()
        self._descriptor = descriptor
        self._disk = disk
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._written_bytes = 0
        self._synced_bytes = 0
        self._failure: str | None = None

    @classmethod
    def begin(cls, work_folder: Path, header: JournalHeader, disk: Disk = DISK) -> Self:
        """A new journal. It has its name once it is whole. Removes those that were finished long ago."""
        folder = work_folder / FOLDER
        try:
            folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            _remove_old(folder)
            queue = re.sub("[^A-Za-z0-9._-]", "_", header.queue)
            path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{queue}.jsonl"
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(path.with_suffix(_NEW), flags, _PRIVATE_FILE)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            journal = cls(path, header, descriptor, disk)
            journal._sync(journal._write({"redrive": _FORMAT, **asdict(header)}))
            path.with_suffix(_NEW).rename(path)
            disk.sync_folder(folder)
        except OSError as error:
            raise RefinerctlError(f"cannot write a journal to {folder}: {error.strerror}") from error
        return journal

    @classmethod
    def resume(cls, path: Path, disk: Disk = DISK) -> Self:
        """The journal of an earlier run, with its state. A last line that is incomplete is cut off.

        Raises NotFoundError without it, RefusedError if another process uses it, RefinerctlError if it is damaged.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(f"journal {path} does not exist") from error
        except OSError as error:
            raise RefinerctlError(f"cannot open journal {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            journal = cls(path, _read_header(path), descriptor, disk)
            os.ftruncate(descriptor, _replay(path, journal.state))
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise RefusedError(
                    f"another process is running redrive {path.stem}", hint="Wait until it ends, or stop it."
                ) from error
            if isinstance(error, OSError):
                raise RefinerctlError(f"cannot use journal {path}: {error.strerror}") from error
            raise
        return journal

    @property
    def is_finished(self) -> bool:
        return self.state.is_finished

    def begin_part(self, at: datetime) -> datetime:
        """The run begins, or continues, at this time. Returns when it began first."""
        self._record({"part": at.isoformat()})
        return self.state.start or at

    def received(self, pairs: Sequence[tuple[str, str]]) -> set[str]:
        """Pairs of id and receipt. Returns the ids that no thread of this process has in hand already.

        A standard queue may deliver a message twice; only the newest receipt is valid then.
        """
        with self._lock:
            new = {message_id for message_id, _ in pairs if not self.state.is_in_hand(message_id)}
            record = {"received": pairs}
            self._write(record)
            self.state.apply(record)
        return new

    def receipt(self, message_id: str, given: str) -> str:
        """The newest receipt of a message in hand, else `given`."""
        message = self.state.unsettled.get(message_id)
        return message.receipt if message is not None and message.receipt else given

    def left(self, ids: Sequence[str], at: float = 0.0) -> None:
        """The request that sends these leaves now; `at` is that by the server's clock."""
        self._sync(self._record({"left": ids, "at": round(at, 1)}))

    def refused(self, ids: Sequence[str]) -> None:
        """That request had no effect on these."""
        self._record({"refused": ids})

    def sent(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Pairs of id and new id: the target has these."""
        self._sync(self._record({"sent": pairs}))

    def deleted(self, ids: Sequence[str]) -> None:
        """These are deleted from the source."""
        self._record({"deleted": ids})

    def released(self, ids: Sequence[str]) -> None:
        """These are visible in the source again."""
        self._record({"released": ids})

    def finish(self) -> None:
        """Nothing is left to resume."""
        self._sync(self._record({"finished": True}))

    def forget(self, ids: Sequence[str]) -> None:
        """The caller releases these at its end. Writes nothing: a continued run has to release them."""
        with self._lock:
            self.state.let_go(ids)

    def was_deleted(self, message_id: str) -> bool:
        """Whether this run deleted it: SQS may, rarely, deliver a message after its deletion.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
        """
        return self.state.may_be_deleted(message_id) and any(self._lines("deleted", f'"{message_id}"'))

    def is_new_id(self, message_id: str) -> bool:
        """Whether this run sent a message that has this id in the target."""
        return self.state.may_be_new_id(message_id) and any(self._lines("sent", f'"{message_id}"'))

    def sent_ids(self) -> Iterator[tuple[str, str]]:
        """The id and the new id of all that this run has sent, from the file."""
        for line in self._lines("sent"):
            yield from ((before, new_id) for before, new_id in json.loads(line)["sent"])

    def deleted_ids(self) -> Iterator[str]:
        """All that this run has deleted, from the file."""
        for line in self._lines("deleted"):
            yield from json.loads(line)["deleted"]

    def _lines(self, kind: str, containing: str = "") -> Iterator[bytes]:
        """The lines of a kind of record, from the file."""
        begin, wanted = f'{{"{kind}"'.encode(), containing.encode()
        try:
            with self.path.open("rb") as file:
                yield from (line for line in file if line.startswith(begin) and wanted in line)
        except OSError as error:
            raise RefinerctlError(f"cannot read journal {self.path}: {error.strerror}") from error

    def close(self) -> None:
        with self._lock:  # so that a thread that was not joined writes nothing more
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, record: Record) -> int:
        with self._lock:
            written = self._write(record)
            self.state.apply(record)
            return written

    def _write(self, record: Record) -> int:
        """Append a record; returns how many bytes this process has written so far."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        self._check()
        try:
            if self._disk.write(self._descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        except OSError as error:
            raise self._failed(error) from error
        self._written_bytes += len(line)
        return self._written_bytes

    def _sync(self, wanted: int) -> None:
        """Wait until so many bytes are on disk. Most threads that wait here are covered by the sync before theirs."""
        with self._sync_lock:
            if self._synced_bytes >= wanted:
                return
            self._check()
            written = self._written_bytes
            try:
                self._disk.sync(self._descriptor)
            except OSError as error:
                raise self._failed(error) from error
            self._synced_bytes = written

    def _failed(self, error: OSError) -> RefinerctlError:
        """After a failure nothing is written: a line may be incomplete, and Linux reports a failed write only once."""
        self._failure = error.strerror or str(error)
        return self._error()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._error()

    def _error(self) -> RefinerctlError:
        return RefinerctlError(
            f"cannot write journal {self.path}: {self._failure}",
            hint="Free disk space, then continue the redrive with --resume.",
        )


def _remove_old(folder: Path) -> None:
    """Those that were finished, or never begun, more than KEPT_DAYS ago."""
    before = time.time() - KEPT_DAYS * 86_400
    for path in [*folder.glob("*.jsonl"), *folder.glob(f"*{_NEW}")]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before and (path.suffix == _NEW or _is_finished(path)):
                path.unlink()


def _read_header(path: Path) -> JournalHeader:
    with path.open("rb") as file:
        line = file.readline()
    try:
        header = json.loads(line)
        if header["redrive"] != _FORMAT:
            raise RefinerctlError(f"{path} was written by another version of refinerctl")
        return JournalHeader(header["source_url"], header["queue"], header["options"])
    except (ValueError, KeyError, TypeError) as error:
        raise RefinerctlError(f"{path} is not the journal of a redrive") from error


def _replay(path: Path, state: RedriveState) -> int:
    """Apply all records to the state; returns where the last complete one ends.

    A power failure may leave an incomplete last line, or zeros after it.
    """
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") or not line.strip(b"\0\n"):
                break
            end += len(line)
            try:
                if number > 1:
                    state.apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise RefinerctlError(
                    f"journal {path} is damaged in line {number}",
                    hint="A new redrive moves what is in the queue; it cannot know what this run has sent already.",
                ) from error
    return end


def _is_finished(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    return bool(lines) and lines[-1].startswith(b'{"finished"')
