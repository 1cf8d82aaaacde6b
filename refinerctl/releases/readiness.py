"""Whether what was applied is in effect: functions are updated, event source mappings enabled, services steady."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from refinerctl.console import Progress, counted
from refinerctl.errors import RefinerctlError, TimedOutError
from refinerctl.parallel import attempt, concurrently
from refinerctl.stacks.base import Function, Service, Stack, Values

if TYPE_CHECKING:
    from refinerctl.aws.ecs_services import Deployment, Services, ServiceState
    from refinerctl.aws.lambda_ import Functions

_THREADS = 8
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 5.0
# Of a failed deployment: the newest events say that it was rolled back, those before say why tasks did not start.
_EVENTS_SHOWN = 3

Readiness: TypeAlias = Callable[[], bool | str]
"""Whether something is in effect; a text says what it waits for."""


def readiness_checks(
    stack: Stack, outputs: Values, functions: Functions, services: Services | None = None
) -> dict[str, Readiness]:
    """Checks that each function, event source mapping and service is in effect, by the name of the check."""
    if stack.pipeline_of_outputs is None or not outputs:
        return {}
    pipeline = stack.pipeline_of_outputs(outputs)
    checks: dict[str, Readiness] = {
        f"function {function.name}": partial(_is_updated, functions, function.name)
        for function in pipeline.by_kind(Function)
    }
    for stage in pipeline.stages:
        if mapping := stage.recorded.get("event_source_mapping_id"):
            name = stage.consumer.name if stage.consumer else stage.name
            checks[f"event source mapping of {name}"] = partial(functions.mapping_is_enabled, mapping)
        if stage.service is not None and services is not None:
            definition = stage.recorded.get("task_definition_arn", "")
            checks[f"service {stage.service.name}"] = partial(_is_steady, services, stage.service, definition)
    return checks


def wait_until_ready(checks: Mapping[str, Readiness], timeout_s: float, progress: Progress) -> None:
    """Wait until every check holds.

    Raises TimedOutError that names those that do not, RefinerctlError with AWS's reason for an update that failed.
    """
    deadline = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_SECONDS
    pending = _pending(checks)
    while pending and time.monotonic() < deadline:
        progress.update(f"waiting for {', '.join(pending)}")
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        pending = _pending(checks)
    if pending:
        hint = "Lambda continues. See the function's LastUpdateStatus and the event source mapping's State."
        if any(text.startswith("service ") for text in pending):
            hint = "ECS continues, and stops no task that is protected. See `refinerctl status`, or pass --timeout."
        raise TimedOutError(f"applied, but not in effect after {timeout_s:g} s: {', '.join(pending)}", hint=hint)


def _pending(checks: Mapping[str, Readiness]) -> list[str]:
    found = concurrently(list(checks.values()), _THREADS)
    return [
        f"{what} ({ready})" if isinstance(ready, str) else what
        for what, ready in zip(checks, found, strict=True)
        if ready is not True
    ]


def _is_updated(functions: Functions, name: str) -> bool:
    """https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html"""
    function = functions.get(name)
    if "Failed" in (function.state, function.update):
        raise RefinerctlError(f"the update of function {name} failed: {function.reason or 'Lambda gives no reason'}")
    return function.state != "Pending" and function.update != "InProgress"


def _is_steady(services: Services, service: Service, definition: str) -> bool | str:
    """Whether only tasks of the applied task definition are left.

    A rollback by the circuit breaker is another primary deployment, of an earlier task definition.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html
    """
    state = services.get(service.cluster, service.name)
    primary = state.primary
    if primary is None:
        return "it has no deployment"
    failed = next((item for item in state.deployments if item.rollout == "FAILED"), None)
    if failed and (not definition or failed.task_definition == definition):
        raise RefinerctlError(f"the deployment of service {state.name} failed: {_reason(failed, state)}")
    if definition and primary.task_definition != definition and _revision(primary.task_definition, definition) < 0:
        raise RefinerctlError(f"the deployment of service {state.name} was rolled back: {_reason(primary, state)}")
    if primary.rollout in ("COMPLETED", "") and all(item is primary or not item.running for item in state.deployments):
        return True
    return _progress(services, service, state, primary)


def _revision(found: str, wanted: str) -> int:
    """How many revisions `found` is after `wanted`; 0 for those of different families."""
    family, _, revision = found.rpartition(":")
    wanted_family, _, wanted_revision = wanted.rpartition(":")
    return int(revision) - int(wanted_revision) if family == wanted_family else 0


def _reason(deployment: Deployment, state: ServiceState) -> str:
    told = [deployment.reason, *state.events[:_EVENTS_SHOWN]]
    return "; ".join(text.rstrip(".") for text in told if text) or "ECS gives no reason"


def _progress(services: Services, service: Service, state: ServiceState, primary: Deployment) -> str:
    text = f"{primary.running} of {primary.desired} new tasks running"
    earlier = sum(item.running for item in state.deployments if item is not primary)
    if not earlier:
        return text
    tasks = attempt(lambda: services.tasks(service.cluster, service.name)).value or ()
    protected = [task for task in tasks if task.is_protected and task.task_definition != primary.task_definition]
    if not protected:
        return f"{text}, {counted(earlier, 'task')} to stop"
    until = max((task.protected_until for task in protected if task.protected_until), default=None)
    limit = f", until {until:%H:%M} UTC at most unless renewed" if until else ""
    return f"{text}, {counted(len(protected), 'protected task')} to finish{limit}"
