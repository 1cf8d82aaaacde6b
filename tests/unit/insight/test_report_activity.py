"""The activity of every stage, from metrics and logs, also if one of these cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from refinerctl.aws.logs import LogGroupSettings
from refinerctl.aws.metrics import Metric
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.insight.attempts import attempts_pattern
from refinerctl.insight.report.activity import Activity, Flow, read_activity
from refinerctl.stacks.base import EventRule, Function, Schedule, Stage
from refinerctl.stacks.refiner import STACK
from tests.unit.fakes import START, FakeLogGroups
from tests.unit.function_logs import Lines
from tests.unit.insight.fakes import Account, FakeMetrics, stage_of

ONE, TWO, DONE = stage_of("One"), stage_of("Two"), stage_of("Done", has_function=False)
LOG, OTHER_LOG = "/aws/lambda/x-One", "/aws/lambda/x-Two"
LINES = Lines(group=LOG)
OTHERS = Lines(group=OTHER_LOG)


PATTERN = attempts_pattern(STACK.log_terms)


class Groups(FakeLogGroups):
    """Log groups, of which some have no settings."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: dict[str, RefinerctlError] = {}

    def settings(self, group: str) -> LogGroupSettings:
        if group in self.unknown:
            raise self.unknown[group]
        return LogGroupSettings(group, 30)


@dataclass
class World:
    groups: Groups = field(default_factory=Groups)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)

    def read(self, *stages: Stage, hours: float = 1, pattern: str | None = None, most: int = 1000) -> Activity:
        account = Account(stages or (ONE, TWO, DONE), metrics=self.metrics, logs=self.groups)
        app = account.app
        return read_activity(app, account.stages, START, START + timedelta(hours=hours), pattern, most)

    def flow(self, one: Stage) -> Flow:
        return self.read(one).stages[0].flow

    @property
    def requested(self) -> list[Metric]:
        return [metric for request in self.metrics.requests for metric in request.values()]


@pytest.fixture
def world() -> World:
    return World()


class TestFlow:
    def test_from_metrics_and_log(self, world: World) -> None:
        world.metrics.set("x-One", "MatchedEvents", 2, 3)
        world.metrics.set("x-One", "FailedInvocations", 1)
        world.metrics.set("x-One", "NumberOfMessagesSent", 4)
        world.metrics.set("x-One", "NumberOfMessagesDeleted", 9)
        world.groups.written = [LINES.received(1), LINES.done(2), LINES.received(3, 2), LINES.failed(4, 2)]
        assert world.flow(ONE) == Flow(matched=5, undelivered=1, queued=4, attempts=2, completed=1, failed=1)

    def test_missing_value_of_eventbridge_is_zero_if_another_has_one(self, world: World) -> None:
        world.metrics.set("x-Two", "MatchedEvents", 7)
        one, two, done = (found.flow for found in world.read().stages)
        assert (one.matched, one.undelivered, two.matched, two.undelivered) == (0, 0, 7, 0)
        assert (one.queued, done.matched) == (None, 0)

    def test_deleted_messages_of_a_stage_without_function_are_its_attempts(self, world: World) -> None:
        assert (world.flow(ONE), world.flow(DONE)) == (Flow(attempts=0, completed=0, failed=0), Flow())
        world.metrics.set("x-Done", "NumberOfMessagesDeleted", 3)
        assert world.flow(DONE) == Flow(attempts=3)

    def test_rule_of_default_bus_has_one_dimension(self, world: World) -> None:
        world.read(Stage("Start", EventRule("start", "default"), None, Function("start")))
        found = {(metric.name, metric.more) for metric in world.requested}
        assert found == {("MatchedEvents", ()), ("FailedInvocations", ())}

    def test_stage_without_rule_and_queue_has_the_numbers_of_its_log(self, world: World) -> None:
        world.groups.written = [LINES.report(1, 1), LINES.timed_out(9, 2), LINES.report(9, 2)]
        scheduled = Stage("Nightly", Schedule("nightly"), None, Function("x-One"))
        assert world.flow(scheduled) == Flow(attempts=2, completed=1, failed=1)
        assert world.requested == []

    @pytest.mark.parametrize(("days", "period_s"), [(0.1, 60), (1, 300), (30, 3600)])
    def test_period_is_one_that_cloudwatch_keeps_that_long(self, world: World, days: float, period_s: int) -> None:
        world.read(ONE, hours=24 * days)
        assert {metric.period_s for metric in world.requested} == {period_s}


