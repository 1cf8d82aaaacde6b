"""Shell completion, with the requests that a shell's completion script sends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.small_project import CONFIG, REFINER, write_environment, write_project

RULESETS = 'rulesets = {{ {0} = {{ prefix = "{0}Input/", image_uri = "r:v1" }} }}\n'
IMAGE = '\n[images.refiner]\nrepository = "refiner"\ncontext = "."\n'


class Shell:
    """A shell in a project, with a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

    def complete(self, line: str) -> list[str]:
        """The names for the last word of `line`."""
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_REFINERCTL_COMPLETE": "bash_complete"}
        done = subprocess.run(
            [sys.executable, "-m", "refinerctl"],
            cwd=self.folder,
            env={**os.environ, **self.variables, **asked, "XDG_CACHE_HOME": str(self.folder / "cache")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [name.removeprefix("plain,") for name in done.stdout.split()]

    def complete_eventually(self, line: str) -> list[str]:
        """The names, as soon as they have been read."""
        until = time.monotonic() + 60
        while not (found := self.complete(line)) and time.monotonic() < until:
            time.sleep(0.2)
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    write_project(tmp_path, CONFIG + IMAGE)
    write_environment(tmp_path, "lab", **{"refiner.tfvars": REFINER + RULESETS.format("Lab")})
    return Shell(tmp_path)


def test_names_in_the_files_of_the_project_are_completed(shell: Shell) -> None:
    assert shell.complete_eventually("refinerctl status --stage ") == ["Lab"]
    assert shell.complete("refinerctl dlq inspect dibbs") == ["dibbs-ecr-Lab-dlq", "dibbs-ecr-Lab-delivery-dlq"]
    assert shell.complete("refinerctl upload x --prefix L") == ["LabInput/"]
    assert shell.complete("refinerctl image build ") == ["refiner"]
    write_environment(shell.folder, "lab", **{"refiner.tfvars": REFINER + RULESETS.format("Clinic")})
    assert shell.complete_eventually("refinerctl remove-prefix C") == ["Clinic"]


def test_commands_and_environments_are_completed(shell: Shell) -> None:
    assert shell.complete("refinerctl dlq in") == ["inspect"]
    assert shell.complete("refinerctl status --env ") == ["lab"]
    assert shell.complete("refinerctl --env = l") == ["lab"]  # so bash divides --env=l into words


def test_a_project_that_cannot_be_read_has_no_names(shell: Shell) -> None:
    (shell.folder / "refinerctl.toml").write_text("environment = ")
    assert shell.complete("refinerctl status --stage ") == []


def test_the_shell_does_not_wait_for_a_server_that_does_not_answer(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shell.variables["REFINERCTL_ENDPOINT_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert shell.complete("refinerctl deploy --tag ") == []
