"""What a look at dead letters tells: of each message its object and its error, of all of them how often which error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.aws.objects import ObjectEvent
from refinerctl.insight.error_signature import signature

UNKNOWN = "unknown"


class ObjectState(StrEnum):
    """What became of the object that a message is about.

    `replaced`: that version is gone, and there is another one; `unknown`: nobody could be asked.
    """

    EXISTS = "exists"
    REPLACED = "replaced"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class MessageError:
    """What killed a message, and the invocation that said so, where there was one."""

    text: str
    request_id: str | None = None


@dataclass(frozen=True)
class InspectedMessage:
    """A message that was looked at. `object` None: its body names none; `error` None: nothing tells."""

    letter: Message
    object: ObjectEvent | None = None
    object_state: ObjectState = ObjectState.UNKNOWN
    error: MessageError | None = None


@dataclass(frozen=True)
class ErrorGroup:
    """Messages with errors of the same cause; the example is the first of them."""

    signature: str
    count: int
    example_id: str
    example_key: str | None = None
    example_error: str | None = None


@dataclass(frozen=True)
class Looked:
    """A look into a queue: `received` messages were looked at, `matched` of them were meant.

    `is_whole`: every message that was there has been seen. `notes`: what to know besides.
    """

    queue: QueueAddress
    received: int
    matched: int
    is_whole: bool
    letters: tuple[InspectedMessage, ...] = ()
    groups: tuple[ErrorGroup, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brief:
    """As much of a message as its group needs: bodies of thousands are not kept."""

    id: str
    key: str | None
    error: str | None


def grouped(letters: Iterable[Brief]) -> tuple[ErrorGroup, ...]:
    """By what their errors have in common, the most frequent first; those without any come as `unknown`."""
    first: dict[str, Brief] = {}
    counts: dict[str, int] = {}
    for brief in letters:
        name = signature(brief.error, [brief.key or ""]) if brief.error else UNKNOWN
        first.setdefault(name, brief)
        counts[name] = counts.get(name, 0) + 1
    order = sorted(first, key=lambda name: (name == UNKNOWN, -counts[name], name))
    return tuple(ErrorGroup(name, counts[name], first[name].id, first[name].key, first[name].error) for name in order)


@dataclass(frozen=True)
class Exported:
    """An export: `received` messages were looked at, `exported` of them were meant and written.

    `is_whole`: all that could be received at the beginning was.
    """

    queue: QueueAddress
    received: int
    exported: int
    is_whole: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Purged:
    """A purge. `method`: `delete` (each message that was received and meant) or `purge` (SQS's PurgeQueue).

    `failed`: exported, if that was asked for, and could not be deleted; `skipped`: looked at and not meant; `left`: in
    the queue at the end, approximately. `stopped_by`: what ended it before its time, to be raised once this is told.
    """

    queue: QueueAddress
    method: str
    deleted: int = 0
    exported: int = 0
    skipped: int = 0
    failed: int = 0
    left: int | None = None
    notes: tuple[str, ...] = ()
    stopped_by: BaseException | None = None


def standing(done: int, total: int | None, seconds: float) -> str:
    """How far something is that began `seconds` ago: `1,200 of 5,000 messages (2,100/s, 2 s left)`."""
    rate = done / seconds if seconds > 0 else 0.0
    whole = f" of {total:,}" if total else ""
    left = f", {max(total - done, 0) / rate:.0f} s left" if total and rate else ""
    return f"{done:,}{whole} messages ({rate:,.0f}/s{left})"
