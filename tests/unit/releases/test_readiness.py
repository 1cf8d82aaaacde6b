"""The wait after an apply."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

import pytest

from refinerctl.aws.ecs_services import Deployment, Services, ServiceState, Task
from refinerctl.aws.lambda_ import FunctionConfiguration, Functions
from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError, TimedOutError
from refinerctl.releases.readiness import readiness_checks, wait_until_ready
from refinerctl.stacks.base import Function, Pipeline, Queue, Schedule, Service, Stack, Stage


def answers(*given: bool) -> Callable[[], bool]:
    """Each answer once, the last one for ever."""
    left = list(given)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


class TestWait:
    def test_wait_ends_when_every_check_holds(self) -> None:
        wait_until_ready({"a": answers(False, True), "b": answers(True)}, 10, Progress())

    def test_timeout_names_what_is_not_ready(self) -> None:
        with pytest.raises(TimedOutError, match=r"applied, but not in effect after 0\.1 s: b$"):
            wait_until_ready({"a": answers(True), "b": answers(False)}, 0.1, Progress())

    def test_wait_without_time_checks_once(self) -> None:
        wait_until_ready({"a": answers(True)}, 0, Progress())

    def test_failed_update_ends_the_wait(self) -> None:
        def failed() -> bool:
            raise RefinerctlError("the update of function f-a failed: no image")

        with pytest.raises(RefinerctlError, match="f-a failed: no image"):
            wait_until_ready({"a": failed, "b": answers(False)}, 60, Progress())


class TestChecks:
    class Lambda:
        """Functions that have their names' last word as update status."""

        def get(self, name: str) -> FunctionConfiguration:
            return FunctionConfiguration(name, f"arn:{name}", update=name.rpartition("-")[2], reason="no image")

        def mapping_is_enabled(self, uuid: str) -> bool:
            return uuid == "m-a"

    def checks(self, stack: Stack, outputs: dict[str, str]) -> dict[str, bool | str]:
        found = readiness_checks(stack, outputs, cast(Functions, self.Lambda()))
        return {what: is_ready() for what, is_ready in found.items()}

    def test_every_function_and_mapping_of_the_outputs_is_checked(self) -> None:
        stages = (
            Stage("A", consumer=Function("a-Successful"), recorded={"event_source_mapping_id": "m-a"}),
            Stage("B", source=Schedule("s-b"), consumer=Function("b-InProgress")),
            Stage("C"),
        )
        stack = Stack("any", pipeline_of_outputs=lambda outputs: Pipeline(outputs["prefix"], stages))
        assert self.checks(stack, {"prefix": "p"}) == {
            "function a-Successful": True,
            "function b-InProgress": False,
            "event source mapping of a-Successful": True,
        }

    def test_failed_update_is_an_error_with_lambdas_reason(self) -> None:
        stage = Stage("A", consumer=Function("a-Failed"))
        stack = Stack("any", pipeline_of_outputs=lambda _: Pipeline("p", (stage,)))
        with pytest.raises(RefinerctlError, match="the update of function a-Failed failed: no image"):
            self.checks(stack, {"bucket": "b"})

    def test_stack_without_outputs_or_pipeline_has_none(self) -> None:
        assert self.checks(Stack("any", pipeline_of_outputs=lambda _: Pipeline("p", ())), {}) == {}
        assert self.checks(Stack("any"), {"bucket": "b"}) == {}


NEW, OLD = "arn:aws:ecs:us-east-1:1:task-definition/worker:8", "arn:aws:ecs:us-east-1:1:task-definition/worker:7"


class Ecs:
    """A service with these deployments; the tasks of its earlier task definition."""

    def __init__(self, *deployments: Deployment, tasks: tuple[Task, ...] = (), events: tuple[str, ...] = ()) -> None:
        self.deployments, self._tasks, self.events = deployments, tasks, events

    def get(self, cluster: str, name: str) -> ServiceState:
        return ServiceState(
            name, f"arn:{name}", cluster, "ACTIVE", 2, 2, 0, NEW, deployments=self.deployments, events=self.events
        )

    def tasks(self, _cluster: str, _service: str) -> tuple[Task, ...]:
        return self._tasks


class TestServices:
    def ready(self, ecs: Ecs) -> bool | str:
        worker = Stage(
            "worker",
            queue=Queue("work"),
            consumer=Service("worker", "cluster", "/aws/ecs/worker"),
            recorded={"task_definition_arn": NEW},
        )
        stack = Stack("any", pipeline_of_outputs=lambda _: Pipeline("p", (worker,)))
        found = readiness_checks(stack, {"name": "p"}, cast(Functions, None), cast(Services, ecs))
        assert list(found) == ["service worker"]
        return found["service worker"]()

    def test_a_completed_deployment_of_the_applied_revision_is_in_effect(self) -> None:
        assert self.ready(Ecs(Deployment(NEW, "PRIMARY", "COMPLETED", desired=2, running=2))) is True
        assert self.ready(Ecs(Deployment(NEW, "PRIMARY", "COMPLETED"))) is True

    def test_the_wait_names_the_tasks_that_are_protected(self) -> None:
        until = datetime(2026, 3, 1, 14, 30, tzinfo=UTC)
        old = Task("arn:task/a", OLD, "RUNNING", is_protected=True, protected_until=until)
        deployments = (
            Deployment(NEW, "PRIMARY", "IN_PROGRESS", desired=2, running=1),
            Deployment(OLD, "ACTIVE", "COMPLETED", running=1),
        )
        assert self.ready(Ecs(*deployments, tasks=(old,))) == (
            "1 of 2 new tasks running, 1 protected task to finish, until 14:30 UTC at most unless renewed"
        )
        assert self.ready(Ecs(*deployments)) == "1 of 2 new tasks running, 1 task to stop"

    def test_a_deployment_that_failed_is_an_error_with_the_reason_of_ecs(self) -> None:
        failed = Deployment(NEW, "ACTIVE", "FAILED", reason="ECS deployment circuit breaker: tasks failed to start.")
        ecs = Ecs(failed, Deployment(OLD, "PRIMARY", "IN_PROGRESS"), events=("(service worker) cannot pull image.",))
        with pytest.raises(RefinerctlError) as error:
            self.ready(ecs)
        assert error.value.message == (
            "the deployment of service worker failed: ECS deployment circuit breaker: tasks failed to start; "
            "(service worker) cannot pull image"
        )

    def test_a_deployment_that_was_rolled_back_is_an_error(self) -> None:
        primary = Deployment(OLD, "PRIMARY", "COMPLETED", reason="rolled back to deployment 1", running=2)
        with pytest.raises(RefinerctlError, match=r"service worker was rolled back: rolled back to deployment 1"):
            self.ready(Ecs(primary))

    def test_a_timeout_says_what_the_service_waits_for(self) -> None:
        with pytest.raises(TimedOutError) as error:
            wait_until_ready({"service worker": lambda: "1 task to stop"}, 0, Progress())
        assert error.value.message == "applied, but not in effect after 0 s: service worker (1 task to stop)"
        assert "stops no task that is protected" in (error.value.hint or "")
