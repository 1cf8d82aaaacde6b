"""The messages that match a filter, all released at once: to count them, or to edit them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from refinerctl.aws.messages import Message
from refinerctl.console import Progress
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.walk import SourceQueue, Walk

# Messages in memory besides those that are kept.
CHUNK = 50


@dataclass(frozen=True)
class Chosen:
    """`matched` of the `received` messages match. `is_whole`: there were no others. Messages without receipts."""

    matched: int
    received: int
    is_whole: bool
    letters: tuple[Message, ...] = ()


def choose(
    source: SourceQueue, which: MessageFilter, errors: ErrorFinder, progress: Progress, *, keep: int | None = None
) -> Chosen:
    """Receive all messages, or until `keep` of them match, which are returned; without `keep` only counts.

    Raises NotFoundError without the queue, and other RefinerctlErrors if its messages cannot be received.
    """
    kept: list[Message] = []
    with Walk(source, which, errors, limit=keep) as walk:
        for chunk in walk.chunks(CHUNK):
            if keep is not None:
                kept += [replace(message, receipt="") for message in chunk]
            progress.update(f"{walk.progress()}: {walk.matched:,} match")
    return Chosen(walk.matched, walk.received, walk.is_complete, tuple(kept))
