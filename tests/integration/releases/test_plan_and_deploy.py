"""Plans and deployments with the real terraform, on a module that needs no provider."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from refinerctl.app import AppContext
from refinerctl.aws.session import AwsSession
from refinerctl.config import GlobalFlags
from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import Build
from refinerctl.ledger.entries import Ledger, ReleaseAction, deployed
from refinerctl.releases.deploy import ApplyOptions, apply_and_record
from refinerctl.releases.destroy import apply_destruction, check_unchanged, record_if_deployed
from refinerctl.releases.drift import configuration_changes
from refinerctl.releases.markdown import plan_markdown
from refinerctl.releases.pins import Pins
from refinerctl.releases.plan_view import gitlab_report, plan_json, plan_lines
from refinerctl.releases.planning import load_plan, make_plan
from refinerctl.terraform.events import StateVersion
from refinerctl.terraform.plan_file import save_plan
from refinerctl.terraform.plan_json import Action
from tests.integration.releases.tiny_stack import MODULE, RESUME, SECRET, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


ROLE = "arn:aws:iam::123456789012:role/deployer"


class TestRoleInTheValues:
    """Terraform would assume it by itself, on top of refinerctl's own role."""

    @pytest.fixture
    def with_role(self, project: Project) -> Project:
        declared = '\nvariable "assume_role" { default = "none" }\noutput "role" { value = var.assume_role }\n'
        (project.module / "main.tf").write_text(MODULE + declared)
        project.root.var_file.write_text(f'assume_role = {{ role_arn = "{ROLE}" }}\n')
        return project

    @pytest.mark.parametrize("ours", [None, f"{ROLE}-2"])
    def test_a_role_that_refinerctl_has_not_assumed_is_refused(self, with_role: Project, ours: str | None) -> None:
        with pytest.raises(UsageError, match=f"names the role {ROLE}, but refinerctl has assumed {ours or 'no role'}"):
            with_role.plan(root=replace(with_role.root, role=ours))

    def test_the_same_role_is_not_assumed_twice(self, with_role: Project) -> None:
        assert with_role.deploy(root=replace(with_role.root, role=ROLE))
        assert "role" not in with_role.root.outputs()[0]  # null


class TestLocation:
    def test_a_plan_says_where_it_would_be_applied(self, project: Project) -> None:
        location = "account 111111111111, region us-east-1, environment test"
        plan = project.plan(root=replace(project.root, location=location))

        assert next(plan_lines(plan)).startswith(f"{location}, stack tiny")
        assert location in plan_markdown(plan)
        assert plan_json(plan)["location"] == location

    def test_a_saved_plan_of_another_account_is_refused(self, project: Project) -> None:
        saved, (ours, other) = project.folder / "saved", (f"account {digit * 12}, region r" for digit in "12")
        plan = project.plan(root=replace(project.root, location=other))
        save_plan(plan.file, plan.record, saved)

        with pytest.raises(RefusedError, match=f"was made for {other}, not for {ours}"):
            load_plan(replace(project.root, location=ours), saved, project.folder, Progress())


