"""The documentation: generated pages, command lines, links, pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import hcl2
import pytest

from docs.generate import DRAWN
from docs.pictures import pipeline_of
from refinerctl import __version__
from refinerctl.stacks.base import Queue
from tests.command_lines import DocumentedCommand, check, documented_commands
from tests.conftest import ROOT
from tests.documented_runs import NOT_RUN, reason_not_to_run


def test_generated_pages_are_up_to_date(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_examples_of_help_fit_a_terminal(root: Path) -> None:
    lines = (root / "docs" / "cli.md").read_text().splitlines()

    assert [line for line in lines if line.startswith("    refinerctl ") and len(line) > 80] == []


def test_runbook_has_a_section_for_each_kind_of_alarm(root: Path) -> None:
    module = hcl2.loads((root / "terraform" / "modules" / "alarms" / "main.tf").read_text())
    sections = re.findall(r"^## (\S+)$", (root / "docs" / "runbook.md").read_text(), re.MULTILINE)

    assert sections == list(module["locals"][0]["kinds"])


def test_runbook_names_each_dead_letter_queue(root: Path) -> None:
    text = (root / "docs" / "runbook.md").read_text()
    queues = [item for name in DRAWN for item in pipeline_of(name).by_kind(Queue)]
    dlqs = [queue.name for queue in queues if queue.name.endswith("-dlq")]

    assert len(dlqs) == 12
    assert [name for name in dlqs if f"`{name}`" not in text] == []


COMMANDS = documented_commands(ROOT)
# Programs besides refinerctl. None of them is run by these tests; what they do is tested where the reason says.
OTHER_PROGRAMS = {
    "make": "the target exists (below); CI runs `make test`, and tests/e2e/test_demo.py what `make demo` runs",
    "terraform": "a subcommand of Terraform (below); tests/integration/terraform and tests/e2e run them on all stacks",
    "docker": "only to get a registry on this machine; the tests have Debian's",
    "aws": "AWS's own command line",
    **dict.fromkeys(("gh", "oras"), "read what the release workflow has published, which no test does"),
    "jq": "reads what a command prints with `--output json`",
    **dict.fromkeys(
        (".", "export", "cd", "echo", "pg_dump", "git", "pip", "mkdir"), "of the shell, or the reader's own"
    ),
}
TERRAFORM = {"init", "apply", "plan", "destroy", "fmt", "validate", "test", "providers", "output"}


def test_documentation_has_command_lines_of_each_form() -> None:
    """Otherwise the tests below would check nothing."""
    assert len(COMMANDS) > 250
    languages = {"README.md": "status --watch", "docs/runbook.md": "inputs --incomplete", "docs/gitlab.md": "drift"}
    for page, words in languages.items():
        assert any(item.page == page and " ".join(item.words).endswith(words) for item in COMMANDS), page


@pytest.mark.parametrize("command", [item for item in COMMANDS if item.program == "refinerctl"], ids=str)
def test_documented_command_is_accepted(command: DocumentedCommand) -> None:
    """With its options, their values and its arguments, as far as click can tell without running it."""
    check(command.words, is_mentioned=command.is_mentioned)


def test_documented_commands_are_run_or_there_is_a_reason(root: Path) -> None:
    lines = [
        item.words for item in COMMANDS if item.program == "refinerctl" and item.page.startswith(("README", "docs/"))
    ]
    run = [words for words in lines if reason_not_to_run(words) is None]

    assert len(run) > 60
    unused = [found for found in NOT_RUN if not any(re.search(found, " ".join(words[1:])) for words in lines)]
    assert unused == []
    named = {path for reason in NOT_RUN.values() for path in re.findall(r"tests/[\w/.]+\w", reason)}
    assert [path for path in sorted(named) if not (root / path).exists()] == []


def test_other_documented_programs_are_known(root: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for command in COMMANDS:
        if command.program != "refinerctl":
            assert command.program in OTHER_PROGRAMS, command
        if command.program == "make":
            assert set(command.words[1:]) <= targets, command
        if command.program == "terraform":
            assert command.words[1] in TERRAFORM, command


def test_documented_wheel_is_that_of_this_version(root: Path) -> None:
    named = re.findall(r"refinerctl-(\d[\w.]*)-py3", (root / "README.md").read_text())

    assert named == [__version__]


def test_links_and_anchors_of_the_documentation_exist(root: Path) -> None:
    broken = []
    for page in [root / "README.md", *(root / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text()):
            path, _, anchor = (target[0] or target[1]).partition("#")
            file = page.parent / path if path else page
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                broken.append(f"{page.relative_to(root)}: {path}#{anchor}")
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """As GitHub and GitLab make them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pictures_are_small_and_load_nothing(root: Path) -> None:
    for picture in (root / "docs").glob("*.svg"):
        text = picture.read_text()
        assert len(text) < 200_000, picture.name
        loaded = [link for link in re.findall(r'(?:href|src|url)[=(]"?([^")]+)', text) if not link.startswith("#")]
        assert loaded == [], picture.name


def test_recording_shows_the_demo_to_its_end(root: Path) -> None:
    """It is made by hand (`make record`): this finds one that stopped early, or names the machine that made it."""
    text = (root / "docs" / "demo.svg").read_text()
    for part in ("$ refinerctl demo", "Hello, world!", "RefinerComplete/helloworld.txt.json", "done in "):
        assert part in text
    assert not re.search(r"/(home|root|tmp|Users|work)/", text)
