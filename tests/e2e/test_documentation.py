"""The command lines of README.md and docs/, run with the installed command in a local environment.

What is run: docs/quickstart.md in its order, and every documented command that only reads, or has --dry-run, once with
each set of options. All others are in NOT_RUN, each with the reason; tests/unit/test_docs.py parses those as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.command_lines import Words, documented_commands, resolve
from tests.conftest import ROOT
from tests.e2e.project import Finished, Project

pytestmark = pytest.mark.e2e

# What is found in a command's words → why it is not run here; the first that fits counts.
NOT_RUN = {
    r"^--(help|version)$": "tests/unit/test_cli.py",
    r"^(demo|local (up|down))\b": "tests/e2e/test_demo.py; fixture `running` starts and ends the environment with them",
    r"^rnr\b|--stack rnr|--broker-url|\brnr-": "needs stack rnr: tests/e2e/test_rnr.py, tests/integration/rnr",
    r"^(dlq|local|env|images)$": "a group, named in a text",
    r"^(sync|releases)\b": "needs a registry: tests/e2e/test_releases.py",
    r"^image build\b": "needs a Docker engine, or a checkout: tests/e2e/test_images.py, tests/unit/setup",
    r"^images\b": "needs images in ECR: tests/e2e/test_repositories.py, tests/integration/releases",
    r"--gitlab-(issue|note)\b": "needs GitLab: tests/integration/releases/test_gitlab_jobs.py",
    r"^plan .*--tag|--to v": "needs releases in ECR: tests/e2e/test_releases.py",
    r"^(deploy|apply|rollback|destroy|unlock)\b": "changes the environment: tests/e2e/test_releases.py",
    r"^add-prefix (?!.*--dry-run)|^remove-prefix\b": "changes the environment's values: tests/e2e/test_releases.py",
    r"^add-prefix .*my-container": "needs the image: tests/e2e/test_releases.py",
    r"^(upload|replay|trace|inputs)$": "lacks its arguments: a text names the command",
    r"^replay (?!.*--dry-run)": "processes inputs of other tests again: tests/e2e/test_pipeline.py",
    r"^dlq (redrive|purge)(?! .*--dry-run)": "moves messages of other tests: tests/e2e/test_dlq*.py",
    r"--(follow|watch)\b": "does not end: tests/e2e/test_pipeline.py, tests/e2e/test_trace.py",
    r"^poll( --count.*)?$": "waits for, or reads, completions of other tests: tests/e2e/test_pipeline.py",
    r"--canary": "sends inputs through stages that fail on purpose here: tests/e2e/test_verify.py",
    r"^upload -": "reads standard input: tests/e2e/test_pipeline.py",
}
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
CODES = {"drift": {0, 5}, "plan": {0, 5}, "verify": {0, 5}, "trace": {0, 1, 3}, "poll": {0, 1}, "dlq": {0, 1}}


def reason_not_to_run(words: Words) -> str | None:
    return next((reason for found, reason in NOT_RUN.items() if re.search(found, " ".join(words[1:]))), None)


def adapted(words: Words) -> Words:
    """With the names of this environment."""
    line = "\0".join(words)
    for documented, name in NAMES.items():
        line = re.sub(documented.replace(" ", "\0"), name, line)
    return tuple(word for word in line.split("\0") if word)


def form(words: Words) -> tuple[str, ...]:
    """The command and the options, without their values."""
    command, rest = resolve(words)
    return (str(command.callback), *sorted({word for word in rest if word.startswith("-")} - {"--output"}))


DOCUMENTED = [item for item in documented_commands(ROOT, "README.md", "docs/*.md") if item.program == "refinerctl"]
QUICKSTART = [
    item.words for item in DOCUMENTED if item.page == "docs/quickstart.md" and not reason_not_to_run(item.words)
]
# Of the commands with the same options, one: they differ in values only, which tests/unit/test_docs.py parses.
READS = {form(item.words): adapted(item.words) for item in DOCUMENTED if not reason_not_to_run(item.words)}


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
    assert [words[1] for words in QUICKSTART][:4] == ["upload", "poll", "trace", "status"]
    done = [(words, with_inputs.run(*words[1:])) for words in QUICKSTART]

    assert [text for words, ended in done if (text := failure(words, ended))] == []
    poll, trace = (ended.out for words, ended in done if words[1] in ("poll", "trace"))
    assert "Hello, world!" in poll
    assert "RefinerInput/hello.txt: completed" in trace


def test_documented_commands_that_change_nothing(with_inputs: Project) -> None:
    tried = {form(words) for words in QUICKSTART}
    commands = [words for found, words in READS.items() if found not in tried]
    assert len(commands) > 20
    with ThreadPoolExecutor(3) as pool:
        done = pool.map(lambda words: with_inputs.run(*words[1:]), commands)

        assert [text for words, ended in zip(commands, done, strict=True) if (text := failure(words, ended))] == []


def test_each_reason_not_to_run_is_that_of_a_documented_command() -> None:
    lines = [" ".join(item.words[1:]) for item in DOCUMENTED]

    assert [found for found in NOT_RUN if not any(re.search(found, line) for line in lines)] == []
