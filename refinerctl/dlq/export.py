"""`refinerctl dlq export`: the messages of a DLQ in a file of JSON Lines; the queue keeps them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.messages import Message
from refinerctl.dlq.errors import error_finder
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.records import check_new, to_line
from refinerctl.dlq.services import at_queue, open_queue
from refinerctl.dlq.walk import Walk
from refinerctl.errors import RefinerctlError
from refinerctl.files import check_writable, replacing
from refinerctl.options import examples, global_options
from refinerctl.shell import complete_dlq

if TYPE_CHECKING:
    from refinerctl.console import Progress
    from refinerctl.dlq.filters import MessageFilter

STDOUT = "-"


@click.command(
    "export",
    epilog=examples(
        "refinerctl dlq export dibbs-ecr-RefinerInput-dlq messages.jsonl",
        "refinerctl dlq export QUEUE - --key-prefix RefinerInput/team/ | jq .body",
    ),
)
@click.argument("queue", shell_complete=complete_dlq)
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

    QUEUE is the name of a queue or of its stage, a URL or an ARN; FILE - is standard output. FILE appears when it is
    complete, readable by you only. `dlq redrive --from-file` sends its messages. The queue keeps all messages; their
    receive counts increase by 1.
    """
    app = at_queue(app_context(ctx), queue)
    app.tell_settings()
    if file == STDOUT:
        walk = _run(app, queue, message_filter, limit, force, app.render.line)
    else:
        path = Path(file)
        if not force:
            check_new(path)
        check_writable(path)
        with replacing(path, private=True) as temporary, temporary.open("w", encoding="utf-8") as out:
            walk = _run(app, queue, message_filter, limit, force, lambda line: out.write(f"{line}\n"))
    for note in walk.notes():
        app.render.note(note)
    _report(app, walk, file)
    if not walk.is_complete and walk.matched != walk.limit:
        raise RefinerctlError(
            walk.remaining.sentence, hint="The file has the other messages. Export the queue again later, with --force."
        )


def _run(
    app: AppContext,
    queue: str,
    which: MessageFilter,
    limit: int | None,
    force: bool,
    write: Callable[[str], object],
) -> Walk:
    found, source, _ = open_queue(app, queue, force=force)
    walk = Walk(source, which, error_finder(app, found.source_queues if which.needs_error else ()), limit=limit)
    with app.render.progress() as progress:
        export(walk, lambda item: write(to_line(item, source.address)), progress)
    return walk


def export(walk: Walk, take: Callable[[Message], object], progress: Progress) -> None:
    """Pass each message to `take`. Nothing is deleted.

    Raises RefinerctlError if messages cannot be received, and whatever `take` raises; messages are released.
    """
    with walk:
        for chunk in walk.chunks():
            for message in chunk:
                take(message)
            progress.update(f"{walk.progress()}: {walk.matched:,} match")


def _report(app: AppContext, walk: Walk, file: str) -> None:
    text = f"{walk.queue.name}: exported {walk.matched:,} of {walk.received:,} received messages"
    if file == STDOUT:
        app.render.note(text)
    elif app.render.is_json:
        app.render.json(
            {
                "queue": walk.queue.name,
                "file": file,
                "exported": walk.matched,
                "received": walk.received,
                "is_complete": walk.is_complete or walk.matched == walk.limit,
            }
        )
    else:
        app.render.line(f"{text} to {file}")
