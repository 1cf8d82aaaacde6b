"""`refinerctl upload`: put inputs under a prefix and, with --wait, follow them to their completions."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Progress, Renderer
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, TimedOutError, UsageError
from refinerctl.inputs.completions import completions_of
from refinerctl.inputs.follow import Dlqs, Upload, UploadStatus, existing_completions, follow
from refinerctl.inputs.names import input_prefix
from refinerctl.inputs.targets import warn_of_ignored
from refinerctl.keys import check_key, normalize_prefix
from refinerctl.options import Duration, PathParam, examples, global_options
from refinerctl.parallel import attempt
from refinerctl.shell import complete_prefix

if TYPE_CHECKING:
    from refinerctl.aws.s3 import ObjectInfo, S3Bucket

THREADS = 16
PIPE_POLL_SECONDS = 0.2
PIPE_END_SECONDS = 0.5


@click.command(
    epilog=examples(
        "refinerctl upload report.txt --wait",
        "refinerctl upload folder/ --recursive --prefix team/Input/",
        "pg_dump db | refinerctl upload - --name dump.sql",
    )
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=PathParam())
@click.option(
    "--prefix",
    metavar="PREFIX",
    shell_complete=complete_prefix,
    help="Prefix or stage of the inputs. [default: the stack's input prefix]",
)
@click.option("--name", help="Name below the prefix, for one file or for standard input (PATH -).")
@click.option("-r", "--recursive", is_flag=True, help="Upload the files in folders, too.")
@click.option("--wait", is_flag=True, help="Follow each input to its completion.")
@click.option("--timeout", type=Duration(), default="5m", show_default=True, help="Maximum time to wait.")
@click.option("--dry-run", is_flag=True, help="List what would be uploaded, and stop.")
@global_options
@click.pass_context
def upload(
    ctx: click.Context,
    paths: tuple[str, ...],
    prefix: str | None,
    name: str | None,
    recursive: bool,
    wait: bool,
    timeout: float,
    dry_run: bool,
) -> None:
    """Upload files and, with --wait, follow each to its completion.

    PATH is a file, a folder (with --recursive) or - for standard input (with --name). Exit code 1 if an upload or its
    processing failed, or if an input was overwritten before it was processed; 3 if a completion timed out.
    """
    app = app_context(ctx, changes=True)
    below = input_prefix(app, prefix) if prefix else app.storage.input_prefix
    _refuse_results(app, below)
    sources = collect(paths, below, recursive=recursive, name=name)
    warn_of_ignored(app, [source.key for source in sources])
    if dry_run:
        _show_plan(app, sources)
        return
    app.tell_settings()
    keys = [source.key for source in sources]
    existing = existing_completions(completions_of(app), keys) if wait else {}
    sizes = [source.size for source in sources]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    app.render.note(f"uploading {_count(sources)} to s3://{app.bucket.name}/{below}")
    with app.render.progress(total) as progress:
        uploads = send(app.bucket, sources, progress)
    if wait:
        try:
            uploads = _follow(app, uploads, existing, timeout)
        except BaseException:  # the keys and versions of what was uploaded are not lost
            _show(app.render, uploads)
            raise
    _show(app.render, uploads)
    _raise_for(app, uploads)


def _refuse_results(app: AppContext, prefix: str) -> None:
    """An input among the results would be taken for one by `poll` and by downstream consumers."""
    stages = attempt(lambda: app.pipeline.stages).value or ()
    own = [app.storage.output_prefix, app.storage.complete_prefix]
    for results in dict.fromkeys([*own, *(place for stage in stages for place in stage.writes)]):
        if prefix.startswith(results):
            raise RefusedError(f"{results} is a prefix of the pipeline's results, not of inputs")


@dataclass(frozen=True, slots=True)
class UploadSource:
    """What to upload to which key. `path` None is standard input, whose size is not known before its end."""

    key: str
    path: Path | None
    size: int | None


def collect(paths: Sequence[str], prefix: str, *, recursive: bool, name: str | None) -> list[UploadSource]:
    """List what to upload to which key; all is checked before the first byte is sent.

    A file goes to prefix + its name; a folder's files to prefix + their path in the folder; `-` (standard input) to
    prefix + `name`. Raises UsageError for a missing file, a folder without `recursive`, or one key twice.
    """
    below = normalize_prefix(prefix)
    if name is not None and len(paths) != 1:
        raise UsageError("--name needs exactly one PATH")
    sources = [source for path in paths for source in _sources_of(path, below, recursive, name)]
    if not sources:
        raise UsageError(f"{', '.join(paths)}: no files to upload")
    _refuse_same_key(sources)
    return sources


def _sources_of(path: str, prefix: str, recursive: bool, name: str | None) -> Iterator[UploadSource]:
    if path == "-":
        if not name:
            raise UsageError("standard input has no name", hint="Pass --name NAME.")
        yield UploadSource(check_key(prefix + name), None, None)
        return
    file = Path(path)
    if file.is_dir():
        if not recursive:
            raise UsageError(f"{path} is a folder", hint="Add --recursive to upload the files in it.")
        if name is not None:
            raise UsageError("--name is for one file, not for a folder")
        yield from _files_below(file, prefix)
        return
    yield _source(file, prefix + (name or file.name))


def _files_below(folder: Path, prefix: str) -> Iterator[UploadSource]:
    """Follows links to folders, each folder once, so that a link to a parent folder makes no loop."""
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
    """A folder that cannot be read must not be skipped silently."""
    raise UsageError(f"{error.filename} cannot be read: {error.strerror}")


def _source(file: Path, key: str) -> UploadSource:
    if not file.exists():
        raise UsageError(f"file {file} does not exist")
    if not file.is_file():
        raise UsageError(f"{file} is not a regular file", hint="For a pipe: `refinerctl upload - --name NAME < PIPE`.")
    if not os.access(file, os.R_OK):
        raise UsageError(f"{file} cannot be read: permission denied")
    return UploadSource(check_key(key), file, file.stat().st_size)


def _refuse_same_key(sources: Iterable[UploadSource]) -> None:
    seen: dict[str, Path | None] = {}
    for source in sources:
        if source.key in seen:
            raise UsageError(f"{seen[source.key] or '-'} and {source.path or '-'} have the same key {source.key}")
        seen[source.key] = source.path


def send(bucket: S3Bucket, sources: Sequence[UploadSource], progress: Progress) -> list[Upload]:
    """Upload all, several at once; a failed one has status `failed` and its error, and does not stop the others.

    Raises NotFoundError if the bucket does not exist.
    """
    bucket.check()
    cancelled = threading.Event()
    left = iter(sources)
    done: dict[str, Upload] = {}

    def work() -> None:
        while not cancelled.is_set() and (source := next(left, None)) is not None:
            done[source.key] = _send_one(bucket, source, progress, cancelled)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="upload") as pool:
        try:
            for worker in as_completed([pool.submit(work) for _ in range(min(THREADS, len(sources)))]):
                worker.result()
        finally:
            cancelled.set()
    return [done[source.key] for source in sources]


def _send_one(bucket: S3Bucket, source: UploadSource, progress: Progress, cancelled: threading.Event) -> Upload:
    sent = 0
    began = datetime.now(UTC)
    lock = threading.Lock()

    def count(size: int) -> None:
        nonlocal sent
        with lock:  # parts are sent by several threads
            sent += size
        progress.advance(size)

    try:
        with source.path.open("rb") if source.path else nullcontext(sys.stdin.buffer) as file:
            body = _Body(file, cancelled, is_pipe=source.path is None)
            version = bucket.put(source.key, body, source.size, count)
    except (RefinerctlError, OSError) as error:
        return Upload(source.key, sent, None, UploadStatus.FAILED, began, error=str(error))
    progress.update(f"uploaded {source.key}")
    return Upload(source.key, sent, version, UploadStatus.UPLOADED, began)


class _Body:
    """A file or standard input. `read` raises once the upload is cancelled: half of it never passes as the whole."""

    def __init__(self, file: IO[bytes], cancelled: threading.Event, *, is_pipe: bool) -> None:
        self._file = file
        self._cancelled = cancelled
        self._is_pipe = is_pipe

    def read(self, size: int) -> bytes:
        chunk = self._read_pipe(size) if self._is_pipe else self._file.read(size)
        self._check()
        return chunk

    def _read_pipe(self, size: int) -> bytes:
        """Without blocking for ever, so that an interrupt is noticed."""
        while not select.select([self._file], [], [], PIPE_POLL_SECONDS)[0]:
            self._check()
        chunk = os.read(self._file.fileno(), size)
        if not chunk:
            # Ctrl-C reaches both processes of a pipe: the end of the pipe may arrive before the interrupt does.
            self._cancelled.wait(PIPE_END_SECONDS)
        return chunk

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise RefinerctlError("the upload was interrupted")


def _follow(
    app: AppContext, uploads: list[Upload], existing: Mapping[str, ObjectInfo], timeout_s: float
) -> list[Upload]:
    def dlq_of(key: str) -> str | None:
        stage = attempt(lambda: app.pipeline.stage_for(key)).value
        dlq = stage.queue.dlq if stage and stage.queue else None
        return dlq.name if dlq and dlq.broker is None else None  # a private broker's messages cannot be peeked

    dlqs = Dlqs(app.queues, dlq_of, app.bucket.name)
    with app.render.progress() as progress:
        return follow(
            completions_of(app),
            uploads,
            existing=existing,
            timeout_s=timeout_s,
            progress=progress,
            dlqs=dlqs,
        )


def _show_plan(app: AppContext, sources: list[UploadSource]) -> None:
    bucket = app.storage.bucket
    if app.render.is_json:
        uploads = [{"key": source.key, "path": source.path, "size": source.size} for source in sources]
        app.render.json({"dry_run": True, "bucket": bucket, "uploads": uploads})
        return
    for source in sources:
        app.render.line(f"would upload {source.path or '-'} to s3://{bucket}/{source.key}")


def _show(render: Renderer, uploads: list[Upload]) -> None:
    if render.is_json:
        render.json({"uploads": [upload_json(item) for item in uploads]})
        return
    for item in uploads:
        render.line(f"{item.status:<10}  {item.key}  {item.version_id or '-'}")
        for key in (*([item.completion_key] if item.completion_key else []), *item.outputs):
            render.line(f"            {key}")


def upload_json(item: Upload) -> dict[str, Any]:
    """An upload in the contract's form."""
    return {
        "key": item.key,
        "size": item.size,
        "version_id": item.version_id,
        "status": item.status,
        "completion_key": item.completion_key,
        "outputs": list(item.outputs),
        "error": item.error,
    }


