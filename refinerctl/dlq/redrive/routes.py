"""Where each dead letter goes, and in which form."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from refinerctl.aws.messages import MAX_ATTRIBUTES, Message, MessageAttribute, QueueAddress
from refinerctl.dlq.redrive.returns import Tracked
from refinerctl.dlq.redrive.types import Leave, Origin, Route, SendTo
from refinerctl.errors import RefinerctlError

# What EventBridge adds to an event that it could not deliver:
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
DELIVERY_ATTRIBUTES = frozenset(
    ("RULE_ARN", "TARGET_ARN", "ERROR_CODE", "ERROR_MESSAGE", "EXHAUSTED_RETRY_CONDITION", "RETRY_ATTEMPTS")
)
# Counts how often a message was redriven; only --max-redrives sets it.
REDRIVES = "refinerctl.redrives"


@dataclass
class Routes:
    """Says of each letter what becomes of it; safe to share between threads.

    `resolve` finds a queue by its ARN and raises RefinerctlError if there is none; `to` takes everything. `unwanted`
    gives the reason for leaving a letter that was not asked for, `vet` one for sending nothing to a queue, asked once
    for each. `edited` holds the only letters that are sent, by id.
    """

    origin: Origin
    resolve: Callable[[str], QueueAddress]
    to: QueueAddress | None = None
    max_redrives: int | None = None
    unwanted: Callable[[Message], str | None] = lambda _: None
    edited: Mapping[str, Message] | None = None
    vet: Callable[[QueueAddress], str | None] = lambda _: None
    _known: dict[str, QueueAddress | Leave] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, letter: Message) -> Route:
        """The engine's route: to a queue, or left with a reason."""
        if self.edited is not None:
            if letter.id not in self.edited:
                return Leave("not among the edited messages")
            # Whatever the editor changed, it is this message, with this receipt.
            letter = self.edited[letter.id]
        elif (reason := self.unwanted(letter)) is not None:
            return Leave(reason)
        target = self.target(letter)
        return target if isinstance(target, Leave) else self._send(letter, target)

    def target(self, letter: Message) -> QueueAddress | Leave:
        """The queue that a letter belongs to."""
        if self.to is not None:
            return self.to
        arn = self._target_arn(letter)
        if arn is None:
            return Leave("nothing in it says where it came from: --to QUEUE does", is_failure=True)
        with self._lock:
            if arn not in self._known:
                self._known[arn] = self._look_up(arn)
            return self._known[arn]

    def _target_arn(self, letter: Message) -> str | None:
        if source := letter.system.get("DeadLetterQueueSourceArn"):
            return source
        meant = letter.attributes.get("TARGET_ARN")
        if is_undelivered(letter) and meant is not None and isinstance(meant.value, str):
            return meant.value
        return self.origin.sources[0].arn if len(self.origin.sources) == 1 else None

    def _look_up(self, arn: str) -> QueueAddress | Leave:
        service = arn.split(":")[2] if arn.count(":") >= 5 else ""
        if service != "sqs":
            return Leave(_unreachable(service, arn), is_failure=True)
        if self.origin.queue.arn and arn.split(":")[3] != self.origin.queue.arn.split(":")[3]:
            return Leave(f"it was meant for {arn}, which is in another region", is_failure=True)
        try:
            found = self.resolve(arn)
        except RefinerctlError as error:
            return Leave(f"it belongs to {arn.rpartition(':')[2]}: {error.message}", is_failure=True)
        if found.arn == self.origin.queue.arn:
            return Leave("it was sent to this very queue: --to QUEUE names another", is_failure=True)
        if (reason := self.vet(found)) is not None:
            return Leave(f"it belongs to {found.name}: {reason}", is_failure=True)
        return found

    def _send(self, letter: Message, target: QueueAddress) -> Route:
        attributes = dict(letter.attributes)
        if is_undelivered(letter):
            attributes = {name: value for name, value in attributes.items() if name not in DELIVERY_ATTRIBUTES}
        if self.max_redrives is not None:
            count = redrives_of(letter)
            if count >= self.max_redrives:
                return Leave(f"it was redriven {count} times already (--max-redrives)")
            attributes[REDRIVES] = MessageAttribute("Number", str(count + 1))
            if len(attributes) > MAX_ATTRIBUTES:
                return Leave(
                    f"it has {MAX_ATTRIBUTES} attributes, and --max-redrives would need one more", is_failure=True
                )
        group = letter.system.get("MessageGroupId")
        if target.is_fifo and group is None:
            return Leave(f"{target.name} is a FIFO queue, and it has no message group", is_failure=True)
        return SendTo(
            target.url,
            Tracked(
                letter.body,
                attributes,
                group=group,
                deduplication=_deduplication(letter) if target.is_fifo else None,
                trace_header=letter.system.get("AWSTraceHeader"),
                original_id=letter.id,
                original_sent_at=letter.sent_at,
            ),
        )


def _unreachable(service: str, arn: str) -> str:
    """Why a target that is no queue gets nothing.

    PutEvents takes no source that begins with `aws.`: nobody but S3 can put an event of S3 on a bus.
    https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
    """
    if service == "events":
        bus = arn.rpartition("/")[2]
        return f"it was meant for event bus {bus}, which takes events of AWS from AWS alone; --to QUEUE skips the bus"
    return f"it was meant for {arn}, which is no SQS queue"


def is_undelivered(letter: Message) -> bool:
    """Whether EventBridge put it there."""
    return "RULE_ARN" in letter.attributes and "TARGET_ARN" in letter.attributes


def redrives_of(letter: Message) -> int:
    """How often refinerctl has redriven it, as far as it was asked to count."""
    found = letter.attributes.get(REDRIVES)
    text = found.value if found is not None and isinstance(found.value, str) else ""
    return int(text) if text.isdecimal() else 0


def _deduplication(letter: Message) -> str:
    """A standard queue's message has none; its own id does not repeat."""
    return letter.system.get("MessageDeduplicationId") or letter.id
