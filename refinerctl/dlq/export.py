"""All messages of a queue, each once, handed to whoever writes them; the queue stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from refinerctl.aws.messages import Message
from refinerctl.console import Progress
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.views import Exported
from refinerctl.dlq.walk import Queue, Walk, WalkRules, meant

CHUNK = 100


@dataclass(frozen=True)
class ExportRequest:
    """At most `limit` of the messages that `filter` means; None: all of them."""

    filter: MessageFilter
    limit: int | None = None

    @property
    def rules(self) -> WalkRules:
        """Without a filter no more are received than wanted."""
        return WalkRules.of(self.filter, self.limit if self.filter.is_empty else None)


def export(
    source: Queue,
    request: ExportRequest,
    errors: ErrorFinder,
    take: Callable[[Message], None],
    progress: Progress,
) -> Exported:
    """Give each message to `take`; only some are in memory at a time. Nothing is deleted.

    Raises NotFoundError without the queue, other RefinerctlErrors if it cannot be received from to its end, and what
    `take` raises. Whatever happens, messages are given back.
    """
    count = 0
    with Walk(source, request.rules) as walk:
        for chunk in walk.chunks(CHUNK):
            for letter in meant(chunk, request.filter, errors):
                take(letter)
                count += 1
                if count == request.limit:
                    break
            progress.update(f"{walk.standing()}: {count:,} match")
            if count == request.limit:
                break
    return Exported(
        source.address,
        walk.received,
        count,
        is_whole=walk.is_whole or count == request.limit,
        notes=(*walk.notes(), *errors.notes()),
    )