def _raise_for(app: AppContext, uploads: list[Upload]) -> None:
    by_status = {status: [item for item in uploads if item.status is status] for status in UploadStatus}
    failed, superseded = by_status[UploadStatus.FAILED], by_status[UploadStatus.SUPERSEDED]
    pending = by_status[UploadStatus.PENDING]
    for item in [*failed, *superseded, *pending]:
        app.render.warning(f"{item.key}: {item.error}")
    if failed or superseded:
        counts = ((len(failed), UploadStatus.FAILED), (len(superseded), UploadStatus.SUPERSEDED))
        (count, status), *more = [item for item in counts if item[0]]
        others = "".join(f", {count} {status}" for count, status in more)
        raise RefinerctlError(f"{count} of {_count(uploads)} {status}{others}")
    if pending:
        raise TimedOutError(
            f"{len(pending)} of {_count(uploads)} timed out without a completion", hint=_queue_hint(app, pending[0].key)
        )


def _queue_hint(app: AppContext, key: str) -> str | None:
    """A hint about the queue; empty if the queue cannot be read: that must not hide the first error."""
    try:
        stage = app.pipeline.stage_for(key)
        if stage is None or stage.queue is None:
            prefixes = [item.prefix for item in app.pipeline.stages if item.prefix]
            return f"No stage has a queue for {key}. Prefixes of the stages: {', '.join(prefixes) or 'none'}."
        if stage.queue.broker is not None:
            return f"Queue {stage.queue.name} is on broker {stage.queue.broker.name}. Run `{app.command('status')}`."
        depths = [app.queues.state(queue.name) for queue in (stage.queue, stage.queue.dlq) if queue is not None]
    except NotFoundError as error:
        return f"{error.message}. Is the stack deployed?"
    except RefinerctlError:
        return None
    return "; ".join(f"{depth.name}: {depth.visible} messages, {depth.in_flight} in flight" for depth in depths) + "."


def _count(items: Sequence[Any]) -> str:
    return f"{len(items)} input" + ("" if len(items) == 1 else "s")
