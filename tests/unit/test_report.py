"""What every ruleset did: from metrics and logs, and what is said where one of them cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from refinerctl.aws.log_settings import LogGroupSettings
from refinerctl.aws.logs import LogEvent
from refinerctl.aws.metrics import DataPoint, Metric
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.insight.report import Activity, ActivityRequest, Sources, activity
from refinerctl.insight.report.flow import MetricKey
from refinerctl.insight.report.function_log import PATTERN
from refinerctl.insight.report.types import Flow
from refinerctl.stacks.names import RulesetNames
from tests.unit.fakes import START, FakeLogGroups
from tests.unit.function_logs import Lines

ONE = RulesetNames("One", "One/", "x-One")
TWO = RulesetNames("Two", "Two/", "x-Two")
DONE = RulesetNames("Done", "RefinerComplete/", "x-Done", has_function=False)
UNTIL = START + timedelta(hours=1)
LINES = Lines(group=ONE.log_group)
OTHERS = Lines(group=TWO.log_group)


class Groups(FakeLogGroups):
    """Log groups of which some cannot be read, or break off; a pattern's terms are AWS's `?"…"`: one is enough."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, RefinerctlError] = {}
        self.patterns: set[str | None] = set()

    def events(
        self,
        group: str,
        since: datetime,
        pattern: str | None = None,
        *,
        until: datetime | None = None,
        streams: Sequence[str] = (),
    ) -> Iterator[LogEvent]:
        self.patterns.add(pattern)
        terms = re.findall(r'\?"([^"]+)"', pattern or "")
        for event in super().events(group, since, until=until, streams=streams):
            if not terms or any(term in event.message for term in terms):
                yield event
        if group in self.errors:
            raise self.errors[group]


class Settings:
    def __init__(self) -> None:
        self.errors: dict[str, RefinerctlError] = {}

    def get(self, group: str) -> LogGroupSettings:
        if group in self.errors:
            raise self.errors[group]
        return LogGroupSettings(group, 30)


