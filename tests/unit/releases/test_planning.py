"""What a plan loses, what it leaves unfinished, what differs from the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import RefusedError
from refinerctl.releases.drift import configuration_changes
from refinerctl.releases.planning import Plan, refuse_losses
from refinerctl.terraform.events import StateVersion
from refinerctl.terraform.plan_file import PlanRecord
from refinerctl.terraform.plan_json import Action, Change

QUEUE = Change('module.rulesets["In"].aws_sqs_queue.this', "aws_sqs_queue", Action.REPLACE, name="in")


def make(*changes: Change, allow: tuple[str, ...] = (), drift: tuple[Change, ...] = ()) -> Plan:
    record = PlanRecord("e", "s", None, {}, "", StateVersion(), allow_destroy=allow)
    return Plan(Path("none"), record, changes, drift=drift)


class TestLosses:
    @given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
    def test_each_address_must_be_allowed(self, lost: set[int], allowed: set[int]) -> None:
        kind = "aws_sqs_queue"
        changes = [Change(f"{kind}.n{number}", kind, Action.DESTROY) for number in sorted(lost)]
        plan = make(*changes, allow=tuple(f"{kind}.n{number}" for number in allowed))
        assert {change.address for change in plan.losses} == {f"{kind}.n{number}" for number in lost - allowed}

    def test_part_of_an_address_allows_nothing(self) -> None:
        assert make(QUEUE, allow=('module.rulesets["In"]', "aws_sqs_queue.this")).losses == (QUEUE,)

    def test_refusal_names_the_option_that_allows_the_loss(self) -> None:
        with pytest.raises(RefusedError, match=r"the plan loses data: .*aws_sqs_queue\.this \(replace\)") as caught:
            refuse_losses(make(QUEUE))
        assert f"--allow-destroy '{QUEUE.address}'" in str(caught.value.hint)
        refuse_losses(make(QUEUE, allow=(QUEUE.address,)))

    def test_removed_resources_are_named_by_type(self) -> None:
        bucket = Change("aws_s3_bucket.kept", "aws_s3_bucket", Action.UPDATE, name="b")
        assert make(QUEUE, bucket).removed("aws_sqs_queue") == ("in",)
        assert make(QUEUE, bucket).removed("aws_s3_bucket") == ()


def test_drift_names_each_resource_once() -> None:
    outside = Change("a.by_hand", "a", Action.UPDATE, ("x",))
    edited = Change("a.edited", "a", Action.UPDATE, ("y",))
    assert configuration_changes(make(outside, edited, drift=(outside,))) == (edited,)
    assert configuration_changes(make()) == ()
