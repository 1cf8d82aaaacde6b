"""Plans as text, as data, as a merge request note and as GitLab's report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refinerctl.console import as_json
from refinerctl.errors import RefusedError
from refinerctl.images import Build
from refinerctl.releases.markdown import drift_markdown, plan_markdown
from refinerctl.releases.plan_view import gitlab_report, plan_json, plan_lines, totals
from refinerctl.releases.planning import Plan, refuse_losses
from refinerctl.terraform.events import StateVersion
from refinerctl.terraform.plan_file import PlanRecord
from refinerctl.terraform.plan_json import Action, Change, ImageChange
from refinerctl.terraform.plan_values import ValueChange


def make(tag: str | None = None, notes: tuple[str, ...] = (), **content: Any) -> Plan:
    record = PlanRecord("production", "refiner", tag, {}, "", StateVersion(), notes=notes)
    return Plan(Path("none"), record, **content)


IN = 'module.rulesets["In"]'
OLD, NEW = (f"repo@sha256:{letter * 64}" for letter in "ab")
PLAN = make(
    tag="v2",
    changes=(
        Change("module.event_bus.aws_sqs_queue.delivery_dlq", "aws_sqs_queue", Action.UPDATE, ("policy",)),
        Change(f"{IN}.aws_lambda_function.this[0]", "aws_lambda_function", Action.UPDATE, ("image_uri",)),
        Change(f"{IN}.aws_sqs_queue.this", "aws_sqs_queue", Action.REPLACE, ("name",), "in"),
        Change(f"{IN}.aws_iam_role.this[0]", "aws_iam_role", Action.DESTROY),
        Change(f"{IN}.aws_iam_role.that", "aws_iam_role", Action.CREATE),
        Change("aws_x.y", "aws_x", Action.FORGET),
    ),
    images=(ImageChange("In", OLD, NEW), ImageChange("Same", OLD, OLD)),
    drift=(Change("aws_x.z", "aws_x", Action.UPDATE, ("tags",)),),
    outputs=("rulesets",),
    notes=("In: something to know",),
)


def test_summary_groups_changes_by_module() -> None:
    assert list(plan_lines(PLAN)) == [
        "environment production, stack refiner, release v2",
        "images",
        "  In                        sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb",
        'module.rulesets["In"]',
        "  ~ aws_lambda_function.this[0]  (image_uri)",
        "  -/+ aws_sqs_queue.this  (name)  LOSES DATA",
        "  - aws_iam_role.this[0]",
        "  + aws_iam_role.that",
        "all other resources",
        "  ~ module.event_bus.aws_sqs_queue.delivery_dlq  (policy)",
        "  forget aws_x.y",
        "outputs that change: rulesets",
        "changed outside of Terraform (recorded → now)",
        "  ~ aws_x.z  (tags)",
        "note: In: something to know",
        "1 to create, 2 to change, 1 to replace, 1 to destroy, 1 to forget",
    ]


def test_summary_of_many_creations_is_short() -> None:
    stages = [f"R{number}" for number in range(6)]
    changes = tuple(
        Change(f'module.rulesets["{name}"].aws_{kind}.n{number}', f"aws_{kind}", Action.CREATE)
        for name in stages
        for kind in ("queue", "role")
        for number in range(5)
    )
    lines = list(plan_lines(make(changes=changes)))
    assert "  + aws_queue x 5, aws_role x 5" in lines
    assert len(lines) == 2 + 2 * len(stages)
    assert lines[-1].startswith("60 to create")


def test_every_loss_of_data_has_a_line() -> None:
    changes = tuple(Change(f"aws_sqs_queue.n{n}", "aws_sqs_queue", Action.DESTROY) for n in range(40))
    assert sum("LOSES DATA" in line for line in plan_lines(make(changes=changes))) == 40


def test_loss_without_destruction_is_named() -> None:
    change = Change("aws_sqs_queue.n", "aws_sqs_queue", Action.UPDATE, ("policy",), losses=("DLQ detached",))
    assert "  ~ aws_sqs_queue.n  (policy)  LOSES DATA: DLQ detached" in plan_lines(make(changes=(change,)))
    with pytest.raises(RefusedError, match=re.escape("aws_sqs_queue.n (DLQ detached)")) as refused:
        refuse_losses(make(changes=(change,)))
    assert refused.value.hint is not None
    assert "--allow-destroy aws_sqs_queue.n" in refused.value.hint


def test_totals_without_changes() -> None:
    assert totals(make()) == "no changes"
    assert totals(make(outputs=("x",))) != "no changes"


def test_plan_as_data() -> None:
    document = json.loads(json.dumps(plan_json(PLAN), default=as_json))
    totals = {"create": 1, "update": 2, "replace": 1, "destroy": 1, "forget": 1, "import": 0, "move": 0}
    assert document["totals"] == totals
    assert document["images"][0] == {"stage": "In", "before": OLD, "after": NEW}
    assert document["changes"][2] == {
        "address": f"{IN}.aws_sqs_queue.this",
        "type": "aws_sqs_queue",
        "action": "replace",
        "attributes": ["name"],
        "name": "in",
        "stage": "In",
        "losses": [],
        "image_only": False,
        "loses_data": True,
        "values": [],
    }


LONG = "arn:aws:sqs:us-east-1:123456789012:dibbs-ecr/"
VALUES = (
    ValueChange("timeout", 900, 60),
    ValueChange("environment.variables.LEVEL", None, "debug"),
    ValueChange("arn", f"{LONG}a", f"{LONG}{'b' * 40}"),
    ValueChange("password", is_sensitive=True),
    ValueChange("role", "old", is_unknown=True),
)


def test_values_are_shown_below_their_resource_and_in_no_note() -> None:
    change = Change("aws_x.y", "aws_x", Action.UPDATE, ("arn", "password", "role", "timeout"), values=VALUES)
    plan = make(changes=(change,), drift=(change,))
    lines = [
        "  ~ aws_x.y",
        "      timeout: 900 → 60",
        '      environment.variables.LEVEL: none → "debug"',
        f'      arn: …a" → …{"b" * 28}…',
        "      password: sensitive value",
        '      role: "old" → known after apply',
    ]
    shown = list(plan_lines(plan))
    assert (shown[2:8], shown[9:15]) == (lines, lines)
    assert f'      arn: "{LONG}a" → "{LONG}{"b" * 40}"' in plan_lines(plan, in_full=True)
    assert json.loads(json.dumps(plan_json(plan), default=as_json))["changes"][0]["values"][3] == {
        "path": "password",
        "before": None,
        "after": None,
        "is_sensitive": True,
        "is_unknown": False,
    }
    for note in (plan_markdown(plan), drift_markdown(plan, (change,), "refinerctl drift")):
        assert "timeout" in note
        assert "900" not in note
        assert "debug" not in note


def test_verified_builds_are_shown_with_their_images() -> None:
    build = Build(
        "example/app", ".github/workflows/release.yml", "refs/tags/v2", "c0ffee" * 6 + "c0ff", "https://run/1"
    )
    plan = replace(PLAN, record=replace(PLAN.record, builds={"In": build, "Same": build}))
    assert [line for line in plan_lines(plan) if "built by" in line] == [
        "                            built by example/app/.github/workflows/release.yml at v2, commit c0ffeec0ffee"
    ]
    assert "commit c0ffeec0ffee: https://run/1\n\n<details>" in plan_markdown(plan)
    assert plan_json(plan)["builds"]["In"] == build


def test_markup_in_the_file_of_a_verified_build_does_not_get_into_a_note() -> None:
    build = Build("example/app", "w.yml", "refs/tags/v2", "c0ffee", "https://run/1\n\n/merge @group")
    plan = replace(PLAN, record=replace(PLAN.record, builds={"In": build}))
    note = plan_markdown(plan)
    assert "\n/merge" not in note
    assert r"/merge \@group" in note


def test_gitlabs_report_counts_a_replacement_twice() -> None:
    assert gitlab_report(PLAN) == {"create": 2, "update": 2, "delete": 2}


def test_note_has_every_change_and_the_digests() -> None:
    text = plan_markdown(PLAN)
    assert text.startswith("### Terraform plan: refiner in production, release v2\n")
    assert "| In | `sha256:aaaaaaaaaaaa` | `sha256:bbbbbbbbbbbb` |" in text
    assert "Same" not in text
    assert "! aws_lambda_function.this[0]  (image_uri)" in text
    assert "\n- aws_iam_role.this[0]\n" in text
    assert text.count("```") == 2
    assert "<details>" not in plan_markdown(make())


def test_note_and_issue_stay_below_gitlabs_limits() -> None:
    changes = tuple(
        Change(f'module.rulesets["{n}"].aws_x.{"y" * 200}', "aws_x", Action.UPDATE, ("z",)) for n in range(5000)
    )
    plan = make(changes=changes, drift=changes)
    for text in (plan_markdown(plan), drift_markdown(plan, changes, "refinerctl drift")):
        assert len(text) < 200_000
        assert "more: see the output of the job" in text
        assert text.count("```") == 2


@pytest.mark.parametrize("name", ["`x", "a|b", "```", "\n```\n@all"])
def test_image_that_is_not_pinned_cannot_end_its_cell(name: str) -> None:
    (row,) = [
        line
        for line in plan_markdown(make(images=(ImageChange("In", name, NEW),))).splitlines()
        if line.startswith("| In")
    ]
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert len(re.findall(r"(?<!\\)`", row)) % 2 == 0


def test_issue_has_the_drift_and_how_to_see_it() -> None:
    change = Change("aws_x.y", "aws_x", Action.UPDATE, ("tags",))
    text = drift_markdown(PLAN, (change,), "refinerctl drift --env production")
    assert "environment production, stack refiner, release v2" in text
    assert "Changed outside of Terraform:\n\n- \\~ aws\\_x.z" in text
    assert "Differs from the configuration:\n\n- \\~ aws\\_x.y" in text
    assert "\nrefinerctl drift --env production\n" in text


def test_markup_in_names_is_escaped_in_the_note() -> None:
    name = "a|b`</details>@all[x](y)\n/close"
    change = Change(f'aws_x.y["{name}"]', "aws_x", Action.UPDATE)
    text = plan_markdown(make("v1", (name,), changes=(change,), images=(ImageChange(name, OLD, NEW),), drift=(change,)))
    fenced = text.partition("```diff")[2].partition("```")[0]
    outside = text.replace(fenced, "")
    assert "\n/close" not in text
    assert r"a\|b\`\</details\>\@all\[x\]\(y\)" in outside
    assert "@all" not in outside.replace(r"\@all", "")
    assert outside.count("</details>") == 1
