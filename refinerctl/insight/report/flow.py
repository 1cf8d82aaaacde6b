"""How much went through the pipeline's parts, by CloudWatch's metrics; where those are silent, by the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from refinerctl.aws.metrics import DataPoint, Metric
from refinerctl.insight.report.tally import Tally
from refinerctl.insight.report.types import Flow
from refinerctl.stacks.names import RulesetNames

MetricKey = tuple[str, str]  # whose, which

_DAY = timedelta(days=1)


class Metrics(Protocol):
    def read(
        self, wanted: Mapping[MetricKey, Metric], since: datetime, until: datetime
    ) -> dict[MetricKey, tuple[DataPoint, ...]]: ...


def counts(
    metrics: Metrics, rulesets: Sequence[RulesetNames], bus: str, since: datetime, until: datetime
) -> dict[MetricKey, int | None]:
    """Sums over the time; None for a metric without values."""
    # Periods that CloudWatch still has that far back, and few of them.
    period_s = 60 if until - since <= _DAY / 8 else 300 if until - since <= 2 * _DAY else 3600
    wanted = {key: metric for ruleset in rulesets for key, metric in _wanted(ruleset, bus, period_s)}
    points = metrics.read(wanted, since, until)
    sums = {key: round(sum(point.value for point in found)) if found else None for key, found in points.items()}
    # EventBridge sends what is not zero only: if it says anything at all, its silence means zero.
    if any(value is not None for (_, name), value in sums.items() if name in ("matched", "undelivered")):
        sums |= {key: sums[key] or 0 for key in sums if key[1] in ("matched", "undelivered")}
    return sums


def _wanted(ruleset: RulesetNames, bus: str, period_s: int) -> Iterator[tuple[MetricKey, Metric]]:
    """A rule of a custom bus has two dimensions, one of the default bus has its name only.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """
    on_bus = (("EventBusName", bus),)
    for name, metric in (("matched", "MatchedEvents"), ("undelivered", "FailedInvocations")):
        yield (ruleset.name, name), Metric("AWS/Events", metric, "RuleName", ruleset.base, "Sum", period_s, on_bus)
    for name, metric in (("sent", "NumberOfMessagesSent"), ("deleted", "NumberOfMessagesDeleted")):
        yield (ruleset.name, name), Metric("AWS/SQS", metric, "QueueName", ruleset.queue, "Sum", period_s)


def flow_of(ruleset: RulesetNames, sums: Mapping[MetricKey, int | None], tally: Tally | None, *, is_cut: bool) -> Flow:
    """`tally` None: the log tells nothing. Of what was cut, a message that was deleted is one that was completed."""
    matched, undelivered, sent, deleted = (
        sums.get((ruleset.name, name)) for name in ("matched", "undelivered", "sent", "deleted")
    )
    known = Flow(matched, undelivered, sent)
    if not ruleset.has_function:
        return replace(known, attempts=deleted)
    if tally is None:
        return replace(known, completed=deleted)
    completed = max(tally.completed, deleted or 0) if is_cut else tally.completed
    return replace(known, attempts=tally.attempts, completed=completed, failed=tally.failed)
