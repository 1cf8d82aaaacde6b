"""The wait after an apply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from refinerctl.aws.lambda_ import FunctionConfiguration, Functions
from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError, TimedOutError
from refinerctl.ledger.entries import ReleaseAction
from refinerctl.releases.deploy import readiness_checks, resume_arguments, wait_until_ready
from refinerctl.releases.planning import Plan
from refinerctl.stacks.base import Function, Pipeline, Schedule, Stack, Stage
from refinerctl.terraform.events import StateVersion
from refinerctl.terraform.plan_file import PlanRecord


def answers(*given: bool) -> Callable[[], bool]:
    """Each answer once, the last one for ever."""
    left = list(given)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    ("action", "asked", "expected"),
    [
        (ReleaseAction.DEPLOY, "v2", ["deploy", "--tag", "v2"]),
        # The tag of the current release would be resolved again, or refused for an image that runs from its folder.
        (ReleaseAction.DEPLOY, None, ["deploy"]),
        (ReleaseAction.ROLLBACK, None, ["rollback", "--to", "v2"]),
    ],
)
def test_command_that_continues_has_the_tag_only_if_it_was_requested(
    action: ReleaseAction, asked: str | None, expected: list[str]
) -> None:
    record = PlanRecord("e", "s", "v2", {}, "", StateVersion(), allow_destroy=("a.b",), asked_tag=asked)
    assert resume_arguments(Plan(Path("none"), record, ()), action) == [*expected, "--allow-destroy", "a.b"]


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

    def checks(self, stack: Stack, outputs: dict[str, str]) -> dict[str, bool]:
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