class FakeMetrics:
    """CloudWatch's metrics, by name and by what their first dimension is of."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[float]] = {}
        self.asked: list[Metric] = []
        self.error: RefinerctlError | None = None

    def read(
        self, wanted: Mapping[MetricKey, Metric], since: datetime, until: datetime
    ) -> dict[MetricKey, tuple[DataPoint, ...]]:
        if self.error:
            raise self.error
        self.asked += wanted.values()
        return {
            key: tuple(DataPoint(since, value) for value in self.values.get((metric.name, metric.of), ()))
            for key, metric in wanted.items()
        }


@dataclass
class World:
    groups: Groups = field(default_factory=Groups)
    settings: Settings = field(default_factory=Settings)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)

    def look(self, *rulesets: RulesetNames, pattern: str | None = None, max_lines: int = 1000) -> Activity:
        request = ActivityRequest(rulesets or (ONE, TWO, DONE), "the-bus", START, UNTIL, pattern, max_lines)
        return activity(Sources(self.groups, self.settings, self.metrics), request)

    def flow(self, ruleset: RulesetNames) -> Flow:
        return self.look(ruleset).rulesets[0].flow


@pytest.fixture
def world() -> World:
    return World()


class TestFlow:
    def test_from_metrics_and_log(self, world: World) -> None:
        world.metrics.values = {
            ("MatchedEvents", ONE.base): [2, 3],
            ("FailedInvocations", ONE.base): [1],
            ("NumberOfMessagesSent", ONE.queue): [4],
            ("NumberOfMessagesDeleted", ONE.queue): [9],
        }
        world.groups.written = [LINES.received(1), LINES.done(2), LINES.received(3, 2), LINES.failed(4, 2)]
        assert world.flow(ONE) == Flow(matched=5, undelivered=1, queued=4, attempts=2, completed=1, failed=1)

    def test_a_rule_of_a_bus_has_two_dimensions(self, world: World) -> None:
        world.look()
        found = {(metric.name, metric.dimension, metric.of, metric.more) for metric in world.metrics.asked}
        assert ("MatchedEvents", "RuleName", ONE.base, (("EventBusName", "the-bus"),)) in found
        assert ("NumberOfMessagesSent", "QueueName", DONE.queue, ()) in found

    def test_eventbridge_does_not_send_zeros(self, world: World) -> None:
        world.metrics.values = {("MatchedEvents", TWO.base): [7]}
        one, two, done = (found.flow for found in world.look().rulesets)
        assert (one.matched, one.undelivered, two.matched, two.undelivered) == (0, 0, 7, 0)
        assert (one.queued, done.matched) == (None, 0)

    def test_without_metrics_nothing_is_known_that_logs_do_not_tell(self, world: World) -> None:
        assert world.flow(ONE) == Flow(attempts=0, completed=0, failed=0)
        assert world.flow(DONE) == Flow()

    def test_messages_that_were_taken_from_a_completion_ruleset(self, world: World) -> None:
        world.metrics.values = {("NumberOfMessagesDeleted", DONE.queue): [3]}
        assert world.flow(DONE) == Flow(attempts=3)

    @pytest.mark.parametrize(("days", "period_s"), [(0.1, 60), (1, 300), (30, 3600)])
    def test_periods_that_cloudwatch_keeps_that_long(self, world: World, days: float, period_s: int) -> None:
        request = ActivityRequest((ONE,), "bus", START - timedelta(days=days), START)
        activity(Sources(world.groups, world.settings, world.metrics), request)
        assert {metric.period_s for metric in world.metrics.asked} == {period_s}


class TestLogs:
    def test_each_ruleset_has_its_own(self, world: World) -> None:
        world.groups.written = [LINES.received(1), LINES.failed(2), OTHERS.received(3, 2), OTHERS.done(4, 2)]
        one, two, done = world.look().rulesets
        assert [group.ruleset for group in one.failures] == ["One"]
        assert (two.failures, two.flow.completed, done.intervals) == ((), 1, ())
        assert len(one.intervals) == len(two.intervals) == 61
        assert (one.is_cut, two.latency_s is None) == (False, False)

    def test_the_pattern_leaves_out_what_is_not_needed_and_nothing_else(self, world: World) -> None:
        kept = [
            *(LINES.received(1), LINES.done(2), LINES.received(3, 2), LINES.failed(4, 2), LINES.received(4, 3)),
            *(LINES.record(5, "record ignored", 3), LINES.report(5), LINES.received(6, 4), LINES.timed_out(7, 4)),
            *(LINES.received(8, 5), LINES.text(9, "[ERROR] ValueError: no"), LINES.report(9, 5)),
            LINES.text(10, '{"type": "platform.report", "record": {"requestId": "6", "status": "timeout"}}'),
            LINES.text(11, '{"requestId": "7", "errorType": "E", "errorMessage": "m"}'),
            LINES.text(12, f"RequestId: {'0' * 8}-{'0' * 27} Error: Runtime exited"),
        ]
        left_out = [LINES.start(1), LINES.record(1, "output written"), LINES.text(2, "END RequestId: 1")]
        world.groups.written = [*left_out, *kept]
        assert world.look(ONE, pattern=PATTERN) == world.look(ONE)
        assert world.groups.patterns == {PATTERN, None}
        assert list(world.groups.events(ONE.log_group, START, PATTERN)) == kept

    def test_a_log_that_is_too_long_is_said_to_be_cut(self, world: World) -> None:
        """Of the time after the cut nothing is said: not even that nothing happened."""
        world.groups.written = [LINES.done(at, at) for at in range(0, 600, 60)]
        world.metrics.values = {("NumberOfMessagesDeleted", ONE.queue): [10]}
        seen = world.look(ONE, max_lines=4)
        (found,) = seen.rulesets
        assert found.is_cut
        assert [interval.completed for interval in found.intervals] == [1, 1, 1, 1]
        assert found.flow.completed == 10
        assert seen.problems == (
            "One: its log has more than 4 lines: what came after 2026-03-01T14:03:00Z is not counted",
        )

    def test_what_was_read_before_an_error_counts(self, world: World) -> None:
        world.groups.written = [LINES.done(1)]
        world.groups.errors[ONE.log_group] = RefinerctlError("log group throttled")
        seen = world.look()
        assert (seen.rulesets[0].is_cut, seen.rulesets[0].flow.completed) == (True, 1)
        assert seen.problems == ("One: log group throttled: what came after 2026-03-01T14:00:01Z is not counted",)


class TestWhatCannotBeRead:
    def test_a_log_makes_no_zeros(self, world: World) -> None:
        world.groups.errors[ONE.log_group] = AccessDeniedError("access denied to its log")
        world.metrics.values = {("NumberOfMessagesDeleted", ONE.queue): [3]}
        seen = world.look()
        assert seen.problems == ("One: access denied to its log",)
        assert seen.rulesets[0].flow == Flow(completed=3)
        assert (seen.rulesets[0].intervals, seen.rulesets[0].is_cut) == ((), False)
        assert seen.rulesets[1].flow.completed == 0

    def test_a_log_group_that_does_not_exist_makes_no_zeros(self, world: World) -> None:
        world.settings.errors[ONE.log_group] = NotFoundError("there is no log group x")
        seen = world.look(ONE)
        assert (seen.problems, seen.rulesets[0].flow) == (("One: there is no log group x",), Flow())

    def test_whoever_may_read_lines_need_not_see_settings(self, world: World) -> None:
        world.settings.errors[ONE.log_group] = AccessDeniedError("no")
        assert world.flow(ONE).completed == 0

    def test_metrics(self, world: World) -> None:
        world.metrics.error = AccessDeniedError("access denied: GetMetricData")
        world.groups.written = [LINES.done(1)]
        seen = world.look()
        assert seen.problems == ("metrics: access denied: GetMetricData",)
        assert seen.rulesets[0].flow == Flow(attempts=1, completed=1, failed=0)

    def test_nothing_at_all(self, world: World) -> None:
        world.metrics.error = AccessDeniedError("no metrics")
        world.groups.errors = {ruleset.log_group: AccessDeniedError("no logs") for ruleset in (ONE, TWO)}
        with pytest.raises(AccessDeniedError, match="no metrics"):
            world.look()
