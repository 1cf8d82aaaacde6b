"""Dead-letter queues as they are: what feeds them, how full they are, how long their oldest message still lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from refinerctl.aws.events import RuleTarget
from refinerctl.aws.metric import DataPoint, Metric
from refinerctl.aws.queue_names import QueueName
from refinerctl.dlq.queue_types import (
    DeadLetterList,
    DeadLetterQueue,
    LetterSource,
    QueueSnapshot,
    expires_in_s,
    hidden_before_s,
    neighbour,
    rule_name,
    rules_that_may_send,
)
from refinerctl.dlq.types import DeadLetterKind, QueueAddress
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.parallel import both, concurrently
from refinerctl.stacks.names import RulesetNames

THREADS = 16
HOUR = timedelta(hours=1)
# Of the rules that a queue lets in; one has a rule or two.
MAX_RULES = 20


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
    kind: DeadLetterKind = DeadLetterKind.UNKNOWN
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
        *(Wanted(ruleset.dlq, DeadLetterKind.PROCESSING, ruleset.queue) for ruleset in rulesets),
        *(Wanted(ruleset.delivery_dlq, DeadLetterKind.DELIVERY, ruleset.base) for ruleset in rulesets),
        *(Wanted(f"{base}-forward-delivery-dlq", DeadLetterKind.DELIVERY, f"{base}-forward") for base in bases),
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
        sources = (LetterSource(item.source, "", None),) if item.source else ()
        return _Look(DeadLetterQueue(item.name, kind=item.kind, sources=sources, error=error.message), error=error)
    problems: list[str] = []
    address = replace(address, arn=seen.queue.arn)
    feeding = _feeding(address, seen, stations, problems)
    rules = () if feeding or seen.queue.dlq_arn else _rules(seen, stations, problems)
    kind = DeadLetterKind.PROCESSING if feeding else DeadLetterKind.DELIVERY if rules else item.kind
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


def _as_named(item: Wanted) -> tuple[LetterSource, ...]:
    return (LetterSource(item.source, "", None),) if item.source else ()


def _feeding(
    address: QueueAddress, seen: QueueSnapshot, stations: Stations, problems: list[str]
) -> list[tuple[LetterSource, float]]:
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
        *((LetterSource(arn.rpartition(":")[2], arn, is_there=False), 0.0) for arn in gone),
    ]


def _source(source: QueueAddress, stations: Stations, problems: list[str]) -> tuple[LetterSource, float]:
    try:
        queue = stations.snapshots.snapshot(source).queue
    except RefinerctlError as error:
        problems.append(f"{source.name}: {error.message}")
        return LetterSource(source.name, source.arn), 0.0
    return LetterSource(source.name, source.arn), hidden_before_s(queue.max_receive_count, queue.visibility_timeout_s)


def _is_gone(arn: str, stations: Stations) -> bool:
    try:
        stations.addresses.address(arn)
    except NotFoundError:
        return True
    except RefinerctlError:
        return False
    return False


def _rules(seen: QueueSnapshot, stations: Stations, problems: list[str]) -> tuple[LetterSource, ...]:
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
            found.append(LetterSource(named[1], arn))
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
