"""Plans for people."""

from __future__ import annotations

import io
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.releases.model import Action, Change, ImageChange, Plan, PlanRecord, StateVersion
from refinerctl.releases.plan import Planned, refuse_losses
from refinerctl.releases.plan_view import gitlab_report, markdown, plan_json, plan_lines, totals
from refinerctl.releases.planning import ask, check_consent, write_reports

IN = 'module.rulesets["In"]'
OLD, NEW = (f"repo@sha256:{letter * 64}" for letter in "ab")
PLAN = Plan(
    env="production",
    stack="refiner",
    tag="v2",
    changes=(
        Change("module.event_bus.aws_sqs_queue.delivery_dlq", "aws_sqs_queue", Action.UPDATE, ("policy",)),
        Change(f"{IN}.aws_lambda_function.this[0]", "aws_lambda_function", Action.UPDATE, ("image_uri",)),
        Change(f"{IN}.aws_sqs_queue.this", "aws_sqs_queue", Action.REPLACE, ("name",)),
        Change(f"{IN}.aws_iam_role.this[0]", "aws_iam_role", Action.DESTROY),
        Change(f"{IN}.aws_iam_role.that", "aws_iam_role", Action.CREATE),
        Change("aws_x.y", "aws_x", Action.FORGET),
    ),
    images=(ImageChange("In", OLD, NEW), ImageChange("Same", OLD, OLD)),
    drift=(Change("aws_x.z", "aws_x", Action.UPDATE, ("tags",)),),
    outputs=("rulesets",),
    notes=("In: something to know",),
)


def test_the_summary() -> None:
    assert list(plan_lines(PLAN)) == [
        "environment production, stack refiner, release v2",
        "images",
        "  In                        sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb",
        "ruleset In",
        "  ~ aws_lambda_function.this[0]  (image_uri)",
        "  -/+ aws_sqs_queue.this  (name)  LOSES DATA",
        "  - aws_iam_role.this[0]",
        "  + aws_iam_role.that",
        "the stack itself",
        "  ~ module.event_bus.aws_sqs_queue.delivery_dlq  (policy)",
        "  forget aws_x.y",
        "outputs that change: rulesets",
        "changed outside of Terraform",
        "  ~ aws_x.z  (tags)",
        "note: In: something to know",
        "1 to create, 2 to change, 1 to replace, 1 to destroy, 1 to forget",
    ]


def test_a_first_deployment_fits_on_a_screen_too() -> None:
    rulesets = [f"R{number}" for number in range(6)]
    changes = tuple(
        Change(f'module.rulesets["{name}"].aws_{kind}.n{number}', f"aws_{kind}", Action.CREATE)
        for name in rulesets
        for kind in ("queue", "role")
        for number in range(5)
    )
    lines = list(plan_lines(Plan("e", "s", None, changes)))
    assert "  + aws_queue x 5, aws_role x 5" in lines
    assert len(lines) == 2 + 2 * len(rulesets)
    assert lines[-1].startswith("60 to create")


def test_what_loses_data_is_never_folded() -> None:
    changes = tuple(Change(f"aws_sqs_queue.n{n}", "aws_sqs_queue", Action.DESTROY) for n in range(40))
    assert sum("LOSES DATA" in line for line in plan_lines(Plan("e", "s", None, changes))) == 40


def test_no_changes() -> None:
    assert totals(Plan("e", "s", None)) == "no changes"
    assert totals(Plan("e", "s", None, outputs=("x",))) != "no changes"


def test_as_data() -> None:
    document = json.loads(json.dumps(plan_json(PLAN)))
    totals = {"create": 1, "update": 2, "replace": 1, "destroy": 1, "forget": 1, "import": 0, "move": 0}
    assert document["totals"] == totals
    assert document["images"][0] == {"ruleset": "In", "before": OLD, "after": NEW}
    assert document["changes"][2] == {
        "address": f"{IN}.aws_sqs_queue.this",
        "type": "aws_sqs_queue",
        "action": "replace",
        "attributes": ["name"],
        "ruleset": "In",
        "loses_data": True,
    }


def test_gitlabs_report_counts_a_replacement_as_both() -> None:
    assert gitlab_report(PLAN) == {"create": 2, "update": 2, "delete": 2}


def test_the_note_has_every_change_and_the_digests() -> None:
    text = markdown(PLAN)
    assert text.startswith("### Terraform plan: refiner in production, release v2\n")
    assert "| In | `sha256:aaaaaaaaaaaa` | `sha256:bbbbbbbbbbbb` |" in text
    assert "Same" not in text
    assert "! aws_lambda_function.this[0]  (image_uri)" in text
    assert "\n- aws_iam_role.this[0]\n" in text
    assert text.count("```") == 2
    assert "<details>" not in markdown(Plan("e", "s", None))


def test_names_are_no_markup_in_the_note() -> None:
    name = "a|b`</details>@all[x](y)\n/close"
    change = Change(f'aws_x.y["{name}"]', "aws_x", Action.UPDATE)
    text = markdown(Plan("e", "s", "v1", (change,), (ImageChange(name, OLD, NEW),), drift=(change,), notes=(name,)))
    fenced = text.partition("```diff")[2].partition("```")[0]
    outside = text.replace(fenced, "")
    assert "\n/close" not in text
    assert r"a\|b\`\</details\>\@all\[x\]\(y\)" in outside
    assert "@all" not in outside.replace(r"\@all", "")
    assert outside.count("</details>") == 1


def planned(allow: tuple[str, ...] = ()) -> Planned:
    record = PlanRecord("e", "s", None, {}, "", StateVersion(), allow_destroy=allow)
    return Planned(PLAN, Path("none"), record)


def test_the_reports_are_written_whole_and_readable(tmp_path: Path) -> None:
    write_reports(planned(), tmp_path / "r.json", tmp_path / "n.md")
    assert json.loads((tmp_path / "r.json").read_text()) == gitlab_report(PLAN)
    assert (tmp_path / "n.md").read_text() == markdown(PLAN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.md", "r.json"]


def test_a_loss_is_refused_with_the_option_that_allows_it() -> None:
    with pytest.raises(RefusedError, match=r"the plan loses data: .*aws_sqs_queue\.this \(replace\)") as caught:
        refuse_losses(planned())
    assert f"--allow-destroy '{IN}.aws_sqs_queue.this'" in str(caught.value.hint)
    refuse_losses(planned((f"{IN}.aws_sqs_queue.this",)))


class TestConsent:
    def answered(self, text: str, *, yes: bool = False) -> BaseException | None:
        @click.command()
        def asks() -> None:
            ask("Apply this?", yes)

        return CliRunner().invoke(asks, input=text).exception

    def test_only_a_yes_is_one(self) -> None:
        assert self.answered("y\n") is None
        refused = self.answered("n\n")
        assert isinstance(refused, RefinerctlError)
        assert "nothing was changed" in refused.message
        assert self.answered("\n") is not None
        assert self.answered("") is not None

    def test_the_flag_answers(self) -> None:
        assert self.answered("", yes=True) is None

    def test_without_a_terminal_the_flag_is_asked_for_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        with pytest.raises(UsageError) as caught:
            check_consent(False, "--confirm NAME")
        assert "--confirm NAME" in str(caught.value.hint)
        check_consent(True)
