"""The target of each message, and the form in which it is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from refinerctl.aws.messages import MAX_ATTRIBUTES, Message, MessageAttribute, OutgoingMessage, QueueAddress
from refinerctl.dlq.queues import DlqKind
from refinerctl.errors import RefinerctlError

# The attributes that EventBridge adds to an undelivered event:
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
DELIVERY_ATTRIBUTES = frozenset(
    ("RULE_ARN", "TARGET_ARN", "ERROR_CODE", "ERROR_MESSAGE", "EXHAUSTED_RETRY_CONDITION", "RETRY_ATTEMPTS")
)
# Counts how often a message was redriven; only --max-redrives sets it.
REDRIVES = "refinerctl.redrives"


@dataclass(frozen=True)
class Origin:
    """A dead-letter queue, and the queues that it takes failed messages of; `gone` are names of deleted ones."""

    queue: QueueAddress
    kind: DlqKind
    sources: tuple[QueueAddress, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class SendTo:
    """Send this to the queue, then delete the message."""

    queue: QueueAddress
    message: OutgoingMessage


@dataclass(frozen=True)
class Stay:
    """The message stays in the DLQ. `is_failure`: it was chosen, and cannot be sent."""

    reason: str
    is_failure: bool = False


Route: TypeAlias = SendTo | Stay


@dataclass
class Routes:
    """Decides on each message; safe to share between threads.

    `resolve` finds a queue by its ARN and raises RefinerctlError without it; `to` takes everything. `unwanted` gives
    the reason why a message was not chosen, `veto` a reason to send nothing to a queue, once for each. If `edited` is
    given, only messages with an id in it are sent, as they are there.
    """

    origin: Origin
    resolve: Callable[[str], QueueAddress]
    to: QueueAddress | None = None
    max_redrives: int | None = None
    unwanted: Callable[[Message], str | None] = lambda _: None
    edited: Mapping[str, Message] | None = None
    veto: Callable[[QueueAddress], str | None] = lambda _: None
    _known: dict[str, QueueAddress | Stay] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, message: Message) -> Route:
        if self.edited is not None:
            if message.id not in self.edited:
                return Stay("not edited")
            message = self.edited[message.id]
        elif (reason := self.unwanted(message)) is not None:
            return Stay(reason)
        target = self.target(message)
        return target if isinstance(target, Stay) else self.send(message, target)

    def target(self, message: Message) -> QueueAddress | Stay:
        """The queue that a message belongs to."""
        if self.to is not None:
            return self.to
        reference = self.origin_of(message)
        if reference is None:
            return Stay("the message does not say where it came from; pass --to QUEUE", is_failure=True)
        with self._lock:
            if reference not in self._known:
                self._known[reference] = self.look_up(reference)
            return self._known[reference]

    def origin_of(self, message: Message) -> str | None:
        """The ARN of the queue that a message belongs to, as the message says."""
        if source := message.system.get("DeadLetterQueueSourceArn"):
            return source
        if is_undelivered(message) and (target := message.texts.get("TARGET_ARN")):
            return target
        return self.origin.sources[0].arn if len(self.origin.sources) == 1 else None

    def look_up(self, arn: str) -> QueueAddress | Stay:
        """The queue of this ARN, or why nothing can be sent there."""
        service = arn.split(":")[2] if arn.count(":") >= 5 else ""
        if service == "events":
            # PutEvents refuses sources that begin with `aws.`:
            # https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
            bus = arn.rpartition("/")[2]
            return Stay(f"only AWS can send S3's events to event bus {bus}; pass --to QUEUE", is_failure=True)
        if service != "sqs":
            return Stay(f"its target {arn} is not an SQS queue", is_failure=True)
        if self.origin.queue.arn and arn.split(":")[3] != self.origin.queue.arn.split(":")[3]:
            return Stay(f"its target {arn} is in another region", is_failure=True)
        return self.resolved(arn)

    def resolved(self, reference: str) -> QueueAddress | Stay:
        """The queue, unless it does not exist, is the DLQ itself, or must not get anything."""
        try:
            found = self.resolve(reference)
        except RefinerctlError as error:
            return Stay(f"its target is {reference.rpartition(':')[2]}: {error.message}", is_failure=True)
        if found.reference == self.origin.queue.reference:
            return Stay("its target is this queue itself; pass --to QUEUE", is_failure=True)
        if (reason := self.veto(found)) is not None:
            return Stay(f"its target is {found.name}: {reason}", is_failure=True)
        return found

    def send(self, message: Message, target: QueueAddress) -> Route:
        """The form in which a message is sent to `target`."""
        attributes = dict(message.attributes)
        if is_undelivered(message):
            attributes = {name: value for name, value in attributes.items() if name not in DELIVERY_ATTRIBUTES}
        if self.max_redrives is not None:
            if (reason := count_redrive(message, attributes, self.max_redrives)) is not None:
                return Stay(reason)
            if len(attributes) > MAX_ATTRIBUTES:
                return Stay(f"it has {MAX_ATTRIBUTES} attributes, and --max-redrives needs one more", is_failure=True)
        group = message.system.get("MessageGroupId")
        if target.is_fifo and group is None:
            return Stay(f"{target.name} is a FIFO queue, and the message has no group", is_failure=True)
        # A message of a standard queue has no deduplication id; its own id does not repeat.
        deduplication = message.system.get("MessageDeduplicationId") or message.id
        outgoing = OutgoingMessage(
            message.body,
            attributes,
            group=group,
            deduplication=deduplication if target.is_fifo else None,
            trace_header=message.system.get("AWSTraceHeader"),
        )
        return SendTo(target, outgoing)


def count_redrive(message: Message, attributes: dict[str, MessageAttribute], limit: int) -> str | None:
    """Count in `attributes` that the message is redriven; or the reason why it stays."""
    count = redrives_of(message)
    if count >= limit:
        return f"redriven {count} times already (--max-redrives)"
    attributes[REDRIVES] = MessageAttribute("Number", str(count + 1))
    return None


def is_undelivered(message: Message) -> bool:
    """Whether EventBridge put it into the DLQ."""
    return "RULE_ARN" in message.attributes and "TARGET_ARN" in message.attributes


def redrives_of(message: Message) -> int:
    """How often it was redriven with --max-redrives."""
    text = message.texts.get(REDRIVES, "")
    return int(text) if text.isdecimal() else 0
