"""How the pipeline is doing: what is asked for in which round, and what follows from the answers."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.app import AppContext
from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.messages import QueueDepth, QueueState
from refinerctl.aws.metric import DataPoint, Metric
from refinerctl.aws.objects import ObjectInfo
from refinerctl.config import GlobalFlags
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.insight.status import MAX_COMPLETIONS, MetricKey, Stations, status
from refinerctl.insight.status_command import _follow, _problems, _screen
from refinerctl.insight.status_types import PipelineStatus, RulesetStatus
from refinerctl.insight.status_view import COLUMNS, Cell, cells, fitted, log_lines, seconds
from refinerctl.insight.watch import Frame
from refinerctl.releases.model import Release, ReleaseAction
from refinerctl.stacks.names import RulesetNames, ruleset_names
from refinerctl.stacks.settings import Pipeline
from tests.unit.fakes import START, FakeBucket, FakeFunctions, FakeQueues

ONE = RulesetNames("One", "One/", "x-One")
TWO = RulesetNames("Two", "Two/", "x-Two")
DONE = RulesetNames("Done", "RefinerComplete/", "x-Done", has_function=False)
DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@dataclass
class FakeMetrics:
    points: dict[MetricKey, tuple[DataPoint, ...]] = field(default_factory=dict)
    asked: list[Mapping[MetricKey, Metric]] = field(default_factory=list)
    error: RefinerctlError | None = None

    def read(
        self, wanted: Mapping[MetricKey, Metric], since: datetime, until: datetime
    ) -> dict[MetricKey, tuple[DataPoint, ...]]:
        if self.error:
            raise self.error
        self.asked.append(wanted)
        return {key: self.points.get(key, ()) for key in wanted}

    def set(self, of: str, name: str, *values: float) -> None:
        points = (DataPoint(START - timedelta(minutes=len(values) - n), value) for n, value in enumerate(values))
        self.points[of, name] = tuple(points)


class AskableQueues(FakeQueues):
    def find(self, prefix: str) -> None:
        self.requests[f"find {prefix}"] += 1


@dataclass
class World:
    rulesets: tuple[RulesetNames, ...] = (ONE, DONE)
    queues: AskableQueues = field(default_factory=AskableQueues)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    bucket: FakeBucket = field(default_factory=FakeBucket)
    releases: tuple[Release, ...] = ()

    def __post_init__(self) -> None:
        self.functions = FakeFunctions(
            *(FunctionConfiguration(ruleset.base, "arn", "1", f"r@{DIGEST}", 128, 60, {}) for ruleset in (ONE, TWO))
        )
        for ruleset in (ONE, TWO, DONE):
            for name in (ruleset.queue, ruleset.dlq, ruleset.delivery_dlq):
                self.holds(name)

    def holds(self, name: str, visible: int = 0, in_flight: int = 0) -> None:
        self.queues.states[name] = QueueState(QueueDepth(name, visible, in_flight, 0), 1209600, 60, 5)

    def status(self) -> PipelineStatus:
        stations = Stations(self.queues, self.functions, self.metrics, self.bucket, lambda: self.releases)
        return status(self.rulesets, Pipeline(), stations, START)

    def one(self) -> RulesetStatus:
        return self.status().rulesets[0]


@pytest.fixture
def world() -> World:
    return World()


class TestQueues:
    def test_counts_and_the_oldest(self, world: World) -> None:
        world.holds(ONE.queue, 3, 2)
        world.metrics.set(ONE.queue, "age", 50, 110)
        queue = world.one().queue
        assert queue is not None
        assert (queue.visible, queue.in_flight, queue.oldest_age_s) == (3, 2, 110)

    def test_without_metrics_nothing_is_known_of_the_oldest(self, world: World) -> None:
        world.holds(ONE.queue, 3)
        queue = world.one().queue
        assert queue is not None
        assert queue.oldest_age_s is None

    def test_an_empty_queue_has_no_oldest_whatever_the_metric_said_a_minute_ago(self, world: World) -> None:
        world.metrics.set(ONE.queue, "age", 110)
        queue = world.one().queue
        assert queue is not None
        assert queue.oldest_age_s is None

    def test_dead_letters_expire_by_their_first_timestamp(self, world: World) -> None:
        """The metric of a dead-letter queue counts from the move on; five times 60 s went by before, at least."""
        world.holds(ONE.dlq, 1)
        world.holds(ONE.delivery_dlq, 1)
        for name in (ONE.dlq, ONE.delivery_dlq):
            world.metrics.set(name, "age", 1000)
        found = world.one()
        assert found.dlq is not None
        assert found.delivery_dlq is not None
        assert found.dlq.expires_in_s == 1209600 - 1000 - 5 * 60
        assert found.delivery_dlq.expires_in_s == 1209600 - 1000

    def test_no_message_is_received(self, world: World) -> None:
        world.holds(ONE.dlq, 5)
        world.status()
        assert world.queues.requests["peek"] == 0


class TestFunction:
    def test_its_last_hour(self, world: World) -> None:
        values = {"errors": (1, 2), "throttles": (0,), "p50": (40, 60), "p95": (90.5,), "concurrency": (3, 7)}
        for name, seen in values.items():
            world.metrics.set(ONE.base, name, *seen)
        found = world.one().function
        assert found is not None
        assert (found.errors, found.throttles, found.invocations) == (3, 0, None)
        assert (found.duration_p50_ms, found.duration_p95_ms, found.concurrency) == (60, 90.5, 7)

    @pytest.mark.parametrize(("recorded", "expected"), [(DIGEST, True), (OTHER, False), (None, None)])
    def test_whether_it_runs_the_release(self, world: World, recorded: str | None, expected: bool | None) -> None:
        images = {"One": f"r@{recorded}"} if recorded else {}
        world.releases = (Release(ReleaseAction.DEPLOY, "v1.2.3", images, at=START),)
        found = world.status()
        assert found.release == "v1.2.3"
        assert found.rulesets[0].function is not None
        assert found.rulesets[0].function.runs_release is expected

    def test_a_completion_ruleset_has_none(self, world: World) -> None:
        assert world.status().rulesets[1].function is None


class TestLastCompletion:
    def test_of_one_function_it_is_the_newest(self, world: World) -> None:
        world.bucket.write("RefinerComplete/a.json", at=START)
        world.bucket.write("RefinerComplete/b.json", at=START - timedelta(hours=1))
        found = world.one().last_completion
        assert found is not None
        assert (found.key, found.at) == ("RefinerComplete/a.json", START)
        assert world.bucket.requests["head"] == 0

    def test_of_several_each_has_that_of_its_own_input(self, world: World) -> None:
        world.rulesets = (ONE, TWO)
        world.bucket.write("RefinerComplete/a.json", at=START)
        world.bucket.write("RefinerComplete/b", at=START - timedelta(hours=1))
        world.bucket.write("Two/a")
        world.bucket.write("One/b")
        keys = [ruleset.last_completion and ruleset.last_completion.key for ruleset in world.status().rulesets]
        assert keys == ["RefinerComplete/b", "RefinerComplete/a.json"]

    def test_of_several_one_whose_input_is_gone_is_known_by_its_message(self, world: World) -> None:
        world.rulesets = (ONE, TWO)
        world.bucket.write("RefinerComplete/old.json", at=START - timedelta(hours=3))
        world.bucket.write("RefinerComplete/new.json", at=START - timedelta(minutes=2))
        world.bucket.write("One/old")
        world.metrics.set(ONE.base, "processed", 1, 0)
        found = world.one().last_completion
        assert found is not None
        assert (found.key, found.at) == (None, START - timedelta(minutes=2))

    def test_of_more_rulesets_than_inputs_are_asked_for_no_completion_is_listed(self, world: World) -> None:
        world.rulesets = tuple(RulesetNames(f"R{n}", f"R{n}/", f"x-R{n}") for n in range(40))
        world.bucket.write("RefinerComplete/a.json")
        world.metrics.set("x-R3", "processed", 4, 0)
        found = [ruleset.last_completion for ruleset in world.status().rulesets]
        assert [number for number, last in enumerate(found) if last] == [3]
        assert world.bucket.requests["list"] == 0

    def test_of_very_many_the_queue_tells_the_minute(self, world: World) -> None:
        for number in range(MAX_COMPLETIONS + 1):
            world.bucket.write(f"RefinerComplete/{number}.json")
        assert world.one().last_completion is None
        world.metrics.set(ONE.base, "processed", 4, 1, 0)
        found = world.one().last_completion
        assert found is not None
        assert (found.key, found.at) == (None, START - timedelta(minutes=2))


class TestProblems:
    def test_what_cannot_be_looked_at_does_not_hide_the_rest(self, world: World) -> None:
        del world.queues.states[ONE.dlq]
        world.metrics.error = AccessDeniedError("access denied: GetMetricData")
        found = world.status()
        assert found.problems == ("metrics: access denied: GetMetricData",)
        assert found.rulesets[0].problems == (f"there is no queue {ONE.dlq!r}",)
        assert found.rulesets[0].dlq is None
        assert found.rulesets[0].queue is not None

    def test_who_may_not_see_the_function_sees_its_metrics(self, world: World) -> None:
        class Denied(FakeFunctions):
            def get(self, name: str) -> FunctionConfiguration:
                raise AccessDeniedError(f"access denied: GetFunction on function {name}")

        world.functions = Denied()
        world.metrics.set(ONE.base, "errors", 3)
        found = world.one()
        assert found.function is not None
        assert (found.function.errors, found.function.digest, found.function.runs_release) == (3, None, None)
        assert found.problems == ("access denied: GetFunction on function x-One",)

    def test_a_function_that_does_not_exist_is_none(self, world: World) -> None:
        world.functions = FakeFunctions()
        assert world.one().function is None

    def test_what_is_configured_only_is_told_once(self, world: World) -> None:
        for name in (ONE.queue, ONE.dlq, ONE.delivery_dlq):
            del world.queues.states[name]
        world.functions = FakeFunctions()
        assert world.one().problems == ("it is not deployed",)

    def test_many_alike_are_told_once(self, world: World) -> None:
        world.queues.error = AccessDeniedError("access denied: GetQueueUrl on queue q")
        world.queues.states.clear()
        world.metrics.error = AccessDeniedError("access denied: GetMetricData on the metrics")
        assert _problems(world.status()) == [
            "metrics: access denied: GetMetricData on the metrics",
            "One: access denied: GetQueueUrl on queue q, and 5 more like it",
        ]

    def test_where_nothing_can_be_looked_at_it_fails(self, world: World) -> None:
        def denied(*_: Any) -> Any:
            raise AccessDeniedError("no credentials")

        class Denied:
            state = get = read = objects = head = staticmethod(denied)

            def find(self, name_prefix: str) -> None:
                """As the client's: what is denied is looked up one by one."""

        stations = Stations(Denied(), Denied(), Denied(), Denied(), denied)
        with pytest.raises(AccessDeniedError, match="no credentials"):
            status((ONE,), Pipeline(), stations, START)


