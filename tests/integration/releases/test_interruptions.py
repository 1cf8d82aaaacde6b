"""Held locks, interrupts and unsaved states with the real terraform, on a module that needs no provider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError, RefusedError, Terminated, TimedOutError
from refinerctl.git import git_commit
from refinerctl.terraform.runner import Terraform
from tests.integration.releases.tiny_stack import MODULE, RESUME, SECRET, Project, until
from tests.state_server import PASSWORD, USER, state_server


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def slow_apply(project: Project) -> Iterator[psutil.Popen]:
    """Another user's terraform, during an apply that takes a while."""
    project.root.init()
    process = psutil.Popen(
        ["terraform", "apply", "-auto-approve", "-var=seconds=2"],
        cwd=project.module,
        env={**os.environ, **project.root.terraform.variables()},
        stdout=subprocess.DEVNULL,
    )
    until((project.folder / "started").exists)
    yield process
    process.wait(20)


class TestLock:
    def test_error_names_the_holder_and_the_release_command(self, project: Project, slow_apply: psutil.Popen) -> None:
        terraform = replace(project.root.terraform, unlock_hint="Run `refinerctl unlock --env test`.")
        with pytest.raises(TimedOutError, match=r"@.* holds the state's lock since 20.*apply") as caught:
            project.plan(root=replace(project.root, terraform=terraform))
        assert "`refinerctl unlock --env test`" in str(caught.value.hint)
        lock = project.root.terraform.find_lock()
        assert lock is not None
        assert lock.id is not None
        assert lock.id in caught.value.message

    def test_plan_waits_for_the_other_run(self, project: Project, slow_apply: psutil.Popen) -> None:
        patient = replace(project.root, terraform=replace(project.root.terraform, lock_timeout_s=2_000_000))
        planned = project.plan(root=patient)
        assert slow_apply.wait(5) == 0
        assert "holds the state's lock" in project.told[0]
        assert "waiting up to 2000000 s" in project.told[0]
        assert planned.record.state.serial > 0

    def test_free_state_has_no_lock(self, project: Project) -> None:
        project.deploy()
        serial = project.state()["serial"]
        assert project.root.terraform.find_lock() is None
        assert project.state()["serial"] == serial


