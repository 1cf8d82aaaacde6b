"""`refinerctl dlq export`: the messages of a DLQ in a file of JSON Lines; the queue keeps them all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.dlq.errors import error_finder
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.queues import at_queue, open_queue
from refinerctl.dlq.records import check_new, to_line
from refinerctl.dlq.walk import Walk
from refinerctl.errors import RefinerctlError
from refinerctl.files import check_writable, replacing
from refinerctl.options import examples, global_options

if TYPE_CHECKING:
    from refinerctl.console import Progress
    from refinerctl.dlq.filters import MessageFilter

STDOUT = "-"
# Messages in memory at a time.
CHUNK = 100


@dataclass(frozen=True)
class Export:
    """`exported` of the `received` messages matched. `is_complete`: no other visible message would match."""

    queue: QueueAddress
    received: int
    exported: int
    is_complete: bool
    notes: tuple[str, ...] = ()


@click.command(
    "export",
    epilog=examples(
        "refinerctl dlq export dibbs-ecr-RefinerInput-dlq messages.jsonl",
        "refinerctl dlq export QUEUE - --key-prefix RefinerInput/team/ | jq .body",
    ),
)
@click.argument("queue")
@click.argument("file")
@filter_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Maximum number of messages.")
@click.option(
    "--force", is_flag=True, help="Replace FILE if it exists, and receive messages even if the queue has a DLQ itself."
)
@global_options
@click.pass_context
def command(
    ctx: click.Context, queue: str, file: str, message_filter: MessageFilter, limit: int | None, force: bool
) -> None:
    """Write messages of a dead-letter queue to a file as JSON Lines.

    QUEUE is a name, a URL or an ARN; FILE - is standard output. FILE appears when it is complete, readable by you only.
    `dlq redrive --from-file` sends its messages. The queue keeps all messages; their receive counts increase by 1.
    """
    app = at_queue(app_context(ctx), queue)
    app.tell_settings()
    if file == STDOUT:
        done = _run(app, queue, message_filter, limit, force, app.render.line)
    else:
        path = Path(file)
        if not force:
            check_new(path)
        check_writable(path)
        with replacing(path, private=True) as temporary, temporary.open("w", encoding="utf-8") as out:
            done = _run(app, queue, message_filter, limit, force, lambda line: out.write(f"{line}\n"))
            out.flush()
            os.fsync(out.fileno())
    for note in done.notes:
        app.render.note(note)
    _report(app, done, file)
    if not done.is_complete:
        raise RefinerctlError(
            f"queue {done.queue.name}: only {done.received} of its messages could be received",
            hint="SQS has at most 120,000 in flight, and a FIFO queue returns only the first messages of each group.",
        )


def _run(
    app: AppContext,
    queue: str,
    which: MessageFilter,
    limit: int | None,
    force: bool,
    write: Callable[[str], object],
) -> Export:
    found, source = open_queue(app, queue, force=force)
    walk = Walk(source, which, error_finder(app, found.source_queues if which.needs_error else ()), limit=limit)
    with app.render.progress() as progress:
        return export(walk, lambda item: write(to_line(item, source.address)), progress)


def export(walk: Walk, take: Callable[[Message], object], progress: Progress) -> Export:
    """Pass each message to `take`. Nothing is deleted.

    Raises RefinerctlError if messages cannot be received, and whatever `take` raises; messages are released.
    """
    with walk:
        for chunk in walk.chunks(CHUNK):
            for message in chunk:
                take(message)
            progress.update(f"{walk.progress()}: {walk.matched:,} match")
    return Export(
        walk.queue,
        walk.received,
        walk.matched,
        is_complete=walk.is_complete or walk.matched == walk.limit,
        notes=tuple(walk.notes()),
    )


def _report(app: AppContext, done: Export, file: str) -> None:
    text = f"{done.queue.name}: exported {done.exported:,} of {done.received:,} received messages"
    if file == STDOUT:
        app.render.note(text)
    elif app.render.is_json:
        app.render.json(
            {
                "queue": done.queue.name,
                "file": file,
                "exported": done.exported,
                "received": done.received,
                "is_complete": done.is_complete,
            }
        )
    else:
        app.render.line(f"{text} to {file}")
