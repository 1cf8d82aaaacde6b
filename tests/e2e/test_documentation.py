"""The command lines of README.md and docs/, run with the installed command in a local environment.

What is run: docs/quickstart.md in its order, and every other documented command that tests/documented_runs.py has no
reason against, with each of its documented options. tests/unit/test_docs.py parses all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.command_lines import Words, documented_commands, resolve
from tests.conftest import ROOT
from tests.documented_runs import reason_not_to_run
from tests.e2e.project import Finished, Project

pytestmark = pytest.mark.e2e

# Names as documented → names of this environment.
NAMES = {
    r"--env \S+": "",
    r"\bOtherInput/": "PoisonInput/",
    r"\ba-dlq\b": "dibbs-ecr-RefinerInput-dlq",
    r"\btests/smoke\.txt\b": "a.txt",
    r"\b3HL4kq…": "null",
    r"\bNAME\b": "bucket",
    r"\bKEY\b": "RefinerInput/a.txt",
    r"\bQUEUE\b": "dibbs-ecr-RefinerInput-dlq",
}
INPUTS = ("a.txt", "b.txt", "report.txt", "hello.txt", "x.txt", "folder/c.txt", "inputs/d.txt")
# Differences, checks that fail and inputs of other tests that failed are results, not errors of the command.
CODES = {
    "drift": {0, 5},
    "plan": {0, 5},
    "verify": {0, 5},
    "trace": {0, 1, 3},
    "poll": {0, 1},
    "dlq": {0, 1},
    "env": {0, 5},
    "doctor": {0, 5},
}


def adapted(words: Words) -> Words:
    """With the names of this environment."""
    line = "\0".join(words)
    for documented, name in NAMES.items():
        line = re.sub(documented.replace(" ", "\0"), name, line)
    return tuple(word for word in line.split("\0") if word)


def form(words: Words) -> tuple[str, frozenset[str]]:
    """The command and its options, without their values."""
    command, rest = resolve(words)
    return str(command.callback), frozenset(word for word in rest if word.startswith("-")) - {"--output"}


DOCUMENTED = [item for item in documented_commands(ROOT, "README.md", "docs/*.md") if item.program == "refinerctl"]
RUN = [item for item in DOCUMENTED if reason_not_to_run(item.words) is None]
QUICKSTART = [item.words for item in RUN if item.page == "docs/quickstart.md"]
# One for each command and set of options, unless another one has all of these and more: values are parsed only.
FORMS = {form(words): words for words in (adapted(item.words) for item in RUN)}
READS = [
    words for (name, has), words in FORMS.items() if not any(name == other and has < more for other, more in FORMS)
]


@pytest.fixture(scope="module")
def with_inputs(running: Project) -> Iterator[Project]:
    """The files and the inputs that the documentation names."""
    before = set(running.folder.iterdir())
    for name in INPUTS:
        (running.folder / name).parent.mkdir(exist_ok=True)
        (running.folder / name).write_text("Hello, world!\n")
    done = running.run("upload", "a.txt", "b.txt", "report.txt", "--wait")
    assert done.code == 0, done.err
    yield running
    for path in set(running.folder.iterdir()) - before:
        _remove(path)


def _remove(path: Path) -> None:
    for inner in path.iterdir() if path.is_dir() else ():
        _remove(inner)
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()


def failure(words: Words, done: Finished) -> str | None:
    """What is wrong with the end of a command; None if nothing is."""
    allowed = CODES.get(words[1], {0})
    if done.code in allowed and "Traceback" not in done.err:
        return None
    return f"{' '.join(words)}: exit code {done.code}, expected {allowed}: {done.err[-500:]}"


def test_quickstart_in_its_order(with_inputs: Project) -> None:
    assert [words[1] for words in QUICKSTART][:4] == ["doctor", "upload", "poll", "trace"]
    done = [(words, with_inputs.run(*words[1:])) for words in QUICKSTART]

    assert [text for words, ended in done if (text := failure(words, ended))] == []
    poll, trace = (ended.out for words, ended in done if words[1] in ("poll", "trace"))
    assert "Hello, world!" in poll
    assert "RefinerInput/hello.txt: completed" in trace


@pytest.mark.nightly
def test_documented_commands_that_change_nothing(with_inputs: Project) -> None:
    tried = [form(words) for words in QUICKSTART]
    commands = [words for words in READS if form(words) not in tried]
    assert len(commands) > 15
    with ThreadPoolExecutor(3) as pool:
        done = pool.map(lambda words: with_inputs.run(*words[1:]), commands)

        assert [text for words, ended in zip(commands, done, strict=True) if (text := failure(words, ended))] == []
