"""What a redrive has done, on the disk before it goes on: killed at any moment, it can be resumed.

One file per run in the work folder, for its owner's eyes only, without message bodies. JSON Lines: a header, then the
records that models.redrive_state explains. Only `intent` and `sent` wait for the disk: what was written before the
process was killed is there anyway, and these two are what must be known after a power cut, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from refinerctl.dlq.redrive.state import Record, RedriveState
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError

FOLDER = "redrives"
_FORMAT = 1
_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700
_TAIL_BYTES = 4096
# A finished run may be asked about for so long; after that its journal is removed.
KEPT_DAYS = 30
# Of a journal that has no header yet.
_NEW = ".new"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class JournalHeader:
    """What a run was asked to do. `options` are for whoever resumes it; they are shown to nobody else."""

    source_url: str
    queue: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundJournal:
    """A journal in the work folder. `is_finished`: there is nothing left to resume."""

    path: Path
    header: JournalHeader
    is_finished: bool


def find(work_folder: Path, source_url: str | None = None) -> list[FoundJournal]:
    """The journals of this queue, or of all, newest first; those that cannot be read are left out."""
    found = []
    for path in sorted((work_folder / FOLDER).glob("*.jsonl"), reverse=True):
        with contextlib.suppress(RefinerctlError, OSError):
            header = _read_header(path)
            if source_url in (None, header.source_url):
                found.append(FoundJournal(path, header, _ends_finished(path)))
    return found


class RedriveJournal:
    """A journal that is being written, locked against others; safe to share between threads.

    Every method writes one record; what it returns from has reached the kernel, and the disk where the method says so.
    All raise RefinerctlError if the file cannot be written.
    """

    def __init__(self, path: Path, header: JournalHeader, descriptor: int) -> None:
        self.path = path
        self.header = header
        self.state = RedriveState()
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._synced = threading.Condition()
        self._written_bytes = 0
        self._synced_bytes = 0
        self._is_syncing = False
        self._sync_failure: str | None = None
        self._is_torn = False

    @classmethod
    def begin(cls, work_folder: Path, header: JournalHeader) -> Self:
        """A new one; killed in here, it leaves none. Those that were finished a month ago are removed.

        Raises RefinerctlError if the folder cannot be written to.
        """
        folder = work_folder / FOLDER
        try:
            folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            _remove_old(folder)
            path, descriptor = _create(folder, header.queue)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            journal = cls(path, header, descriptor)
            described = {"source_url": header.source_url, "queue": header.queue, "options": dict(header.options)}
            journal._sync(journal._write({"redrive": _FORMAT, **described}))
            path.with_suffix(_NEW).rename(path)
            _sync_folder(folder)
        except OSError as error:
            raise RefinerctlError(f"cannot write a journal to {folder}: {error.strerror}") from error
        return journal

    @classmethod
    def resume(cls, path: Path) -> Self:
        """The one of an earlier run, with its state. A last line that was torn by the end of that run is cut off.

        Raises NotFoundError if there is none, RefusedError if another process has it, RefinerctlError if it makes no
        sense.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no journal {path}") from error
        except OSError as error:
            raise RefinerctlError(f"cannot open the journal {path}: {error.strerror}") from error
        try:
            _lock(descriptor, path)
            journal = cls(path, _read_header(path), descriptor)
            os.ftruncate(descriptor, _replay(path, journal.state))
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state.is_finished

    def begin_part(self, at: datetime) -> datetime:
        """The run goes on at this time. Returns when it began first."""
        self._record({"part": at.isoformat(), "boot": boot_id()})
        return self.state.start or at

    def held(self, pairs: Sequence[tuple[str, str]], until: float = 0.0) -> set[str]:
        """These messages were received, with these receipts; they are hidden `until` then by the server's clock.

        Returns the ids of those that nobody has in hand already.
        A standard queue may hand out a message twice at a time; it is the newest receipt that is good then.
        """
        with self._lock:
            fresh = {message_id for message_id, _ in pairs if not self.state.is_in_hand(message_id)}
            record = {"held": pairs, "until": round(until, 1)}
            self._write(record)
            self.state.apply(record)
        return fresh

    def receipt(self, message_id: str, given: str) -> str:
        """The newest of a message in hand; `given` if it is not."""
        message = self.state.unsettled.get(message_id)
        return message.receipt if message is not None and message.receipt else given

    def intent(self, ids: Sequence[str], to: str) -> None:
        """These are about to be sent to this queue. On the disk."""
        self._sync(self._record({"intent": ids, "to": to}))

    def left(self, ids: Sequence[str], at: float = 0.0) -> None:
        """The request that sends these goes out now, `at` by the server's clock."""
        self._record({"left": ids, "at": round(at, 1)})

    def refused(self, ids: Sequence[str]) -> None:
        """That request had no effect on these."""
        self._record({"refused": ids})

    def sent(self, pairs: Sequence[tuple[str, str]]) -> None:
        """The target confirmed these, and calls them so. On the disk."""
        self._sync(self._record({"sent": pairs}))

    def deleted(self, ids: Sequence[str]) -> None:
        """These are out of the dead-letter queue."""
        self._record({"deleted": ids})

    def returned(self, ids: Sequence[str]) -> None:
        """These were given back."""
        self._record({"returned": ids})

    def aside(self, ids: Sequence[str]) -> None:
        """These will be given back at the end; the caller remembers them."""
        with self._lock:
            self._write({"aside": ids})
            self.state.forget(ids)

    def finish(self) -> None:
        """Nothing is left to do. On the disk."""
        self._sync(self._record({"finished": True}))

    def was_deleted(self, message_id: str) -> bool:
        """Whether this run deleted it: SQS delivers at least once, rarely even after that.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
        """
        return self.state.may_be_gone(message_id) and self._has("deleted", message_id)

    def was_sent(self, new_id: str) -> bool:
        """Whether the target called one of this run's messages so, for certain."""
        return self.state.is_ours(new_id) and self._has("sent", new_id)

    def _has(self, kind: str, message_id: str) -> bool:
        begin, wanted = f'{{"{kind}"'.encode(), f'"{message_id}"'.encode()
        try:
            with self.path.open("rb") as file:
                return any(line.startswith(begin) and wanted in line for line in file)
        except OSError as error:
            raise RefinerctlError(f"cannot read the journal {self.path}: {error.strerror}") from error

    def deleted_ids(self) -> Iterator[str]:
        """All that this run has deleted, from the file."""
        for ids in self._all("deleted"):
            yield from ids

    def sent_ids(self) -> Iterator[tuple[str, str]]:
        """All that this run has sent, from the file: the id before, and the new one."""
        for pairs in self._all("sent"):
            yield from ((before, new) for before, new in pairs)

    def _all(self, kind: str) -> Iterator[Any]:
        begin = f'{{"{kind}"'.encode()
        with self.path.open("rb") as file:
            for line in file:
                if line.startswith(begin):
                    yield json.loads(line)[kind]

    def close(self) -> None:
        """Lets others have it."""
        with self._lock:  # a thread that was left behind finds it closed
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
        if self._is_torn:
            raise self._failed("its last line is torn")
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):  # a piece of a line in the middle would make all that follows unreadable
                self._is_torn = True
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                self._is_torn = False
        except OSError as error:
            raise self._failed(error.strerror) from error
        if written < len(line):
            raise self._failed("no space left")
        self._written_bytes += len(line)
        return self._written_bytes

    def _sync(self, wanted: int) -> None:
        """Wait until so many bytes are on the disk. Of the threads that wait, one asks the disk for all."""
        with self._synced:
            while self._synced_bytes < wanted and self._is_syncing:
                self._synced.wait()
            if self._synced_bytes >= wanted:
                return
            if self._sync_failure is not None:  # the system forgets what it could not write: the next call succeeds
                raise self._failed(self._sync_failure)
            self._is_syncing = True
        reached = self._synced_bytes
        try:
            upto = self._written_bytes
            os.fdatasync(self._descriptor)
            reached = upto
        except OSError as error:
            self._sync_failure = error.strerror or "failed"
            raise self._failed(error.strerror) from error
        finally:
            with self._synced:
                self._synced_bytes = reached
                self._is_syncing = False
                self._synced.notify_all()

    def _failed(self, why: str | None) -> RefinerctlError:
        return RefinerctlError(
            f"cannot write the journal {self.path}: {why}", hint="With room on the disk the redrive can be resumed."
        )


