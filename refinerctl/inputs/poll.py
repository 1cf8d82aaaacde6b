"""`refinerctl poll`: print completions and the outputs that they list, existing, new or expected ones."""

from __future__ import annotations

import base64
import codecs
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.s3 import ObjectInfo
from refinerctl.console import Renderer, counted, seconds, size
from refinerctl.errors import RefinerctlError, Terminated, TimedOutError
from refinerctl.inputs.completions import Clock, Completion, Completions, completions_of
from refinerctl.inputs.names import below_bucket, input_key, input_prefix
from refinerctl.inputs.outputs import ListedOutput, ReadOutput, list_outputs, read_outputs, save_outputs
from refinerctl.options import Duration, Moment, PathParam, examples, global_options
from refinerctl.shell import complete_prefix
from refinerctl.stacks.base import CompletionStatus

EXPECT_SECONDS = 300.0
MAX_CONTENT = 1024 * 1024
THREADS = 8
# A completion may become visible with a time a little before that of another one already seen.
WINDOW = timedelta(minutes=5)


@click.command(
    epilog=examples(
        "refinerctl poll --since 1h",
        "refinerctl poll --expect RefinerInput/report.txt --timeout 2m",
        "refinerctl poll --follow --download outputs/",
    )
)
@click.option("--once", is_flag=True, help="List existing completions once. This is the default.")
@click.option("--follow", is_flag=True, help="Print new completions (or those since --since) until Ctrl-C.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="KEY",
    help="Key of an input or completion to wait for; repeatable.",
)
@click.option(
    "--prefix",
    metavar="PREFIX",
    shell_complete=complete_prefix,
    help="Prefix or stage of the inputs in --expect.",
)
@click.option("--since", type=Moment(), help="Earliest time of a completion: 1h, or 2026-03-01T14:02:00Z.")
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="Number of completions to print before --follow ends."
)
@click.option("--timeout", type=Duration(), help="Maximum time to wait. [default: 5m with --expect, else unlimited]")
@click.option("--interval", type=Duration(shortest=0.1), default="2s", show_default=True, help="Polling interval.")
@click.option("--content", is_flag=True, help="Also print the contents of the outputs, except binary ones.")
@click.option(
    "--max-content",
    type=click.IntRange(min=0),
    metavar="BYTES",
    help=f"With --content: maximum number of bytes to print of an output.  [default: {MAX_CONTENT}]",
)
@click.option(
    "--download", type=PathParam(file_okay=False, path_type=Path), metavar="DIR", help="Folder to save outputs in."
)
@global_options
@click.pass_context
def poll(
    ctx: click.Context,
    once: bool,
    follow: bool,
    expected: tuple[str, ...],
    prefix: str | None,
    since: datetime | None,
    count: int | None,
    timeout: float | None,
    interval: float,
    content: bool,
    max_content: int | None,
    download: Path | None,
) -> None:
    """List completions, and the keys and sizes of their outputs.

    Contents, which may be health records, are printed only with --content. Reads the completion objects in the bucket;
    never receives messages of the completion queue, which belong to downstream consumers. Exit code 1 if a completion
    reports an error, is malformed or lists an output that does not exist; 3 if an expected completion timed out.
    """
    if once + follow + bool(expected) > 1 or (count and (once or expected)):
        raise click.UsageError(
            "--once, --follow and --expect are mutually exclusive; --count can be combined with --follow only."
        )
    if download and content:
        raise click.UsageError("--download and --content are mutually exclusive")
    if max_content is not None and not content:
        raise click.UsageError("--max-content needs --content")
    app = app_context(ctx)
    app.tell_settings()
    app.results.check()
    cancelled = threading.Event()
    if download:
        read = save_outputs(app.results, download, cancelled)
    elif content:
        read = read_outputs(app.results, MAX_CONTENT if max_content is None else max_content)
    else:
        read = list_outputs(app.results)
    completions = completions_of(app)
    poller = Poller(completions, read, since, cancelled)
    found: Iterable[PolledCompletion | Expectation]
    if expected:
        below = None if prefix is None else input_prefix(app, prefix)
        wanted = [expectation(completions, _expected_key(app, completions, key, below), below) for key in expected]
        timeout = EXPECT_SECONDS if timeout is None else timeout
        app.render.note(f"waiting up to {seconds(timeout)} for {counted(len(wanted), 'completion')}")
        found = poller.expect(wanted, interval_s=interval, timeout_s=timeout)
    elif follow or count:
        app.render.note(f"waiting for completions in {_places(app, completions)}")
        found = itertools.islice(poller.follow(interval_s=interval, timeout_s=timeout), count)
    else:
        found = poller.existing()
    seen = _report(app.render, found, count)
    if not seen and not expected:
        start = f" since {since:%Y-%m-%dT%H:%M:%SZ}" if since else ""
        app.render.note(f"no completions{start} in {_places(app, completions)}")


