"""Follow uploads to their completions, or to the DLQ."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.aws.s3 import ObjectEvent, object_event
from refinerctl.console import Progress
from refinerctl.errors import AccessDeniedError, RefinerctlError, TransientError
from refinerctl.inputs.completions import Clock, Completion, Completions
from refinerctl.inputs.listing import KEYS_PER_PAGE, Finder
from refinerctl.parallel import attempt
from refinerctl.stacks.base import CompletionStatus

if TYPE_CHECKING:
    from refinerctl.aws.messages import Message
    from refinerctl.aws.s3 import ObjectInfo, S3Bucket
    from refinerctl.aws.sqs import Queues

THREADS = 16
FIRST_POLL_SECONDS = 0.25
SLOWEST_POLL_SECONDS = 5.0
# Maximum pause while inputs end at each poll.
BUSY_POLL_SECONDS = 4.0
# The pause between two polls of many inputs is this multiple of the last poll's duration, unless all end before that.
POLL_SHARE = 3
DLQ_POLL_SECONDS = 2.0
SLOWEST_DLQ_POLL_SECONDS = 20.0
# While messages are received, they are invisible, and no completion is read: a read ends after this time, the next one
# after twice as long, and the last one when all are received.
DLQ_READ_SECONDS = 2.0
MAX_DLQ_MESSAGES = 10_000
DLQ_GROWTH = 100  # so many may arrive meanwhile
MESSAGES_PER_WORKER = 250
MAX_WORKERS = 16
CLOCK_SKEW = timedelta(minutes=1)


class UploadStatus(StrEnum):
    """`superseded`: the input was overwritten, and another version of it was processed, or will be."""

    UPLOADED = "uploaded"
    COMPLETED = "completed"
    FAILED = "failed"
    PENDING = "pending"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
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


def existing_completions(completions: Completions, keys: Sequence[str]) -> dict[str, ObjectInfo]:
    """The completions that earlier uploads to `keys` have left, which `follow` must not take for new ones."""
    candidates = [candidate for key in keys for candidate in completions.keys_for(key)]
    found = Finder(completions.results).find(candidates)
    # If it is written again in the same second with the same content, only its version differs, which no listing has.
    recent = [info.key for info in found.values() if info.version_id is None and _is_recent(info, datetime.now(UTC))]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="head") as pool:
        heads = pool.map(completions.results.head, recent)
    return found | {info.key: info for info in heads if info is not None}


def _is_recent(completion: ObjectInfo, moment: datetime) -> bool:
    return completion.last_modified > moment - CLOCK_SKEW


@dataclass
class _Pending:
    upload: Upload
    candidates: tuple[str, ...]
    error: str | None = None
    other: str | None = None


def follow(
    completions: Completions,
    uploads: Sequence[Upload],
    *,
    existing: Mapping[str, ObjectInfo],
    timeout_s: float,
    progress: Progress,
    dlqs: Dlqs | None = None,
    clock: Clock = time,
) -> list[Upload]:
    """Wait at most `timeout_s` seconds until each upload has a completion; return the uploads in the order given.

    Requests those completions by key, or, if there are many, lists the keys from the first to the last one: the cost
    does not grow with the bucket's history. An input whose message is in a DLQ has status `failed`; one that was
    overwritten before it was processed is `superseded`; another one without a completion is `pending`.
    """
    waiting = {
        item.key: _Pending(item, completions.keys_for(item.key))
        for item in uploads
        if item.status is UploadStatus.UPLOADED
    }
    done = {item.key: item for item in uploads if item.key not in waiting}
    last = None
    deadline, interval = clock.monotonic() + timeout_s, FIRST_POLL_SECONDS
    with ThreadPoolExecutor(THREADS, thread_name_prefix="follow") as pool:
        search = _Search(completions, existing, pool)
        while waiting:
            now = clock.monotonic()
            found = search.ended(waiting.values())
            if dlqs is not None:
                ended = {item.key for item in found}
                left = [item.upload for key, item in waiting.items() if key not in ended]
                found += dlqs.failed(left, now, is_last=now >= deadline)
            for upload in found:
                del waiting[upload.key]
                done[upload.key] = upload
            progress.update(f"{len(done)} of {len(uploads)} done")
            if not waiting or now >= deadline:
                break
            passed = 0.0 if last is None else now - last
            pause = _pause(interval, len(found), len(waiting), passed, clock.monotonic() - now)
            interval, last = FIRST_POLL_SECONDS if found else min(interval * 1.5, SLOWEST_POLL_SECONDS), now
            clock.sleep(max(0.0, min(pause, deadline - clock.monotonic())))
        for upload in pool.map(partial(_timed_out, completions.bucket), waiting.values()):
            done[upload.key] = upload
    return [done[item.key] for item in uploads]


def _pause(interval: float, ended: int, left: int, passed_s: float, took_s: float) -> float:
    """Seconds until the next poll: half of the time in which the inputs that are `left` end at the current rate.

    That is known if some have ended in the `passed_s` since the poll before, which is 0 at the first one.
    """
    share = POLL_SHARE * took_s if left > KEYS_PER_PAGE else 0.0
    if not (ended and passed_s):
        return min(max(interval, share), SLOWEST_POLL_SECONDS)
    rest = max(0.0, left * passed_s / ended - took_s)
    return min(max(FIRST_POLL_SECONDS, rest / 2, min(share, rest)), BUSY_POLL_SECONDS)


class _Search:
    """Finds the completions of inputs, and the outputs that these completions list."""

    def __init__(self, completions: Completions, existing: Mapping[str, ObjectInfo], pool: ThreadPoolExecutor) -> None:
        self._completions = completions
        self._existing = existing
        self._pool = pool
        self._written = Finder(completions.results)
        self._outputs = Finder(completions.results)

    def ended(self, waiting: Collection[_Pending]) -> list[Upload]:
        """The results of the inputs that have ended."""
        candidates = self._with_completion(waiting) if len(waiting) > KEYS_PER_PAGE else waiting
        found = [
            (item, end) for item, end in zip(candidates, self._pool.map(self._poll, candidates), strict=True) if end
        ]
        listed = {key for _, end in found if end.status is UploadStatus.COMPLETED for key in end.outputs}
        # Those that are not found are requested one by one, with their errors.
        known = attempt(partial(self._outputs.find, listed)).value if len(listed) > KEYS_PER_PAGE else None
        checked = self._pool.map(lambda pair: self._check_outputs(pair[0], pair[1], known or {}), found)
        return [end for end in checked if end is not None]

    def _with_completion(self, waiting: Collection[_Pending]) -> Collection[_Pending]:
        """The inputs whose completion may have been written since the upload."""
        try:
            found = self._written.find([key for item in waiting for key in item.candidates])
        except AccessDeniedError:
            return waiting
        except RefinerctlError as error:  # the next request may succeed
            for item in waiting:
                item.error = str(error)
            return ()
        return [item for item in waiting if any(self._may_be_new(found.get(key), item) for key in item.candidates)]

    def _may_be_new(self, found: ObjectInfo | None, item: _Pending) -> bool:
        earlier = self._existing.get(found.key) if found else None
        if found is None or earlier is None:
            return found is not None
        is_other = (found.etag, found.last_modified) != (earlier.etag, earlier.last_modified)
        return is_other or _is_recent(earlier, item.upload.uploaded_at)

    def _poll(self, pending: _Pending) -> Upload | None:
        return _attempt(pending, lambda: self._result(pending))

    def _result(self, pending: _Pending) -> Upload | None:
        for key in pending.candidates:
            found = self._completions.get(key)
            if found is None or _is_same(found.info, self._existing.get(key)):
                continue
            if not self._completions.is_of(found, pending.upload.key):
                pending.other = found.of_another
                continue
            if (ended := _judge(self._completions, found, pending.upload)) is not None:
                return ended
        return None

    def _check_outputs(self, pending: _Pending, item: Upload, known: Collection[str]) -> Upload | None:
        def check() -> Upload:
            outputs = item.outputs if item.status is UploadStatus.COMPLETED else ()
            missing = [key for key in outputs if key not in known and self._completions.results.head(key) is None]
            if not missing:
                return item
            return replace(item, status=UploadStatus.FAILED, error=f"listed outputs do not exist: {', '.join(missing)}")

        return _attempt(pending, check)


def _attempt(pending: _Pending, call: Callable[[], Upload | None]) -> Upload | None:
    try:
        return call()
    except AccessDeniedError as error:  # final: waiting cannot change it
        return replace(pending.upload, status=UploadStatus.FAILED, error=f"its completion cannot be read: {error}")
    except RefinerctlError as error:  # the next request may succeed
        pending.error = str(error)
    return None


def _is_same(found: ObjectInfo, earlier: ObjectInfo | None) -> bool:
    """Whether it existed before the upload. Listings have no versions: then time and ETag are compared."""
    if earlier is None or (found.etag, found.last_modified) != (earlier.etag, earlier.last_modified):
        return False
    return earlier.version_id in (None, found.version_id)


def _judge(completions: Completions, completion: Completion, item: Upload) -> Upload | None:
    """The upload's result by a completion that was written since; None if it is of an earlier upload.

    This repository's image records the versions of the event and of the object that it read: the newest one, whatever
    the event named. For other images it counts whether the input was overwritten before the completion was written.
    """
    ours, read = item.version_id, completion.read_version
    if ours is None or read == ours:
        return _completed(item, completion)
    if read is None and not completion.source_versions:
        newer = _overwritten_by(completions.bucket, item)
        if newer is None or newer.last_modified > completion.info.last_modified:
            return _completed(item, completion)
        return _superseded(item, newer.version_id, f"{completion.info.key} may belong to that version")
    if ours in completion.source_versions:  # the event's
        return _completed(item, completion) if read is None else _superseded(item, read)
    newer = _overwritten_by(completions.bucket, item)
    return None if newer is None else _superseded(item, newer.version_id)


def _overwritten_by(bucket: S3Bucket, item: Upload) -> ObjectInfo | None:
    """The newest version of the input if that is another one; None also if it cannot be read, or was deleted."""
    newest = attempt(partial(bucket.head, item.key)).value
    return newest if newest is not None and newest.version_id != item.version_id else None


def _superseded(item: Upload, version: str | None, note: str = "") -> Upload:
    reason = f"overwritten by version {version} before it was processed"
    return replace(item, status=UploadStatus.SUPERSEDED, error=f"{reason}; {note}" if note else reason)


def _completed(item: Upload, completion: Completion) -> Upload:
    document = completion.document
    return replace(
        item,
        status=UploadStatus.COMPLETED if document.status is CompletionStatus.COMPLETED else UploadStatus.FAILED,
        completion_key=completion.info.key,
        outputs=document.output_keys,
        error=document.error,
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
    environment's values takes some tenths of a second. After a permanent error a DLQ is not read again.
    """

    def __init__(
        self, queues: Queues, dlq_of: Callable[[str], str | None], bucket: str, *, clock: Clock = time
    ) -> None:
        self._queues = queues
        self._dlq_of = dlq_of
        self._bucket = bucket
        self._clock = clock
        self._unreadable: set[str] = set()
        # Messages of each DLQ at its last read, if all were received.
        self._counts: dict[str, int] = {}
        self._longest_read = DLQ_READ_SECONDS
        # No message is in a DLQ at once, and most inputs are completed before the first read.
        self._next_poll = clock.monotonic() + DLQ_POLL_SECONDS
        self._interval = DLQ_POLL_SECONDS

    def failed(self, uploads: Sequence[Upload], now: float, *, is_last: bool = False) -> list[Upload]:
        """Those of `uploads` whose message is in a DLQ, with status `failed`.

        The last time each DLQ is read as a whole; before that for a limited time, and only if its number of messages
        has changed or not all were received.
        """
        if now < self._next_poll and not is_last:
            return []
        began = self._clock.monotonic()
        by_dlq: dict[str, dict[str, Upload]] = {}
        for item in uploads:
            if (name := self._dlq_of(item.key)) is not None:
                by_dlq.setdefault(name, {})[item.key] = item
        if is_last:
            self._counts.clear()
            self._longest_read = math.inf
        found = {item.key: item for name, by_key in by_dlq.items() for item in self._matches(name, by_key)}
        took = self._clock.monotonic() - began
        if took > self._longest_read:
            self._longest_read *= 2
        self._next_poll = began + took + max(self._interval, POLL_SHARE * took)
        self._interval = min(self._interval * 1.5, SLOWEST_DLQ_POLL_SECONDS)  # each read raises receive counts
        return list(found.values())

    def _matches(self, name: str, by_key: Mapping[str, Upload]) -> Collection[Upload]:
        found: dict[str, Upload] = {}
        deadline = self._clock.monotonic() + self._longest_read

        def take(message: Message) -> bool:
            event = object_event(message.body)
            item = by_key.get(event.key) if event is not None and event.bucket == self._bucket else None
            if event is not None and item is not None and _is_of(message, event, item):
                error = f"processing failed; its message is in {name}"
                found[item.key] = replace(item, status=UploadStatus.FAILED, error=error)
            return len(found) == len(by_key) or self._clock.monotonic() > deadline

        try:
            if name not in self._unreadable:
                self._read(name, take)
        except TransientError:
            pass
        except RefinerctlError:
            self._unreadable.add(name)
        return found.values()

    def _read(self, name: str, take: Callable[[Message], bool]) -> None:
        state = self._queues.state(name)
        if not state.visible or state.total == self._counts.get(name):
            return
        self._counts.pop(name, None)
        limit = min(state.total + DLQ_GROWTH, MAX_DLQ_MESSAGES)
        workers = min(1 + limit // MESSAGES_PER_WORKER, MAX_WORKERS)
        if self._queues.peek_each(name, take, limit, workers) >= state.total:
            self._counts[name] = state.total


def _is_of(message: Message, event: ObjectEvent, item: Upload) -> bool:
    """Whether the event is about exactly this upload: by version if both have one, else by time."""
    if event.version_id and item.version_id:
        return event.version_id == item.version_id
    return message.sent_at > item.uploaded_at - CLOCK_SKEW
