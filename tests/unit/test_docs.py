"""The generated pages of the documentation."""

from __future__ import annotations

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
        context = click.Context(cli, info_name="refinerctl")
        words = shlex.split(line)[1:]
        while isinstance(command, click.Group):
            name = words.pop(0)
            found = command.get_command(context, name)
            assert found is not None, line
            command = found
        command.make_context(line, words)  # raises click.UsageError
