"""Would what is sent to a queue be processed? Asked before anything is moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.messages import QueueAddress
from refinerctl.aws.metrics import DataPoint, Metric
from refinerctl.aws.sqs import QueueState
from refinerctl.dlq.redrive.types import Consumer, Health
from refinerctl.errors import NotFoundError, RefinerctlError

if TYPE_CHECKING:
    from refinerctl.aws.metrics import Metrics

# Everything failed within this, and often enough to be no accident: what is sent now would only die again.
LAST_MINUTES = 5
ENOUGH_FAILURES = 5
RECENT_HOURS = 1

# A mapping in one of these states reads from its queue, or is about to.
_FEEDING = {"Enabled", "Enabling", "Creating", "Updating"}


class ConsumersOf(Protocol):
    def of_queue(self, queue_arn: str) -> tuple[Consumer, ...]:
        """The functions that are fed from a queue."""


@dataclass(frozen=True)
class HealthSources:
    """Who is asked. `function` by its name."""

    consumers: ConsumersOf
    settings: Callable[[QueueAddress], QueueState]
    function: Callable[[str], FunctionConfiguration]
    metrics: Metrics


def look(sources: HealthSources, target: QueueAddress, origin_arn: str, now: datetime) -> Health:
    """What is plainly wrong with the consumer of `target`, and what may be. `now` in UTC; raises nothing of its own.

    What cannot be read is a doubt, never a reason to refuse.
    """
    broken: list[str] = []
    doubts = list(_settings(sources, target, origin_arn))
    try:
        consumers = sources.consumers.of_queue(target.arn)
    except RefinerctlError as error:
        return Health(target.name, doubts=(*doubts, f"who reads from {target.name} is not known: {error.message}"))
    if not consumers:
        doubts.append(f"who reads from {target.name} is not known: no event source mapping does")
        return Health(target.name, doubts=tuple(doubts))
    feeding = [item for item in consumers if item.state in _FEEDING]
    for item in consumers:
        if item not in feeding:
            sentence = f"the event source mapping from {target.name} to {item.function} is {item.state}"
            (doubts if feeding else broken).append(sentence)
    for name in sorted({item.function for item in feeding or consumers}):
        wrong, doubtful = _function(sources, name, now)
        broken += wrong
        doubts += doubtful
    return Health(target.name, tuple(sorted({item.function for item in consumers})), tuple(broken), tuple(doubts))


def _settings(sources: HealthSources, target: QueueAddress, origin_arn: str) -> Iterator[str]:
    try:
        queue = sources.settings(target)
    except RefinerctlError as error:
        yield f"the settings of {target.name} are not known: {error.message}"
        return
    if queue.dlq_arn is None:
        yield f"{target.name} has no dead-letter queue: what fails again comes back until it is too old, and is gone"
    elif queue.dlq_arn != origin_arn:
        yield f"what fails again goes to {queue.dlq_arn.rpartition(':')[2]}"


def _function(sources: HealthSources, name: str, now: datetime) -> tuple[list[str], list[str]]:
    """What is wrong with a function, and what may be."""
    try:
        code = sources.function(name)
    except NotFoundError:
        return [f"there is no function {name!r}"], []
    except RefinerctlError as error:
        return [], [f"how function {name} does is not known: {error.message}"]
    broken, doubts = list(_wrong_with(code)), []
    if code.state in ("Pending", "Inactive"):
        doubts.append(f"function {name} is {code.state}")
    if code.update == "InProgress":
        doubts.append(f"function {name} is being updated")
    failing, said = _errors(sources.metrics, name, now)
    (broken if failing else doubts).extend(said)
    return broken, doubts


def _wrong_with(code: FunctionConfiguration) -> Iterator[str]:
    because = f": {code.reason}" if code.reason else ""
    if code.state == "Failed":
        yield f"function {code.name} is Failed{because}"
    elif code.update == "Failed":
        yield f"the last update of function {code.name} failed{because}"
    if code.reserved_concurrency == 0:
        yield f"function {code.name} may not run: its reserved concurrency is 0"


def _errors(metrics: Metrics, name: str, now: datetime) -> tuple[bool, list[str]]:
    """Whether all of the last invocations failed, and what to say of errors; nothing without metrics."""
    wanted = {what: Metric("AWS/Lambda", what, "FunctionName", name, "Sum") for what in ("Errors", "Invocations")}
    try:
        found: dict[Any, tuple[DataPoint, ...]] = metrics.read(wanted, now - timedelta(hours=RECENT_HOURS), now)
    except RefinerctlError:
        return False, []
    last = now - timedelta(minutes=LAST_MINUTES)
    errors, calls = (sum(point.value for point in found[what] if point.at >= last) for what in wanted)
    if calls >= ENOUGH_FAILURES and errors >= calls:
        return True, [f"all {calls:.0f} invocations of function {name} failed in the last {LAST_MINUTES} minutes"]
    errors, calls = (sum(point.value for point in found[what]) for what in wanted)
    if errors:
        return False, [f"function {name}: {errors:.0f} of {calls:.0f} invocations failed in the last hour"]
    return False, []
