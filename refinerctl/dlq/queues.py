"""Dead-letter queues as they are: what feeds them, how full they are, how long their oldest message still lives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Protocol

from refinerctl.aws.events import RuleTarget
from refinerctl.aws.messages import QueueAddress, QueueDepth
from refinerctl.aws.metric import DataPoint, Metric
from refinerctl.aws.policies import Policy
from refinerctl.aws.queue_names import QueueName
from refinerctl.aws.sqs import QueueSettings
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.parallel import both, concurrently
from refinerctl.stacks.names import RulesetNames

THREADS = 16
HOUR = timedelta(hours=1)
# Of the rules that a queue lets in; one has a rule or two.
MAX_RULES = 20
# A message that expires within this wants somebody's attention today.
SOON_S = 86_400

_EVENTS = "events.amazonaws.com"


class DlqKind(StrEnum):
    """Why messages are in a dead-letter queue.

    `processing`: a consumer of an SQS queue received them too often; `delivery`: an EventBridge rule could not give
    them to its target; `unknown`: nothing says.
    """

    PROCESSING = "processing"
    DELIVERY = "delivery"
    UNKNOWN = "unknown"


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
class MessageSource:
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
    error: str | None = None

    @property
    def expires_soon(self) -> bool:
        return self.expires_in_s is not None and self.expires_in_s < SOON_S

    @property
    def is_dead_letter_queue(self) -> bool:
        return self.kind is not DlqKind.UNKNOWN


@dataclass(frozen=True)
class DeadLetterList:
    """All that were asked for; `problems`: what else could not be read."""

    queues: tuple[DeadLetterQueue, ...]
    problems: tuple[str, ...] = ()


def rules_that_may_send(policy: Policy) -> tuple[str, ...]:
    """The ARNs of the EventBridge rules that a queue lets in: it is their target, or takes what they cannot deliver."""
    return tuple(dict.fromkeys(_source_arns(policy)))


def _source_arns(policy: Policy) -> Iterator[str]:
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


class Addresses(Protocol):
    def address(self, text: str) -> QueueAddress: ...


class Snapshots(Protocol):
    def snapshot(self, address: QueueAddress) -> QueueSnapshot: ...


class Sources(Protocol):
    def source_urls(self, dlq_url: str, dlq_arn: str) -> tuple[str, ...]: ...


class Rules(Protocol):
    def targets(self, bus: str, rule: str) -> tuple[RuleTarget, ...]: ...


class Metrics(Protocol):
    def read(
        self, wanted: Mapping[str, Metric], since: datetime, until: datetime
    ) -> dict[str, tuple[DataPoint, ...]]: ...


@dataclass(frozen=True)
class Stations:
    """Who is asked."""

    addresses: Addresses
    snapshots: Snapshots
    sources: Sources
    rules: Rules
    metrics: Metrics


@dataclass(frozen=True)
class Wanted:
    """A queue by name, URL or ARN, and what the stack's values say of it, if it is the stack's: its kind and source."""

    text: str
    kind: DlqKind = DlqKind.UNKNOWN
    source: str | None = None

    @property
    def name(self) -> str:
        return self.text.rpartition("/")[2].rpartition(":")[2]

    @property
    def region(self) -> str | None:
        """That its URL or ARN names. Raises UsageError for what names no queue."""
        return QueueName.parse(self.text).region


def of_stack(rulesets: Sequence[RulesetNames]) -> tuple[Wanted, ...]:
    """All of a stack: two of each ruleset, and one for what was not forwarded to the stack's own event bus.

    Modules prefix-ruleset and event-bus say so.
    """
    bases = sorted({ruleset.base.removesuffix(f"-{ruleset.name}") for ruleset in rulesets})
    return (
        *(Wanted(ruleset.dlq, DlqKind.PROCESSING, ruleset.queue) for ruleset in rulesets),
        *(Wanted(ruleset.delivery_dlq, DlqKind.DELIVERY, ruleset.base) for ruleset in rulesets),
        *(Wanted(f"{base}-forward-delivery-dlq", DlqKind.DELIVERY, f"{base}-forward") for base in bases),
    )


def list_queues(
    wanted: Sequence[Wanted], stations_in: Callable[[str | None], Stations], now: datetime
) -> DeadLetterList:
    """All of `wanted`, looked at together; no message is received. `stations_in` says who is asked in a region.

    What cannot be looked at is told with its error; raises RefinerctlError if that is all there is to tell.
    """
    regions = {item.region: stations_in(item.region) for item in wanted}
    looks = [partial(_look, item, regions[item.region]) for item in wanted]
    found, ages = both(
        lambda: concurrently(looks, THREADS),
        lambda: {
            region: _ages([item.name for item in wanted if item.region == region], stations.metrics, now)
            for region, stations in regions.items()
        },
    )
    errors = [look.error for look in found if look.error is not None]
    if found and len(errors) == len(found):
        raise errors[0]
    told = [text for look in found for text in look.problems]
    told += [text for item in ages.values() for text in item.problems]
    queues = [_with_age(look, ages[item.region].of(item.name)) for item, look in zip(wanted, found, strict=True)]
    return DeadLetterList(tuple(queues), tuple(dict.fromkeys(told)))


def look_at(item: Wanted, stations: Stations) -> DeadLetterQueue:
    """One of them, without its age. Raises NotFoundError without the queue."""
    look = _look(item, stations)
    if look.error is not None:
        raise look.error
    return look.queue


@dataclass(frozen=True)
class _Look:
    """`before_s`: how long its messages were in their source queue, at least."""

    queue: DeadLetterQueue
    before_s: float = 0.0
    problems: tuple[str, ...] = ()
    error: RefinerctlError | None = None


@dataclass(frozen=True)
class _Ages:
    points: Mapping[str, tuple[DataPoint, ...]]
    problems: tuple[str, ...] = ()

    def of(self, name: str) -> float | None:
        points = self.points.get(name)
        return points[-1].value if points else None


def _look(item: Wanted, stations: Stations) -> _Look:
    try:
        address = stations.addresses.address(item.text)
        seen = stations.snapshots.snapshot(address)
    except RefinerctlError as error:
        sources = (MessageSource(item.source, "", None),) if item.source else ()
        return _Look(DeadLetterQueue(item.name, kind=item.kind, sources=sources, error=error.message), error=error)
    problems: list[str] = []
    address = replace(address, arn=seen.queue.arn)
    feeding = _feeding(address, seen, stations, problems)
    rules = () if feeding or seen.queue.dlq_arn else _rules(seen, stations, problems)
    kind = DlqKind.PROCESSING if feeding else DlqKind.DELIVERY if rules else item.kind
    depth = seen.depth
    queue = DeadLetterQueue(
        address.name,
        address.url,
        address.arn,
        kind,
        sources=tuple(source for source, _ in feeding) or rules or _as_named(item),
        depth=depth.visible + depth.in_flight + depth.delayed,
        visible=depth.visible,
        in_flight=depth.in_flight,
        delayed=depth.delayed,
        retention_s=seen.queue.retention_s,
        max_receive_count=seen.queue.max_receive_count,
    )
    # Of a FIFO queue the clock begins anew when a message moves.
    before = 0.0 if address.is_fifo else max((hidden for _, hidden in feeding), default=0.0)
    return _Look(queue, before, tuple(problems))


def _as_named(item: Wanted) -> tuple[MessageSource, ...]:
    return (MessageSource(item.source, "", None),) if item.source else ()


def _feeding(
    address: QueueAddress, seen: QueueSnapshot, stations: Stations, problems: list[str]
) -> list[tuple[MessageSource, float]]:
    """The queues whose dead letters it takes, and those that may and are gone; with how long they hide a message."""
    try:
        urls = stations.sources.source_urls(address.url, address.arn)
    except RefinerctlError as error:
        problems.append(f"{address.name}: where its messages come from is not known: {error.message}")
        urls = ()
    found = {url: neighbour(address, url) for url in urls}
    known = {source.arn for source in found.values()}
    gone = [arn for arn in seen.queue.redrive_sources or () if arn not in known and _is_gone(arn, stations)]
    return [
        *(_source(source, stations, problems) for source in found.values()),
        *((MessageSource(arn.rpartition(":")[2], arn, is_there=False), 0.0) for arn in gone),
    ]


def _source(source: QueueAddress, stations: Stations, problems: list[str]) -> tuple[MessageSource, float]:
    try:
        queue = stations.snapshots.snapshot(source).queue
    except RefinerctlError as error:
        problems.append(f"{source.name}: {error.message}")
        return MessageSource(source.name, source.arn), 0.0
    return MessageSource(source.name, source.arn), hidden_before_s(queue.max_receive_count, queue.visibility_timeout_s)


def _is_gone(arn: str, stations: Stations) -> bool:
    try:
        stations.addresses.address(arn)
    except NotFoundError:
        return True
    except RefinerctlError:
        return False
    return False


def _rules(seen: QueueSnapshot, stations: Stations, problems: list[str]) -> tuple[MessageSource, ...]:
    """The rules that send there what they cannot deliver; a queue that is a rule's target looks the same to SQS."""
    found = []
    for arn in rules_that_may_send(seen.queue.policy)[:MAX_RULES]:
        named = rule_name(arn)
        if named is None:
            continue
        try:
            targets = stations.rules.targets(*named)
        except NotFoundError:
            continue
        except RefinerctlError as error:
            problems.append(f"{seen.queue.name}: whether rule {named[1]} sends there is not known: {error.message}")
            continue
        if any(target.dlq_arn == seen.queue.arn for target in targets):
            found.append(MessageSource(named[1], arn))
    return tuple(found)


def _ages(names: Sequence[str], metrics: Metrics, now: datetime) -> _Ages:
    wanted = {name: Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", name, "Maximum") for name in names}
    try:
        return _Ages(metrics.read(wanted, now - HOUR, now))
    except RefinerctlError as error:
        return _Ages({}, (f"how old messages are is not known: {error.message}",))


def _with_age(look: _Look, age_s: float | None) -> DeadLetterQueue:
    queue = look.queue
    if not queue.depth or age_s is None or queue.retention_s is None:
        return queue
    return replace(queue, oldest_age_s=age_s, expires_in_s=expires_in_s(queue.retention_s, age_s, look.before_s))
