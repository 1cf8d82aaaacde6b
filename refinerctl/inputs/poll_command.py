"""`refinerctl poll`."""

from __future__ import annotations

import base64
import codecs
import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Renderer
from refinerctl.errors import RefinerctlError, Terminated, TimedOutError
from refinerctl.inputs import poll as operation
from refinerctl.inputs.types import Output, PolledCompletion
from refinerctl.options import Duration, Moment, Prefix, global_options
from refinerctl.stacks.base import CompletionStatus

EXPECT_SECONDS = 300.0


@click.command()
@click.option("--once", is_flag=True, help="Look once. This is what happens without any other option.")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C, with completions that come from now on (or --since).")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="KEY",
    help="Wait for this input's or completion's key; repeatable.",
)
@click.option("--prefix", type=Prefix(), help="The prefix of the inputs that --expect names. [default: the stack's]")
@click.option("--since", type=Moment(), help="Only completions since then: 1h, or 2026-03-01T14:02:00Z.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Follow until N completions have come.")
@click.option("--timeout", type=Duration(), help="Give up after this long. [default: 5m with --expect, else never]")
@click.option(
    "--interval", type=Duration(shortest=0.1), default="2s", show_default=True, help="Time between two looks."
)
@click.option(
    "--download",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Save outputs below DIR instead of printing them.",
)
@click.option(
    "--max-content",
    type=click.IntRange(min=0),
    default=1024 * 1024,
    show_default=True,
    metavar="BYTES",
    help="Print at most this much of an output.",
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
    download: Path | None,
    max_content: int,
) -> None:
    """Print completions and the outputs that they list.

    Reads the completion objects in the bucket; never takes messages off the complete queue, which belongs to
    downstream. Exit code 1 if a completion reports an error, is malformed or lists an output that is missing; 3 if
    what was waited for did not come in time.
    """
    if once + follow + bool(expected) > 1 or (count and (once or expected)):
        raise click.UsageError("--once, --follow and --expect exclude each other, and --count goes with --follow.")
    app = app_context(ctx)
    app.tell_settings()
    app.bucket.check()
    cancelled = threading.Event()
    if download is not None:
        read = operation.save_outputs(app.bucket, download, cancelled)
    else:
        read = operation.print_outputs(app.bucket, max_content)
    found: Iterable[PolledCompletion | operation.Expectation]
    if expected:
        wanted = [operation.expectation(app.old_pipeline, key, prefix) for key in expected]
        patience = EXPECT_SECONDS if timeout is None else timeout
        found = operation.expect(
            app.completions, wanted, since, read, interval_s=interval, timeout_s=patience, cancelled=cancelled
        )
    elif follow or count:
        news = operation.follow(
            app.completions, since, read, interval_s=interval, timeout_s=timeout, cancelled=cancelled
        )
        found = itertools.islice(news, count)
    else:
        found = operation.look(app.completions, since, read, cancelled)
    _report(app, found, count)


def _report(app: AppContext, found: Iterable[PolledCompletion | operation.Expectation], count: int | None) -> None:
    tally = _Tally()
    try:
        for item in found:
            if isinstance(item, operation.Expectation):
                tally.missing.append(item.asked)
            else:
                tally.add(item)
                show_completion(app.render, item)
    except (KeyboardInterrupt, Terminated):  # how following usually ends: a failure seen before is still a failure
        tally.raise_for_failures()
        raise
    tally.raise_for_failures()
    if tally.missing:
        raise TimedOutError(f"no completion in time for {', '.join(tally.missing)}")
    if count and tally.seen < count:
        raise TimedOutError(f"{tally.seen} of {count} completions came in time")


@dataclass
class _Tally:
    seen: int = 0
    failed: int = 0
    missing: list[str] = field(default_factory=list)

    def add(self, item: PolledCompletion) -> None:
        self.seen += 1
        self.failed += item.status is not CompletionStatus.COMPLETED

    def raise_for_failures(self) -> None:
        if self.failed:
            raise RefinerctlError(f"{self.failed} of {self.seen} completions report a failure or cannot be read")


def show_completion(render: Renderer, item: PolledCompletion) -> None:
    """A completion with its outputs, as text or as one JSON line."""
    if render.is_json:
        render.json(completion_json(item), indent=None)
        return
    render.line(f"{item.status:<9}  {item.key}  {item.last_modified:%Y-%m-%dT%H:%M:%SZ}")
    if item.error:
        render.warning(f"{item.key}: {item.error}")
    for output in item.outputs:
        _show_output(render, output)


def _show_output(render: Renderer, output: Output) -> None:
    if output.error:
        return
    if output.path is not None:
        render.line(f"           {output.key} saved as {output.path} ({output.size} bytes)")
        return
    render.line(f"==> {output.key} ({output.size} bytes) <==")
    render.content(output.content or b"")
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


def _output_json(output: Output) -> dict[str, Any]:
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
    """Text as text, be it cut in the middle of a character; what is not UTF-8 would be damaged by that."""
    try:
        return {"content": codecs.getincrementaldecoder("utf-8")().decode(content, final=not truncated)}
    except UnicodeDecodeError:
        return {"content": None, "content_base64": base64.b64encode(content).decode("ascii")}
