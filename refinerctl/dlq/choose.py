"""The messages that a filter means, all given back at once: to be counted, or to be edited."""

from __future__ import annotations

from dataclasses import dataclass, replace

from refinerctl.aws.messages import Message
from refinerctl.console import Progress
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.walk import Queue, Walk, WalkRules, meant

# As many as that are in memory besides those that are kept.
CHUNK = 50


@dataclass(frozen=True)
class Chosen:
    """`matched` of the `received` messages are meant; `is_whole`: there were no others. Without receipts."""

    matched: int
    received: int
    is_whole: bool
    letters: tuple[Message, ...] = ()


def choose(
    source: Queue, chosen: MessageFilter, errors: ErrorFinder, progress: Progress, *, keep: int | None = None
) -> Chosen:
    """Look at all messages, or until `keep` of them are meant, which are returned then; without `keep` only counts.

    Raises NotFoundError without the queue, and other RefinerctlErrors if it cannot be received from.
    """
    kept: list[Message] = []
    matched = 0
    # Without a filter each message that is received is one of those that are wanted.
    with Walk(source, WalkRules.of(chosen, keep if chosen.is_empty else None)) as walk:
        for chunk in walk.chunks(CHUNK):
            found = list(meant(chunk, chosen, errors))
            matched += len(found)
            if keep is not None:
                kept += [replace(letter, receipt="") for letter in found[: keep - len(kept)]]
            progress.update(f"{walk.standing()}: {matched:,} match")
            if keep is not None and len(kept) >= keep:
                break
    return Chosen(matched if keep is None else len(kept), walk.received, walk.is_whole, tuple(kept))
