"""The consumers of queues: whether they would process a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from refinerctl.aws.lambda_ import Functions
from refinerctl.aws.messages import QueueAddress
from refinerctl.aws.metrics import Metric, Metrics
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError
from refinerctl.parallel import attempt

# If this many invocations failed lately, and none succeeded, messages would only fail again.
LAST_MINUTES = 5
ENOUGH_FAILURES = 5
RECENT_HOURS = 1
# A mapping in one of these states reads from its queue, or soon will.
_READING = {"Enabled", "Enabling", "Creating", "Updating"}


@dataclass(frozen=True)
class Health:
    """A queue's consumers. `broken` are reasons why they would not process a message, `warnings` why they might not."""

    queue: str
    consumers: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class HealthCheck:
    """Checks the consumers of queues with these clients."""

    settings: Callable[[QueueAddress], QueueState]
    functions: Functions
    metrics: Metrics

    def check(self, target: QueueAddress, dlq_arn: str | None, now: datetime) -> Health:
        """Raises nothing: what cannot be read becomes a warning. `now` in UTC.

        `dlq_arn` is the DLQ that failed messages are expected in; None is any.
        """
        warnings = list(self._check_settings(target, dlq_arn))
        found = attempt(lambda: self.functions.consumers(target.arn))
        if not found.value:
            why = found.error.message if found.error else "it has no event source mapping"
            return Health(target.name, warnings=(*warnings, f"the consumer of {target.name} is unknown: {why}"))
        broken: list[str] = []
        reading = [item for item in found.value if item.state in _READING]
        for item in found.value:
            if item not in reading:
                sentence = f"the event source mapping from {target.name} to {item.function} is {item.state}"
                (warnings if reading else broken).append(sentence)
        for name in sorted({item.function for item in reading or found.value}):
            self._check_function(name, now, broken, warnings)
        consumers = tuple(sorted({item.function for item in found.value}))
        return Health(target.name, consumers, tuple(broken), tuple(warnings))

    def _check_settings(self, target: QueueAddress, dlq_arn: str | None) -> Iterator[str]:
        found = attempt(lambda: self.settings(target))
        if found.value is None:
            yield f"the settings of {target.name} are unknown: {found.error.message if found.error else ''}"
        elif found.value.dlq_arn is None:
            yield f"{target.name} has no DLQ: a message that fails again is retried until it expires, and then lost"
        elif dlq_arn not in (None, found.value.dlq_arn):
            yield f"a message that fails again moves to {found.value.dlq_arn.rpartition(':')[2]}"

    def _check_function(self, name: str, now: datetime, broken: list[str], warnings: list[str]) -> None:
        try:
            code = self.functions.get(name)
        except NotFoundError:
            broken.append(f"function {name} does not exist")
            return
        except RefinerctlError as error:
            warnings.append(f"the state of function {name} is unknown: {error.message}")
            return
        because = f": {code.reason}" if code.reason else ""
        if code.state == "Failed":
            broken.append(f"function {name} is Failed{because}")
        elif code.update == "Failed":
            broken.append(f"the last update of function {name} failed{because}")
        if code.reserved_concurrency == 0:
            broken.append(f"function {name} has reserved concurrency 0")
        if code.state in ("Pending", "Inactive"):
            warnings.append(f"function {name} is {code.state}")
        if code.update == "InProgress":
            warnings.append(f"function {name} is being updated")
        self._check_invocations(name, now, broken, warnings)

    def _check_invocations(self, name: str, now: datetime, broken: list[str], warnings: list[str]) -> None:
        wanted = {what: Metric("AWS/Lambda", what, "FunctionName", name, "Sum") for what in ("Errors", "Invocations")}
        found = attempt(lambda: self.metrics.read(wanted, now - timedelta(hours=RECENT_HOURS), now)).value
        if found is None:
            return
        last = now - timedelta(minutes=LAST_MINUTES)
        errors, calls = (sum(point.value for point in found[what] if point.at >= last) for what in wanted)
        if calls >= ENOUGH_FAILURES and errors >= calls:
            broken.append(f"all {calls:.0f} invocations of function {name} failed in the last {LAST_MINUTES} minutes")
            return
        errors, calls = (sum(point.value for point in found[what]) for what in wanted)
        if errors:
            warnings.append(f"function {name}: {errors:.0f} of {calls:.0f} invocations failed in the last hour")


def refuse_broken(found: Iterable[Health]) -> None:
    """Raises RefusedError if messages would certainly not be processed."""
    if broken := [sentence for health in found for sentence in health.broken]:
        raise RefusedError(
            f"messages would not be processed: {'; '.join(broken)}",
            hint="Repair the consumer first, or pass --force to send anyway.",
        )