def _places(app: AppContext, completions: Completions) -> str:
    return ", ".join(f"s3://{app.results.name}/{prefix}" for prefix in completions.prefixes)


def _expected_key(app: AppContext, completions: Completions, asked: str, prefix: str | None) -> str:
    """The key of the input or completion that `asked` names."""
    bare = below_bucket(asked, app.bucket.name).removeprefix("/")
    is_completion = bare.startswith(tuple(completions.prefixes)) and not completions.is_input(bare)
    return bare if is_completion or prefix is not None else input_key(app, bare)


@dataclass(frozen=True)
class PolledCompletion:
    """A completion with the outputs that it lists; `error` says why it counts as failed."""

    key: str
    status: CompletionStatus
    last_modified: datetime
    outputs: tuple[ListedOutput, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Expectation:
    """An expected completion: `asked` as given, `candidates` the keys under which it may appear.

    `input_key` is the input that it must belong to, None for a completion that was asked for by its own key. `other`
    says what is under a candidate instead.
    """

    asked: str
    candidates: tuple[str, ...]
    input_key: str | None = None
    other: str | None = None


def expectation(completions: Completions, asked: str, input_prefix: str | None = None) -> Expectation:
    """Parse a value of --expect: an input's key, a completion's key, or the name below the input prefix.

    `input_prefix` is that of the stage that the input belongs to, the stack's own if None.
    """
    key, prefix = asked.removeprefix("/"), input_prefix or completions.storage.input_prefix
    is_input = key.startswith(prefix) or (input_prefix is None and completions.is_input(key))
    if not is_input and key.startswith(tuple(completions.prefixes)):
        return Expectation(asked, completions.named(key))
    input_key = key if is_input else prefix + key
    return Expectation(asked, completions.keys_for(input_key), input_key)


@dataclass(frozen=True)
class Poller:
    """Reads completions that were written at `since` or later, with their outputs; stops early by `cancelled`."""

    completions: Completions
    read: ReadOutput
    since: datetime | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    clock: Clock = time

    def get(self, key: str) -> PolledCompletion | None:
        """The completion at `key`; None if it does not exist (any more)."""
        completion = self.completions.get(key)
        return None if completion is None else self._polled(completion)

    def existing(self) -> Iterator[PolledCompletion]:
        """Those that exist now, in the order of their keys."""
        with self._pool() as pool:
            yield from self._fetch(pool, self.completions.since(self.since))

    def follow(self, *, interval_s: float, timeout_s: float | None) -> Iterator[PolledCompletion]:
        """Those written at `since` or later (None: from now on), in the order of their times; ends after `timeout_s`.

        Lists the whole completion prefix each time, with one request per 1,000 completions. Remembers only the last
        minutes' worth.
        """
        deadline = None if timeout_s is None else self.clock.monotonic() + timeout_s
        # Times are S3's own, so this machine's clock does not matter.
        seen = {} if self.since else {_identity(info): info.last_modified for info in self.completions.since(None)}
        with self._pool() as pool:
            while True:
                horizon = max(seen.values()) - WINDOW if seen else None
                seen = {identity: at for identity, at in seen.items() if horizon is None or at >= horizon}
                start = max(filter(None, (self.since, horizon)), default=None)
                new = [info for info in self.completions.since(start) if _identity(info) not in seen]
                seen |= {_identity(info): info.last_modified for info in new}
                yield from self._fetch(pool, sorted(new, key=lambda info: info.last_modified))
                now = self.clock.monotonic()
                if deadline is not None and now >= deadline:
                    return
                self.clock.sleep(interval_s if deadline is None else min(interval_s, deadline - now))

    def expect(
        self, expected: Sequence[Expectation], *, interval_s: float, timeout_s: float
    ) -> Iterator[PolledCompletion | Expectation]:
        """Each expected completion as soon as it exists; at the end those that timed out.

        Requests those keys alone, so the cost does not grow with the bucket's history.
        """
        waiting = list(dict.fromkeys(expected))
        others: dict[Expectation, str] = {}
        deadline = self.clock.monotonic() + timeout_s
        with self._pool() as pool:
            while waiting:
                found = list(pool.map(partial(self._first, others), waiting))
                yield from pool.map(self._polled, filter(None, found))
                waiting = [item for item, completion in zip(waiting, found, strict=True) if completion is None]
                now = self.clock.monotonic()
                if not waiting or now >= deadline:
                    break
                self.clock.sleep(min(interval_s, deadline - now))
        yield from (replace(item, other=others.get(item)) for item in waiting)

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that do not delay Ctrl-C: busy ones are cancelled, queued tasks are not started."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="poll") as pool:
            try:
                yield pool
            except BaseException:
                self.cancelled.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _first(self, others: dict[Expectation, str], expected: Expectation) -> Completion | None:
        """The expected completion; notes among `others` what is there instead."""
        for key in expected.candidates:
            found = self.completions.get(key)
            if found is None or (self.since is not None and found.info.last_modified < self.since):
                continue
            if expected.input_key is None or self.completions.is_of_input(found, expected.input_key):
                return found
            others[expected] = found.of_another
        return None

    def _fetch(self, pool: ThreadPoolExecutor, infos: Iterable[ObjectInfo]) -> Iterator[PolledCompletion]:
        """Fetch several at once, yield them in order, and keep no more than that in memory."""
        ahead: deque[Future[PolledCompletion | None]] = deque()
        for info in infos:
            ahead.append(pool.submit(self.get, info.key))
            if len(ahead) >= THREADS:
                yield from filter(None, [ahead.popleft().result()])
        while ahead:
            yield from filter(None, [ahead.popleft().result()])

    def _polled(self, completion: Completion) -> PolledCompletion:
        document, info = completion.document, completion.info
        outputs = tuple(map(self._output, document.output_keys))
        errors = [output.error for output in outputs if output.error]
        status, error = document.status, document.error
        if status is CompletionStatus.COMPLETED and errors:
            status, error = CompletionStatus.FAILED, "; ".join(errors)
        return PolledCompletion(info.key, status, info.last_modified, outputs, error)

    def _output(self, key: str) -> ListedOutput:
        """An output that cannot be read fails its completion, and does not end the following of others."""
        try:
            return self.read(key)
        except RefinerctlError as error:
            return ListedOutput(key, error=f"cannot read {key}: {error}")


def _identity(info: ObjectInfo) -> tuple[str, str, datetime]:
    return info.key, info.etag, info.last_modified


def _report(render: Renderer, found: Iterable[PolledCompletion | Expectation], count: int | None) -> int:
    """Print each completion as soon as it is found, and return their number."""
    seen, failed, missing = 0, 0, []
    has_binary = False

    def raise_for_failures() -> None:
        if failed:
            raise RefinerctlError(f"{failed} of {seen} completions report a failure or cannot be read")

    try:
        for item in found:
            if isinstance(item, Expectation):
                missing.append(f"{item.asked} ({item.other})" if item.other else item.asked)
                continue
            seen += 1
            failed += item.status is not CompletionStatus.COMPLETED
            show_completion(render, item)
            has_binary = has_binary or any(output.binary_type for output in item.outputs)
    except (KeyboardInterrupt, Terminated):  # how --follow usually ends: a failure seen before is still a failure
        raise_for_failures()
        raise
    if has_binary and not render.is_json:
        render.note("binary content is not printed; --download DIR saves it")
    raise_for_failures()
    if missing:
        raise TimedOutError(f"timed out without a completion: {', '.join(missing)}")
    if count and seen < count:
        raise TimedOutError(f"timed out after {seen} of {count} completions")
    return seen


def show_completion(render: Renderer, item: PolledCompletion) -> None:
    """Print a completion with its outputs, as text or as one JSON line."""
    if render.is_json:
        render.json(completion_json(item), indent=None)
        return
    render.fields([(f"{item.status:<9}", 0), (item.key, 0), (f"{item.last_modified:%Y-%m-%dT%H:%M:%SZ}", 1)])
    if item.error:
        render.warning(f"{item.key}: {item.error}")
    for output in item.outputs:
        if not output.error:
            _show_output(render, output)


def _show_output(render: Renderer, output: ListedOutput) -> None:
    amount = size(output.size or 0)
    if output.path is not None:
        render.line(f"           {output.key} saved as {output.path} ({amount})")
    elif output.content is None:
        render.line(f"           {output.key} ({amount})")
    elif (kind := output.binary_type) is not None:
        render.line(f"           {output.key} ({amount}, {kind})")
    else:
        render.line(f"==> {output.key} ({amount}) <==")
        render.content(output.content)
        if output.truncated:
            render.warning(f"{output.key} is longer than --max-content; --download DIR saves all of it")


def completion_json(item: PolledCompletion) -> dict[str, Any]:
    """A completion in the contract's form."""
    return {
        "key": item.key,
        "status": item.status,
        "last_modified": item.last_modified,
        "outputs": [_output_json(output) for output in item.outputs],
        "error": item.error,
    }


def _output_json(output: ListedOutput) -> dict[str, Any]:
    document: dict[str, Any] = {"key": output.key, "size": output.size}
    if output.path is not None:
        document["path"] = output.path
    if output.content is not None:
        document |= _content_json(output.content, output.truncated)
        document["truncated"] = output.truncated
    if output.error:
        document["error"] = output.error
    return document


def _content_json(content: bytes, truncated: bool) -> dict[str, str | None]:
    """Text as text, even if it is cut within a character; other bytes as base64, which does not damage them."""
    try:
        return {"content": codecs.getincrementaldecoder("utf-8")().decode(content, final=not truncated)}
    except UnicodeDecodeError:
        return {"content": None, "content_base64": base64.b64encode(content).decode("ascii")}
