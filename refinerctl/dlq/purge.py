"""Deleting dead letters: only what was received, is meant, and has been written down before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from refinerctl.aws.messages import MAX_BATCH, EntryResult, Message
from refinerctl.console import Progress
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.views import Purged
from refinerctl.dlq.walk import ATTEMPTS, PAUSE_S, Queue, Walk, WalkRules, counted, meant
from refinerctl.errors import TransientError
from refinerctl.parallel import concurrently, through_interrupt

# Written down and made durable together.
CHUNK = 200
DELETES_AT_ONCE = 16


@dataclass(frozen=True)
class PurgeRequest:
    """What to delete. `keep` writes messages down so that they outlive a crash, before they are deleted."""

    filter: MessageFilter
    keep: Callable[[Sequence[Message]], None] | None = None


def purge(source: Queue, request: PurgeRequest, errors: ErrorFinder, progress: Progress) -> Purged:
    """Receive, write down, delete, until what was there at the beginning is gone; what is not meant is given back.

    Raises RefinerctlError only if it cannot even begin (NotFoundError without the queue). What ends it later, Ctrl-C as
    well, is in `stopped_by`.
    """
    walk = Walk(source, WalkRules.of(request.filter, None))
    purged = Purged(source.address, "delete")
    try:
        with walk:
            for chunk in walk.chunks(CHUNK):
                step = _Step(source, request, walk, purged, meant(chunk, request.filter, errors))
                try:
                    through_interrupt(step)
                finally:
                    purged = step.purged
                progress.update(f"{walk.standing()}: {purged.deleted:,} deleted")
    except BaseException as error:  # Ctrl-C, too: what was done until then has to be told
        purged = replace(purged, stopped_by=error)
    left = walk.left + walk.received - purged.deleted
    return replace(
        purged,
        skipped=walk.received - purged.deleted - purged.failed,
        left=None if purged.stopped_by else left,
        notes=(*_failures(purged), *walk.notes(), *errors.notes()),
    )


@dataclass
class _Step:
    """Writes down and deletes what is meant of a chunk; `purged` is right at any time, as this may be cut short."""

    source: Queue
    request: PurgeRequest
    walk: Walk
    purged: Purged
    letters: Sequence[Message]

    def __call__(self) -> None:
        letters = self.letters
        if self.request.keep is not None and letters:
            self.request.keep(letters)
            self.purged = replace(self.purged, exported=self.purged.exported + len(letters))
        batches = [letters[start : start + MAX_BATCH] for start in range(0, len(letters), MAX_BATCH)]
        for done in concurrently([partial(_delete, self.source, batch) for batch in batches], DELETES_AT_ONCE):
            self.walk.gone(done)
            self.purged = replace(self.purged, deleted=self.purged.deleted + len(done))
        failed = sum(1 for letter in letters if self.walk.holds(letter))
        self.purged = replace(self.purged, failed=self.purged.failed + failed)


def _delete(source: Queue, letters: Sequence[Message]) -> list[Message]:
    """Those that were deleted. To delete once more what may be deleted does no harm."""
    deleted: list[Message] = []
    waiting = list(letters)
    for attempt in range(ATTEMPTS):
        results = source.delete([letter.receipt for letter in waiting])
        answered = list(zip(waiting, results, strict=True))
        deleted += [letter for letter, result in answered if result.is_done]
        waiting = [letter for letter, result in answered if _may_pass(result)]
        if not waiting:
            break
        time.sleep(PAUSE_S * 2**attempt)
    return deleted


def _may_pass(result: EntryResult) -> bool:
    if result.is_done or result.is_sender_fault:
        return False
    if result.cause is not None and not isinstance(result.cause, TransientError):
        raise result.cause
    return True


def _failures(purged: Purged) -> Sequence[str]:
    if not purged.failed:
        return ()
    written = ", and are in the export as well" if purged.exported else ""
    return (f"{counted(purged.failed, 'message')} could not be deleted: still in the queue{written}",)
