"""`refinerctl dlq list`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import click

from refinerctl.app import app_context
from refinerctl.console import Cell, seconds
from refinerctl.dlq.queues import DeadLetterQueue, MessageSource
from refinerctl.dlq.services import list_all, requested, stack_dlqs, unknown_queue_hint
from refinerctl.errors import NotFoundError, UsageError
from refinerctl.options import examples, global_options
from refinerctl.shell import complete_dlq

# If not all fit into a terminal, those with the highest number are left out first.
COLUMNS = {"QUEUE": 0, "KIND": 2, "FROM": 5, "DEPTH": 0, "IN FLIGHT": 4, "OLDEST": 3, "EXPIRES": 1}
UNKNOWN = "unknown"


@click.command(
    "list", epilog=examples("refinerctl dlq list", "refinerctl dlq list dibbs-ecr-RefinerInput-dlq --output json")
)
@click.argument("queues", nargs=-1, metavar="[QUEUE]...", shell_complete=complete_dlq)
@global_options
@click.pass_context
def command(ctx: click.Context, queues: tuple[str, ...]) -> None:
    """List dead-letter queues: all of the stack, or those given by name, stage, URL or ARN.

    Receives no message. On a terminal, columns that do not fit are left out. Exit code 1 if a queue could not be read.
    """
    app = app_context(ctx)
    app.tell_settings()
    wanted = tuple(requested(app, text) for text in queues) if queues else stack_dlqs(app)
    if not wanted:
        raise UsageError(
            f"stack {app.settings.stack} has no dead-letter queue", hint="Name queues: `refinerctl dlq list QUEUE`."
        )
    try:
        found, problems = list_all(app, wanted, datetime.now(UTC))
    except NotFoundError as error:
        if queues:
            hints = (unknown_queue_hint(app, text) for text in queues)
            raise NotFoundError(error.message, hint=next(filter(None, hints), error.hint)) from error
        raise NotFoundError(
            f"none of the {len(wanted)} dead-letter queues of stack {app.settings.stack} exists: {error.message}",
            hint="Check --env and --region, deploy the stack, or name other queues: `refinerctl dlq list QUEUE`.",
        ) from error
    if app.render.is_json:
        app.render.json({"queues": found})
    else:
        app.render.table(COLUMNS, [row(queue) for queue in found])
    for text in (*warnings(found), *problems):
        app.render.warning(text)
    if any(queue.error for queue in found):
        ctx.exit(1)


def row(queue: DeadLetterQueue) -> tuple[Cell, ...]:
    """The cells of a queue. A dash means none: no oldest message in an empty queue, no known source."""
    return (
        (queue.name, False),
        (queue.kind, False),
        (UNKNOWN if queue.error else ", ".join(_source(source) for source in queue.sources), False),
        (_number(queue.depth), bool(queue.depth)),
        (_number(queue.in_flight), False),
        (_seconds(queue, queue.oldest_age_s), False),
        (_expiry(queue), queue.expires_soon),
    )


def _source(source: MessageSource) -> str:
    return f"{source.name} (deleted)" if source.exists is False else source.name


def warnings(queues: Iterable[DeadLetterQueue]) -> Iterator[str]:
    for queue in queues:
        if queue.error:
            yield f"{queue.name}: {queue.error}"
        elif queue.expires_soon:
            yield f"{queue.name}: the oldest message expires in {seconds(queue.expires_in_s)} at the latest"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _expiry(queue: DeadLetterQueue) -> str:
    """Messages on a broker have no retention period."""
    if queue.depth and queue.retention_s is None and queue.expires_in_s is None:
        return "never"
    return _seconds(queue, queue.expires_in_s)


def _seconds(queue: DeadLetterQueue, value: float | None) -> str:
    return UNKNOWN if value is None and queue.depth != 0 else seconds(value)
