"""Put inputs under a prefix, and follow them to their completions."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from refinerctl.aws.messages import Message
from refinerctl.aws.objects import ObjectEvent, object_event
from refinerctl.console import Progress
from refinerctl.errors import AccessDeniedError, RefinerctlError, UsageError
from refinerctl.inputs.types import Upload, UploadSource, UploadStatus
from refinerctl.keys import check_key, normalize_prefix
from refinerctl.stacks.base import CompletionStatus
from refinerctl.stacks.completion import Completion

if TYPE_CHECKING:
    from refinerctl.aws.s3 import S3Bucket
    from refinerctl.aws.sqs import Queues
    from refinerctl.inputs.completions import Completions

FILES_AT_ONCE = 16
LOOKS_AT_ONCE = 16
FIRST_LOOK_SECONDS = 0.25
SLOWEST_LOOK_SECONDS = 5.0
DEAD_LETTER_SECONDS = 2.0
SLOWEST_DEAD_LETTER_SECONDS = 20.0
CLOCK_SKEW = timedelta(minutes=1)

PIPE_LOOK_SECONDS = 0.2
PIPE_END_SECONDS = 0.5

Identity = tuple[str | None, str, datetime]


class Readable(Protocol):
    """Something to upload: `read` gives b"" at the end, and None if there is nothing yet."""

    def read(self, size: int, /) -> bytes | None: ...


def collect(paths: Sequence[str], prefix: str, *, recursive: bool, name: str | None) -> list[UploadSource]:
    """What to upload to which key, checked as a whole before the first byte is sent.

    A file goes to prefix + its name; a folder's files to prefix + their path in the folder; `-` (standard input) to
    prefix + `name`. Raises UsageError for what cannot be: no such file, a folder without `recursive`, one key twice.
    """
    below = normalize_prefix(prefix)
    if name is not None and len(paths) != 1:
        raise UsageError("--name names one input, and there are several")
    sources: list[UploadSource] = []
    for path in paths:
        sources.extend(_sources_of(path, below, recursive, name))
    if not sources:
        raise UsageError(f"there is no file in {', '.join(paths)}")
    _refuse_same_key(sources)
    return sources


def _sources_of(path: str, prefix: str, recursive: bool, name: str | None) -> Iterator[UploadSource]:
    if path == "-":
        if not name:
            raise UsageError("standard input has no name", hint="Give it one: --name NAME.")
        yield UploadSource(check_key(prefix + name), None, None)
        return
    file = Path(path)
    if file.is_dir():
        if not recursive:
            raise UsageError(f"{path} is a folder", hint="Add --recursive to upload what is in it.")
        if name is not None:
            raise UsageError("--name is for one file, not for a folder")
        yield from _files_below(file, prefix)
        return
    yield _source(file, prefix + (name or file.name))


def _files_below(folder: Path, prefix: str) -> Iterator[UploadSource]:
    """Links to folders are followed; each folder once, so that a link that leads back up makes no loop."""
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        about = Path(parent).stat()
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders.sort()
        for entry in sorted(files):
            file = Path(parent) / entry
            yield _source(file, prefix + file.relative_to(folder).as_posix())


def _raise(error: OSError) -> None:
    """What cannot be read must not be left out silently."""
    raise UsageError(f"{error.filename} may not be read: {error.strerror}")


def _source(file: Path, key: str) -> UploadSource:
    if not file.exists():
        raise UsageError(f"there is no file {file}")
    if not file.is_file():
        raise UsageError(f"{file} is no regular file", hint="For a pipe: refinerctl upload - --name NAME < PIPE.")
    if not os.access(file, os.R_OK):
        raise UsageError(f"{file} may not be read")
    return UploadSource(check_key(key), file, file.stat().st_size)


def _refuse_same_key(sources: Iterable[UploadSource]) -> None:
    seen: dict[str, Path | None] = {}
    for source in sources:
        if source.key in seen:
            raise UsageError(f"{seen[source.key] or '-'} and {source.path or '-'} would both become {source.key}")
        seen[source.key] = source.path


def upload(bucket: S3Bucket, sources: Sequence[UploadSource], progress: Progress) -> list[Upload]:
    """Upload all, several at once; one that fails does not keep the others from trying.

    A failed one comes back with status `failed` and its error. Raises NotFoundError without the bucket.
    """
    bucket.check()
    cancelled = threading.Event()
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="upload") as pool:
        try:
            return list(pool.map(lambda source: _upload_one(bucket, source, progress, cancelled), sources))
        except BaseException:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _upload_one(bucket: S3Bucket, source: UploadSource, progress: Progress, cancelled: threading.Event) -> Upload:
    sent = 0
    began = datetime.now(UTC)

    lock = threading.Lock()

    def count(size: int) -> None:
        nonlocal sent
        with lock:  # parts are sent by several threads
            sent += size
        progress.advance(size)

    try:
        with _opened(source) as body:
            version = bucket.put(source.key, _Interruptible(body, cancelled), source.size, count)
    except (RefinerctlError, OSError) as error:
        return Upload(source.key, sent, None, UploadStatus.FAILED, began, error=str(error))
    progress.update(f"uploaded {source.key}")
    return Upload(source.key, sent, version, UploadStatus.UPLOADED, began)


def _opened(source: UploadSource) -> contextlib.AbstractContextManager[Readable]:
    if source.path is None:
        return contextlib.nullcontext(_Pipe(sys.stdin.fileno()))
    return source.path.open("rb")


class _Pipe:
    """Standard input, read in a way that does not block for ever: an interrupt has to get through."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int) -> bytes | None:
        """What is there, at most `size` bytes; b"" at the end, None if there is nothing yet."""
        ready, _, _ = select.select([self._descriptor], [], [], PIPE_LOOK_SECONDS)
        return os.read(self._descriptor, size) if ready else None


