"""Plans, locks, interrupts and broken states, with the real terraform on a module that needs no provider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from refinerctl.cli.plan_view import gitlab_report, markdown, plan_json, plan_lines
from refinerctl.clients.terraform import Terraform
from refinerctl.clients.terraform.stack import Stack
from refinerctl.errors import NotInTimeError, RefinerctlError, RefusedError, Terminated
from refinerctl.models import Silent
from refinerctl.models.releases import Action, Pins, Release, ReleaseAction, StateVersion
from refinerctl.operations.deploy import Deployment, deploy
from refinerctl.operations.destroy import destroy
from refinerctl.operations.drift import find_drift
from refinerctl.operations.outputs import read_outputs
from refinerctl.operations.plan import Planned, load, make_plan, save
from refinerctl.operations.unlock import look
from tests.integration.servers import Answer, Request, serving

SECRET = "hush-hush"
MODULE = """
terraform {
  backend "local" {}
}
variable "size" { default = 1 }
variable "seconds" { default = 0 }
variable "secret" {
  default   = "hush-hush"
  sensitive = true
}
variable "release_tag" { default = null }
variable "pinned_images" { default = {} }
resource "terraform_data" "plain" { input = var.size }
resource "terraform_data" "secret" {
  triggers_replace = [var.size, var.secret]
}
resource "terraform_data" "slow" {
  triggers_replace = [var.size, var.seconds]
  provisioner "local-exec" { command = "echo started > ../../../started; sleep ${var.seconds}" }
}
resource "terraform_data" "after" { input = [var.size, terraform_data.slow.id] }
output "size" { value = var.size }
output "secret" {
  value     = var.secret
  sensitive = true
}
"""


class MemoryLedger:
    """A ledger in memory."""

    place = "memory"

    def __init__(self) -> None:
        self.releases: list[Release] = []

    def read(self) -> tuple[Release, ...]:
        return tuple(self.releases)

    def append(self, release: Release) -> None:
        self.releases.append(release)


class Project:
    """A project with one small stack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = folder / "terraform" / "stacks" / "tiny"
        self.module.mkdir(parents=True)
        (self.module / "main.tf").write_text(MODULE)
        (folder / "terraform" / "environments" / "test").mkdir(parents=True)
        self.told: list[str] = []
        self.ledger = MemoryLedger()
        terraform = Terraform(
            self.module,
            folder / "data",
            folder / "work",
            log=folder / "terraform.log",
            lock_timeout_s=0,
            tell=self.told.append,
        )
        self.stack = Stack("test", "tiny", terraform, folder)

    def set(self, **values: Any) -> None:
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        self.stack.var_file.write_text(lines)

    def plan(self, tag: str | None = None, stack: Stack | None = None) -> Planned:
        return make_plan(stack or self.stack, Pins(tag), self.folder, Silent())

    def deploy(self, planned: Planned | None = None, stack: Stack | None = None) -> bool:
        planned = planned or self.plan(stack=stack)
        deployment = Deployment(
            stack or self.stack, planned.file, planned.record, has_changes=not planned.plan.is_empty, who="alice"
        )
        return deploy(deployment, self.ledger, Silent()).applied

    def state(self) -> dict[str, Any]:
        """The state as terraform keeps it."""
        document: dict[str, Any] = json.loads((self.module / "terraform.tfstate").read_text())
        return document

    def resources(self) -> list[str]:
        return sorted(resource["name"] for resource in self.state()["resources"])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def until(look_: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not look_():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestPlan:
    def test_from_nothing_to_nothing_left_to_do(self, project: Project) -> None:
        planned = project.plan("v1")
        assert [(change.address, change.action) for change in planned.plan.changes] == [
            (f"terraform_data.{name}", Action.CREATE) for name in ("after", "plain", "secret", "slow")
        ]
        assert planned.plan.outputs == ("secret", "size")
        assert planned.record.state == StateVersion()
        assert project.deploy(planned)
        again = project.plan("v1")
        assert again.plan.is_empty
        assert not project.deploy(again)
        assert [(release.tag, release.who) for release in project.ledger.read()] == [("v1", "alice")]

    def test_a_release_without_changes_is_recorded_once(self, project: Project) -> None:
        project.deploy(project.plan("v1"))
        for _ in range(2):
            assert not project.deploy(project.plan("v2"))
        assert [release.tag for release in project.ledger.read()] == ["v1", "v2"]

    def test_secrets_are_in_nothing_that_is_shown_or_written_but_the_plan_itself(self, project: Project) -> None:
        project.deploy()
        project.set(size=2, secret=f"{SECRET}-more")
        planned = project.plan()
        shown = [
            *plan_lines(planned.plan),
            json.dumps(plan_json(planned.plan), default=str),
            markdown(planned.plan),
            json.dumps(gitlab_report(planned.plan)),
            project.stack.terraform.show_text(planned.file),
            repr(planned),
            (project.folder / "terraform.log").read_text(),
        ]
        assert any("terraform_data.secret" in text for text in shown)
        assert not [text for text in shown if SECRET in text]
        assert gitlab_report(planned.plan) == {"create": 2, "update": 2, "delete": 2}

    def test_outputs(self, project: Project) -> None:
        project.deploy()
        found = {output.name: output for output in read_outputs(project.stack)}
        assert (found["size"].value, found["size"].sensitive) == (1, False)
        assert (found["secret"].value, found["secret"].sensitive) == (SECRET, True)

    def test_nothing_differs_after_a_deployment_and_then_the_configuration_does(self, project: Project) -> None:
        project.deploy()
        assert find_drift(project.plan().plan).is_empty
        project.set(size=5)
        found = find_drift(project.plan().plan)
        assert {change.address for change in found.configuration} >= {"terraform_data.plain", "terraform_data.secret"}
        assert found.outside == ()

    def test_destroy(self, project: Project) -> None:
        project.deploy()
        planned = make_plan(project.stack, Pins(), project.folder, Silent(), destroy=True)
        assert {change.action for change in planned.plan.changes} == {Action.DESTROY}
        destroy(project.stack, planned.file, project.ledger, "bob", Silent())
        assert project.resources() == []
        assert [release.action for release in project.ledger.read()] == [ReleaseAction.DEPLOY, ReleaseAction.DESTROY]

    def test_terraforms_error_is_the_message(self, project: Project) -> None:
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
        save(project.plan("v2"), path)
        return path

    def test_terraform_applies_it_with_our_entry_in_it(self, project: Project, saved: Path) -> None:
        assert project.deploy(load(project.stack, saved, tag="v2"))
        assert project.state()["outputs"]["size"]["value"] == 2
        assert project.plan().plan.is_empty

    def test_a_second_time_the_state_has_moved_on(self, project: Project, saved: Path) -> None:
        project.deploy(load(project.stack, saved))
        with pytest.raises(RefusedError, match="the state has moved on"):
            load(project.stack, saved)

    def test_the_state_that_moves_in_the_last_moment_is_terraforms_to_notice(
        self, project: Project, saved: Path
    ) -> None:
        loaded = load(project.stack, saved)
        project.deploy(load(project.stack, saved))
        serial = project.state()["serial"]
        with pytest.raises(RefusedError, match="the state has changed since the plan was made"):
            project.deploy(loaded)
        assert project.state()["serial"] == serial

    def test_another_state_with_the_same_serial(self, project: Project, saved: Path) -> None:
        state = project.state() | {"lineage": "somebody-elses"}
        (project.module / "terraform.tfstate").write_text(json.dumps(state, indent=2))
        with pytest.raises(RefusedError, match="the state has moved on"):
            load(project.stack, saved)

    @pytest.mark.parametrize(
        ("other", "tag", "message"),
        [
            ({"env": "prod"}, None, "environment test, not prod"),
            ({"name": "x"}, None, "stack tiny, not x"),
            ({}, "v3", "release v2, not v3"),
        ],
    )
    def test_for_another_target(
        self, project: Project, saved: Path, other: dict[str, str], tag: str | None, message: str
    ) -> None:
        with pytest.raises(RefusedError, match=message):
            load(replace(project.stack, **other), saved, tag=tag)  # type: ignore[arg-type]

    def test_made_with_other_values(self, project: Project, saved: Path) -> None:
        project.set(size=3)
        with pytest.raises(RefusedError, match="another configuration"):
            load(project.stack, saved)

    def test_made_with_another_module(self, project: Project, saved: Path) -> None:
        with (project.module / "main.tf").open("a") as file:
            file.write("# more\n")
        with pytest.raises(RefusedError, match="another configuration"):
            load(project.stack, saved)


@pytest.fixture
def slow_apply(project: Project) -> Iterator[psutil.Popen]:
    """Somebody else's terraform, in the midst of an apply that takes a while."""
    project.stack.init()
    process = psutil.Popen(
        ["terraform", "apply", "-auto-approve", "-var=seconds=2"],
        cwd=project.module,
        env={**os.environ, **project.stack.terraform.variables()},
        stdout=subprocess.DEVNULL,
    )
    until((project.folder / "started").exists)
    yield process
    process.wait(20)


class TestLock:
    def test_who_holds_it_is_told_and_how_to_free_it(self, project: Project, slow_apply: psutil.Popen) -> None:
        with pytest.raises(NotInTimeError, match=r"@.* holds the state's lock since 20.*apply") as caught:
            project.plan()
        assert "refinerctl unlock" in str(caught.value.hint)
        state = look(project.stack)
        assert state.is_held
        assert state.lock is not None
        assert state.lock.id in caught.value.message

    def test_it_waits_for_the_other_to_finish(self, project: Project, slow_apply: psutil.Popen) -> None:
        patient = replace(project.stack, terraform=replace(project.stack.terraform, lock_timeout_s=30))
        planned = project.plan(stack=patient)
        assert slow_apply.wait(5) == 0
        assert "holds the state's lock" in project.told[0]
        assert "waiting up to 30 s" in project.told[0]
        assert planned.record.state.serial > 0

    def test_nobody_holds_it(self, project: Project) -> None:
        project.deploy()
        serial = project.state()["serial"]
        assert not look(project.stack).is_held
        assert project.state()["serial"] == serial


class TestInterrupt:
    @pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
    def test_terraform_finishes_its_state(
        self, project: Project, number: signal.Signals, raised: type[BaseException]
    ) -> None:
        """The resource in the making is in the state, what comes after it is not begun, and the lock is free."""
        project.set(seconds=1)
        planned = project.plan()

        def interrupt() -> None:
            until((project.folder / "started").exists)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(raised):
            project.deploy(planned)
        thread.join()
        assert "slow" in project.resources()
        assert "after" not in project.resources()
        assert "saves its state" in project.told[0]
        assert "goes on from there" in project.told[-1]
        log = (project.folder / "terraform.log").read_text()
        assert "interrupt" in log.lower().rpartition("provision_start")[2]
        assert not look(project.stack).is_held
        assert project.ledger.read() == ()
        assert project.deploy()
        assert project.resources() == ["after", "plain", "secret", "slow"]

    def test_the_second_warns_and_the_third_kills(self, project: Project) -> None:
        """A terraform that takes its time: here one that never ends."""
        binary = project.folder / "endless"
        binary.write_text(f"#!/bin/sh\ntrap '' INT\ntouch {project.folder}/started\nsleep 60 & wait; wait; sleep 60\n")
        binary.chmod(0o755)
        endless = replace(project.stack.terraform, binary=binary)

        def interrupt() -> None:
            until((project.folder / "started").exists)
            for told in (1, 2):
                os.kill(os.getpid(), signal.SIGTERM)
                until(lambda: len(project.told) >= told)  # noqa: B023 - called at once
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=interrupt)
        thread.start()
        began = time.monotonic()
        with pytest.raises(Terminated):
            endless.run("apply")
        thread.join()
        assert time.monotonic() - began < 20
        assert "a third time kills" in project.told[1]

    def test_terraform_outlives_whoever_started_it(self, project: Project) -> None:
        """kill -9: an apply that died with it would lose what it has made."""
        project.set(seconds=1)
        program = (
            "import sys; from pathlib import Path; from refinerctl.clients.terraform import Terraform\n"
            "module, folder, values = map(Path, sys.argv[1:])\n"
            "terraform = Terraform(module, folder / 'data', folder / 'work')\n"
            "terraform.init()\n"
            "terraform.apply([values])\n"
        )
        arguments = [str(project.module), str(project.folder), str(project.stack.var_file)]
        process = subprocess.Popen([sys.executable, "-c", program, *arguments])
        until((project.folder / "started").exists)
        process.kill()
        process.wait()
        state = project.module / "terraform.tfstate"
        until(lambda: state.exists() and "after" in state.read_text())
        until(lambda: not look(project.stack).is_held)
        assert project.plan().plan.is_empty


class TestErroredState:
    def test_one_that_is_there_stops_everything_and_is_explained(self, project: Project) -> None:
        (project.module / "errored.tfstate").write_text("{}")
        with pytest.raises(RefusedError, match=r"errored\.tfstate holds the state of an apply") as caught:
            project.plan()
        assert "state push errored.tfstate" in str(caught.value.hint)

    def test_an_apply_that_cannot_save_its_state_tells(self, project: Project) -> None:
        def broken(request: Request) -> Answer:
            return Answer(200 if request.method == "GET" else 500)

        with serving(broken) as server:
            text = MODULE.replace('"local" {}', f'"http" {{\n address = "{server.url}/state"\n retry_max = 0\n}}')
            (project.module / "main.tf").write_text(text)
            with pytest.raises(
                RefinerctlError, match=r"Its state could not be saved, and is in .*errored\.tfstate"
            ) as caught:
                project.deploy()
        assert "state push" in str(caught.value.hint)
        assert "slow" in (project.module / "errored.tfstate").read_text()
        assert project.ledger.read() == ()
