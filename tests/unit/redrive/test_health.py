"""Whether what is sent would be processed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.messages import QueueAddress
from refinerctl.aws.metrics import DataPoint, Metric, Metrics, Name
from refinerctl.aws.sqs import QueueState
from refinerctl.dlq.redrive.health import HealthSources, look
from refinerctl.dlq.redrive.plan import check_healthy
from refinerctl.dlq.redrive.types import Choice, Consumer, Health, Method, RedrivePlan
from refinerctl.errors import AccessDeniedError, NotFoundError, RefusedError
from tests.unit.redrive.letters import DLQ, IN, ORIGIN, SENT

FUNCTION = FunctionConfiguration("f", "arn:aws:lambda:us-east-1:0:function:f", timeout_s=60)
QUEUE = QueueState("in", IN.arn, 60, 345_600, dlq_arn=DLQ.arn, max_receive_count=3)


class FakeMetrics(Metrics):
    """Sums by name, each so many minutes old."""

    def __init__(self, points: Mapping[str, tuple[tuple[float, float], ...]]) -> None:
        self._points = points

    def read(
        self, wanted: Mapping[Name, Metric], since: datetime, until: datetime
    ) -> dict[Name, tuple[DataPoint, ...]]:
        return {
            name: tuple(
                DataPoint(until - timedelta(minutes=age), value) for age, value in self._points.get(metric.name, ())
            )
            for name, metric in wanted.items()
        }


@dataclass
class Account:
    """One function behind one queue."""

    consumers: tuple[Consumer, ...] = (Consumer("f", "Enabled"),)
    function: FunctionConfiguration = FUNCTION
    queue: QueueState = QUEUE
    points: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)

    def _check(self, what: str) -> None:
        if what in self.denied:
            raise AccessDeniedError(f"access denied: {what}")

    def of_queue(self, queue_arn: str) -> tuple[Consumer, ...]:
        self._check("mappings")
        return self.consumers if queue_arn == IN.arn else ()

    def settings(self, address: QueueAddress) -> QueueState:
        self._check("queue")
        return self.queue

    def get(self, name: str) -> FunctionConfiguration:
        self._check("function")
        if name != self.function.name:
            raise NotFoundError(f"there is no function {name!r}")
        return self.function

    def health(self) -> Health:
        return look(HealthSources(self, self.settings, self.get, FakeMetrics(self.points)), IN, DLQ.arn, SENT)


def test_all_well() -> None:
    assert Account().health() == Health("in", ("f",))


@pytest.mark.parametrize("state", ["Disabled", "Disabling", "Deleting"])
def test_a_mapping_that_does_not_read(state: str) -> None:
    health = Account(consumers=(Consumer("f", state),)).health()

    assert health.broken == (f"the event source mapping from in to f is {state}",)


@pytest.mark.parametrize("state", ["Enabled", "Enabling", "Creating", "Updating"])
def test_one_mapping_that_reads_is_enough(state: str) -> None:
    health = Account(consumers=(Consumer("f", "Disabled"), Consumer("f", state))).health()

    assert health.broken == ()
    assert health.doubts == ("the event source mapping from in to f is Disabled",)


@pytest.mark.parametrize(
    ("function", "broken"),
    [
        (replace(FUNCTION, state="Failed", reason="no image"), "function f is Failed: no image"),
        (replace(FUNCTION, update="Failed", reason="no image"), "the last update of function f failed: no image"),
        (replace(FUNCTION, reserved_concurrency=0), "function f may not run: its reserved concurrency is 0"),
        (replace(FUNCTION, name="other"), "there is no function 'f'"),
    ],
)
def test_a_function_that_cannot_run(function: FunctionConfiguration, broken: str) -> None:
    assert Account(function=function).health().broken == (broken,)


@pytest.mark.parametrize(
    ("function", "doubt"),
    [
        (replace(FUNCTION, state="Pending"), "function f is Pending"),
        (replace(FUNCTION, state="Inactive"), "function f is Inactive"),
        (replace(FUNCTION, update="InProgress"), "function f is being updated"),
    ],
)
def test_a_function_that_may_run_soon(function: FunctionConfiguration, doubt: str) -> None:
    health = Account(function=function).health()

    assert (health.broken, health.doubts) == ((), (doubt,))


def test_everything_failed_in_the_last_minutes() -> None:
    points = {"Errors": ((1.0, 3.0), (3.0, 2.0)), "Invocations": ((1.0, 3.0), (3.0, 2.0))}

    assert Account(points=points).health().broken == ("all 5 invocations of function f failed in the last 5 minutes",)


@pytest.mark.parametrize(
    ("errors", "calls"),
    [
        (((1.0, 4.0),), ((1.0, 5.0),)),  # one of them succeeded
        (((1.0, 4.0),), ((1.0, 4.0),)),  # too few to tell
        (((30.0, 50.0),), ((30.0, 50.0),)),  # long ago
    ],
)
def test_errors_that_tell_nothing_of_now(
    errors: tuple[tuple[float, float], ...], calls: tuple[tuple[float, float], ...]
) -> None:
    health = Account(points={"Errors": errors, "Invocations": calls}).health()

    assert health.broken == ()
    assert health.doubts == (
        f"function f: {errors[0][1]:.0f} of {calls[0][1]:.0f} invocations failed in the last hour",
    )


def test_a_consumer_that_nobody_knows_is_a_doubt() -> None:
    health = Account(consumers=()).health()

    assert health.broken == ()
    assert health.doubts == ("who reads from in is not known: no event source mapping does",)


@pytest.mark.parametrize("what", ["mappings", "queue", "function"])
def test_what_may_not_be_read_is_no_reason_to_refuse(what: str) -> None:
    health = Account(denied={what}).health()

    assert health.broken == ()
    assert any("access denied" in doubt for doubt in health.doubts)


def test_where_failures_go_then() -> None:
    none = Account(queue=replace(QUEUE, dlq_arn=None)).health()
    other = Account(queue=replace(QUEUE, dlq_arn="arn:aws:sqs:us-east-1:0:other-dlq")).health()

    assert any("has no dead-letter queue" in doubt for doubt in none.doubts)
    assert other.doubts == ("what fails again goes to other-dlq",)


def test_the_plainly_broken_is_refused_unless_forced() -> None:
    plan = RedrivePlan(ORIGIN, Choice(Method.COPY, ""), (IN,), 5, health=(Health("in", ("f",), ("it is off",)),))

    with pytest.raises(RefusedError, match="it is off"):
        check_healthy(plan, force=False)
    check_healthy(plan, force=True)
