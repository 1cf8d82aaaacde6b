"""`dlq` under faults: received messages are released, and only saved messages are deleted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pexpect
import pytest

from tests.command import Command
from tests.needs import nightly
from tests.sqs.faults import DELETE, HIDE, RECEIVE, Fault, Kind, denied, sqs_faults, throttled
from tests.sqs.server import SqsServer, sqs_server

COUNT = 400


@pytest.fixture(scope="module")
def server() -> Iterator[SqsServer]:
    with sqs_server() as server:
        yield server


@pytest.fixture
def dead(server: SqsServer, unique: str) -> str:
    """A DLQ with messages."""
    _, dead = server.create_pair(unique)
    server.fill(dead, COUNT)
    return dead


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "refinerctl.toml").write_text('environment = "account"\n[environments.account]\nregion = "us-east-1"\n')
    return tmp_path


def environ(url: str) -> Mapping[str, str]:
    return {"REFINERCTL_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture
def run(refinerctl: Command, project: Path, server: SqsServer, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name, value in environ(server.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(project)
    return refinerctl


def ids(server: SqsServer, queue: str, state: str | None = None) -> set[str]:
    return {message.id for message in server.messages(queue) if state in (None, message.state)}


def kept(file: Path) -> set[str]:
    """The ids in a file, without an incomplete last line."""
    return {json.loads(line)["id"] for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")}


def start(server: SqsServer, project: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "refinerctl", "dlq", *arguments],
        cwd=project,
        env={**os.environ, **environ(server.url)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_flight(server: SqsServer, queue: str, least: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if len(ids(server, queue, "in-flight")) >= least:
            return True
        time.sleep(0.01)
    return False


class TestInterrupted:
    @pytest.fixture(autouse=True)
    def _slow(self, server: SqsServer) -> Iterator[None]:
        server.latency(0.05)
        yield
        server.latency(0)

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), nightly(signal.SIGTERM, 143)])
    def test_interrupted_export_releases_all_and_leaves_no_file(
        self, server: SqsServer, dead: str, project: Path, number: signal.Signals, code: int
    ) -> None:
        before = sorted(project.iterdir())
        server.fill(dead, 4000)
        running = start(server, project, "export", dead, "out.jsonl")
        assert in_flight(server, dead, 100)
        running.send_signal(number)
        running.communicate(timeout=30)
        assert running.returncode == code
        assert len(ids(server, dead, "visible")) == COUNT + 4000
        assert sorted(project.iterdir()) == before

    def test_interrupt_during_release_waits_for_it(self, server: SqsServer, dead: str, project: Path) -> None:
        server.fill(dead, 1500)
        running = start(server, project, "inspect", dead, "--group")
        assert in_flight(server, dead, COUNT + 1490)
        server.latency(0.5)  # so that a busy machine is in time
        while len(ids(server, dead, "visible")) < 10:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
        assert running.returncode == 130
        assert len(ids(server, dead, "visible")) == COUNT + 1500

    @pytest.mark.parametrize("least", [nightly(1), 400, nightly(900)])
    def test_interrupted_purge_counts_what_it_deleted(
        self, server: SqsServer, dead: str, project: Path, least: int
    ) -> None:
        server.fill(dead, 1500)
        running = start(server, project, "purge", dead, "--yes", "--export", "kept.jsonl", "--output", "json")
        ends = time.monotonic() + 30
        while len(ids(server, dead)) > COUNT + 1500 - least and time.monotonic() < ends:
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
        assert running.returncode == 130, err
        left = ids(server, dead)
        assert json.loads(out)["deleted"] == COUNT + 1500 - len(left)
        assert ids(server, dead, "visible") == left
        assert "could not be released" not in err

    def test_messages_of_a_killed_inspect_become_visible_within_seconds(
        self, server: SqsServer, dead: str, project: Path
    ) -> None:
        running = start(server, project, "inspect", dead, "--filter", "body.id == `-1`")
        assert in_flight(server, dead, 50)
        running.kill()
        running.communicate(timeout=30)
        server.advance(13)
        if len(ids(server, dead, "visible")) < COUNT:  # the server still had a request when the process died
            time.sleep(0.5)
            server.advance(13)
        assert len(ids(server, dead, "visible")) == COUNT

    def test_killed_purge_has_saved_all_that_it_deleted(self, server: SqsServer, dead: str, project: Path) -> None:
        server.fill(dead, 1500)
        all_ids = ids(server, dead)
        for number, pause_s in enumerate((0.05, 0.2, 0.35, 0.5)):
            file = project / f"kept-{number}.jsonl"
            running = start(server, project, "purge", dead, "--yes", "--export", file.name)
            assert in_flight(server, dead, 10)
            time.sleep(pause_s)
            running.kill()
            running.communicate(timeout=30)
            server.advance(60)
        left = ids(server, dead)
        written = set().union(*(kept(file) for file in project.glob("kept-*.jsonl")))
        assert left | written == all_ids
        assert 0 < len(left) < len(all_ids)


class TestFaults:
    def purge(self, run: Command, url: str, monkeypatch: pytest.MonkeyPatch, dead: str) -> Any:
        monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", url)
        return run("dlq", "purge", dead, "--yes", "--export", "kept.jsonl", "--output", "json")

    @pytest.mark.parametrize(
        "fault",
        [
            throttled(RECEIVE, times=None, every=4),
            throttled(DELETE, times=None, every=4),
            Fault(Kind.FAIL_ENTRIES, DELETE, times=None, every=3),
            Fault(Kind.LOSE_ANSWER, DELETE, times=None, every=4),
            Fault(Kind.RESET_HALFWAY, RECEIVE, times=5, every=7),
        ],
    )
    def test_purge_deletes_all_messages_and_only_saved_ones(
        self,
        run: Command,
        server: SqsServer,
        dead: str,
        project: Path,
        fault: Fault,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        before = ids(server, dead)
        with sqs_faults(server.url, fault) as proxy:
            done = self.purge(run, proxy.url, monkeypatch, dead)
            assert proxy.struck()
        assert done.code == 0, done.err
        assert ids(server, dead) == set()
        assert kept(project / "kept.jsonl") == before
        found = done.json()
        assert (found["exported"], found["deleted"], found["failed"], found["left"]) == (COUNT, COUNT, 0, 0)

    def test_denied_delete(self, run: Command, server: SqsServer, dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with sqs_faults(server.url, denied(DELETE, times=None)) as proxy:
            done = self.purge(run, proxy.url, monkeypatch, dead)
        assert done.code == 1
        assert "access denied: DeleteMessageBatch on queue" in done.err
        assert done.json()["deleted"] == 0
        assert len(ids(server, dead, "visible")) == COUNT

    def test_denied_receive(
        self, run: Command, server: SqsServer, dead: str, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with sqs_faults(server.url, denied(RECEIVE, times=None)) as proxy:
            monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
            for arguments in (["inspect", dead], ["export", dead, "out"], ["purge", dead, "--yes", "--dry-run"]):
                done = run("dlq", *arguments)
                assert done.code == 1
                assert "access denied: ReceiveMessage on queue" in done.err
        assert not (project / "out").exists()

    def test_denied_release_is_noted(
        self, run: Command, server: SqsServer, dead: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with sqs_faults(server.url, denied(HIDE, times=None)) as proxy:
            monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
            done = run("dlq", "inspect", dead, "--limit", "5")
        assert done.code == 0
        assert "5 messages could not be released: invisible for at most 10 s" in done.err

    def test_throttled_export_is_complete(
        self, run: Command, server: SqsServer, dead: str, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with sqs_faults(server.url, throttled(RECEIVE, times=None, every=4)) as proxy:
            monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
            done = run("dlq", "export", dead, "out")
        assert done.code == 0, done.err
        assert kept(project / "out") == ids(server, dead, "visible")


class TestWhole:
    """Nothing is called complete, and no queue empty, because a count says so once."""

    @pytest.fixture
    def lagging(self, server: SqsServer, dead: str) -> Iterator[int]:
        """SQS counts the first messages only, for a while; returns how many there are."""
        server.lag(2.5)
        assert server.shown(dead) == COUNT
        server.fill(dead, 3 * COUNT)
        yield 4 * COUNT
        server.lag(0)

    def test_export_is_complete_although_counts_lag(self, run: Command, dead: str, project: Path, lagging: int) -> None:
        done = run("dlq", "export", dead, "out", "--output", "json")
        assert done.code == 0, done.err
        assert (done.json()["exported"], done.json()["is_complete"]) == (lagging, True)
        assert len(kept(project / "out")) == lagging

    def test_purge_by_sqs_waits_until_counts_show_it(
        self, run: Command, server: SqsServer, dead: str, lagging: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with sqs_faults(server.url, Fault(Kind.LOSE_ANSWER, "PurgeQueue")) as proxy:
            monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
            done = run("dlq", "purge", dead, "--yes", "--no-export", "--output", "json")
        assert done.code == 0, done.err
        assert (done.json()["left"], server.depth(dead), server.shown(dead)) == (0, 0, 0)

    def test_messages_that_another_consumer_has_hidden_are_left(
        self, run: Command, server: SqsServer, dead: str
    ) -> None:
        session = boto3.Session("test", "test", region_name="us-east-1")
        sqs, url = session.client("sqs", endpoint_url=server.url), server.queue_url(dead)
        for _ in range(5):  # for longer than a purge takes on a busy machine
            sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600)
        hidden = len(ids(server, dead, "in-flight"))
        assert hidden > 0

        done = run("dlq", "purge", dead, "--yes", "--export", "kept.jsonl", "--output", "json")

        assert done.code == 1
        assert f"{hidden} messages may be left in {dead}: {hidden} in flight" in done.err
        found = done.json()
        assert (found["deleted"], found["left"]) == (COUNT - hidden, hidden)
        assert len(ids(server, dead)) == hidden

    @pytest.mark.parametrize("kind", [Kind.ANSWER, Kind.TRUNCATE])
    def test_every_read_is_repeated(
        self, run: Command, server: SqsServer, unique: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source, dead = server.create_pair(unique)
        server.fill(dead, COUNT, source=source)
        reads = ("GetQueueUrl", "GetQueueAttributes", "ListDeadLetterSourceQueues", "ListMessageMoveTasks")
        faults = [Fault(kind, action) for action in reads]
        faults += [Fault(kind, "GetQueueAttributes", times=None, every=2), Fault(Kind.LOSE_ANSWER, "StartMessageMove")]
        with sqs_faults(server.url, *faults) as proxy:
            monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
            done = run("dlq", "redrive", dead, "--method", "move-task", "--yes", "--output", "json")
            assert {exchange.action for exchange in proxy.struck()} == {*reads, "StartMessageMoveTask"}
        assert done.code == 0, done.err
        assert (done.json()["moved"], done.json()["left"], server.depth(dead)) == (COUNT, 0, 0)


class TestConsent:
    def test_the_prompt_says_how_many_messages_match(self, server: SqsServer, dead: str, project: Path) -> None:
        child = pexpect.spawn(
            sys.executable,
            ["-m", "refinerctl", "dlq", "purge", dead, "--filter", "body.id < `8`", "--export", "kept.jsonl"],
            cwd=str(project),
            env={**os.environ, **environ(server.url)},
            timeout=30,
            encoding="utf-8",
        )
        child.expect(rf"Delete 8 of {COUNT} messages in .*\? They are saved to kept.jsonl first\.")
        child.sendline(dead)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0, child.before
        assert "8 deleted, saved to kept.jsonl" in child.before
        assert server.depth(dead) == COUNT - 8

    def test_in_a_ci_job_a_file_has_to_be_named(
        self, run: Command, server: SqsServer, dead: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CI", "true")
        done = run("dlq", "purge", dead, "--yes")
        assert done.code == 2
        assert "purge needs --export FILE in a CI job" in done.err
        assert server.depth(dead) == COUNT
        assert run("dlq", "purge", dead, "--dry-run").code == 0
        assert run("dlq", "purge", dead, "--yes", "--export", "kept.jsonl").code == 0


def test_fifo_queue_is_purged_although_export_is_incomplete(run: Command, server: SqsServer, unique: str) -> None:
    _, dead = server.create_pair(f"{unique}.fifo")
    server.fill(dead, 30, group="one", deduplication="{n}")
    done = run("dlq", "export", dead, "out")
    assert done.code == 1
    assert "a FIFO queue returns only the first messages of each message group" in done.err
    done = run("dlq", "purge", dead, "--yes", "--output", "json")
    assert done.code == 0, done.err
    assert done.json()["deleted"] == 30
    assert server.depth(dead) == 0
