"""The command that continues an apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinerctl.ledger.entries import ReleaseAction
from refinerctl.releases.deploy import resume_arguments
from refinerctl.releases.planning import Plan
from refinerctl.terraform.events import StateVersion
from refinerctl.terraform.plan_file import PlanRecord


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
