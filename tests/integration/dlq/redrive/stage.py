"""A project, a queue and its dead-letter queue for `dlq redrive` as a command."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.command import Command, Finished
from tests.sqs.server import SqsServer, sqs_server

CONFIG = 'environment = "test"\n[environments.test]\nregion = "us-east-1"\n'


REFINERCTL = [sys.executable, "-m", "refinerctl"]


@pytest.fixture(scope="module", name="shared")
def shared_server() -> Iterator[SqsServer]:
    with sqs_server() as server:
        yield server


@dataclass(frozen=True)
class Stage:
    """A project outside of which nothing is known, a queue and its dead-letter queue."""

    server: SqsServer
    command: Command
    folder: Path
    target: str
    dead: str

    def redrive(self, *arguments: str) -> Finished:
        return self.command("dlq", "redrive", *arguments, cwd=self.folder)

    def report(self, *arguments: str, code: int = 0) -> Any:
        done = self.redrive(*arguments, "--yes", "--output", "json")
        assert done.code == code, done.err
        return done.json()

    def continued(self, done: Finished) -> Any:
        """The report of the command that `done` says continues it."""
        _, *arguments = shlex.split(advised(done.err))
        again = self.command(*arguments, "--output", "json", cwd=self.folder)
        assert again.code == 0, again.err
        return again.json()

    def fill(self, count: int = 20, **more: Any) -> None:
        self.server.fill(self.dead, count, **{"source": self.target, "receive_count": 3, **more})

    def numbers(self, queue: str) -> list[int]:
        return sorted(json.loads(body)["id"] for body in self.server.bodies(queue))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """In a process of its own."""
        return subprocess.Popen(
            [*REFINERCTL, "dlq", "redrive", *arguments],
            cwd=self.folder,
            env=dict(os.environ),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def sqs(self) -> Any:
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
        return session.client("sqs", endpoint_url=self.server.url, config=Config(proxies={}))


@pytest.fixture(name="stage")
def new_stage(
    shared: SqsServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Stage:
    (tmp_path / "refinerctl.toml").write_text(CONFIG)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", shared.url)
    return Stage(shared, Command(monkeypatch, capsys), tmp_path, *shared.create_pair(unique))


def advised(text: str) -> str:
    """The command line that a message says continues the run."""
    found = re.search(r"[Tt]o continue(?: it)?, run `(refinerctl [^`]+)`", text)
    assert found is not None, text
    return found[1]


def attribute(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}
