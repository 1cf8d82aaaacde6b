"""Servers that the worker's tests share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from refinerctl.embedded import Instance
from refinerctl.local.emulator import start_emulator
from refinerctl.local.rabbitmq import RabbitMQServer
from worker.tests.environment import EcsAgent, Environment

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """S3 and Secrets Manager."""
    instance = Instance(tmp_path_factory.mktemp("emulator") / "instance")
    instance.prepare()
    emulator = start_emulator(instance, None, "us-east-1")
    yield emulator.endpoint_url
    emulator.stop()


@pytest.fixture
def environment(rabbitmq: RabbitMQServer, aws_url: str, tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(rabbitmq, aws_url, tmp_path, f"worker{next(_NUMBERS)}")
    yield environment
    environment.close()


@pytest.fixture
def agent() -> Iterator[EcsAgent]:
    agent = EcsAgent()
    yield agent
    agent.close()
