"""The generated pages of the documentation."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import hcl2

from refinerctl.cli import cli


def test_generated_pages_are_up_to_date(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(root / "docs" / "generate.py"), "--check"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_runbook_has_a_section_for_each_kind_of_alarm(root: Path) -> None:
    module = hcl2.loads((root / "terraform" / "modules" / "alarms" / "main.tf").read_text())
    sections = re.findall(r"^## (\S+)$", (root / "docs" / "runbook.md").read_text(), re.MULTILINE)

    assert sections == list(module["locals"][0]["kinds"])


def test_commands_of_the_runbook_are_valid(root: Path) -> None:
    """As far as click can tell: they exist, and have these options and arguments."""
    text = (root / "docs" / "runbook.md").read_text()
    lines = re.findall(r"^\$ (refinerctl .*?)(?:  +#.*)?$", text, re.MULTILINE) + re.findall(
        r"`(refinerctl [^`]+)`", text
    )

    assert len(lines) > 10
    for line in lines:
        command: click.Command = cli
        context = click.Context(cli, **cli.context_settings)
        words = shlex.split(line)[1:]
        while isinstance(command, click.Group):
            name = words.pop(0)
            found = command.get_command(context, name)
            assert found is not None, line
            command = found
        command.make_context(line, words, parent=context)  # raises click.UsageError


def test_token_of_the_gitlab_jobs_is_in_a_file_that_other_jobs_cannot_read(root: Path, tmp_path: Path) -> None:
    builds, temporary = tmp_path / "builds", tmp_path / "tmp"
    for folder in (builds, temporary):
        folder.mkdir()
    block = re.search(r"^  before_script:\n((?:    .*\n)+)", _jobs(root), re.MULTILINE)
    assert block is not None
    script = re.findall(r"^    - (.*)$", block[1], re.MULTILINE)
    script.append('stat -c "%a %n" "$AWS_WEB_IDENTITY_TOKEN_FILE" && cat "$AWS_WEB_IDENTITY_TOKEN_FILE"')
    environ = {"PATH": os.environ["PATH"], "AWS_ID_TOKEN": "t0ken", "CI_BUILDS_DIR": str(builds)}

    done = subprocess.run(
        ["bash", "-euc", "\n".join(script)],
        env=environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.fullmatch(rf"600 {temporary}/\S+\nt0ken", done.stdout)
    assert [*builds.iterdir(), *temporary.iterdir()] == []


def test_gitlab_jobs_that_change_something_have_roles_of_their_own(root: Path) -> None:
    text = _jobs(root)
    roles = {
        job: re.search(r"AWS_ROLE_ARN: (\S+)", body)
        for job, body in re.findall(r"^(\w+):\n((?:  .*\n|\n)+)", text, re.M)
    }
    named = {job: found[1].rpartition("/")[2] for job, found in roles.items() if found}

    jobs = {"sync": "sync", "deploy": "deploy", "redrive": "operate", "purge": "operate"}
    assert named == {"variables": "refinerctl-read"} | {job: f"refinerctl-{role}" for job, role in jobs.items()}


def test_gitlab_jobs_keep_what_exists_nowhere_else(root: Path) -> None:
    jobs = dict(re.findall(r"^(\w+):\n((?:  .*\n|\n)+)", _jobs(root), re.M))
    for job, kept in (
        ("deploy", "errored.tfstate"),
        ("redrive", ".refinerctl/redrives"),
        ("redrive", ".refinerctl/dlq"),
    ):
        assert "when: always" in jobs[job]
        assert kept in jobs[job]
    assert "--export" in jobs["purge"]
    assert "*only-copies" in jobs["purge"]


def _jobs(root: Path) -> str:
    """The example in docs/gitlab.md."""
    found = re.search(r"```yaml\n(.*?)```", (root / "docs" / "gitlab.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]
