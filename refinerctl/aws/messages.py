"""Messages of SQS queues, how queues are named, and what came of one entry of a batch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from refinerctl.errors import RefinerctlError, UsageError

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_BATCH = 10
MAX_ATTRIBUTES = 10
FIFO = ".fifo"

_NAME = re.compile(r"[\w-]{1,80}|[\w-]{1,75}\.fifo", re.ASCII)
# https://docs.aws.amazon.com/general/latest/gr/sqs-service.html: current, private and legacy endpoints.
_HOST = re.compile(
    r"(?:.+\.)?sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?"
    r"|(?P<old>[a-z]+-[a-z0-9-]+)\.queue\.amazonaws\.com(?:\.cn)?"
)
_ARN_PARTS = 6


@dataclass(frozen=True)
class QueueName:
    """A queue's name, account and region; None means those of the credentials."""

    name: str
    account: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, text: str) -> QueueName:
        """From a name, a URL or an ARN. Raises UsageError for anything else."""
        if text.startswith("arn:"):
            parts = text.split(":")
            if len(parts) != _ARN_PARTS or parts[2] != "sqs":
                raise UsageError(f"{text} is not the ARN of a queue")
            found = cls(parts[5], parts[4], parts[3])
        elif "://" in text:
            url = urlsplit(text)
            host = _HOST.fullmatch(url.hostname or "")
            account, _, name = url.path.removesuffix("/").rpartition("/")
            found = cls(name, account.rpartition("/")[2] or None, (host["region"] or host["old"]) if host else None)
        else:
            found = cls(text)
        if not _NAME.fullmatch(found.name):
            raise UsageError(
                f"{text!r} is not the name, URL or ARN of a queue",
                hint="A queue name has letters, digits, - and _.",
            )
        return found


@dataclass(frozen=True)
class QueueAddress:
    """A queue's name, URL and ARN; RabbitMQ's queues have no ARN."""

    name: str
    url: str
    arn: str

    @property
    def is_fifo(self) -> bool:
        return self.name.endswith(FIFO)

    @property
    def reference(self) -> str:
        """A text by which it is found: its ARN, or its name on its broker."""
        return self.arn or self.name


def waited_s(max_receive_count: int | None, visibility_timeout_s: int) -> float:
    """Seconds that a message was in its source queue before it moved to the DLQ, at least: one timeout per receive."""
    return float((max_receive_count or 0) * visibility_timeout_s)


def expires_in_s(retention_s: float, oldest_age_s: float, waited_s: float = 0.0) -> float:
    """Seconds until the oldest message of a DLQ expires, at most.

    The metric ApproximateAgeOfOldestMessage counts from the move to the DLQ, expiry from the first send of the message:
    `waited_s` is the time between the two.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    return max(0.0, retention_s - oldest_age_s - waited_s)


@dataclass(frozen=True)
class QueueAttributes:
    """Approximate message counts of a queue at time `at` (UTC, by the server's clock)."""

    at: datetime
    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


@dataclass(frozen=True)
class MessageAttribute:
    """An attribute that the sender set. `data_type` as SQS has it: `String`, `Number`, `Binary`, `String.custom`."""

    data_type: str
    value: str | bytes


@dataclass(frozen=True)
class Message:
    """A message as SQS returns it, or one of RabbitMQ.

    `sent_at` (UTC) is when it was sent first, whatever queue it is in now; `receive_count` includes this receive.
    `attributes` are the sender's. `system` holds SQS's own that have a meaning beyond this receive: MessageGroupId,
    MessageDeduplicationId, AWSTraceHeader, DeadLetterQueueSourceArn, SequenceNumber, SenderId; of RabbitMQ the
    properties and the broker's headers. RabbitMQ gives no ids: `content_id` is the same after the message was sent
    again, and `moved_at` is when it came to this queue.
    """

    body: str
    sent_at: datetime
    receive_count: int
    attributes: Mapping[str, MessageAttribute] = field(default_factory=dict)
    id: str = ""
    system: Mapping[str, str] = field(default_factory=dict)
    receipt: str = ""
    content_id: str = ""
    moved_at: datetime | None = None

    @property
    def sent_id(self) -> str:
        """The id that sending it has returned."""
        return self.content_id or self.id

    @property
    def arrived_at(self) -> datetime:
        """When it came to this queue, if that is known: SQS keeps the time of the first send."""
        return self.moved_at or self.sent_at

    @property
    def texts(self) -> dict[str, str]:
        """The values of the attributes that are text or numbers."""
        return {name: item.value for name, item in self.attributes.items() if isinstance(item.value, str)}


@dataclass(frozen=True)
class OutgoingMessage:
    """A message to send. `group` and `deduplication` are for FIFO queues; `group` may be set for others, too.

    `properties` are those of AMQP.
    """

    body: str
    attributes: Mapping[str, MessageAttribute] = field(default_factory=dict)
    group: str | None = None
    deduplication: str | None = None
    trace_header: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes as SQS counts them: the body, and name, type and value of each attribute."""
        attributes = ((name, value.data_type, value.value) for name, value in self.attributes.items())
        return _size(self.body) + sum(_size(part) for parts in attributes for part in parts)


def _size(part: str | bytes) -> int:
    # SQS refuses half of a surrogate pair, which an edited file may hold; here it must only not raise.
    return len(part.encode(errors="surrogatepass") if isinstance(part, str) else part)


@dataclass(frozen=True)
class EntryResult:
    """The result of one entry of a batch: the id of the message that was sent, or the error.

    `is_sender_fault`: a retry with the same entry would fail again. `is_uncertain`: it may have been done.
    `cause`: why the whole call failed: a TransientError, or an error that the next call would also get, unless it is
    the sender's fault, which may be that of another entry.
    """

    message_id: str | None = None
    error: str | None = None
    message: str = ""
    is_sender_fault: bool = False
    is_uncertain: bool = False
    cause: RefinerctlError | None = None

    @property
    def is_done(self) -> bool:
        return self.error is None
