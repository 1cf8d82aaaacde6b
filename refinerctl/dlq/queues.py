"""Dead-letter queues: which ones a stack has, what feeds them, how full they are, when their oldest message expires."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.aws.messages import QueueAddress, QueueName, expires_in_s, waited_s
from refinerctl.aws.metrics import Metric
from refinerctl.aws.policies import Policy
from refinerctl.errors import RefinerctlError
from refinerctl.parallel import attempt, both, concurrently
from refinerctl.stacks.base import Broker, EventRule, Function, Pipeline, Queue, Schedule

if TYPE_CHECKING:
    from refinerctl.aws.events import EventBuses
    from refinerctl.aws.metrics import Metrics
    from refinerctl.aws.sqs import Queues, QueueState

THREADS = 16
HOUR = timedelta(hours=1)
# The policy of a queue names a rule or two; more than this are not looked up.
MAX_RULES = 20
# A message that expires within this time needs attention today.
SOON_S = 86_400
_EVENTS = "events.amazonaws.com"


class DlqKind(StrEnum):
    """Why messages are in a dead-letter queue.

    `processing`: a queue's consumer received them too often; `delivery`: an EventBridge rule or a schedule could not
    deliver them to its target, or a function failed that was invoked asynchronously; `unknown`: nothing is known to
    use this queue as its DLQ.
    """

    PROCESSING = "processing"
    DELIVERY = "delivery"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class MessageSource:
    """What moves messages to a DLQ: a queue, an EventBridge rule or a schedule. `exists` None: unknown."""

    name: str
    arn: str = ""
    exists: bool | None = True


@dataclass(frozen=True)
class DeadLetterQueue:
    """A dead-letter queue as it is now. Seconds; None is unknown. `error`: why nothing is known.

    `max_receive_count`: it has a DLQ itself, and a message moves there when it is received once more; or, with
    `is_dropping`, the message is lost then.
    `depth` is the approximate count of all messages: visible, in flight and delayed.
    """

    name: str
    url: str = ""
    arn: str = ""
    kind: DlqKind = DlqKind.UNKNOWN
    sources: tuple[MessageSource, ...] = ()
    depth: int | None = None
    visible: int | None = None
    in_flight: int | None = None
    delayed: int | None = None
    oldest_age_s: float | None = None
    expires_in_s: float | None = None
    retention_s: int | None = None
    max_receive_count: int | None = None
    is_dropping: bool = False
    error: str | None = None

    @property
    def receive_risk(self) -> str | None:
        """What happens to messages that are received often; None if nothing does."""
        if self.max_receive_count is None:
            return None
        if self.is_dropping:
            return f"queue {self.name} drops a message that is received {self.max_receive_count} times"
        return (
            f"queue {self.name} has a DLQ itself: a message that is received {self.max_receive_count} times moves there"
        )

    @property
    def address(self) -> QueueAddress:
        return QueueAddress(self.name, self.url, self.arn)

    @property
    def source_queues(self) -> tuple[MessageSource, ...]:
        """Queues whose consumers failed; a rule or a schedule has no consumer that logs an error."""
        return self.sources if self.kind is DlqKind.PROCESSING else ()

    @property
    def expires_soon(self) -> bool:
        return self.expires_in_s is not None and self.expires_in_s < SOON_S

    @property
    def is_dlq(self) -> bool:
        return self.kind is not DlqKind.UNKNOWN


@dataclass(frozen=True)
class RequestedQueue:
    """A queue by name, URL or ARN. `kind` and `sources` are what the stack says of it, if it is the stack's.

    `broker` has it, if that is not SQS.
    """

    text: str
    kind: DlqKind = DlqKind.UNKNOWN
    sources: tuple[MessageSource, ...] = ()
    broker: Broker | None = None

    @property
    def name(self) -> str:
        return self.text.rpartition("/")[2].rpartition(":")[2]

    @property
    def region(self) -> str | None:
        """The region that its URL or ARN names. Raises UsageError for text that names no queue."""
        return QueueName.parse(self.text).region


def dlqs_of(pipeline: Pipeline) -> tuple[RequestedQueue, ...]:
    """Each DLQ of a stack once: first those of queues, then of rules, schedules and functions, shared ones last."""
    found: dict[str, RequestedQueue] = {}
    senders = [item for item in pipeline.components if isinstance(item, Queue | EventRule | Schedule | Function)]
    for sender in sorted(senders, key=lambda item: (not isinstance(item, Queue), item in pipeline.shared)):
        if sender.dlq:
            kind = DlqKind.PROCESSING if isinstance(sender, Queue) else DlqKind.DELIVERY
            item = found.get(sender.dlq.name, RequestedQueue(sender.dlq.name, kind, broker=sender.dlq.broker))
            sources = (*item.sources, MessageSource(sender.name, exists=None))
            found[sender.dlq.name] = replace(item, sources=sources)
    return tuple(found.values())


@dataclass(frozen=True)
class QueueReader:
    """Reads DLQs of one region; receives no message."""

    queues: Queues
    rules: EventBuses
    metrics: Metrics

    def read(self, wanted: RequestedQueue) -> tuple[DeadLetterQueue, float, list[str]]:
        """The queue without its age, how many seconds its messages were in their source queue at least, and problems.

        Raises NotFoundError without the queue. Whatever else cannot be read is a problem.
        """
        address = self.queues.address(wanted.text)
        seen = self.queues.state_at(address)
        address = replace(address, arn=seen.arn)
        problems: list[str] = []
        feeding = self._feeding(address, seen, problems)
        rules = () if feeding or seen.dlq_arn else self._rules(seen, problems)
        queue = DeadLetterQueue(
            address.name,
            address.url,
            address.arn,
            DlqKind.PROCESSING if feeding else DlqKind.DELIVERY if rules else wanted.kind,
            sources=tuple(source for source, _ in feeding) or rules or wanted.sources,
            depth=seen.total,
            visible=seen.visible,
            in_flight=seen.in_flight,
            delayed=seen.delayed,
            retention_s=seen.retention_s,
            max_receive_count=seen.max_receive_count,
        )
        # The timestamp of a message in a FIFO queue is reset when it moves to the DLQ.
        waited = 0.0 if address.is_fifo else max((seconds for _, seconds in feeding), default=0.0)
        return queue, waited, problems

    def ages(self, names: Sequence[str], now: datetime) -> dict[str, float]:
        """The age of each queue's oldest message in seconds, where CloudWatch has one."""
        wanted = {
            name: Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", name, "Maximum") for name in names
        }
        found = self.metrics.read(wanted, now - HOUR, now)
        return {name: points[-1].value for name, points in found.items() if points}

    def _feeding(
        self, address: QueueAddress, seen: QueueState, problems: list[str]
    ) -> list[tuple[MessageSource, float]]:
        """The queues whose DLQ this is, and deleted ones that it allows; with how long each keeps a message."""
        answer = attempt(partial(self.queues.sources, address))
        if answer.error:
            problems.append(f"{address.name}: source queues unknown: {answer.error.message}")
        found = answer.value or []
        known = {source.arn for source in found}
        deleted = [arn for arn in seen.redrive_sources or () if arn not in known and self._is_deleted(arn)]
        return [
            *(self._source(source, problems) for source in found),
            *((MessageSource(arn.rpartition(":")[2], arn, exists=False), 0.0) for arn in deleted),
        ]

    def _source(self, address: QueueAddress, problems: list[str]) -> tuple[MessageSource, float]:
        source = MessageSource(address.name, address.arn)
        seen = attempt(partial(self.queues.state_at, address))
        if seen.value is None:
            problems.append(f"{address.name}: {seen.error.message if seen.error else ''}")
            return source, 0.0
        return source, waited_s(seen.value.max_receive_count, seen.value.visibility_timeout_s)

    def _is_deleted(self, arn: str) -> bool:
        return attempt(partial(self.queues.address, arn)).not_found

    def _rules(self, seen: QueueState, problems: list[str]) -> tuple[MessageSource, ...]:
        """The rules whose DLQ this is. For SQS the target of a rule looks the same, so the rules are asked."""
        found = []
        for arn in list(dict.fromkeys(_allowed_rules(seen.policy)))[:MAX_RULES]:
            if (named := _rule_name(arn)) is None:
                continue
            targets = attempt(partial(self.rules.targets, *named))
            if targets.error and not targets.not_found:
                problems.append(f"{seen.name}: targets of rule {named[1]} unknown: {targets.error.message}")
            if any(target.dlq_arn == seen.arn for target in targets.value or ()):
                found.append(MessageSource(named[1], arn))
        return tuple(found)


