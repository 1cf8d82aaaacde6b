"""Whether a queue's consumer would process messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from refinerctl.aws.consumers import Health, HealthCheck, refuse_broken
from refinerctl.aws.lambda_ import FunctionConfiguration, SourceMapping
from refinerctl.aws.metrics import DataPoint, Metric, Metrics, Name
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import AccessDeniedError, NotFoundError, RefusedError
from tests.unit.dlq.redrive.messages import DLQ, IN, SENT

if TYPE_CHECKING:
    from refinerctl.aws.lambda_ import Functions
    from refinerctl.aws.messages import QueueAddress

FUNCTION = FunctionConfiguration("f", "arn:aws:lambda:us-east-1:0:function:f")
SETTINGS = QueueState("in", IN.arn, 60, 345_600, dlq_arn=DLQ.arn, max_receive_count=3)


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


def mapping(state: str) -> SourceMapping:
    return SourceMapping(state, IN.arn, state, "f")


@dataclass
class Account:
    """One function behind one queue; takes the place of the clients."""

    mappings: tuple[SourceMapping, ...] = (mapping("Enabled"),)
    function: FunctionConfiguration = FUNCTION
    settings: QueueState = SETTINGS
    points: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    denied: str = ""

    def _check(self, what: str) -> None:
        if what == self.denied:
            raise AccessDeniedError(f"access denied: {what}")

    def consumers(self, queue_arn: str) -> tuple[SourceMapping, ...]:
        self._check("mappings")
        return self.mappings if queue_arn == IN.arn else ()

    def queue_settings(self, address: QueueAddress) -> QueueState:
        self._check("queue")
        return self.settings

    def get(self, name: str) -> FunctionConfiguration:
        self._check("function")
        if name != self.function.name:
            raise NotFoundError(f"function {name} does not exist")
        return self.function

    @property
    def health_check(self) -> HealthCheck:
        return HealthCheck(self.queue_settings, cast("Functions", self), FakeMetrics(self.points))

    def health(self) -> Health:
        return self.health_check.check(IN, DLQ.arn, SENT)


def test_a_healthy_consumer() -> None:
    assert Account().health() == Health("in", ("f",))


@pytest.mark.parametrize("state", ["Disabled", "Disabling", "Deleting"])
def test_a_mapping_that_does_not_read_is_broken(state: str) -> None:
    health = Account(mappings=(mapping(state),)).health()

    assert health.broken == (f"the event source mapping from in to f is {state}",)


@pytest.mark.parametrize("state", ["Enabled", "Enabling", "Creating", "Updating"])
def test_one_mapping_that_reads_is_enough(state: str) -> None:
    health = Account(mappings=(mapping("Disabled"), mapping(state))).health()

    assert health.broken == ()
    assert health.warnings == ("the event source mapping from in to f is Disabled",)


@pytest.mark.parametrize(
    ("function", "broken"),
    [
        (replace(FUNCTION, state="Failed", reason="no image"), "function f is Failed: no image"),
        (replace(FUNCTION, update="Failed", reason="no image"), "the last update of function f failed: no image"),
        (replace(FUNCTION, reserved_concurrency=0), "function f has reserved concurrency 0"),
        (replace(FUNCTION, name="other"), "function f does not exist"),
    ],
)
def test_a_function_that_cannot_run_is_broken(function: FunctionConfiguration, broken: str) -> None:
    assert Account(function=function).health().broken == (broken,)


@pytest.mark.parametrize(
    ("function", "doubt"),
    [
        (replace(FUNCTION, state="Pending"), "function f is Pending"),
        (replace(FUNCTION, state="Inactive"), "function f is Inactive"),
        (replace(FUNCTION, update="InProgress"), "function f is being updated"),
    ],
)
def test_a_function_that_may_run_soon_is_a_doubt(function: FunctionConfiguration, doubt: str) -> None:
    health = Account(function=function).health()

    assert (health.broken, health.warnings) == ((), (doubt,))


def test_a_function_whose_last_invocations_all_failed_is_broken() -> None:
    points = {"Errors": ((1.0, 3.0), (3.0, 2.0)), "Invocations": ((1.0, 3.0), (3.0, 2.0))}

    assert Account(points=points).health().broken == ("all 5 invocations of function f failed in the last 5 minutes",)


@pytest.mark.parametrize(
    ("errors", "calls"),
    [
        (((1.0, 4.0),), ((1.0, 5.0),)),  # one of them succeeded
        (((1.0, 4.0),), ((1.0, 4.0),)),  # too few
        (((30.0, 50.0),), ((30.0, 50.0),)),  # long ago
    ],
)
def test_other_errors_are_a_doubt(
    errors: tuple[tuple[float, float], ...], calls: tuple[tuple[float, float], ...]
) -> None:
    health = Account(points={"Errors": errors, "Invocations": calls}).health()

    assert health.broken == ()
    assert health.warnings == (
        f"function f: {errors[0][1]:.0f} of {calls[0][1]:.0f} invocations failed in the last hour",
    )


@pytest.mark.parametrize("denied", ["mappings", "queue", "function"])
def test_unreadable_settings_are_a_warning(denied: str) -> None:
    health = Account(denied=denied).health()

    assert health.broken == ()
    assert any("access denied" in doubt for doubt in health.warnings)


@pytest.mark.parametrize(
    ("account", "doubt"),
    [
        (Account(mappings=()), "the consumer of in is unknown"),
        (Account(settings=replace(SETTINGS, dlq_arn=None)), "in has no DLQ"),
        (Account(settings=replace(SETTINGS, dlq_arn="a:other")), "a message that fails again moves to other"),
    ],
)
def test_an_unusual_queue_is_a_doubt(account: Account, doubt: str) -> None:
    health = account.health()

    assert health.broken == ()
    assert any(doubt in text for text in health.warnings)


def test_a_broken_consumer_is_refused() -> None:
    refuse_broken([Health("in", ("f",), warnings=("it is updated",))])
    with pytest.raises(RefusedError, match="it is disabled"):
        refuse_broken([Health("in", ("f",), ("it is disabled",))])