class TestInterrupt:
    @pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
    def test_terraform_saves_its_state(
        self, project: Project, number: signal.Signals, raised: type[BaseException]
    ) -> None:
        """The resource that was being created is in the state, the next one is not started, and the lock is free."""
        project.set(seconds=20)
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
        assert f"to continue, run `{RESUME}`" in project.told[-1]
        log = (project.folder / "terraform.log").read_text()
        assert "interrupt" in log.lower().rpartition("provision_start")[2]
        partial = [item["address"] for item in project.root.terraform.show_state()["resources"] if item.get("tainted")]
        assert partial == ["terraform_data.slow"]
        assert project.root.terraform.find_lock() is None
        assert project.ledger.read() == ()
        project.set(seconds=0)
        assert project.deploy()
        assert project.resources() == ["after", "plain", "secret", "slow"]

    @pytest.fixture
    def patient(self, project: Project) -> Terraform:
        """A terraform that records each interrupt and takes a second to end."""
        binary = project.folder / "patient"
        binary.write_text(
            f"#!{sys.executable}\n"
            "import os, pathlib, signal, sys, time\n"
            f"folder = pathlib.Path({str(project.folder)!r})\n"
            "if 'show' in sys.argv: sys.exit(print((folder / 'state.json').read_text()))\n"
            "def got(*_):\n"
            "    (folder / 'got').open('a').write('got\\n')\n"
            "    print('Interrupt received.', flush=True)\n"
            "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, got)\n"
            "(folder / 'started').write_text(str(os.getpid()))\n"
            "time.sleep(1)\n"
        )
        binary.chmod(0o755)
        return replace(project.root.terraform, binary=str(binary))

    def test_command_that_continues_accepts_the_replacement_of_what_was_created_in_part(
        self, project: Project, patient: Terraform
    ) -> None:
        queues = [
            {"address": f"aws_sqs_queue.{name}", "type": "aws_sqs_queue", "tainted": name != "whole"}
            for name in ("old", "partial", "whole")
        ]
        (project.folder / "state.json").write_text(json.dumps({"values": {"root_module": {"resources": queues}}}))
        root = replace(project.root, terraform=patient)
        thread = self.hang_up(project, 1)
        with pytest.raises(Terminated):
            root.apply(project.folder / "plan", Progress(), RESUME, ["aws_sqs_queue.partial", "aws_sqs_queue.whole"])
        thread.join()
        assert f"to continue, run `{RESUME} --allow-destroy aws_sqs_queue.partial`;" in project.told[-1]

    def hang_up(self, project: Project, times: int) -> threading.Thread:
        def hang_up() -> None:
            until((project.folder / "started").exists)
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGHUP)
                time.sleep(0.05)

        thread = threading.Thread(target=hang_up)
        thread.start()
        return thread

    def test_failing_receiver_of_messages_does_not_interrupt_again(self, project: Project, patient: Terraform) -> None:
        """As when the terminal is closed: on a second signal Terraform would not save its state."""

        def closed(_text: str) -> None:
            raise BrokenPipeError

        thread = self.hang_up(project, 1)
        with pytest.raises(BrokenPipeError):
            replace(patient, tell=closed).run("apply")
        thread.join()
        assert (project.folder / "got").read_text() == "got\n"

    def test_a_terminal_that_hangs_up_several_times_interrupts_once(self, project: Project, patient: Terraform) -> None:
        thread = self.hang_up(project, 4)
        with pytest.raises(Terminated):
            patient.run("apply")
        thread.join()
        assert (project.folder / "got").read_text() == "got\n"
        assert len(project.told) == 1

    @pytest.mark.parametrize("ours_first", [True, False])
    def test_sigterm_to_every_process_of_a_job_interrupts_once(
        self, project: Project, patient: Terraform, ours_first: bool
    ) -> None:
        """As GitLab's Docker executor sends it: to Terraform itself, too, before or after refinerctl."""
        started = project.folder / "started"

        def cancel() -> None:
            until(lambda: started.exists() and started.read_text())
            for number in sorted([os.getpid(), int(started.read_text())], reverse=not ours_first):
                os.kill(number, signal.SIGTERM)

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(Terminated):
            patient.run("apply")
        thread.join()
        assert (project.folder / "got").read_text() == "got\n"
        assert len(project.told) == 1

    def test_sigterm_to_terraform_alone_ends_the_run_as_interrupted(self, project: Project) -> None:
        """The job's other processes get it seconds later."""
        project.set(seconds=20)
        planned = project.plan()

        def cancel() -> None:
            until((project.folder / "started").exists)
            (terraform,) = [child for child in psutil.Process().children() if child.name() == "terraform"]
            terraform.send_signal(signal.SIGTERM)

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(Terminated):
            project.deploy(planned)
        thread.join()
        assert "slow" in project.resources()
        assert project.root.terraform.find_lock() is None
        assert f"to continue, run `{RESUME}`" in project.told[-1]

    def test_the_second_warns_and_the_third_kills(self, project: Project) -> None:
        """A terraform that takes its time: here one that never ends."""
        binary = project.folder / "endless"
        binary.write_text(f"#!/bin/sh\ntrap '' INT\ntouch {project.folder}/started\nsleep 60 & wait; wait; sleep 60\n")
        binary.chmod(0o755)
        endless = replace(project.root.terraform, binary=str(binary))

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
        assert "a third interrupt kills" in project.told[1]

    def test_terraform_survives_kill_of_refinerctl(self, project: Project) -> None:
        """An apply that died with it would lose what it has created."""
        project.set(seconds=1)
        program = (
            "import sys; from pathlib import Path; from refinerctl.terraform.runner import Terraform\n"
            "module, folder, values = map(Path, sys.argv[1:])\n"
            "terraform = Terraform(module, folder / 'data', folder / 'work', folder / 'log')\n"
            "terraform.init()\n"
            "terraform.apply([values])\n"
        )
        arguments = [str(project.module), str(project.folder), str(project.root.var_file)]
        process = subprocess.Popen([sys.executable, "-c", program, *arguments])
        until((project.folder / "started").exists)
        process.kill()
        process.wait()
        state = project.module / "terraform.tfstate"
        until(lambda: state.exists() and "after" in state.read_text())
        until(lambda: project.root.terraform.find_lock() is None)
        assert project.plan().is_empty