def _allowed_rules(policy: Policy) -> Iterator[str]:
    """ARNs of the EventBridge rules that a queue policy allows: the queue is their target or their DLQ."""
    for statement in policy:
        if statement.allows and ("Service", _EVENTS) in (statement.principals or ()):
            for _operator, key, values in statement.conditions:
                if key.lower() == "aws:sourcearn":
                    yield from values


def _rule_name(arn: str) -> tuple[str, str] | None:
    """Bus and name of a rule, by its ARN `…:rule/[BUS/]NAME`; None for a pattern or another ARN."""
    kind, _, path = arn.rpartition(":")[2].partition("/")
    if kind != "rule" or not path or "*" in path or "?" in path:
        return None
    bus, _, name = path.rpartition("/")
    return bus or "default", name


def unread(wanted: RequestedQueue, error: RefinerctlError | None) -> DeadLetterQueue:
    """A queue of which nothing is known but what the stack says."""
    reason = error.message if error else None
    return DeadLetterQueue(wanted.name, kind=wanted.kind, sources=wanted.sources, error=reason)


def list_queues(
    wanted: Sequence[RequestedQueue], reader_in: Callable[[str | None], QueueReader], now: datetime
) -> tuple[list[DeadLetterQueue], list[str]]:
    """All of `wanted`, and what else could not be read. `reader_in` gives the reader of a region.

    A queue that cannot be read is listed with its error; raises the first error if there is no other.
    """
    readers = {item.region: reader_in(item.region) for item in wanted}
    names = {region: [item.name for item in wanted if item.region == region] for region in readers}
    answers, ages = both(
        lambda: concurrently([partial(attempt, partial(readers[item.region].read, item)) for item in wanted], THREADS),
        lambda: {region: attempt(partial(readers[region].ages, names[region], now)) for region in readers},
    )
    if answers and all(answer.error for answer in answers):
        raise next(answer.error for answer in answers if answer.error)
    queues: list[DeadLetterQueue] = []
    problems: list[str] = []
    for item, answer in zip(wanted, answers, strict=True):
        if answer.value is None:
            queues.append(unread(item, answer.error))
        else:
            queue, waited, found = answer.value
            age = (ages[item.region].value or {}).get(item.name)
            if queue.depth and age is not None and queue.retention_s is not None:
                queue = replace(queue, oldest_age_s=age, expires_in_s=expires_in_s(queue.retention_s, age, waited))
            queues.append(queue)
            problems += found
    problems += [f"message ages unknown: {seen.error.message}" for seen in ages.values() if seen.error]
    return queues, list(dict.fromkeys(problems))
