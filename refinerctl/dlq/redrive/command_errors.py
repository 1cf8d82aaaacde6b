"""Whether what came back failed the same way as before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from refinerctl.dlq.bodies import source_key
from refinerctl.insight.error_signature import signature

if TYPE_CHECKING:
    from refinerctl.aws.messages import Message
    from refinerctl.dlq.errors import ErrorFinder
    from refinerctl.dlq.redrive.returns import Returned

# Errors are looked up in logs; of more messages than this the first ones speak for the others.
MAX_COMPARED = 100


@dataclass(frozen=True)
class SameErrors:
    """Of `compared` messages that came back, `same` failed as before; `errors` counts what they fail with now."""

    compared: int = 0
    same: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


def compare(returned: Sequence[Returned], before: ErrorFinder, now: ErrorFinder) -> SameErrors:
    """Compare each error with that of the message that was sent; `before` reads logs up to the redrive's start."""
    some = returned[:MAX_COMPARED]
    originals = [_original(item) for item in some]
    errors = now.find([item.letter for item in some])
    earlier = before.find(originals)
    found: Counter[str] = Counter()
    same = 0
    for item, original in zip(some, originals, strict=True):
        if (error := errors.get(item.letter.id)) is None:
            continue
        said = _signature(error.text, item.letter)
        found[said] += 1
        was = earlier.get(original.id)
        same += was is not None and _signature(was.text, original) == said
    return SameErrors(sum(found.values()), same, dict(found.most_common()))


def _original(item: Returned) -> Message:
    """The message as it was: what it fails with is in the log under its id of then."""
    sent_at = item.original.sent_at or item.letter.sent_at
    return replace(item.letter, id=item.original.id, sent_at=sent_at)


def _signature(error: str, letter: Message) -> str:
    return signature(error, [key] if (key := source_key(letter.body)) else [])


def sentence(came_back: int, moved: int, same: SameErrors | None) -> str:
    """`12 of 40 failed again the same way: NoSuchKey: …`."""
    if same is None or not same.compared:
        return f"{came_back:,} of {moved:,} came back"
    common = next(iter(same.errors))
    if same.same == came_back:
        again = f"{came_back:,} of {moved:,} failed again the same way"
        return f"{again}: {common}" if len(same.errors) == 1 else f"{again}, most often: {common}"
    others = f"{same.same:,} of {same.compared:,} looked up failed the same way as before"
    return f"{came_back:,} of {moved:,} failed again; {others}; most often now: {common}"
