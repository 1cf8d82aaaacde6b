"""What every ruleset did over a time: from the metrics, and from all lines that its function has logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from refinerctl.aws.log_events import LogSource
from refinerctl.aws.log_settings import LogGroupSettings
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.insight.report.flow import MetricKey, Metrics, counts, flow_of
from refinerctl.insight.report.function_log import FunctionLog
from refinerctl.insight.report.tally import Tally, Timeline
from refinerctl.insight.report.types import RulesetActivity
from refinerctl.parallel import both, concurrently
from refinerctl.stacks.names import RulesetNames

# FilterLogEvents is allowed a handful of times per second in a whole account.
GROUPS_AT_ONCE = 4
# Of one log group: some minutes of reading.
MAX_LINES = 500_000


class LogSettings(Protocol):
    def get(self, group: str) -> LogGroupSettings: ...


@dataclass(frozen=True)
class Sources:
    """What is read. `settings` tells a log group that is not there from one without lines."""

    groups: LogSource
    settings: LogSettings
    metrics: Metrics


@dataclass(frozen=True)
class ActivityRequest:
    """Which rulesets, on which event bus, and over which time (UTC).

    `pattern`: CloudWatch's filter, `function_log.PATTERN` where it is understood; without it every line is read.
    """

    rulesets: tuple[RulesetNames, ...]
    bus: str
    since: datetime
    until: datetime
    pattern: str | None = None
    max_lines: int = MAX_LINES


@dataclass(frozen=True)
class Activity:
    """`problems`: what could not be looked at."""

    interval: timedelta
    rulesets: tuple[RulesetActivity, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    """A log, as far as it could be read: `until` where it was cut. `tally` None: it tells nothing."""

    tally: Tally | None = None
    until: datetime | None = None
    problem: str | None = None


def activity(sources: Sources, request: ActivityRequest) -> Activity:
    """Metrics and logs at the same time; memory stays the same however much was logged.

    Raises RefinerctlError if nothing of it could be read.
    """
    line = Timeline.over(request.since, request.until)
    sums, reads = both(
        partial(_try, partial(counts, sources.metrics, request.rulesets, request.bus, request.since, request.until)),
        partial(_logs, sources, request, line),
    )
    if isinstance(sums, RefinerctlError) and all(read.problem and not read.tally for read in reads.values()):
        raise sums
    known: Mapping[MetricKey, int | None] = {} if isinstance(sums, RefinerctlError) else sums
    problems = [f"metrics: {sums.message}"] if isinstance(sums, RefinerctlError) else []
    problems += [f"{name}: {read.problem}" for name, read in reads.items() if read.problem]
    found = tuple(_activity(ruleset, known, reads.get(ruleset.name, _Read()), request) for ruleset in request.rulesets)
    return Activity(line.step, found, tuple(problems))


def _try(read: Callable[[], dict[MetricKey, int | None]]) -> dict[MetricKey, int | None] | RefinerctlError:
    try:
        return read()
    except RefinerctlError as error:
        return error


def _logs(sources: Sources, request: ActivityRequest, line: Timeline) -> dict[str, _Read]:
    rulesets = [ruleset for ruleset in request.rulesets if ruleset.has_function]
    tasks = [partial(_log, sources, request, line, ruleset.log_group) for ruleset in rulesets]
    names = [ruleset.name for ruleset in rulesets]
    return dict(zip(names, concurrently(tasks, GROUPS_AT_ONCE), strict=True))


def _log(sources: Sources, request: ActivityRequest, line: Timeline, group: str) -> _Read:
    """What was read before an error counts."""
    log, last = FunctionLog(line), None
    count, problem = 0, None
    try:
        for event in sources.groups.events(group, request.since, request.pattern, until=request.until):
            count += 1
            if count > request.max_lines:
                problem = f"its log has more than {request.max_lines:,} lines"
                break
            log.take(event)
            last = event.timestamp
        if last is None:
            _check_exists(sources.settings, group)
    except RefinerctlError as error:
        problem = error.message
    if problem is None or last is None:
        return _Read(None if problem else log.finish(), problem=problem)
    return _Read(log.finish(), last, f"{problem}: what came after {last:%Y-%m-%dT%H:%M:%SZ} is not counted")


def _check_exists(settings: LogSettings, group: str) -> None:
    """A group that does not exist has no lines, either. Who may read its lines need not be allowed to ask."""
    try:
        settings.get(group)
    except NotFoundError:
        raise
    except RefinerctlError:
        return


def _activity(
    ruleset: RulesetNames, sums: Mapping[MetricKey, int | None], read: _Read, request: ActivityRequest
) -> RulesetActivity:
    tally, is_cut = read.tally, read.until is not None
    found = RulesetActivity(ruleset.name, flow_of(ruleset, sums, tally, is_cut=is_cut), is_cut=is_cut)
    if tally is None:
        return found
    return replace(
        found,
        intervals=tally.intervals(read.until or request.until),
        latency_s=tally.latency_s,
        duration_ms=tally.duration_ms,
        failures=tally.causes.groups(ruleset.name),
    )
