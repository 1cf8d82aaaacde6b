"""What a redrive is going to do, and what it runs into: SQS's own tasks, targets, consumers, what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from refinerctl.aws.messages import OutgoingMessage, QueueAddress
from refinerctl.dlq.queues import DlqKind
from refinerctl.errors import UsageError

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
MAX_TASK_RATE = 500


class Method(StrEnum):
    """How messages are moved: by SQS itself, or by receiving, sending and deleting them."""

    MOVE_TASK = "move-task"
    COPY = "copy"


@dataclass(frozen=True)
class MoveTask:
    """A task of SQS, as it lists it. Counts are approximate; only a running one has a `handle`."""

    status: str
    handle: str | None = None
    moved: int = 0
    to_move: int | None = None
    destination_arn: str | None = None
    rate: int | None = None
    failure: str | None = None
    started_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        return self.status in ("RUNNING", "CANCELLING")


@dataclass(frozen=True)
class Consumer:
    """A function that an event source mapping feeds from a queue; `state` is Lambda's word."""

    function: str
    state: str


@dataclass(frozen=True)
class Health:
    """Whether what is sent to `queue` would be processed. `broken`: plainly not, and why; `doubts`: worth knowing."""

    queue: str
    consumers: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """A dead-letter queue: `sources` are the queues that it takes the dead letters of."""

    queue: QueueAddress
    kind: DlqKind
    sources: tuple[QueueAddress, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What decides on the method. `rate` in messages per second."""

    method: Method | None = None
    rate: float | None = None
    watches: bool = False
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    method: Method
    reason: str


# A task of SQS takes a minute for that many; a copy is several times as fast, and has to stay until its end.
TASK_SUFFICES = 60 * MAX_TASK_RATE


def choose(asked: Asked, origin: Origin, depth: int, *, knows_tasks: bool, running: MoveTask | None = None) -> Choice:
    """The method, and why. Raises UsageError if one is asked for that cannot do it."""
    against = list(_obstacles(asked, origin, knows_tasks=knows_tasks))
    if asked.method is Method.MOVE_TASK:
        if against:
            raise UsageError(
                f"SQS cannot do this by itself: {against[0]}", hint="Leave out --method, or use --method copy."
            )
        return Choice(Method.MOVE_TASK, "asked for")
    if asked.method is Method.COPY:
        return Choice(Method.COPY, "asked for")
    if running is not None and not against:
        return Choice(Method.MOVE_TASK, "one is running already")
    against += _disadvantages(asked, origin, depth)
    if against:
        return Choice(Method.COPY, against[0])
    return Choice(Method.MOVE_TASK, "the whole queue, which SQS moves by itself")


def _obstacles(asked: Asked, origin: Origin, *, knows_tasks: bool) -> list[str]:
    """Why SQS could not do it."""
    found = [f"a move task knows no {need}" for need in asked.needs]
    if asked.rate is not None and asked.rate > MAX_TASK_RATE:
        found.append(f"a move task moves {MAX_TASK_RATE} messages/s at most")
    if asked.rate is not None and asked.rate < 1:
        found.append("a move task moves at least 1 message/s")
    if not origin.sources:
        found.append(f"{origin.queue.name} is no queue's dead-letter queue")
    if not knows_tasks:
        found.append("this endpoint has no message move tasks, or they are not allowed")
    if asked.watches:
        found.append("a move task does not tell the new ids, by which what comes back is known (--wait)")
    return found


def _disadvantages(asked: Asked, origin: Origin, depth: int) -> list[str]:
    """Why the copy is better, although SQS could do it."""
    found = []
    if origin.queue.is_fifo:
        found.append("a move task does not tell which FIFO duplicates were dropped")
    if depth > TASK_SUFFICES and asked.rate is None:
        found.append(f"{depth:,} messages would take a move task over {depth // MAX_TASK_RATE} s")
    return found


@dataclass(frozen=True)
class RedrivePlan:
    """What a run is going to do. `reasons`: why some of a sample of the messages would stay, each with a count.

    `matching`: how many messages a filter leaves, None if nobody has looked; `running`: a task of SQS on this queue;
    `looked_at`: how many messages that sample had, whose receive counts are one higher now.
    """

    origin: Origin
    choice: Choice
    targets: tuple[QueueAddress, ...]
    depth: int
    in_flight: int = 0
    health: tuple[Health, ...] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)
    running: MoveTask | None = None
    matching: int | None = None
    looked_at: int = 0

    @property
    def broken(self) -> tuple[str, ...]:
        return tuple(sentence for item in self.health for sentence in item.broken)


@dataclass(frozen=True)
class Moved:
    """The end of a redrive: counts of messages.

    `sent_twice`: may be there twice, because nothing was heard of a first sending or of the deletion after it;
    `skipped`: looked at and left because of a filter or a rule; `failed`: could not be sent, still in the queue;
    `left`: in the queue at the end, those hidden by others included; `dropped`: deleted without being sent;
    `returned`: sent by this run and seen in the dead-letter queue again; `dropped_duplicates`: not taken by a FIFO
    target because of one with the same deduplication id within five minutes, still in the queue (none of the other
    counts has them); `reasons`: why those failed were, each with a count. `stopped_by`: what ended the run before its
    time, to be raised once all this is told.
    """

    method: str
    moved: int = 0
    skipped: int = 0
    failed: int = 0
    sent_twice: int = 0
    left: int | None = None
    dropped: int = 0
    returned: int = 0
    dropped_duplicates: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    stopped_by: BaseException | None = field(default=None, compare=False)


@dataclass(frozen=True)
class CopyRules:
    """How a redrive goes about it: at most `limit` messages, at most `rate` a second.

    `visibility_s`: for how long a message that is being moved is hidden from others, should this process die.
    `lanes`: how many work at the same time. `longest_pause_s`: before something is tried again.
    """

    limit: int | None = None
    rate: float | None = None
    visibility_s: int = 120
    lanes: int = 40
    longest_pause_s: float = 5.0


@dataclass(frozen=True)
class SendTo:
    """The message goes to this queue, in this form, and then out of the one that it is in."""

    queue_url: str
    outgoing: OutgoingMessage


@dataclass(frozen=True)
class Drop:
    """The message is deleted."""


@dataclass(frozen=True)
class Leave:
    """The message stays where it is. `is_failure`: it was asked for, and cannot be done."""

    reason: str
    is_failure: bool = False


Route: TypeAlias = SendTo | Drop | Leave