class TestErroredState:
    def test_unsaved_state_refuses_a_plan_and_says_how_to_push_it(self, project: Project) -> None:
        project.deploy()
        (project.module / "errored.tfstate").write_text(json.dumps(project.state(), indent=2))
        with pytest.raises(RefusedError, match=r"errored\.tfstate holds the state of an apply") as caught:
            project.plan()
        assert "state push" in str(caught.value.hint)

    def test_unsaved_state_of_another_environment_is_ignored(self, project: Project) -> None:
        """All environments share the folder in which Terraform leaves it."""
        project.deploy()
        left = project.module / "errored.tfstate"
        left.write_text(json.dumps(project.state() | {"lineage": "production's"}, indent=2))
        assert project.plan().is_empty
        assert project.told == [f"{left} belongs to another state, and is ignored"]
        project.set(size=2)
        planned = project.plan()
        (project.module / "terraform.tfstate").write_text(json.dumps(project.state() | {"serial": 99}, indent=2))
        with pytest.raises(RefusedError, match="the state has changed since the plan was made"):
            project.deploy(planned)
        assert left.exists()

    def test_failed_save_keeps_the_state_for_its_environment(self, project: Project) -> None:
        (project.module / "main.tf").write_text(MODULE.replace('"local" {}', '"http" {}'))
        with state_server() as server:
            login = {"TF_HTTP_USERNAME": USER, "TF_HTTP_PASSWORD": PASSWORD}
            environment = {"TF_HTTP_ADDRESS": server.address("tiny"), "TF_HTTP_RETRY_MAX": "0", **login}
            root = replace(project.root, terraform=replace(project.root.terraform, environment=environment))
            server.fail["POST"] = 500
            with pytest.raises(
                RefinerctlError, match=r"Its state could not be saved, and is in .*errored\.tfstate"
            ) as caught:
                project.deploy(root=root)
            kept = root.terraform.data_dir / "errored.tfstate"
            assert "slow" in kept.read_text()
            assert kept.stat().st_mode & 0o077 == 0
            assert not (project.module / "errored.tfstate").exists()
            assert project.ledger.read() == ()
            with pytest.raises(RefusedError, match="of an apply that could not save it"):
                project.plan(root=root)
            # The command in the hint works, and does not hold the password.
            del server.fail["POST"]
            assert PASSWORD not in str(caught.value.hint)
            command = str(caught.value.hint).partition("Push it: ")[2].partition("; then")[0]
            pushed = subprocess.run(  # noqa: S602
                command, shell=True, check=False, env={**os.environ, "TF_HTTP_PASSWORD": PASSWORD}
            )
            assert pushed.returncode == 0
            kept.unlink()
            assert project.plan(root=root).is_empty


class TestFolder:
    def test_folders_of_killed_runs_are_removed_and_those_in_use_are_kept(self, project: Project) -> None:
        long_ago = time.time() - 3600
        with project.root.folder() as used:
            left = used.with_name("plan-left")
            left.mkdir()
            (left / "plan.tfplan").write_text(SECRET)
            for folder in (used, left):
                os.utime(folder, (long_ago, long_ago))
            fresh = used.with_name("plan-fresh")
            fresh.mkdir()
            with project.root.folder() as second:
                assert (used.exists(), left.exists(), fresh.exists()) == (True, False, True)
                assert second.stat().st_mode & 0o077 == 0
        assert project.root.terraform.data_dir.stat().st_mode & 0o077 == 0
        assert not used.exists()


def test_commit_of_another_users_checkout_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container's job: git itself would refuse."""
    (tmp_path / "file").write_text("x")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    commit, is_dirty = git_commit(tmp_path)
    assert (len(commit or ""), is_dirty) == (40, False)
    (tmp_path / "file").write_text("y")
    assert git_commit(tmp_path) == (commit, True)
