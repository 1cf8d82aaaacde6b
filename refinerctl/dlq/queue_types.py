"""Dead-letter queues: what feeds them, how long their messages still live, and what a list of them shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refinerctl.aws.messages import QueueDepth
from refinerctl.aws.policies import Policy
from refinerctl.aws.sqs import QueueSettings
from refinerctl.dlq.types import DeadLetterKind, QueueAddress

# A message that expires within this wants somebody's attention today.
SOON_S = 86_400

_EVENTS = "events.amazonaws.com"


def hidden_before_s(max_receive_count: int | None, visibility_timeout_s: int) -> float:
    """Seconds that a message was in its source queue, at least: it failed so often, and was hidden each time."""
    return float((max_receive_count or 0) * visibility_timeout_s)


def expires_in_s(retention_s: float, oldest_age_s: float, before_s: float = 0.0) -> float:
    """Seconds until the oldest message is gone, at the latest.

    The metric ApproximateAgeOfOldestMessage counts from the move to the dead-letter queue on, and expiry from the first
    time that a message was sent: `before_s` is how long it was elsewhere.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    return max(0.0, retention_s - oldest_age_s - before_s)


@dataclass(frozen=True)
class QueueSnapshot:
    """A queue's settings and approximate counts, from one answer."""

    queue: QueueSettings
    depth: QueueDepth


@dataclass(frozen=True)
class LetterSource:
    """Where a dead-letter queue's messages come from: a queue, or a rule of EventBridge. `is_there` None: not known."""

    name: str
    arn: str
    is_there: bool | None = True


@dataclass(frozen=True)
class DeadLetterQueue:
    """A dead-letter queue as it is now. Seconds; None is not known. `error`: why nothing is known.

    `max_receive_count`: it has a dead-letter queue itself, and a message moves there when it is received once more.
    `depth` counts all messages, approximately: those that can be received, those in somebody's hands, those delayed.
    """

    name: str
    url: str = ""
    arn: str = ""
    kind: DeadLetterKind = DeadLetterKind.UNKNOWN
    sources: tuple[LetterSource, ...] = ()
    depth: int | None = None
    visible: int | None = None
    in_flight: int | None = None
    delayed: int | None = None
    oldest_age_s: float | None = None
    expires_in_s: float | None = None
    retention_s: int | None = None
    max_receive_count: int | None = None
    error: str | None = None

    @property
    def expires_soon(self) -> bool:
        return self.expires_in_s is not None and self.expires_in_s < SOON_S

    @property
    def is_dead_letter_queue(self) -> bool:
        return self.kind is not DeadLetterKind.UNKNOWN


@dataclass(frozen=True)
class DeadLetterList:
    """All that were asked for; `problems`: what else could not be read."""

    queues: tuple[DeadLetterQueue, ...]
    problems: tuple[str, ...] = ()


def rules_that_may_send(policy: Policy) -> tuple[str, ...]:
    """The ARNs of the EventBridge rules that a queue lets in: it is their target, or takes what they cannot deliver."""
    return tuple(dict.fromkeys(_rules(policy)))


def _rules(policy: Policy) -> Iterator[str]:
    for statement in policy:
        if statement.allows and ("Service", _EVENTS) in (statement.principals or ()):
            for _operator, key, values in statement.conditions:
                if key.lower() == "aws:sourcearn":
                    yield from values


def rule_name(arn: str) -> tuple[str, str] | None:
    """Bus and name of a rule, by its ARN `…:rule/[BUS/]NAME`; None for a pattern or another ARN."""
    kind, _, path = arn.rpartition(":")[2].partition("/")
    if kind != "rule" or not path or "*" in path or "?" in path:
        return None
    bus, _, name = path.rpartition("/")
    return bus or "default", name


def neighbour(address: QueueAddress, url: str) -> QueueAddress:
    """The queue at `url`, in the same account and region: a dead-letter queue and its sources always are."""
    name = url.rpartition("/")[2]
    return QueueAddress(name, url, f"{address.arn.rpartition(':')[0]}:{name}")
