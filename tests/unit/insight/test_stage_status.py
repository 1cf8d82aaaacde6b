"""The status of stages: what is read in which round, and what follows from the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.alarms import Alarm
from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.metrics import DataPoint, Metric, Name
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import AccessDeniedError
from refinerctl.insight.health import reasons
from refinerctl.insight.stage_status import INPUT_PAGES, MAX_COMPLETIONS, read_status
from refinerctl.insight.status_model import (
    DlqStatus,
    FunctionStatus,
    InputsStatus,
    LastCompletion,
    PipelineStatus,
    QueueStatus,
    StageStatus,
)
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.stacks.base import EventRule, Queue
from tests.unit.fakes import START, FakeFunctions, FakeQueues
from tests.unit.insight.fakes import (
    DIGEST,
    TINY,
    TINY_STAGES,
    Account,
    FakeMetrics,
    Rounds,
    stage_of,
)

ONE, TWO, DONE = stage_of("One"), stage_of("Two"), stage_of("Done", "RefinerComplete/", has_function=False)
OTHER = f"sha256:{'b' * 64}"
QUEUE, DLQ, DELIVERY = "x-One", "x-One-dlq", "x-One-delivery-dlq"


@pytest.fixture
def account() -> Account:
    return Account((ONE, DONE))


def read(account: Account) -> PipelineStatus:
    return read_status(account.app, account.stages, START)


def one(account: Account) -> StageStatus:
    return read(account).stages[0]


class TestQueues:
    @pytest.mark.parametrize(
        ("visible", "in_flight", "ages", "oldest"), [(3, 2, (50, 110), 110), (3, 0, (), None), (0, 0, (110,), None)]
    )
    def test_counts_and_the_age_of_the_oldest_message(
        self, account: Account, visible: int, in_flight: int, ages: tuple[float, ...], oldest: float | None
    ) -> None:
        """The age is unknown without metrics; an empty queue has no oldest message."""
        account.set_counts(QUEUE, visible, in_flight)
        account.metrics.set(QUEUE, "ApproximateAgeOfOldestMessage", *ages)
        assert one(account).queue == QueueStatus(QUEUE, visible, in_flight, 0, oldest)

    def test_messages_of_a_dlq_expire_by_the_time_of_their_first_send(self, account: Account) -> None:
        """The metric of a DLQ counts from the move; the message was hidden five times for 30 s before that."""
        for name in (DLQ, DELIVERY):
            account.set_counts(name, 1)
            account.metrics.set(name, "ApproximateAgeOfOldestMessage", 1000)
        found = one(account)
        assert found.dlq == DlqStatus(DLQ, 1, 1000, 1209600 - 1000 - 5 * 30)
        assert found.delivery_dlq == DlqStatus(DELIVERY, 1, 1000, 1209600 - 1000)
        assert account.queues.requests["peek"] == 0  # no message is received


class TestFunction:
    def test_the_metrics_of_the_last_hour(self, account: Account) -> None:
        account.metrics.set("x-One", "Errors", 1, 2)
        account.metrics.set("x-One", "Throttles", 0)
        account.metrics.set("x-One", "Duration", 40, 60)
        account.metrics.set("x-One", "ConcurrentExecutions", 3, 7)
        expected = FunctionStatus("x-One", "Active", DIGEST, None, None, 3, 0, 60, 60, 7)
        assert one(account).function == expected
        assert read(account).stages[1].function is None  # that stage has none

    @pytest.mark.parametrize(("recorded", "expected"), [(DIGEST, True), (OTHER, False), (None, None)])
    def test_whether_it_runs_the_release(self, account: Account, recorded: str | None, expected: bool | None) -> None:
        images = {"One": f"r@{recorded}"} if recorded else {}
        account.ledger.releases = (Release(ReleaseAction.DEPLOY, "v1.2.3", images, at=START),)
        found = read(account)
        assert found.release == "v1.2.3"
        assert found.stages[0].function is not None
        assert found.stages[0].function.runs_release is expected


class TestLastCompletion:
    def test_the_newest_if_only_one_stage_writes_completions(self, account: Account) -> None:
        account.bucket.write("RefinerComplete/a.json", at=START)
        account.bucket.write("RefinerComplete/b.json", at=START - timedelta(hours=1))
        assert one(account).last_completion == LastCompletion(START, "RefinerComplete/a.json")
        assert account.bucket.requests["head"] == 0

    @pytest.mark.parametrize("shown", [(ONE, TWO), (ONE,), (TWO,)])
    def test_of_several_stages_each_has_that_of_its_own_input(self, shown: tuple[Any, ...]) -> None:
        account = Account((ONE, TWO))
        account.bucket.write("RefinerComplete/a.json", at=START)
        account.bucket.write("RefinerComplete/b", at=START - timedelta(hours=1))
        account.bucket.write("Two/a")
        account.bucket.write("One/b")
        stages = read_status(account.app, shown, START).stages
        keys = {stage.name: stage.last_completion and stage.last_completion.key for stage in stages}
        expected = {"One": "RefinerComplete/b", "Two": "RefinerComplete/a.json"}
        assert keys == {stage.name: expected[stage.name] for stage in shown}

    def test_a_completion_without_its_input_is_known_by_the_queue(self) -> None:
        account = Account((ONE, TWO))
        account.bucket.write("RefinerComplete/old.json", at=START - timedelta(hours=3))
        account.bucket.write("RefinerComplete/new.json", at=START - timedelta(minutes=2))
        account.bucket.write("One/old")
        account.metrics.set(QUEUE, "NumberOfMessagesDeleted", 1, 0)
        assert one(account).last_completion == LastCompletion(START - timedelta(minutes=2))

    def test_with_many_stages_no_completion_is_listed(self) -> None:
        account = Account(tuple(stage_of(f"R{n}") for n in range(40)))
        account.bucket.write("RefinerComplete/a.json")
        account.metrics.set("x-R3", "NumberOfMessagesDeleted", 4, 0)
        found = [stage.last_completion for stage in read(account).stages]
        assert [number for number, last in enumerate(found) if last] == [3]
        assert account.bucket.requests["list"] == 0

    def test_with_many_completions_the_minute_is_from_the_queue(self, account: Account) -> None:
        for number in range(MAX_COMPLETIONS + 1):
            account.bucket.write(f"RefinerComplete/{number}.json")
        assert one(account).last_completion is None
        account.metrics.set(QUEUE, "NumberOfMessagesDeleted", 4, 1, 0)
        assert one(account).last_completion == LastCompletion(START - timedelta(minutes=2))


class TestInputs:
    @pytest.fixture(autouse=True)
    def _inputs(self, account: Account) -> None:
        """Four of One: one is completed, one was written just now."""
        for name in ("a", "b", "c"):
            account.bucket.write(f"One/{name}", at=START - timedelta(hours=1))
        account.bucket.write("One/recent")
        account.bucket.write("RefinerComplete/a.json")

    def test_inputs_without_completion_and_message(self, account: Account) -> None:
        assert one(account).inputs == InputsStatus(4, 2, 2)
        assert read(account).stages[1].inputs is None  # nothing completes its objects

    @pytest.mark.parametrize(("queue", "left"), [(QUEUE, 1), (DLQ, 1), (DELIVERY, 1)])
    def test_messages_may_be_about_them(self, account: Account, queue: str, left: int) -> None:
        account.set_counts(queue, in_flight=1)
        assert one(account).inputs == InputsStatus(4, 2, left)

    def test_events_that_were_not_forwarded_may_be_about_them(self, account: Account) -> None:
        account.shared = (EventRule("x-forward", "default", dlq=Queue("x-forward-delivery-dlq")),)
        account.set_counts("x-forward-delivery-dlq", visible=1)
        assert one(account).inputs == InputsStatus(4, 2, 1)

    def test_they_are_counted_after_the_messages(self, account: Account) -> None:
        """An input that is processed meanwhile would else be missing in both."""

        class Processing(FakeQueues):
            def state(self, name: str) -> QueueState:
                found = super().state(name)
                if name == QUEUE:
                    account.bucket.write("RefinerComplete/b.json")
                    account.bucket.write("RefinerComplete/c.json")
                return found

        account.queues = Processing()
        account.queues.messages = {name: [] for name in (QUEUE, DLQ, DELIVERY)}
        account.queues.states[QUEUE] = QueueState(QUEUE, visible=2)
        assert one(account).inputs == InputsStatus(4, 0, 0)

    def test_of_many_inputs_some_are_counted(self, account: Account) -> None:
        for number in range(20):
            account.bucket.write(f"One/more-{number}", at=START - timedelta(hours=1))
        account.bucket.page_size = 1
        found = one(account).inputs
        assert found is not None
        assert (found.all_counted, found.counted < 24, account.bucket.requests["page"]) == (False, True, INPUT_PAGES)
        assert 0 < found.incomplete < found.counted

    def test_messages_that_cannot_be_counted_leave_it_open(self, account: Account) -> None:
        del account.queues.messages[DLQ]
        assert one(account).inputs == InputsStatus(4, 2, None)

    def test_inputs_that_cannot_be_listed_are_a_problem(self, account: Account) -> None:
        account.bucket.denied.add("One/")
        assert one(account).inputs is None
        assert read(account).problems == ("inputs: access denied: page on s3://data-repository/One/",)


class TestProblems:
    def test_what_cannot_be_read_does_not_hide_the_rest(self, account: Account) -> None:
        del account.queues.messages[DLQ]
        account.metrics.error = AccessDeniedError("access denied: GetMetricData")
        found = read(account)
        assert found.problems == ("metrics: access denied: GetMetricData",)
        assert found.stages[0].problems == (f"queue {DLQ} does not exist",)
        assert found.stages[0].dlq is None
        assert found.stages[0].queue is not None

    def test_a_function_that_cannot_be_read_still_has_metrics(self, account: Account) -> None:
        class Denied(FakeFunctions):
            def get(self, name: str) -> FunctionConfiguration:
                raise AccessDeniedError(f"access denied: GetFunction on function {name}")

        account.functions = Denied()
        account.metrics.set("x-One", "Errors", 3)
        found = one(account)
        assert found.function is not None
        assert (found.function.errors, found.function.digest, found.function.runs_release) == (3, None, None)
        assert (found.problems, found.unread) == ((), {"function": "access denied: GetFunction on function x-One"})

    def test_a_stage_that_is_not_deployed_has_one_problem(self, account: Account) -> None:
        account.functions.known.clear()
        assert one(account).function is None
        for name in (QUEUE, DLQ, DELIVERY):
            del account.queues.messages[name]
        assert one(account).problems == ("it is not deployed in us-east-1",)

    def test_disabled_and_missing_rules_and_mappings_are_problems(self, account: Account) -> None:
        assert one(account).problems == ()
        account.functions.mapping_states["x-One"] = "Disabled"
        account.schedules.known_rules["x-One"] = False
        assert one(account).problems == (
            "rule x-One is disabled",
            "the event source mapping of its function is disabled",
        )
        account.functions.mapping_states["x-One"] = None
        del account.schedules.known_rules["x-One"]
        assert one(account).problems == (
            "rule x-One does not exist",
            f"no event source mapping from queue {QUEUE} to its function exists",
        )

    def test_events_that_a_shared_rule_could_not_deliver(self) -> None:
        dlq = Queue("x-forward-delivery-dlq")
        account = Account((ONE, DONE), shared=(EventRule("x-forward", "default", dlq=dlq), dlq))
        account.set_counts(dlq.name, 2)
        account.metrics.set(dlq.name, "ApproximateAgeOfOldestMessage", 600)
        found = read(account)
        assert found.shared_dlqs == (DlqStatus(dlq.name, 2, 600, 1209600 - 600),)
        assert reasons(found) == [f"all stages: 2 messages in DLQ {dlq.name}, the oldest expires within 13d23h"]

    def test_it_fails_if_nothing_can_be_read(self, account: Account) -> None:
        app = account.app

        def fail(*_: Any) -> Any:
            raise AccessDeniedError("no credentials")

        # To find URLs never fails.
        client: Any = SimpleNamespace(
            get=fail,
            read=fail,
            objects=fail,
            page=fail,
            state=fail,
            find=account.queues.find,
            all_mappings=fail,
            rules=fail,
        )
        app.functions = app.metrics = app.bucket = app.ledger = app.queues = app.event_buses = client
        app.alarms = SimpleNamespace(find=fail)  # type: ignore[assignment]
        with pytest.raises(AccessDeniedError, match="no credentials"):
            read_status(app, account.stages, START)


class TestAlarms:
    FIRING = Alarm("x-One-dlq-messages", "ALARM", "m", (DLQ,), since=START)

    def test_those_in_state_alarm_on_the_pipelines_components(self, account: Account) -> None:
        of_another_stack = replace(self.FIRING, name="x-y-Two-dlq-messages", resources=("x-y-Two-dlq",))
        quiet = replace(self.FIRING, name="x-One-errors", state="OK")
        account.alarms.alarms = (self.FIRING, quiet, of_another_stack)
        assert read(account).alarms == (self.FIRING,)

    def test_they_are_of_all_stages_and_of_what_stages_share(self) -> None:
        forward = EventRule("x-forward", "default", dlq=Queue("x-forward-delivery-dlq"))
        account = Account((ONE, DONE), shared=(forward, Queue("x-forward-delivery-dlq")))
        alarm = replace(self.FIRING, resources=("x-forward-delivery-dlq",))
        account.alarms.alarms = (alarm,)
        assert read_status(account.app, (DONE,), START).alarms == (alarm,)

    def test_a_status_without_them_says_why(self, account: Account) -> None:
        account.alarms.error = AccessDeniedError("access denied: DescribeAlarms on the alarms")
        found = read(account)
        assert found.problems == ("alarms: access denied: DescribeAlarms on the alarms",)
        assert found.stages[0].queue is not None


def test_stages_of_another_shape() -> None:
    """A schedule that starts a function, a queue without function, nothing in S3."""
    account = Account(TINY_STAGES, TINY)
    account.set_counts("jobs-dlq", 4)
    account.metrics.set("tick", "Errors", 2)
    tick, jobs = read(account).stages
    assert (tick.prefix, tick.queue, tick.dlq, tick.delivery_dlq, tick.last_completion) == (None,) * 5
    assert tick.function is not None
    assert tick.function.errors == 2
    assert jobs.dlq is not None
    assert (jobs.function, jobs.dlq.depth, jobs.problems) == (None, 4, ())


def test_everything_is_asked_for_in_three_rounds() -> None:
    """Each call waits for all others of its round: one that is made after another's answer would wait forever."""
    account = Account(tuple(stage_of(f"R{n}") for n in range(5)))
    # two times metrics, alarms, completions, ledger, URLs, mappings, rules and five functions; then three queues and
    # then the inputs of each stage
    rounds = Rounds(8 + 5, 5 * 3, 5)

    app = account.app
    app.queues = rounds.of(account.queues, find=0, state=1)
    app.functions = rounds.of(account.functions, get=0, all_mappings=0)
    app.event_buses = rounds.of(account.schedules, rules=0)
    app.metrics = rounds.of(account.metrics, read=0)
    app.alarms = rounds.of(account.alarms, find=0)
    app.bucket = rounds.of(account.bucket, objects=0, page=2)
    app.ledger = rounds.of(account.ledger, read=0)
    found = read_status(app, account.stages, START)
    assert rounds.calls == [13, 15, 5]
    assert account.queues.requests["find x-R"] == 1
    assert all(stage.queue for stage in found.stages)


