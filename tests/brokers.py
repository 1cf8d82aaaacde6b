"""Real RabbitMQ and Redis servers for tests: one of each per test process. A test uses names of its own in them.

The conftest.py of tests and that of images import these fixtures: to pytest they are different ones, with one server.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from refinerctl.errors import NotFoundError
from refinerctl.local.rabbitmq import RabbitMQServer, find_rabbitmq, start_rabbitmq
from refinerctl.local.redis import RedisServer, find_redis, start_redis
from tests.needs import absent

# RabbitMQ 3.10 writes the name of a new quorum queue with a delay: a node that is killed before loses the queue.
SETTLED_SECONDS = 2.0


def needs_rabbitmq() -> None:
    """Skip unless RabbitMQ is installed."""
    try:
        find_rabbitmq()
    except NotFoundError as error:
        absent(error.message)


def needs_redis() -> None:
    """Skip unless Redis or Valkey is installed."""
    try:
        find_redis()
    except NotFoundError as error:
        absent(error.message)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQServer]:
    """For all tests of this process. One that kills it starts it again (`kill`, `start`)."""
    needs_rabbitmq()
    server = _rabbitmq(tmp_path_factory.getbasetemp())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """For all tests of this process, with a password. One that kills or flushes it leaves it running."""
    needs_redis()
    server = _redis(tmp_path_factory.getbasetemp())
    yield server
    server.stop()


@cache
def _rabbitmq(folder: Path) -> RabbitMQServer:
    return start_rabbitmq(folder / "rabbitmq")


@cache
def _redis(folder: Path) -> RedisServer:
    return start_redis(folder / "redis", password="a test's password")
