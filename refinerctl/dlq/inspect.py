"""A look at dead letters, which are given back at once: what each is about, and what killed it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from refinerctl.aws.messages import Message
from refinerctl.aws.objects import ObjectEvent
from refinerctl.console import Progress
from refinerctl.dlq.bodies import source_object
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.views import Brief, ErrorGroup, InspectedMessage, Looked, ObjectState, grouped
from refinerctl.dlq.walk import Queue, Walk, WalkRules, meant
from refinerctl.parallel import concurrently

HEADS_AT_ONCE = 16
# Bodies have up to a megabyte, and so many messages are in memory beside those that are shown.
CHUNK = 50
# Looking for what a filter means, or counting errors, ends somewhere: each look costs every message a receive.
MOST = 10_000


class Objects(Protocol):
    def of(self, about: ObjectEvent) -> ObjectState: ...


@dataclass(frozen=True)
class LookRequest:
    """Up to `limit` messages that `filter` means; `group`: counts by error instead of messages."""

    filter: MessageFilter
    limit: int
    group: bool = False

    @property
    def rules(self) -> WalkRules:
        """Without a filter each message that is received is one of those that are wanted."""
        most = self.limit if self.filter.is_empty else MOST
        return WalkRules.of(self.filter, min(most, MOST), lanes=4)


def inspect(source: Queue, request: LookRequest, errors: ErrorFinder, objects: Objects, progress: Progress) -> Looked:
    """Receive, give back, and then ask logs and S3 about what was received. Nothing is deleted.

    Raises NotFoundError without the queue, and other RefinerctlErrors if it cannot be received from.
    """
    progress.update(f"looking into {source.address.name}")
    taken = _Taken(keeps_bodies=not request.group)
    with Walk(source, request.rules) as walk:
        for letter in _meant(walk, request, errors, progress):
            taken.add(letter)
            if taken.count == request.limit:
                break
    looked = Looked(source.address, walk.received, taken.count, is_whole=walk.is_whole)
    if request.group:
        progress.update(f"looking up what killed {taken.count:,} messages")
        looked = replace(looked, groups=_groups(taken.letters, errors))
    else:
        looked = replace(looked, letters=_seen(taken.letters, errors, objects))
    return replace(looked, notes=tuple(_notes(walk, errors)))


class _Taken:
    """The messages that are meant; for counting without what makes them large."""

    def __init__(self, *, keeps_bodies: bool) -> None:
        self.letters: list[Message] = []
        self._keeps_bodies = keeps_bodies

    @property
    def count(self) -> int:
        return len(self.letters)

    def add(self, letter: Message) -> None:
        self.letters.append(letter if self._keeps_bodies else _without_body(letter))


def _without_body(letter: Message) -> Message:
    """Errors are looked up by the key, too: of a body that names one so much stays."""
    about = source_object(letter.body)
    named = {"detail": {"bucket": {"name": about.bucket}, "object": {"key": about.key}}} if about else None
    return replace(letter, body=json.dumps(named), receipt="", system={})


def _meant(walk: Walk, request: LookRequest, errors: ErrorFinder, progress: Progress) -> Iterator[Message]:
    for chunk in walk.chunks(CHUNK):
        progress.update(walk.standing())
        yield from meant(chunk, request.filter, errors)


def _groups(letters: Sequence[Message], errors: ErrorFinder) -> tuple[ErrorGroup, ...]:
    known = errors.find(letters)
    briefs = []
    for letter in letters:
        about, error = source_object(letter.body), known.get(letter.id)
        briefs.append(Brief(letter.id, about.key if about else None, error.text if error else None))
    return grouped(briefs)


def _seen(letters: Sequence[Message], errors: ErrorFinder, objects: Objects) -> tuple[InspectedMessage, ...]:
    known = errors.find(letters)
    about = {letter.id: source_object(letter.body) for letter in letters}
    asked = list(dict.fromkeys(item for item in about.values() if item))
    states = dict(zip(asked, concurrently([partial(objects.of, item) for item in asked], HEADS_AT_ONCE), strict=True))
    return tuple(
        InspectedMessage(letter, item, states[item] if item else ObjectState.UNKNOWN, known.get(letter.id))
        for letter in letters
        for item in [about[letter.id]]
    )


def _notes(walk: Walk, errors: ErrorFinder) -> Iterator[str]:
    yield from walk.notes()
    yield from errors.notes()
