"""Completions, and the outputs that they list: those that are there, new ones, or expected ones."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinerctl.aws.objects import ObjectInfo
from refinerctl.errors import RefinerctlError
from refinerctl.inputs.types import Output, PolledCompletion
from refinerctl.stacks.base import CompletionStatus
from refinerctl.stacks.completion import Completion
from refinerctl.stacks.settings import Pipeline

if TYPE_CHECKING:
    from refinerctl.aws.s3 import S3Bucket
    from refinerctl.inputs.completions import Completions

AT_ONCE = 8
CHUNK_BYTES = 1024 * 1024
# A completion may become visible with a time a little before that of another one already seen.
WINDOW = timedelta(minutes=5)

ReadOutput = Callable[[str], Output]


def print_outputs(bucket: S3Bucket, limit: int) -> ReadOutput:
    """Outputs by their first `limit` bytes."""

    def read(key: str) -> Output:
        found = bucket.read(key, limit + 1)
        if found is None:
            return _missing(key)
        info, content = found
        return Output(key, info.size, content[:limit], truncated=len(content) > limit)

    return read


def save_outputs(bucket: S3Bucket, folder: Path, cancelled: threading.Event | None = None) -> ReadOutput:
    """Outputs saved below `folder` under their keys; a key that would leave the folder is an error.

    A download that is under way when `cancelled` is set breaks off and leaves no file.
    """
    stop = cancelled or threading.Event()

    def save(key: str) -> Output:
        try:
            target = target_path(folder, key)
            opened = bucket.open(key)
            if opened is None:
                return _missing(key)
            info, body = opened
            with body:
                _write_whole(target, body, stop)
        except (RefinerctlError, OSError) as error:
            return Output(key, error=f"{key} was not saved: {error}")
        return Output(key, info.size, path=target)

    return save


def target_path(folder: Path, key: str) -> Path:
    """Where `key` is saved below `folder`. Raises RefinerctlError for a key that has no place there."""
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise RefinerctlError("the key is not a path below the folder")
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise RefinerctlError("the key is not UTF-8") from None
    target = folder.joinpath(*parts)
    # A symbolic link on the way may lead out even though the key does not.
    if not target.resolve().is_relative_to(folder.resolve()):
        raise RefinerctlError("the path leaves the folder")
    return target


def _write_whole(target: Path, body: Any, stop: threading.Event) -> None:
    """Nobody finds half a file under the final name, whatever happens meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".refinerctl-{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            while chunk := body.read(CHUNK_BYTES):
                file.write(chunk)
                _refuse_if(stop)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _refuse_if(stop: threading.Event) -> None:
    if stop.is_set():
        raise RefinerctlError("interrupted")


def _missing(key: str) -> Output:
    return Output(key, error=f"{key} is listed, but there is no such object")


def look(
    completions: Completions, since: datetime | None, read: ReadOutput, cancelled: threading.Event | None = None
) -> Iterator[PolledCompletion]:
    """Those that are there now, in the order of their keys. Whatever ends it early sets `cancelled`."""
    with _pool(cancelled) as pool:
        yield from _fetch_all(pool, completions, completions.since(since), read)


@contextmanager
def _pool(cancelled: threading.Event | None) -> Iterator[ThreadPoolExecutor]:
    """Threads that do not hold up Ctrl-C: those at work are told, those waiting are not started."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="poll") as pool:
        try:
            yield pool
        except BaseException:
            if cancelled is not None:
                cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def follow(
    completions: Completions,
    since: datetime | None,
    read: ReadOutput,
    *,
    interval_s: float,
    timeout_s: float | None,
    cancelled: threading.Event | None = None,
) -> Iterator[PolledCompletion]:
    """Those written at `since` or later (None: from now on), as they come; ends after `timeout_s`.

    Looks at the whole completion prefix each time, at one request per 1,000 completions in it. Remembers only the
    last minutes' worth.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    seen = _Seen()
    if since is None:
        seen.fresh(completions.since(None))
    with _pool(cancelled) as pool:
        while True:
            fresh = seen.fresh(completions.since(_later(since, seen.horizon)))
            yield from _fetch_all(pool, completions, sorted(fresh, key=lambda info: info.last_modified), read)
            if deadline is not None and time.monotonic() >= deadline:
                return
            time.sleep(interval_s if deadline is None else min(interval_s, max(0.0, deadline - time.monotonic())))


