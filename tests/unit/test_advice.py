"""Command lines that refinerctl prints, in hints, fixes and examples: each is one that it accepts."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from refinerctl.app import AppContext
from refinerctl.cli import cli
from refinerctl.config import GlobalFlags
from tests.command_lines import CONTEXT, check, commands_of
from tests.conftest import ROOT

VALUE = "X"  # for what is known only when the text is printed


@dataclass(frozen=True)
class Module:
    """What a module prints: its strings without docstrings, and the examples of its commands."""

    texts: list[str]
    examples: list[str]


def read(file: Path) -> Module:
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    calls = [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "examples"]
    examples = [argument for call in calls for argument in call.args]
    joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    docstrings = [node.value for node in nodes if isinstance(node, ast.Expr)]
    others = {id(node) for node in [*examples, *docstrings, *(part for node in joined for part in node.values)]}
    constants = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in others]
    return Module(
        [*map(text, joined), *(value for value in constants if isinstance(value, str))],
        [str(node.value) for node in examples if isinstance(node, ast.Constant)],
    )


def text(node: ast.JoinedStr) -> str:
    return "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return [read(file) for file in sorted((ROOT / "refinerctl").rglob("*.py"))]


@pytest.fixture(scope="module")
def texts(modules: list[Module]) -> list[str]:
    return [text for module in modules for text in module.texts]


def check_line(line: str) -> None:
    """Raises click.UsageError if refinerctl would not accept the line."""
    (words,) = (words for words in commands_of(line) if words[0] == "refinerctl")
    check(words)


def fault(line: str) -> str | None:
    """What is wrong with a command line; None if refinerctl accepts it."""
    try:
        check_line(line)
    except click.UsageError as error:
        return f"{line}: {error.format_message()}"
    return None


def test_command_lines_are_accepted(modules: list[Module], texts: list[str]) -> None:
    lines = {line for module in modules for line in module.examples}
    lines |= {line for text in texts for line in re.findall(r"`(refinerctl [^`]+)`", text)}
    assert len(lines) > 100
    assert [found for line in sorted(lines) if (found := fault(line))] == []


def test_wrong_command_lines_are_noticed() -> None:
    for line in ("refinerctl deploi", "refinerctl deploy --allow X", "refinerctl trace", "refinerctl dlq list --no"):
        with pytest.raises(click.UsageError):
            check_line(line)


def test_command_lines_are_in_backticks(texts: list[str]) -> None:
    """Otherwise the test above would not see them."""
    loose = re.compile(rf"(?<![`\w])refinerctl (?:{'|'.join(cli.list_commands(CONTEXT))})\b")
    # The name of a JUnit suite, and the content of a canary.
    allowed = {"refinerctl verify", f"refinerctl verify --canary {VALUE} for {VALUE}, {VALUE}\n"}
    assert {text for text in texts if loose.search(text)} == allowed


def test_command_to_run_next_has_the_environment_and_the_options_that_were_given() -> None:
    app = AppContext(GlobalFlags(env="production", profile="team a", output="json", verbosity=1))
    line = app.command("deploy", "--allow-destroy", 'module.rulesets["A"].aws_sqs_queue.this')
    assert shlex.split(line) == [
        *("refinerctl", "deploy", "--allow-destroy", 'module.rulesets["A"].aws_sqs_queue.this'),
        *("--env", "production", "--stack", "refiner", "--profile", "team a"),
    ]
    check_line(line)
