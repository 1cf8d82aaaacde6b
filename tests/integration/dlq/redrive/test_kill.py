"""The installed command, killed or interrupted in the middle of a redrive, and resumed: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refinerctl.dlq.redrive.journal import FoundJournal, find
from tests.integration.dlq.redrive.stage import advised
from tests.needs import nightly
from tests.sqs.accounts import Account, account
from tests.sqs.server import SqsServer, sqs_server

REFINERCTL = str(Path(sys.executable).with_name("refinerctl"))
COUNT = 2_000
MANY_KILLS = 24
WORKERS = 4
LATENCY_S = 0.004
VISIBILITY_S = 130  # longer than the command hides messages
# What the command may have in hand at a time.
IN_FLIGHT = 40 * 10
PATIENCE_S = 60


@dataclass
class Redrive:
    """One queue's redrive by the installed command."""

    server: SqsServer
    folder: Path
    target: str
    dead: str

    @classmethod
    def of(cls, server: SqsServer, folder: Path, name: str) -> Redrive:
        folder.mkdir()
        (folder / "refinerctl.toml").write_text(
            'environment = "account"\n[environments.account]\nregion = "us-east-1"\n'
        )
        [target, dead] = server.create_pair(name)
        server.fill(dead, COUNT, body='{"id": {n}}', source=target, receive_count=3)
        return cls(server, folder, target, dead)

    def start(self, *more: str) -> subprocess.Popen[str]:
        return self.run(["--output", "json", "dlq", "redrive", self.server.queue_url(self.dead), *more])

    def run(self, arguments: list[str]) -> subprocess.Popen[str]:
        environ = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "REFINERCTL_ENDPOINT_URL": self.server.url,
            # A hundred commands compile their modules once, also where nothing is to be written beside the sources.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.folder.parent / "pycache"),
        }
        return subprocess.Popen(
            [REFINERCTL, *arguments],
            cwd=self.folder, env=environ, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def begin(self) -> subprocess.Popen[str]:
        target = self.server.queue_url(self.target)
        return self.start("--to", target, "--method", "copy", "--yes", "--force")

    def resume(self) -> tuple[dict[str, Any], str]:
        """The report, and the command that continues the run, "" if nothing is left."""
        return self.finish(self.start("--resume", "--yes", "--force"))

    def go_on(self, command: str) -> tuple[dict[str, Any], str]:
        _, *arguments = shlex.split(command)
        return self.finish(self.run(["--output", "json", *arguments]))

    def finish(self, process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
        out, err = process.communicate(timeout=PATIENCE_S)
        report: dict[str, Any] = json.loads(out)
        assert process.returncode == (0 if report["finished"] and not report["left"] else 1), err
        return report, "" if process.returncode == 0 else advised(err)

    def wait_for(self, moved: int, process: subprocess.Popen[str]) -> None:
        """Until so many are in the target, or the command has ended."""
        ends = time.monotonic() + PATIENCE_S
        while self.server.depth(self.target) < moved and process.poll() is None:
            assert time.monotonic() < ends
            time.sleep(0.01)

    def journals(self) -> list[FoundJournal]:
        return find(self.folder / ".refinerctl")

    def account(self) -> Account:
        return account(self.server, self.target, self.dead)


@dataclass(frozen=True)
class Outcome:
    """What is known after a kill and a resumed run. `seed` draws the same moment again."""

    seed: int
    at: int
    was_running: bool
    reported: int
    twice: int
    problem: str = ""


def kill_and_resume(server: SqsServer, folder: Path, seed: int) -> Outcome:
    draw = random.Random(seed)  # noqa: S311
    redrive = Redrive.of(server, folder / str(seed), f"killed-{seed}")
    process = redrive.begin()
    at = draw.randrange(COUNT + 100)
    redrive.wait_for(min(at, COUNT), process)
    time.sleep(draw.random() * 0.02)
    was_running = process.poll() is None
    process.kill()
    process.communicate()
    if not was_running:
        return Outcome(seed, at, was_running, 0, redrive.account().twice)
    if not redrive.journals():  # killed before it began
        found = redrive.account()
        return Outcome(seed, at, was_running, 0, found.twice, "" if len(found.dead) == COUNT else "moved too early")
    if seed % 8 != 1:
        server.advance(VISIBILITY_S)  # all that the killed one had in hand is visible again
    report, more = redrive.resume()
    found = redrive.account()
    outcome = Outcome(seed, at, was_running, report["sent_twice"], found.twice, _problem(report, found))
    assert redrive.journals()[0].is_finished == report["finished"]
    assert bool(more) == bool(found.dead)
    if more and not outcome.problem:
        server.advance(VISIBILITY_S)
        report, more = redrive.go_on(more)
        found = redrive.account()
        assert not more
        assert found.target.keys() == set(range(COUNT))
        assert not found.dead
        assert found.twice <= max(outcome.reported, report["sent_twice"])
    return outcome


def _problem(report: dict[str, Any], found: Account) -> str:
    """What should not be so."""
    wrong = {
        "missing": found.missing(range(COUNT)),
        # What the killed one had received without having it written down, or was yet to be answered with, is hidden.
        "still there": report["left"] != len(found.dead) or len(found.dead) > IN_FLIGHT,
        # Of one whose deletion is in doubt nobody knows whether it was moved, or is there twice.
        "moved": not COUNT - len(found.dead) - report["sent_twice"] <= report["moved"] <= COUNT,
        "counted wrongly": not found.twice <= report["sent_twice"] <= IN_FLIGHT,
    }
    return ", ".join(f"{name}: {report}" for name, is_wrong in wrong.items() if is_wrong)


@pytest.fixture
def server() -> Iterator[SqsServer]:
    with sqs_server() as server:
        server.latency(LATENCY_S)
        yield server


@pytest.mark.parametrize("kills", [2, nightly(MANY_KILLS)])
def test_resumes_after_kill_at_any_moment(tmp_path: Path, kills: int) -> None:
    """Each worker has a server of its own, because it moves the clock."""

    def work(first: int) -> list[Outcome]:
        with sqs_server() as server:
            server.latency(LATENCY_S)
            return [kill_and_resume(server, tmp_path, seed) for seed in range(first, kills, WORKERS)]

    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = [outcome for found in pool.map(work, range(min(kills, WORKERS))) for outcome in found]
    print(*outcomes, sep="\n")  # noqa: T201
    assert not [outcome for outcome in outcomes if outcome.problem]
    killed = [outcome for outcome in outcomes if outcome.was_running]
    assert len(killed) >= kills / 2
    # A kill between the journal's record of a request and its first byte leaves open whether it went out: no more
    # than what is reported is there twice, and nearly always just that.
    assert kills < MANY_KILLS or any(outcome.reported == outcome.twice > 0 for outcome in killed)


@pytest.mark.parametrize("number", [signal.SIGINT, nightly(signal.SIGTERM)])
def test_an_interrupt_releases_messages_and_the_run_is_resumed(
    server: SqsServer, tmp_path: Path, number: signal.Signals
) -> None:
    redrive = Redrive.of(server, tmp_path / "work", "interrupted")
    process = redrive.begin()
    redrive.wait_for(400, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number, err
    report = json.loads(out)
    found = redrive.account()
    assert not found.missing(range(COUNT))
    assert report["moved"] == len(found.target) == COUNT - len(found.dead)
    assert (report["left"], report["sent_twice"], found.twice) == (len(found.dead), 0, 0)
    assert {item.state for item in server.messages(redrive.dead)} == {"visible"}
    report, _ = redrive.go_on(advised(err))
    assert (report["moved"], report["sent_twice"], report["left"]) == (COUNT, 0, 0)
    assert redrive.account().target.keys() == set(range(COUNT))