def _later(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


@dataclass
class _Seen:
    """What was seen lately. Times are S3's own, so the clock of this machine does not matter."""

    identities: dict[tuple[str, str, datetime], datetime] = field(default_factory=dict)
    newest: datetime | None = None

    @property
    def horizon(self) -> datetime | None:
        return self.newest - WINDOW if self.newest else None

    def fresh(self, infos: Iterable[ObjectInfo]) -> list[ObjectInfo]:
        found = []
        for info in infos:
            identity = (info.key, info.etag, info.last_modified)
            if identity in self.identities:
                continue
            self.identities[identity] = info.last_modified
            found.append(info)
            if self.newest is None or info.last_modified > self.newest:
                self.newest = info.last_modified
        if horizon := self.horizon:
            self.identities = {key: at for key, at in self.identities.items() if at >= horizon}
        return found


@dataclass(frozen=True)
class Expectation:
    """A completion that somebody waits for: `asked` as given, `candidates` where it may appear."""

    asked: str
    candidates: tuple[str, ...]


def expectation(pipeline: Pipeline, asked: str, input_prefix: str | None = None) -> Expectation:
    """Read what follows --expect: a completion's key, an input's key, or just the name below the prefix.

    `input_prefix` is that of the ruleset that the input belongs to, the stack's own if None.
    """
    key, prefix = asked.removeprefix("/"), input_prefix or pipeline.input_prefix
    if key.startswith(prefix):
        return Expectation(asked, pipeline.completion_keys(key, prefix))
    if not key.startswith(pipeline.complete_prefix):
        return Expectation(asked, pipeline.completion_keys(prefix + key, prefix))
    return Expectation(asked, (key,) if key.endswith(".json") else (f"{key}.json", key))


def expect(
    completions: Completions,
    expected: Sequence[Expectation],
    since: datetime | None,
    read: ReadOutput,
    *,
    interval_s: float,
    timeout_s: float,
    cancelled: threading.Event | None = None,
) -> Iterator[PolledCompletion | Expectation]:
    """Each expected completion as it comes; at the end those that did not come in time.

    Asks for those keys alone, so the cost does not grow with the bucket's history.
    """
    waiting = list(dict.fromkeys(expected))
    deadline = time.monotonic() + timeout_s
    with _pool(cancelled) as pool:
        while waiting:
            found = list(pool.map(lambda item: _first(completions, item, since), waiting))
            present = [completion for completion in found if completion is not None]
            yield from pool.map(lambda completion: _polled(completion, read), present)
            waiting = [item for item, completion in zip(waiting, found, strict=True) if completion is None]
            if not waiting or time.monotonic() >= deadline:
                break
            time.sleep(min(interval_s, max(0.0, deadline - time.monotonic())))
    yield from waiting


def _first(completions: Completions, expected: Expectation, since: datetime | None) -> Completion | None:
    for key in expected.candidates:
        found = completions.get(key)
        if found is not None and (since is None or found.info.last_modified >= since):
            return found
    return None


def _fetch_all(
    pool: ThreadPoolExecutor, completions: Completions, infos: Iterable[ObjectInfo], read: ReadOutput
) -> Iterator[PolledCompletion]:
    """Fetch several at once, hand on in order, and keep no more than that in memory."""
    ahead: deque[Future[PolledCompletion | None]] = deque()
    for info in infos:
        ahead.append(pool.submit(_fetch, completions, info, read))
        if len(ahead) >= AT_ONCE:
            yield from filter(None, [ahead.popleft().result()])
    while ahead:
        yield from filter(None, [ahead.popleft().result()])


def _fetch(completions: Completions, info: ObjectInfo, read: ReadOutput) -> PolledCompletion | None:
    completion = completions.get(info.key)
    return None if completion is None else _polled(completion, read)  # deleted since it was listed


def _polled(completion: Completion, read: ReadOutput) -> PolledCompletion:
    document, info = completion.document, completion.info
    outputs = tuple(_read(read, key) for key in document.output_keys)
    broken = [output.error for output in outputs if output.error]
    status, error = document.status, document.error
    if status is CompletionStatus.COMPLETED and broken:
        status, error = CompletionStatus.FAILED, "; ".join(broken)
    return PolledCompletion(info.key, status, info.last_modified, outputs, error)


def _read(read: ReadOutput, key: str) -> Output:
    """One output that may not be read is that completion's failure, not the end of following."""
    try:
        return read(key)
    except RefinerctlError as error:
        return Output(key, error=f"{key} was not read: {error}")
