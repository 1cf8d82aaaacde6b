"""`refinerctl dlq export`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.stations import at_queue, error_finder, open_queue
from refinerctl.errors import RefinerctlError
from refinerctl.options import global_options

if TYPE_CHECKING:
    from refinerctl.aws.messages import Message
    from refinerctl.dlq.filters import MessageFilter
    from refinerctl.dlq.views import Exported

STDOUT = "-"


@click.command("export")
@click.argument("queue")
@click.argument("file")
@filter_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many messages.")
@click.option("--force", is_flag=True, help="Replace FILE; and also if the queue has a dead-letter queue itself.")
@global_options
@click.pass_context
def command(
    ctx: click.Context, queue: str, file: str, message_filter: MessageFilter, limit: int | None, force: bool
) -> None:
    """Write everything of each message as JSON Lines; the queue keeps them all.

    QUEUE is a name, a URL or an ARN; FILE - is standard output. FILE appears when it is whole, for your eyes only;
    `dlq redrive --from-file` sends back what is in it. Looking raises the receive counts of the messages.
    """
    from refinerctl.dlq.message_file import check_new
    from refinerctl.files import check_writable, replacing

    app = at_queue(app_context(ctx), queue)
    app.tell_settings()
    if file == STDOUT:
        done = _export(app, queue, message_filter, limit, force, app.render.line)
    else:
        path = Path(file)
        if not force:
            check_new(path)
        check_writable(path)
        with replacing(path, private=True) as temporary, temporary.open("w", encoding="utf-8") as out:
            done = _export(app, queue, message_filter, limit, force, lambda line: out.write(f"{line}\n"))
            out.flush()
            os.fsync(out.fileno())
    _tell(app, done, None if file == STDOUT else file)
    if not done.is_whole:
        raise RefinerctlError(
            f"not all messages of {done.queue.name} could be received: {done.received} were",
            hint="SQS gives out 120,000 at a time, and of a FIFO queue the first messages of each group.",
        )


def _export(
    app: AppContext,
    text: str,
    which: MessageFilter,
    limit: int | None,
    force: bool,
    write: Callable[[str], object],
) -> Exported:
    from refinerctl.dlq.export import ExportRequest, export
    from refinerctl.dlq.records import to_line

    found, source = open_queue(app, text, force=force)

    def take(letter: Message) -> None:
        write(to_line(letter, source.address))

    errors = error_finder(app, found, is_needed=which.needs_error)
    with app.render.progress() as progress:
        return export(source, ExportRequest(which, limit), errors, take, progress)


def _tell(app: AppContext, done: Exported, file: str | None) -> None:
    for note in done.notes:
        app.render.note(note)
    if file is None:
        app.render.note(
            f"{done.queue.name}: exported {done.exported:,} of {done.received:,} messages that were looked at"
        )
    elif app.render.is_json:
        app.render.json(
            {
                "queue": done.queue.name,
                "file": file,
                "exported": done.exported,
                "received": done.received,
                "is_whole": done.is_whole,
            }
        )
    else:
        app.render.line(
            f"{done.queue.name}: exported {done.exported:,} of {done.received:,} messages that were looked at to {file}"
        )