class TestPlan:
    def test_first_deployment_leaves_an_empty_plan(self, project: Project) -> None:
        planned = project.plan("v1")
        assert [(change.address, change.action) for change in planned.changes] == [
            (f"terraform_data.{name}", Action.CREATE) for name in ("after", "plain", "secret", "slow")
        ]
        assert planned.outputs == ("secret", "size")
        assert planned.record.state == StateVersion()
        assert project.deploy(planned)
        again = project.plan("v1")
        assert again.is_empty
        assert not project.deploy(again)
        assert [(release.tag, release.who) for release in project.ledger.read()] == [("v1", "alice")]

    def test_release_that_was_not_recorded_is_recorded_by_the_next_run(self, project: Project) -> None:
        project.ledger.error = RefusedError("no right to write it")
        with pytest.raises(RefinerctlError, match="applied, but not recorded: no right") as caught:
            project.deploy(project.plan("v1"))
        assert caught.value.exit_code == 1
        project.ledger.error = None
        assert not project.deploy(project.plan("v1"))
        assert [release.tag for release in project.ledger.read()] == ["v1"]

    def test_a_release_without_changes_is_recorded_once(self, project: Project) -> None:
        project.deploy(project.plan("v1"))
        for _ in range(2):
            assert not project.deploy(project.plan("v2"))
        assert [release.tag for release in project.ledger.read()] == ["v1", "v2"]

    def test_base_images_and_builds_are_recorded_with_the_release(self, project: Project, tmp_path: Path) -> None:
        bases, builds = (
            {"In": "base:22@sha256:b"},
            {"In": Build("example/app", "ci.yml", "refs/tags/v1", "c0ffee", "url")},
        )
        project.deploy(make_plan(project.root, Pins("v1", bases=bases, builds=builds), tmp_path, Progress()))
        assert [(release.bases, release.builds) for release in project.ledger.read()] == [(bases, builds)]

    def test_secrets_are_only_in_the_plan_file(self, project: Project) -> None:
        project.deploy()
        project.set(size=2, secret=f"{SECRET}-more")
        planned = project.plan()
        shown = [
            *plan_lines(planned),
            json.dumps(plan_json(planned), default=str),
            plan_markdown(planned),
            json.dumps(gitlab_report(planned)),
            project.root.terraform.show_text(planned.file),
            repr(planned),
            (project.folder / "terraform.log").read_text(),
        ]
        assert any("terraform_data.secret" in text for text in shown)
        assert not [text for text in shown if SECRET in text]
        assert gitlab_report(planned) == {"create": 2, "update": 2, "delete": 2}

    def test_outputs(self, project: Project) -> None:
        project.deploy()
        assert project.root.outputs() == ({"secret": SECRET, "size": 1}, frozenset({"secret"}))

    def test_drift_of_the_configuration_is_found(self, project: Project) -> None:
        project.deploy()
        plan = project.plan()
        assert (plan.drift, configuration_changes(plan)) == ((), ())
        project.set(size=5)
        plan = project.plan()
        found = {change.address for change in configuration_changes(plan)}
        assert found >= {"terraform_data.plain", "terraform_data.secret"}
        assert plan.drift == ()

    def test_destroy(self, project: Project) -> None:
        project.deploy()
        planned = make_plan(project.root, Pins(), project.folder, Progress(), destroy=True)
        assert {change.action for change in planned.changes} == {Action.DESTROY}
        check_unchanged(project.root, planned)
        apply_destruction(project.root, planned, project.ledger, "bob", Progress(), RESUME)
        assert project.resources() == []
        assert [release.action for release in project.ledger.read()] == [ReleaseAction.DEPLOY, ReleaseAction.DESTROY]
        with pytest.raises(RefusedError, match="it was at serial"):
            check_unchanged(project.root, planned)
        with pytest.raises(RefinerctlError, match="the state has changed since") as caught:
            apply_destruction(project.root, planned, project.ledger, "bob", Progress(), RESUME)
        assert caught.value.exit_code == 1  # 4 says that nothing was changed, but buckets may have been emptied

    def test_destruction_that_was_not_recorded_is_recorded_by_the_next_run(self, project: Project) -> None:
        project.deploy(project.plan("v1"))
        record = project.plan().record
        for _ in range(2):
            record_if_deployed(record, project.ledger, "bob", RESUME)
            assert deployed(project.ledger.read()) is None
            assert len(project.ledger.read()) == 2

    def test_moved_imported_and_removed_blocks_are_applied(self, project: Project) -> None:
        project.deploy()
        text = MODULE.replace('"terraform_data" "plain"', '"terraform_data" "renamed"')
        (project.module / "main.tf").write_text(text)
        (project.module / "more.tf").write_text(
            "moved {\n from = terraform_data.plain\n to = terraform_data.renamed\n}\n"
            'import {\n to = terraform_data.taken["ü a"]\n id = "some-id"\n}\n'
            'resource "terraform_data" "taken" { for_each = toset(["ü a"]) }\n'
        )
        planned = project.plan()
        assert [(change.address, change.action) for change in planned.changes] == [
            ("terraform_data.renamed", Action.MOVE),
            ('terraform_data.taken["ü a"]', Action.IMPORT),
        ]
        assert list(plan_lines(planned))[-1].endswith("1 to import, 1 to move")
        assert project.deploy(planned)
        assert project.resources() == ["after", "renamed", "secret", "slow", "taken"]
        assert project.plan().is_empty

        (project.module / "main.tf").write_text(
            text.replace('resource "terraform_data" "renamed" { input = var.size }', "")
        )
        (project.module / "more.tf").write_text(
            "removed {\n from = terraform_data.renamed\n lifecycle { destroy = false }\n}\n"
            "removed {\n from = terraform_data.taken\n lifecycle { destroy = false }\n}\n"
        )
        forgotten = project.plan()
        assert [change.action for change in forgotten.changes] == [Action.FORGET, Action.FORGET]
        assert project.deploy(forgotten)
        assert project.plan().is_empty

    def test_failed_check_block_is_a_warning(self, project: Project) -> None:
        (project.module / "check.tf").write_text(
            'check "size" {\n assert {\n condition = var.size > 1\n error_message = "It is small."\n }\n}\n'
        )
        project.plan()
        assert project.told == ["Terraform warning: Check block assertion failed: It is small."]

    def test_callers_terraform_variables_are_ignored(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another workspace is another state; -target plans only a part."""
        project.deploy(project.plan("v1"))
        project.root.terraform.run("workspace", "new", "-no-color", "other")
        (project.root.terraform.data_dir / "environment").write_text("other")
        monkeypatch.setenv("TF_WORKSPACE", "another")
        monkeypatch.setenv("TF_CLI_ARGS_plan", "-target=terraform_data.plain -refresh=false")
        monkeypatch.setenv("TF_CLI_ARGS", "-no-such-flag")
        assert project.plan().is_empty
        project.set(size=2)
        assert len(project.plan().changes) == 4

    def test_terraforms_error_is_the_reason(self, project: Project) -> None:
        project.set(size={"not": "a number"})
        (project.module / "bad.tf").write_text('resource "terraform_data" "bad" { input = var.size + 1 }\n')
        with pytest.raises(RefinerctlError, match=r"terraform plan of tiny failed: .*Invalid operand"):
            project.plan()


class TestSavedPlan:
    @pytest.fixture
    def saved(self, project: Project) -> Path:
        project.deploy()
        project.set(size=2)
        path = project.folder / "saved.plan"
        planned = project.plan("v2")
        save_plan(planned.file, planned.record, path)
        return path

    def test_terraform_applies_a_saved_plan(self, project: Project, saved: Path) -> None:
        assert project.deploy(project.load(saved, tag="v2"))
        assert project.state()["outputs"]["size"]["value"] == 2
        assert project.plan().is_empty

    def test_saved_plan_is_refused_the_second_time(self, project: Project, saved: Path) -> None:
        """Also if the state changes during the confirmation."""
        loaded = project.load(saved)
        project.deploy(project.load(saved))
        serial = project.state()["serial"]
        with pytest.raises(RefusedError, match="it was at serial"):
            project.load(saved)
        with pytest.raises(RefusedError, match="the state has changed since the plan was made"):
            project.deploy(loaded)
        assert project.state()["serial"] == serial

    def test_shown_plan_is_applied_even_if_its_file_changes(self, project: Project, saved: Path) -> None:
        loaded = project.load(saved)
        project.set(size=7)
        other = project.plan("v3")
        save_plan(other.file, other.record, saved)
        assert project.deploy(loaded)
        assert project.state()["outputs"]["size"]["value"] == 2

    def test_other_state_with_the_same_serial_is_refused(self, project: Project, saved: Path) -> None:
        state = project.state() | {"lineage": "somebody-elses"}
        (project.module / "terraform.tfstate").write_text(json.dumps(state, indent=2))
        with pytest.raises(RefusedError, match="it was at serial"):
            project.load(saved)

    @pytest.mark.parametrize(
        ("other", "tag", "message"),
        [
            ({"env": "prod"}, None, "environment test, not prod"),
            ({"name": "x"}, None, "stack tiny, not x"),
            ({}, "v3", "release v2, not v3"),
        ],
    )
    def test_plan_for_another_target_is_refused(
        self, project: Project, saved: Path, other: dict[str, str], tag: str | None, message: str
    ) -> None:
        with pytest.raises(RefusedError, match=message):
            load_plan(replace(project.root, **other), saved, project.folder, Progress(), tag=tag)  # type: ignore[arg-type]

    def test_plan_with_another_configuration_is_refused(self, project: Project, saved: Path) -> None:
        project.set(size=3)
        with pytest.raises(RefusedError, match="another configuration"):
            project.load(saved)


@pytest.mark.parametrize("env", ["production", "local"])
def test_inputs_may_be_lost_until_eventbridge_delivers(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], env: str
) -> None:
    monkeypatch.chdir(project.folder)
    (project.folder / "refinerctl.toml").write_text(
        "[environments.production]\n[environments.local]\nembedded = true\n"
    )
    app = AppContext(GlobalFlags(env=env))
    app.ledger = cast(Ledger, project.ledger)
    app.session = cast(AwsSession, SimpleNamespace(caller=lambda: "arn:aws:iam::123456789012:user/alice"))
    options = ApplyOptions(yes=True, dry_run=False, timeout=0, min_credential_lifetime=0)
    plan = replace(project.plan(), event_buckets=("data-repository",))
    assert apply_and_record(app, project.root, plan, options)["applied"]
    err = capsys.readouterr().err
    assert ("EventBridge was enabled for bucket data-repository. It takes about five minutes" in err) is (
        env != "local"
    )
    assert ("run `refinerctl verify --canary --env production --stack refiner`" in err) is (env != "local")

    again = replace(project.plan(), event_buckets=("data-repository",))
    assert not apply_and_record(app, project.root, again, options)["applied"]
    assert "EventBridge" not in capsys.readouterr().err