class Rounds:
    """Lets calls through only when so many of them wait: that many are in flight at the same time."""

    def __init__(self, *sizes: int) -> None:
        self._barriers = [threading.Barrier(size, timeout=20) for size in sizes]
        self.calls: Counter[int] = Counter()

    def wait(self, number: int) -> None:
        self.calls[number] += 1
        self._barriers[number].wait()


def test_everything_is_asked_for_in_two_rounds() -> None:
    """Each call waits for all others of its round: one that came only after another's answer would wait for ever."""
    rulesets = tuple(RulesetNames(f"R{n}", f"R{n}/", f"x-R{n}") for n in range(5))
    rounds = Rounds(4 + 5 + 1, 5 * 3)  # metrics, ages, completions, ledger; functions; URLs. Then three queues each

    class InRounds:
        def find(self, prefix: str) -> None:
            assert prefix == "x-R"
            rounds.wait(0)

        def get(self, name: str) -> FunctionConfiguration:
            rounds.wait(0)
            return FunctionConfiguration(name, "arn", timeout_s=60)

        def read(self, wanted: Mapping[MetricKey, Metric], *_: Any) -> dict[MetricKey, tuple[DataPoint, ...]]:
            rounds.wait(0)
            return {}

        def objects(self, prefix: str) -> Iterator[ObjectInfo]:
            rounds.wait(0)
            return iter(())

        def head(self, key: str) -> ObjectInfo | None:
            raise AssertionError(key)

        def state(self, name: str) -> QueueState:
            rounds.wait(1)
            return QueueState(QueueDepth(name, 0, 0, 0), 60, 60)

    def ledger() -> tuple[Release, ...]:
        rounds.wait(0)
        return ()

    world = InRounds()
    found = status(rulesets, Pipeline(), Stations(world, world, world, world, ledger), START)
    assert rounds.calls == {0: 10, 1: 15}
    assert all(ruleset.queue for ruleset in found.rulesets)


