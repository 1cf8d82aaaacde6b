"""The activity of each stage in a period: from CloudWatch's metrics, and from all lines that its function logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from refinerctl.aws.metrics import Metric
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.insight.attempts import read_attempts
from refinerctl.insight.report.tally import AttemptTally, FailureGroup, Histogram, Interval, interval_length
from refinerctl.parallel import Answer, attempt, both, concurrently
from refinerctl.stacks.base import EventRule, Stage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.logs import LogEvent
    from refinerctl.aws.metrics import Metrics

# FilterLogEvents is limited to a few calls per second in an account.
GROUPS_AT_ONCE = 4
# Of one log group: some minutes of reading.
MAX_LINES = 500_000
DEFAULT_BUS = "default"
_DAY = timedelta(days=1)

MetricKey: TypeAlias = tuple[str, str]
"""A stage's name, and which of its metrics."""


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


def read_activity(
    app: AppContext,
    stages: Sequence[Stage],
    since: datetime,
    until: datetime,
    pattern: str | None = None,
    max_lines: int = MAX_LINES,
) -> Activity:
    """Read metrics and logs at the same time, in memory that does not grow with the logs. Times in UTC.

    `pattern` is CloudWatch's filter of the lines that count; without it every line is read. Raises RefinerctlError if
    nothing can be read.
    """
    logged = [stage for stage in stages if stage.consumer]
    reads = [partial(_read_log, app, stage, since, until, pattern, max_lines) for stage in logged]
    sums, found = both(
        partial(attempt, partial(metric_sums, app.metrics, stages, since, until)),
        partial(concurrently, reads, GROUPS_AT_ONCE),
    )
    if sums.error and all(problem and not tally for tally, _, problem in found):
        raise sums.error
    logs = {stage.name: log for stage, log in zip(logged, found, strict=True)}
    problems = [f"metrics: {sums.error.message}"] if sums.error else []
    problems += [f"{name}: {problem}" for name, (_, _, problem) in logs.items() if problem]
    activity = [_activity(stage, sums.value or {}, logs.get(stage.name, _NO_LOG), until) for stage in stages]
    return Activity(interval_length(since, until), tuple(activity), tuple(problems))


# None: nothing is known. Then the time of the last line if later ones were not read, and what the problem was.
_Log: TypeAlias = tuple[AttemptTally | None, datetime | None, str | None]
_NO_LOG: _Log = (None, None, None)


def _read_log(
    app: AppContext, stage: Stage, since: datetime, until: datetime, pattern: str | None, max_lines: int
) -> _Log:
    """Lines before an error count."""
    group = stage.consumer.log_group if stage.consumer else ""
    last: datetime | None = None
    problem: str | None = None

    def lines() -> Iterator[LogEvent]:
        nonlocal last, problem
        try:
            for number, event in enumerate(app.log_groups.events(group, since, pattern, until=until)):
                if number >= max_lines:
                    problem = f"its log has more than {max_lines:,} lines"
                    return
                last = event.timestamp
                yield event
        except RefinerctlError as error:
            problem = error.message

    tally = AttemptTally.of(read_attempts(lines(), app.stack.read_log_line), stage.name, since, until)
    if last is None:
        # A group that does not exist has no lines, either. Reading lines needs no permission for the settings.
        exists: Answer[object] = attempt(lambda: app.log_groups.settings(group))
        if isinstance(exists.error, NotFoundError):
            problem = exists.error.message
        return None if problem else tally, None, problem
    if problem:
        return tally, last, f"{problem}: lines after {last:%Y-%m-%dT%H:%M:%SZ} are not counted"
    return tally, None, None


def _activity(stage: Stage, sums: Mapping[MetricKey, int | None], log: _Log, until: datetime) -> StageActivity:
    names = ("matched", "undelivered", "sent", "deleted")
    matched, undelivered, sent, deleted = (sums.get((stage.name, name)) for name in names)
    if stage.consumer is None:
        return StageActivity(stage.name, Flow(matched, undelivered, sent, attempts=deleted))
    tally, cut_at, _ = log
    if tally is None:
        return StageActivity(stage.name, Flow(matched, undelivered, sent, completed=deleted))
    # If the log was cut: a deleted message is a completed input.
    completed = max(tally.completed, deleted or 0) if cut_at else tally.completed
    return StageActivity(
        stage.name,
        Flow(matched, undelivered, sent, tally.attempts, completed, tally.failed),
        intervals=tally.intervals(cut_at or until),
        latency_s=tally.latency_s,
        duration_ms=tally.duration_ms,
        failures=tally.failures(),
        is_cut=cut_at is not None,
    )


def metric_sums(
    metrics: Metrics, stages: Sequence[Stage], since: datetime, until: datetime
) -> dict[MetricKey, int | None]:
    """Sums over the period; None for a metric without values."""
    # Periods that CloudWatch still has that far back, and few of them.
    period_s = 60 if until - since <= _DAY / 8 else 300 if until - since <= 2 * _DAY else 3600
    wanted = {key: metric for stage in stages for key, metric in _metrics_of(stage, period_s)}
    points = metrics.read(wanted, since, until) if wanted else {}
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
    if stage.queue and stage.queue.broker is None:
        for name, metric in (("sent", "NumberOfMessagesSent"), ("deleted", "NumberOfMessagesDeleted")):
            yield (stage.name, name), Metric("AWS/SQS", metric, "QueueName", stage.queue.name, "Sum", period_s)
