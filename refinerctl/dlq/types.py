"""Dead letters: messages as SQS has them, the queues that hold them, and what came of moving them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from refinerctl.errors import RefinerctlError

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_BATCH = 10
MAX_ATTRIBUTES = 10
FIFO = ".fifo"


@dataclass(frozen=True)
class QueueAddress:
    """A queue, by all that it is called."""

    name: str
    url: str
    arn: str

    @property
    def is_fifo(self) -> bool:
        return self.name.endswith(FIFO)


class DeadLetterKind(StrEnum):
    """Why messages are in a dead-letter queue.

    `processing`: a consumer of an SQS queue received them too often; `delivery`: an EventBridge rule could not give
    them to its target; `unknown`: nothing says.
    """

    PROCESSING = "processing"
    DELIVERY = "delivery"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class MessageAttribute:
    """What a sender gave with a message. `data_type` as SQS has it: `String`, `Number`, `Binary`, `String.custom`."""

    data_type: str
    value: str | bytes


@dataclass(frozen=True)
class DeadLetter:
    """A message with everything that SQS tells of it.

    `sent_at` (UTC) is when it was sent first, whatever queue it is in now; `receive_count` includes this receiving.
    `system` holds SQS's own attributes that have a meaning beyond this receiving: MessageGroupId,
    MessageDeduplicationId, AWSTraceHeader, DeadLetterQueueSourceArn, SequenceNumber, SenderId.
    """

    id: str
    body: str
    sent_at: datetime
    receive_count: int
    attributes: Mapping[str, MessageAttribute] = field(default_factory=dict)
    system: Mapping[str, str] = field(default_factory=dict)
    receipt: str = ""


@dataclass(frozen=True)
class Outgoing:
    """A message to be sent. `group` and `deduplication` are for FIFO queues; `group` may be set for others, too."""

    body: str
    attributes: Mapping[str, MessageAttribute] = field(default_factory=dict)
    group: str | None = None
    deduplication: str | None = None
    trace_header: str | None = None

    @property
    def size(self) -> int:
        """Bytes as SQS counts them: the body, and name, type and value of each attribute."""
        attributes = ((name, value.data_type, value.value) for name, value in self.attributes.items())
        return _size(self.body) + sum(_size(part) for parts in attributes for part in parts)


def _size(part: str | bytes) -> int:
    # Half a character in a file that somebody has edited is for SQS to refuse.
    return len(part.encode(errors="surrogatepass") if isinstance(part, str) else part)


@dataclass(frozen=True)
class EntryResult:
    """What came of one entry of a batch: the id of the message that was sent, or why it was not done.

    `is_senders_fault`: to try again as it is would be of no use. `is_unheard`: nobody knows whether it was done.
    `cause`: the whole call failed, and this is why: a TransientError, or one that the next call would meet, too, unless
    it is the sender's fault, which may be that of another entry.
    """

    message_id: str | None = None
    error: str | None = None
    message: str = ""
    is_senders_fault: bool = False
    is_unheard: bool = False
    cause: RefinerctlError | None = None

    @property
    def is_done(self) -> bool:
        return self.error is None


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
class QueueFacts:
    """A queue as it is now: `at` by its server's clock (UTC), approximate counts, and the largest message in bytes."""

    at: datetime
    visible: int
    hidden: int
    delayed: int
    max_message_bytes: int

    @property
    def total(self) -> int:
        return self.visible + self.hidden + self.delayed


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
    outgoing: Outgoing


@dataclass(frozen=True)
class Drop:
    """The message is deleted."""


@dataclass(frozen=True)
class Leave:
    """The message stays where it is. `is_failure`: it was asked for, and cannot be done."""

    reason: str
    is_failure: bool = False


Route: TypeAlias = SendTo | Drop | Leave