class _Interruptible:
    """A body that breaks off when the upload is cancelled, so that half of it never passes for the whole."""

    def __init__(self, body: Readable, cancelled: threading.Event) -> None:
        self._body = body
        self._cancelled = cancelled

    def read(self, size: int) -> bytes:
        while (chunk := self._body.read(size)) is None:
            self._check()
        if not chunk and isinstance(self._body, _Pipe):
            # Ctrl-C reaches both ends of a pipe: its end may be seen a moment before the interrupt is.
            self._cancelled.wait(PIPE_END_SECONDS)
        self._check()
        return chunk

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise RefinerctlError("the upload was interrupted")


@dataclass(frozen=True)
class Baseline:
    """The completions that were there before an upload: those are not what it waits for."""

    identities: dict[str, Identity] = field(default_factory=dict)


def look_before(completions: Completions, sources: Sequence[UploadSource], prefix: str) -> Baseline:
    """Note the completions that earlier uploads to the same keys have left."""
    candidates = [key for source in sources for key in completions.pipeline.completion_keys(source.key, prefix)]
    with ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="look") as pool:
        found = pool.map(completions.bucket.head, candidates)
        return Baseline({info.key: info.identity for info in found if info is not None})


def follow(
    completions: Completions,
    uploads: Sequence[Upload],
    baseline: Baseline,
    *,
    prefix: str,
    timeout_s: float,
    progress: Progress,
    dead_letters: DeadLetters | None = None,
) -> list[Upload]:
    """Wait until each upload has its completion, at most `timeout_s` seconds; in the order given.

    Asks for those keys alone: the cost does not grow with the bucket's history. An input that ends among the dead
    letters has `failed`; what has not come is `pending`.
    """
    waiting = {
        item.key: _Pending(item, completions.pipeline.completion_keys(item.key, prefix))
        for item in uploads
        if item.status is UploadStatus.UPLOADED
    }
    done = {item.key: item for item in uploads if item.key not in waiting}
    deadline = time.monotonic() + timeout_s
    with ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="look") as pool:
        while waiting:
            now = time.monotonic()
            last = now >= deadline
            due = [item for item in waiting.values() if last or item.next_look <= now]
            for outcome in pool.map(lambda item: _look(completions, item, baseline), due):
                if outcome is not None:
                    del waiting[outcome.key]
                    done[outcome.key] = outcome
            if dead_letters is not None:
                for outcome in dead_letters.among([item.upload for item in waiting.values()]):
                    del waiting[outcome.key]
                    done[outcome.key] = outcome
            progress.update(f"{len(done)} of {len(uploads)} done")
            if not waiting or last:
                break
            wake = min(min(item.next_look for item in waiting.values()), deadline)
            time.sleep(max(0.0, wake - time.monotonic()))
    for key, item in waiting.items():
        done[key] = _not_in_time(completions.bucket, item)
    return [done[item.key] for item in uploads]