def boot_id() -> str:
    """Another one after each start of this machine; "" where the system has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _create(folder: Path, queue: str) -> tuple[Path, int]:
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{re.sub('[^A-Za-z0-9._-]', '_', queue)}.jsonl"
    path = folder / name
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return path, os.open(path.with_suffix(_NEW), flags, _PRIVATE_FILE)


def _remove_old(folder: Path) -> None:
    """What was finished, or not even begun, and has not been touched for `KEPT_DAYS`."""
    before = time.time() - KEPT_DAYS * 86_400
    for path in [*folder.glob("*.jsonl"), *folder.glob(f"*{_NEW}")]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before and (path.suffix == _NEW or _ends_finished(path)):
                path.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RefusedError(
            f"another process is working on the redrive of {path.name}", hint="Wait for its end, or stop it."
        ) from error
    except OSError as error:
        raise RefinerctlError(f"cannot lock the journal {path}: {error.strerror}") from error


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
    """Bring the state up to date; returns where the last whole record ends."""
    end = 0
    for number, (line, end_of_line) in enumerate(_whole_lines(path), start=1):
        end = end_of_line
        if number == 1:
            continue
        try:
            state.apply(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefinerctlError(
                f"the journal {path} is damaged in line {number}",
                hint="A new redrive moves what is still in the queue; it cannot know what this one has sent already.",
            ) from error
    return end


def _whole_lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """Each line and where it ends. A power cut may leave the last one torn, or a stretch of zeros after it."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or not line.strip(b"\0\n"):
                return
            end += len(line)
            yield line, end


def _ends_finished(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    return bool(lines) and lines[-1].startswith(b'{"finished"')
