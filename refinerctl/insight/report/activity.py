"""What each stage did over a period: from CloudWatch's metrics, and from all lines that its function logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from refinerctl.aws.metric import Metric
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.insight.report.function_log import FunctionLog
from refinerctl.insight.report.tally import FailureGroup, Histogram, Interval, Tally, Timeline
from refinerctl.parallel import Answer, attempt, both, concurrently
from refinerctl.stacks.base import EventRule, Stage

if TYPE_CHECKING:
    from refinerctl.aws.log_settings import LogSettings
    from refinerctl.aws.logs import LogGroups
    from refinerctl.aws.metrics import Metrics

# FilterLogEvents is allowed a handful of times per second in a whole account.
GROUPS_AT_ONCE = 4
# Of one log group: some minutes of reading.
MAX_LINES = 500_000
DEFAULT_BUS = "default"
_DAY = timedelta(days=1)

MetricKey: TypeAlias = tuple[str, str]
"""A stage's name, and which of its metrics."""
Sums: TypeAlias = Mapping[MetricKey, int | None]


@dataclass(frozen=True)
class Flow:
    """Counts over the period on a stage's edges; None if unknown.

    `matched`: events that its rule matched; `undelivered`: those that did not reach their target; `queued`: messages
    sent to its queue; `attempts`: inputs given to the function (or messages taken by others, without a function);
    `completed` and `failed`: how those attempts ended.
    """

    matched: int | None = None
    undelivered: int | None = None
    queued: int | None = None
    attempts: int | None = None
    completed: int | None = None
    failed: int | None = None


@dataclass(frozen=True)
class StageActivity:
    """One stage over the period.

    `latency_s`: from the event of the input to the end of its processing; `duration_ms`: of the processing alone; both
    of completed inputs. `is_cut`: the log has more lines than were read, so the numbers are too low.
    """

    stage: str
    flow: Flow
    intervals: tuple[Interval, ...] = ()
    latency_s: Histogram | None = None
    duration_ms: Histogram | None = None
    failures: tuple[FailureGroup, ...] = ()
    is_cut: bool = False


@dataclass(frozen=True)
class Activity:
    """Of all stages; `problems` are what could not be read."""

    interval: timedelta
    stages: tuple[StageActivity, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    """A log: up to `until` if it was cut. `tally` None: nothing is known."""

    tally: Tally | None = None
    until: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ActivityReader:
    """Reads metrics and logs at the same time, in memory that does not grow with the logs.

    `pattern`: CloudWatch's filter, `function_log.PATTERN` for endpoints that understand it; without it every line is
    read. `log_settings` tells a log group that does not exist from one without lines.
    """

    log_groups: LogGroups
    log_settings: LogSettings
    metrics: Metrics
    pattern: str | None = None
    max_lines: int = MAX_LINES

    def read(self, stages: Sequence[Stage], since: datetime, until: datetime) -> Activity:
        """Times in UTC. Raises RefinerctlError if nothing could be read."""
        line = Timeline.over(since, until)
        log_groups = {stage.name: stage.consumer.log_group for stage in stages if stage.consumer}
        logs = [partial(self._log, group, line, since, until) for group in log_groups.values()]
        sums, reads = both(
            partial(attempt, partial(metric_sums, self.metrics, stages, since, until)),
            partial(concurrently, logs, GROUPS_AT_ONCE),
        )
        if sums.error and all(read.problem and not read.tally for read in reads):
            raise sums.error
        read_of = dict(zip(log_groups, reads, strict=True))
        problems = [f"metrics: {sums.error.message}"] if sums.error else []
        problems += [f"{name}: {read.problem}" for name, read in read_of.items() if read.problem]
        found = tuple(_stage(stage, sums.value or {}, read_of.get(stage.name, _Read()), until) for stage in stages)
        return Activity(line.step, found, tuple(problems))

    def _log(self, group: str, line: Timeline, since: datetime, until: datetime) -> _Read:
        """What was read before an error counts."""
        log, last = FunctionLog(line), None
        problem = None
        try:
            for number, event in enumerate(self.log_groups.events(group, since, self.pattern, until=until)):
                if number >= self.max_lines:
                    problem = f"its log has more than {self.max_lines:,} lines"
                    break
                log.take(event)
                last = event.timestamp
            if last is None:
                self._check_exists(group)
        except RefinerctlError as error:
            problem = error.message
        if problem is None or last is None:
            return _Read(None if problem else log.finish(), problem=problem)
        return _Read(log.finish(), last, f"{problem}: lines after {last:%Y-%m-%dT%H:%M:%SZ} are not counted")

    def _check_exists(self, group: str) -> None:
        """Raises NotFoundError. A principal that may read the lines may lack the permission to ask."""
        answer: Answer[object] = attempt(lambda: self.log_settings.get(group))
        if isinstance(answer.error, NotFoundError):
            raise answer.error


def _stage(stage: Stage, sums: Sums, read: _Read, until: datetime) -> StageActivity:
    tally, is_cut = read.tally, read.until is not None
    matched, undelivered, sent, deleted = (
        sums.get((stage.name, name)) for name in ("matched", "undelivered", "sent", "deleted")
    )
    flow = Flow(matched, undelivered, sent)
    if stage.consumer is None:
        return StageActivity(stage.name, replace(flow, attempts=deleted))
    if tally is None:
        return StageActivity(stage.name, replace(flow, completed=deleted))
    # If the log was cut: a deleted message is a completed input.
    completed = max(tally.completed, deleted or 0) if is_cut else tally.completed
    return StageActivity(
        stage.name,
        replace(flow, attempts=tally.attempts, completed=completed, failed=tally.failed),
        intervals=tally.intervals(read.until or until),
        latency_s=tally.latency_s,
        duration_ms=tally.duration_ms,
        failures=tally.failures(stage.name),
        is_cut=is_cut,
    )


def metric_sums(
    metrics: Metrics, stages: Sequence[Stage], since: datetime, until: datetime
) -> dict[MetricKey, int | None]:
    """Sums over the period; None for a metric without values."""
    # Periods that CloudWatch still has that far back, and few of them.
    period_s = 60 if until - since <= _DAY / 8 else 300 if until - since <= 2 * _DAY else 3600
    points = metrics.read(
        {key: metric for stage in stages for key, metric in _metrics_of(stage, period_s)}, since, until
    )
    sums = {key: round(sum(point.value for point in found)) if found else None for key, found in points.items()}
    # EventBridge sends no zeros: if it sent anything, what is missing is zero.
    events = [key for key in sums if key[1] in ("matched", "undelivered")]
    if any(sums[key] is not None for key in events):
        sums |= {key: sums[key] or 0 for key in events}
    return sums


def _metrics_of(stage: Stage, period_s: int) -> Iterator[tuple[MetricKey, Metric]]:
    """A rule of a custom bus has two dimensions, one of the default bus has its name only.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """
    if isinstance(rule := stage.source, EventRule):
        on_bus = () if rule.bus == DEFAULT_BUS else (("EventBusName", rule.bus),)
        for name, metric in (("matched", "MatchedEvents"), ("undelivered", "FailedInvocations")):
            yield (stage.name, name), Metric("AWS/Events", metric, "RuleName", rule.name, "Sum", period_s, on_bus)
    if stage.queue:
        for name, metric in (("sent", "NumberOfMessagesSent"), ("deleted", "NumberOfMessagesDeleted")):
            yield (stage.name, name), Metric("AWS/SQS", metric, "QueueName", stage.queue.name, "Sum", period_s)