def test_the_metrics_of_fifty_rulesets_fit_into_two_calls_at_once(world: World) -> None:
    world.rulesets = tuple(RulesetNames(f"R{n}", f"R{n}/", f"x-R{n}") for n in range(50))
    world.status()
    assert sorted(len(wanted) for wanted in world.metrics.asked) == [3 * 50, 7 * 50]


@given(st.integers(0, 3599), st.integers(0, 1))
def test_the_last_hour_is_sixty_whole_minutes_wherever_periods_begin(second: int, by_the_clock: int) -> None:
    """CloudWatch may let a period begin with the question, or by the clock; one minute of this hour is not over."""
    now = START + timedelta(seconds=second)

    class Counting(FakeMetrics):
        def read(
            self, wanted: Mapping[MetricKey, Metric], since: datetime, until: datetime
        ) -> dict[MetricKey, tuple[DataPoint, ...]]:
            return {key: points(metric.period_s, since, until) for key, metric in wanted.items()}

    def points(period_s: int, since: datetime, until: datetime) -> tuple[DataPoint, ...]:
        """An invocation in each minute. Points from before `since` are left out."""
        begin = since.replace(second=0)
        if by_the_clock:
            begin = datetime.fromtimestamp(-(-begin.timestamp() // period_s) * period_s, UTC)
        found = []
        while begin < until:
            minutes = min(period_s, (until - begin).total_seconds()) / 60
            found.append(DataPoint(begin, minutes))
            begin += timedelta(seconds=period_s)
        return tuple(found)

    world = World(metrics=Counting())
    stations = Stations(world.queues, world.functions, world.metrics, world.bucket, tuple)
    function = status((ONE,), Pipeline(), stations, now).rulesets[0].function
    assert function is not None
    assert function.errors is not None
    assert 55 < function.errors <= 60
    assert by_the_clock or function.errors == 60
    assert by_the_clock or function.duration_p95_ms == 60  # one period of all the hour, and no second one


class TestRulesetNames:
    def test_from_values_before_defaults(self) -> None:
        values = {"rulesets": {"B": {"prefix": "/b/"}, "A": {"prefix": "a/", "image_uri": "i"}}}
        defaults = {"name_prefix": "other", "rulesets": {"C": {"prefix": "c/"}}}
        assert ruleset_names(values, defaults, Pipeline()) == (
            RulesetNames("A", "a/", "other-A", has_function=True),
            RulesetNames("B", "b/", "other-B", has_function=False),
        )

    def test_without_a_project_from_the_settings(self) -> None:
        found = ruleset_names({}, {}, Pipeline())
        assert [(names.queue, names.dlq, names.log_group, names.has_function) for names in found] == [
            ("dibbs-ecr-RefinerInput", "dibbs-ecr-RefinerInput-dlq", "/aws/lambda/dibbs-ecr-RefinerInput", True),
            (
                "dibbs-ecr-RefinerComplete",
                "dibbs-ecr-RefinerComplete-dlq",
                "/aws/lambda/dibbs-ecr-RefinerComplete",
                False,
            ),
        ]

    @pytest.mark.parametrize("rulesets", [{"A": {}}, {"A": {"prefix": "no slash"}}, ["a"], {"A": None}])
    def test_malformed_ones_are_an_error(self, rulesets: Any) -> None:
        with pytest.raises(RefinerctlError):
            ruleset_names({"rulesets": rulesets}, {}, Pipeline())


class TestView:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, "-"),
            (0, "0s"),
            (59.6, "1m"),
            (192, "3m12s"),
            (7500, "2h5m"),
            (1138000, "13d4h"),
            (86400, "1d"),
            (-5, "0s"),
        ],
    )
    def test_durations(self, value: float | None, expected: str) -> None:
        assert seconds(value) == expected

    def test_what_is_not_known_is_a_dash_and_never_zero(self) -> None:
        empty = PipelineStatus(START, (RulesetStatus("One", "One/"),))
        assert {cell.text for cell in cells(empty, empty.rulesets[0])[1:]} == {"-"}
        assert log_lines(empty)[0].startswith("2026-03-01T14:00:00Z One waiting=- in_flight=- ")

    @pytest.mark.parametrize("width", [None, 200, 80, 40, 7, 1])
    def test_columns_that_do_not_fit_go_the_least_important_first(self, width: int | None) -> None:
        rows = [[Cell("x" * 5) for _ in COLUMNS]]
        found = fitted(rows, width)
        line = "  ".join(cell.text for cell in found[0])
        assert width is None or len(line) <= width or len(found[0]) == 1
        assert found[0][0].text.strip() == "RULESET"

    def test_a_screen_shows_whole_columns_whatever_its_width(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from rich.console import Console

        monkeypatch.chdir(tmp_path)
        app, frame = AppContext(GlobalFlags()), Frame(world.status())
        for width in range(10, 170):
            console = Console(width=width, file=io.StringIO())
            with console.capture() as capture:
                console.print(_screen(app, frame, width, 24))
            lines = capture.get().splitlines()[2:5]
            assert [line.split()[0] for line in lines] == ["RULESET", "One", "Done"]
            assert not any("…" in line for line in lines)

    def test_lines_for_a_log_go_on_after_an_error(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        answers: list[Any] = [
            world.status(),
            RefinerctlError("no answer from AWS"),
            world.status(),
            KeyboardInterrupt(),
        ]

        def look() -> PipelineStatus:
            answer = answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            assert isinstance(answer, PipelineStatus)
            return answer

        with pytest.raises(KeyboardInterrupt):
            _follow(AppContext(GlobalFlags()), look, 0.01)
        said = capsys.readouterr()
        assert said.out.count(" One waiting=0 ") == 2
        assert "warning: not up to date: no answer from AWS" in said.err

    def test_how_long_dead_letters_are_kept_is_a_bound(self, world: World) -> None:
        world.holds(ONE.dlq, 1)
        world.metrics.set(ONE.dlq, "age", 1000)
        found = world.status()
        assert "<13d23h" in [cell.text for cell in cells(found, found.rulesets[0])]

    def test_what_needs_a_look_stands_out(self, world: World) -> None:
        world.holds(ONE.dlq, 2)
        world.releases = (Release(ReleaseAction.DEPLOY, "v2", {"One": f"r@{OTHER}"}, at=START),)
        found = world.status()
        bad = [cell.text for cell in cells(found, found.rulesets[0]) if cell.is_bad]
        assert bad == ["2", f"not v2: {DIGEST[:19]}"]
