"""`refinerctl dlq inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from refinerctl.app import app_context
from refinerctl.dlq.inspect_view import group_lines, looked_json, message_json, message_parts
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.stations import at_queue, error_finder, open_queue
from refinerctl.options import global_options

if TYPE_CHECKING:
    from refinerctl.console import Renderer
    from refinerctl.dlq.filters import MessageFilter
    from refinerctl.dlq.inspect import LookRequest
    from refinerctl.dlq.views import Looked

SHOWN = 10
COUNTED = 10_000


@click.command("inspect")
@click.argument("queue")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, COUNTED),
    metavar="N",
    help=f"At most so many messages.  [default: {SHOWN}; with --group {COUNTED}]",
)
@click.option("--group", is_flag=True, help="Count messages by the error that killed them.")
@click.option("--jsonl", is_flag=True, help="JSON Lines: one message or group per line.")
@click.option("--force", is_flag=True, help="Also if the queue has a dead-letter queue itself.")
@global_options
@click.pass_context
def command(
    ctx: click.Context,
    queue: str,
    message_filter: MessageFilter,
    limit: int | None,
    group: bool,
    jsonl: bool,
    force: bool,
) -> None:
    """Look at messages of a dead-letter queue, and give them back at once.

    QUEUE is a name, a URL or an ARN. Shows of each message the S3 object that it is about and whether that is still
    there, the error that killed it, its attributes and its body. Looking raises the receive counts of the messages.
    """
    from refinerctl.aws.object_states import ObjectStates
    from refinerctl.dlq.inspect import LookRequest, inspect

    app = at_queue(app_context(ctx), queue)
    app.tell_settings()
    found, source = open_queue(app, queue, force=force)
    request = LookRequest(message_filter, limit or (COUNTED if group else SHOWN), group)
    with app.render.progress() as progress:
        looked = inspect(source, request, error_finder(app, found), ObjectStates(app.session), progress)
    if jsonl:
        for item in looked.groups if group else map(message_json, looked.letters):
            app.render.json(item, indent=None)
    elif app.render.is_json:
        app.render.json(looked_json(looked, group=group))
    else:
        _show(app.render, looked, request)
    for note in looked.notes:
        app.render.note(note)


def _show(render: Renderer, looked: Looked, request: LookRequest) -> None:
    if not looked.received:
        render.note(f"{looked.queue.name}: nothing to see")
    elif not looked.matched:
        render.note(f"{looked.queue.name}: none of {looked.received} messages matches")
    for line in group_lines(looked.groups):
        render.line(line)
    for number, seen in enumerate(looked.letters):
        if number:
            render.line()
        for parts in message_parts(seen):
            render.styled(parts)
    if looked.matched == request.limit and (not looked.is_whole or looked.matched < looked.received):
        render.note(f"these are the first {looked.matched}, there may be more: --limit N")