def test_the_metrics_of_fifty_stages_fit_into_two_calls_at_once() -> None:
    account = Account(tuple(stage_of(f"R{n}") for n in range(50)))
    read(account)
    assert sorted(len(wanted) for wanted in account.metrics.requests) == [3 * 50, 7 * 50]


@given(st.integers(0, 3599), st.booleans())
def test_the_last_hour_has_sixty_whole_minutes_wherever_periods_begin(second: int, by_the_clock: bool) -> None:
    """CloudWatch may let a period begin with the request, or by the clock; one minute of this hour is not over."""
    now = START + timedelta(seconds=second)

    def points(period_s: int, since: datetime, until: datetime) -> Iterator[DataPoint]:
        """An invocation in each minute. Periods that began before `since` are left out."""
        begin = since.replace(second=0)
        if by_the_clock:
            begin = datetime.fromtimestamp(-(-begin.timestamp() // period_s) * period_s, UTC)
        while begin < until:
            yield DataPoint(begin, min(period_s, (until - begin).total_seconds()) / 60)
            begin += timedelta(seconds=period_s)

    class Counting(FakeMetrics):
        def read(
            self, wanted: Mapping[Name, Metric], since: datetime, until: datetime
        ) -> dict[Name, tuple[DataPoint, ...]]:
            return {key: tuple(points(metric.period_s, since, until)) for key, metric in wanted.items()}

    function = read_status(Account((ONE,), metrics=Counting()).app, (ONE,), now).stages[0].function
    assert function is not None
    assert function.errors is not None
    assert 55 < function.errors <= 60
    assert by_the_clock or function.errors == 60
    assert by_the_clock or function.duration_p95_ms == 60  # one period for all of the hour
