"""Fixtures of the commands on RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refinerctl.local.rabbitmq import RabbitMQServer
from tests.command import Command
from tests.integration.dlq.rabbitmq.stage import Account, Stage, served


@pytest.fixture
def stage(rabbitmq: RabbitMQServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with served(Account(f"{unique}-broker", rabbitmq)) as account:
        stage = Stage(unique, tmp_path / "project", account)
        for name, value in stage.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(stage.folder)
        yield stage


@pytest.fixture
def run(stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)