class TestLogs:
    def test_each_stage_has_its_own_log(self, world: World) -> None:
        world.groups.written = [LINES.received(1), LINES.failed(2), OTHERS.received(3, 2), OTHERS.done(4, 2)]
        one, two, done = world.read().stages
        assert [group.stage for group in one.failures] == ["One"]
        assert (two.failures, two.flow.completed, done.intervals) == ((), 1, ())
        assert len(one.intervals) == len(two.intervals) == 61
        assert (one.is_cut, two.latency_s is None) == (False, False)

    def test_filter_pattern_keeps_all_lines_that_count(self, world: World) -> None:
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
        assert world.read(ONE, pattern=PATTERN) == world.read(ONE)
        assert set(world.groups.patterns) == {PATTERN, None}
        assert list(world.groups.events(LOG, START, PATTERN)) == kept

    def test_log_with_too_many_lines_is_marked_as_cut(self, world: World) -> None:
        """There are no intervals after the cut, not even with zeros."""
        world.groups.written = [LINES.done(at, at) for at in range(0, 600, 60)]
        world.metrics.set("x-One", "NumberOfMessagesDeleted", 10)
        seen = world.read(ONE, most=4)
        (found,) = seen.stages
        assert found.is_cut
        assert [interval.completed for interval in found.intervals] == [1, 1, 1, 1]
        assert found.flow.completed == 10
        assert seen.problems == (
            "One: its log has more than 4 lines: lines after 2026-03-01T14:03:00Z are not counted",
        )

    def test_lines_before_an_error_count(self, world: World) -> None:
        world.groups.written = [LINES.done(1)]
        world.groups.errors[LOG] = RefinerctlError("log group throttled")
        seen = world.read()
        assert (seen.stages[0].is_cut, seen.stages[0].flow.completed) == (True, 1)
        assert seen.problems == ("One: log group throttled: lines after 2026-03-01T14:00:01Z are not counted",)


class TestErrors:
    def test_unreadable_log_leaves_numbers_unknown(self, world: World) -> None:
        world.groups.errors[LOG] = AccessDeniedError("access denied to its log")
        world.metrics.set("x-One", "NumberOfMessagesDeleted", 3)
        seen = world.read()
        assert seen.problems == ("One: access denied to its log",)
        assert seen.stages[0].flow == Flow(completed=3)
        assert (seen.stages[0].intervals, seen.stages[0].is_cut) == ((), False)
        assert seen.stages[1].flow.completed == 0

    def test_missing_log_group_leaves_numbers_unknown(self, world: World) -> None:
        world.groups.unknown[LOG] = NotFoundError("there is no log group x")
        seen = world.read(ONE)
        assert (seen.problems, seen.stages[0].flow) == (("One: there is no log group x",), Flow())

    def test_permission_for_log_settings_is_not_needed(self, world: World) -> None:
        world.groups.unknown[LOG] = AccessDeniedError("no")
        assert world.flow(ONE).completed == 0

    def test_unreadable_metrics_leave_the_numbers_of_the_log(self, world: World) -> None:
        world.metrics.error = AccessDeniedError("access denied: GetMetricData")
        world.groups.written = [LINES.done(1)]
        seen = world.read()
        assert seen.problems == ("metrics: access denied: GetMetricData",)
        assert seen.stages[0].flow == Flow(attempts=1, completed=1, failed=0)

    def test_error_if_nothing_can_be_read(self, world: World) -> None:
        world.metrics.error = AccessDeniedError("no metrics")
        world.groups.errors = dict.fromkeys((LOG, OTHER_LOG), AccessDeniedError("no logs"))
        with pytest.raises(AccessDeniedError, match="no metrics"):
            world.read()
