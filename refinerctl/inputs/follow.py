"""Follow uploads to their completions, or to the DLQ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.aws.s3 import ObjectEvent, object_event
from refinerctl.console import Progress
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.inputs.completions import Clock, Completion, Completions
from refinerctl.parallel import attempt
from refinerctl.stacks.base import CompletionStatus

if TYPE_CHECKING:
    from refinerctl.aws.messages import Message
    from refinerctl.aws.s3 import ObjectInfo, S3Bucket
    from refinerctl.aws.sqs import Queues

THREADS = 16
FIRST_POLL_SECONDS = 0.25
SLOWEST_POLL_SECONDS = 5.0
DLQ_POLL_SECONDS = 2.0
SLOWEST_DLQ_POLL_SECONDS = 20.0
CLOCK_SKEW = timedelta(minutes=1)

Identity = tuple[str | None, str, datetime]


class UploadStatus(StrEnum):
    """`superseded`: the input was overwritten, and another version of it was processed, or will be."""

    UPLOADED = "uploaded"
    COMPLETED = "completed"
    FAILED = "failed"
    PENDING = "pending"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Upload:
    """One upload and, if it was followed, its completion. `uploaded_at` is when it began."""

    key: str
    size: int
    version_id: str | None
    status: UploadStatus
    uploaded_at: datetime
    completion_key: str | None = None
    outputs: tuple[str, ...] = ()
    error: str | None = None


def existing_completions(completions: Completions, keys: Sequence[str]) -> dict[str, Identity]:
    """The completions that earlier uploads to `keys` have left, which `follow` must not take for new ones."""
    candidates = [candidate for key in keys for candidate in completions.keys_for(key)]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="head") as pool:
        return {info.key: info.identity for info in pool.map(completions.results.head, candidates) if info is not None}


@dataclass
class _Pending:
    upload: Upload
    candidates: tuple[str, ...]
    next_poll: float = 0.0
    interval: float = FIRST_POLL_SECONDS
    error: str | None = None
    other: str | None = None


def follow(
    completions: Completions,
    uploads: Sequence[Upload],
    *,
    existing: Mapping[str, Identity],
    timeout_s: float,
    progress: Progress,
    dlqs: Dlqs | None = None,
    clock: Clock = time,
) -> list[Upload]:
    """Wait at most `timeout_s` seconds until each upload has a completion; return the uploads in the order given.

    Reads those completions' keys alone, so the cost does not grow with the bucket's history. An input whose message is
    in a DLQ has status `failed`; one that was overwritten before it was processed is `superseded`; another one without
    a completion is `pending`.
    """
    waiting = {
        item.key: _Pending(item, completions.keys_for(item.key))
        for item in uploads
        if item.status is UploadStatus.UPLOADED
    }
    done = {item.key: item for item in uploads if item.key not in waiting}
    deadline = clock.monotonic() + timeout_s
    with ThreadPoolExecutor(THREADS, thread_name_prefix="follow") as pool:
        while waiting:
            now = clock.monotonic()
            is_last = now >= deadline
            due = [item for item in waiting.values() if is_last or item.next_poll <= now]
            for item in due:
                item.next_poll, item.interval = now + item.interval, min(item.interval * 1.5, SLOWEST_POLL_SECONDS)
            found = [item for item in pool.map(lambda item: _poll(completions, item, existing), due) if item]
            if dlqs is not None:
                ended = {item.key for item in found}
                found += dlqs.failed([item.upload for key, item in waiting.items() if key not in ended], now)
            for upload in found:
                del waiting[upload.key]
                done[upload.key] = upload
            progress.update(f"{len(done)} of {len(uploads)} done")
            if not waiting or is_last:
                break
            wake = min(deadline, *(item.next_poll for item in waiting.values()))
            clock.sleep(max(0.0, wake - clock.monotonic()))
    for key, item in waiting.items():
        done[key] = _timed_out(completions.bucket, item)
    return [done[item.key] for item in uploads]


def _poll(completions: Completions, pending: _Pending, existing: Mapping[str, Identity]) -> Upload | None:
    try:
        for key in pending.candidates:
            found = completions.get(key)
            if found is None or existing.get(key) == found.info.identity:
                continue
            if not completions.is_of(found, pending.upload.key):
                pending.other = found.of_another
                continue
            if (ended := _judge(completions, found, pending.upload)) is not None:
                return ended
    except AccessDeniedError as error:  # final: waiting cannot change it
        return replace(pending.upload, status=UploadStatus.FAILED, error=f"its completion cannot be read: {error}")
    except RefinerctlError as error:  # the next request may succeed
        pending.error = str(error)
    return None


def _judge(completions: Completions, completion: Completion, item: Upload) -> Upload | None:
    """The upload's result by a completion that was written since; None if it is of an earlier upload.

    This repository's image records the versions of the event and of the object that it read: the newest one, whatever
    the event named. For other images it counts whether the input was overwritten before the completion was written.
    """
    ours, read = item.version_id, completion.read_version
    if ours is None or read == ours:
        return _completed(completions.results, item, completion)
    if read is None and not completion.source_versions:
        newer = _overwritten_by(completions.bucket, item)
        if newer is None or newer.last_modified > completion.info.last_modified:
            return _completed(completions.results, item, completion)
        return _superseded(item, newer.version_id, f"{completion.info.key} may belong to that version")
    if ours in completion.source_versions:  # the event's
        return _completed(completions.results, item, completion) if read is None else _superseded(item, read)
    newer = _overwritten_by(completions.bucket, item)
    return None if newer is None else _superseded(item, newer.version_id)


def _overwritten_by(bucket: S3Bucket, item: Upload) -> ObjectInfo | None:
    """The newest version of the input if that is another one; None also if it cannot be read, or was deleted."""
    newest = attempt(partial(bucket.head, item.key)).value
    return newest if newest is not None and newest.version_id != item.version_id else None


def _superseded(item: Upload, version: str | None, note: str = "") -> Upload:
    reason = f"overwritten by version {version} before it was processed"
    return replace(item, status=UploadStatus.SUPERSEDED, error=f"{reason}; {note}" if note else reason)


def _completed(bucket: S3Bucket, item: Upload, completion: Completion) -> Upload:
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


def _timed_out(bucket: S3Bucket, pending: _Pending) -> Upload:
    item, reason = pending.upload, "timed out without a completion"
    if pending.other:
        reason = f"{reason}: {pending.other}"
    if pending.error:
        reason = f"{reason}; the last request failed: {pending.error}"
    newest = attempt(partial(bucket.head, item.key))
    if newest.value is None and newest.error is None:
        reason = "no completion: the input was deleted after the upload"
    elif newest.value is not None and item.version_id not in (None, newest.value.version_id):
        return _superseded(item, newest.value.version_id)
    return replace(item, status=UploadStatus.PENDING, error=reason)


class Dlqs:
    """The DLQs of the inputs that are followed, read from time to time.

    `dlq_of` gives the DLQ of a key, None if it has none. It is not called before the first read, because reading the
    environment's values takes some tenths of a second. A DLQ that cannot be read is not asked again.
    """

    def __init__(
        self, queues: Queues, dlq_of: Callable[[str], str | None], bucket: str, *, clock: Clock = time
    ) -> None:
        self._queues = queues
        self._dlq_of = dlq_of
        self._bucket = bucket
        self._unreadable: set[str] = set()
        # No message is in a DLQ at once, and most inputs are completed before the first read.
        self._next_poll = clock.monotonic() + DLQ_POLL_SECONDS
        self._interval = DLQ_POLL_SECONDS

    def failed(self, uploads: Sequence[Upload], now: float) -> list[Upload]:
        """Those of `uploads` whose message is in a DLQ, with status `failed`."""
        if now < self._next_poll:
            return []
        self._next_poll = now + self._interval
        self._interval = min(self._interval * 1.5, SLOWEST_DLQ_POLL_SECONDS)  # each read raises receive counts
        by_dlq: dict[str, dict[str, Upload]] = {}
        for item in uploads:
            if (name := self._dlq_of(item.key)) is not None:
                by_dlq.setdefault(name, {})[item.key] = item
        found = [item for name, by_key in by_dlq.items() for item in self._matches(name, by_key)]
        return list({item.key: item for item in found}.values())

    def _matches(self, name: str, by_key: Mapping[str, Upload]) -> Iterator[Upload]:
        for message in self._peek(name):
            event = object_event(message.body)
            if event is None or event.bucket != self._bucket or event.key not in by_key:
                continue
            if _is_of(message, event, by_key[event.key]):
                error = f"processing failed; its message is in {name}"
                yield replace(by_key[event.key], status=UploadStatus.FAILED, error=error)

    def _peek(self, name: str) -> Sequence[Message]:
        if name in self._unreadable:
            return ()
        try:
            return self._queues.peek(name) if self._queues.state(name).visible else ()
        except RefinerctlError:
            self._unreadable.add(name)
            return ()


def _is_of(message: Message, event: ObjectEvent, item: Upload) -> bool:
    """Whether the event is about exactly this upload: by version if both have one, else by time."""
    if event.version_id and item.version_id:
        return event.version_id == item.version_id
    return message.sent_at > item.uploaded_at - CLOCK_SKEW
