"""`refinerctl local`: the local environment, used by other commands and tools."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from tests.e2e.project import Project, eventually
from tests.needs import nightly

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("stack", [nightly("registry"), "refiner"])
def test_terraform_sees_no_changes_after_up(running: Project, stack: str) -> None:
    variables = running.run("local", "env", "--terraform", stack, "--output", "json").json()
    folder = running.folder / "terraform"

    done = subprocess.run(
        ["terraform", "plan", "-detailed-exitcode", "-no-color"],
        cwd=folder / "stacks" / stack,
        env=running.environment() | {name: value or "" for name, value in variables.items()},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.nightly
def test_a_second_up_applies_changes_and_keeps_the_environment(running: Project) -> None:
    before = running.run("local", "status", "--output", "json").json()

    again = running.run("local", "up", "--detach", "--output", "json")

    assert again.code == 0, again.err
    assert again.json() == before
    assert before["state"] == "up"
    assert before["stacks"] == ["registry", "refiner"]


def test_up_with_another_engine_is_refused(running: Project) -> None:
    refused = running.run("local", "up", "--detach", "--engine", "docker")

    assert refused.code == 4
    assert "is up with engine process, not docker" in refused.err


def test_env_points_other_tools_at_the_environment(running: Project) -> None:
    script = "import boto3; print([bucket['Name'] for bucket in boto3.client('s3').list_buckets()['Buckets']])"
    exports = running.run("local", "env").out

    done = subprocess.run(
        ["sh", "-c", f"{exports}\n{shlex.quote(sys.executable)} -c {shlex.quote(script)}"],
        env=running.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "data-repository" in done.stdout


def test_all_processes_listen_on_loopback_only(running: Project) -> None:
    connections = [item for process in running.processes() for item in process.net_connections("inet")]
    addresses = {item.laddr.ip for item in connections if item.status == psutil.CONN_LISTEN}

    assert addresses == {"127.0.0.1"}


@pytest.mark.nightly
def test_an_interrupted_up_leaves_a_running_environment_usable(running: Project) -> None:
    """If terraform were killed, its state would stay locked as long as the environment is up."""
    again = running.start("local", "up", "--detach")
    assert again.stdout is not None
    while "terraform apply: stack refiner" not in again.stdout.readline():
        assert again.poll() is None
    time.sleep(2)
    again.send_signal(signal.SIGINT)
    out, _ = again.communicate(timeout=90)

    assert again.returncode == 130, out
    assert running.run("local", "status", "--output", "json").json()["state"] == "up"
    once_more = running.run("local", "up", "--detach")
    assert once_more.code == 0, once_more.err


@pytest.mark.nightly
def test_two_concurrent_ups_do_not_stop_each_other(project: Project) -> None:
    both = [project.start("local", "up", "--detach") for _ in range(2)]
    outs = [process.communicate(timeout=200)[0] for process in both]
    state = project.run("local", "status", "--output", "json").json()["state"]
    assert project.run("local", "down").code == 0

    assert state == "up", outs
    assert 0 in [process.returncode for process in both], outs
    assert {process.returncode for process in both} <= {0, 4}, outs
    assert project.processes() == []


def test_down_twice_and_commands_without_it(project: Project) -> None:
    first, second = project.run("local", "down"), project.run("local", "down")
    status = project.run("local", "status", "--output", "json")
    poll = project.run("poll")

    assert (first.code, second.code) == (0, 0)
    assert "was already down" in second.err
    assert status.json()["state"] == "down"
    assert poll.code == 1
    assert "refinerctl local up" in poll.err


def test_a_port_in_use_is_reported(project: Project) -> None:
    # A folder of this name in the current folder must not be imported instead of the package.
    (project.folder / "refinerctl").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = project.run("local", "up", "--detach", "--port", str(port))

    assert done.code == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.err
    assert project.processes() == []


def test_a_stale_state_file_is_ignored(project: Project) -> None:
    folder = project.folder / ".refinerctl" / "local"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(
        '{"phase": "running", "supervisor_pid": 1, "endpoint_url": "http://127.0.0.1:9"}'
    )

    status = project.run("local", "status", "--output", "json").json()

    assert status["state"] == "down"
    assert project.run("local", "down").code == 0
    assert os.getpgid(1) is not None  # pid 1 is still there


def test_down_cleans_up_after_a_killed_supervisor(project: Project) -> None:
    """Killed during `up`, as by the out-of-memory killer."""
    up = project.start("local", "up", "--detach")
    status = eventually(lambda: running_status(project))
    os.kill(status["supervisor_pid"], signal.SIGKILL)

    out, _ = up.communicate(timeout=120)

    assert up.returncode == 1, out
    assert project.run("local", "status", "--output", "json").json()["state"] == "down"
    assert project.run("local", "down").code == 0
    assert project.processes() == []


def running_status(project: Project) -> dict[str, Any] | None:
    status = project.run("local", "status", "--output", "json").json()
    return status if status["endpoint_url"] else None