class DeadLetters:
    """A dead-letter queue, looked at now and then for the inputs that are waited for.

    `find_name` tells its name; it is asked before the first look, as finding out takes a moment.
    """

    def __init__(self, queues: Queues, find_name: Callable[[], str], bucket: str) -> None:
        self._queues: Queues | None = queues
        self._find_name = find_name
        self._bucket = bucket
        # Nothing is dead at once, and most inputs are done before the first look.
        self._next_look = time.monotonic() + DEAD_LETTER_SECONDS
        self._pause = DEAD_LETTER_SECONDS

    @cached_property
    def _name(self) -> str:
        return self._find_name()

    def among(self, uploads: Sequence[Upload]) -> list[Upload]:
        """Those of `uploads` that are dead, as failed. Who may not see the queue sees none."""
        if self._queues is None or time.monotonic() < self._next_look:
            return []
        self._next_look = time.monotonic() + self._pause
        self._pause = min(self._pause * 1.5, SLOWEST_DEAD_LETTER_SECONDS)  # each look raises receive counts
        try:
            messages = self._queues.peek(self._name) if self._queues.depth(self._name).visible else []
        except RefinerctlError:
            self._queues = None
            return []
        return list({dead.key: dead for dead in self._matches(messages, uploads)}.values())

    def _matches(self, messages: Sequence[Message], uploads: Sequence[Upload]) -> Iterator[Upload]:
        by_key = {item.key: item for item in uploads}
        for message in messages:
            event = object_event(message.body)
            if event is None or event.bucket != self._bucket or event.key not in by_key:
                continue
            if _is_of(message, event, by_key[event.key]):
                error = f"it could not be processed; its message is in {self._name}"
                yield replace(by_key[event.key], status=UploadStatus.FAILED, error=error)


def _is_of(message: Message, event: ObjectEvent, item: Upload) -> bool:
    """Whether the event is of this very upload: by version where both know it, else by time."""
    if event.version_id and item.version_id:
        return event.version_id == item.version_id
    return message.sent_at > item.uploaded_at - CLOCK_SKEW


@dataclass
class _Pending:
    upload: Upload
    candidates: tuple[str, ...]
    next_look: float = 0.0
    interval: float = FIRST_LOOK_SECONDS
    error: str | None = None

    def postpone(self) -> None:
        self.next_look = time.monotonic() + self.interval
        self.interval = min(self.interval * 1.5, SLOWEST_LOOK_SECONDS)


def _look(completions: Completions, pending: _Pending, baseline: Baseline) -> Upload | None:
    pending.postpone()
    try:
        for key in pending.candidates:
            found = completions.get(key)
            if found is not None and _is_about(found, pending.upload, baseline):
                return _judged(completions.bucket, pending.upload, found)
    except AccessDeniedError as error:  # waiting would not change that
        return replace(pending.upload, status=UploadStatus.FAILED, error=f"its completion may not be read: {error}")
    except RefinerctlError as error:  # this look failed; the next one may not
        pending.error = str(error)
    return None


def _is_about(completion: Completion, upload: Upload, baseline: Baseline) -> bool:
    """The image records the version that it was told of and the one it read; others just write anew."""
    versions = {completion.source_version, completion.info.metadata.get("source-event-version")} - {None}
    if versions and upload.version_id is not None:
        return upload.version_id in versions
    return baseline.identities.get(completion.info.key) != completion.info.identity


def _judged(bucket: S3Bucket, item: Upload, completion: Completion) -> Upload:
    document = completion.document
    error = document.error
    if document.status is CompletionStatus.COMPLETED:
        missing = [key for key in document.output_keys if bucket.head(key) is None]
        error = f"listed outputs do not exist: {', '.join(missing)}" if missing else None
    return replace(
        item,
        status=UploadStatus.FAILED if error else UploadStatus.COMPLETED,
        completion_key=completion.info.key,
        outputs=document.output_keys,
        error=error,
    )


def _not_in_time(bucket: S3Bucket, pending: _Pending) -> Upload:
    item, reason = pending.upload, "no completion in time"
    if pending.error:
        reason = f"{reason}; the last look failed: {pending.error}"
    with contextlib.suppress(RefinerctlError):
        newest = bucket.head(item.key)
        if newest is None:
            reason = "no completion, and the input is gone meanwhile"
        elif item.version_id is not None and newest.version_id != item.version_id:
            reason = f"no completion, and the input was overwritten meanwhile (version {newest.version_id})"
    return replace(item, status=UploadStatus.PENDING, error=reason)
