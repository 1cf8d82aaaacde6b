"""Without network a command ends soon; a connection that is lost later is retried for longer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue

import pytest

from refinerctl.network import Network
from refinerctl.waits import Waits
from tests.integration.servers import Answer, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port with a full backlog of connections: the system drops further ones, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.settimeout(0.2)
            with suppress(TimeoutError):
                client.connect(server.getsockname())
        yield server.getsockname()[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process, which has no connection yet. It must not take minutes."""
    given = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_CONFIG_FILE": os.devnull}
    return subprocess.run(
        [sys.executable, "-m", "refinerctl", *arguments],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("command", [["status"], ["dlq", "list"]], ids=" ".join)
def test_command_that_reaches_no_server_ends_after_two_attempts(command: list[str], full_port: int) -> None:
    url = f"http://127.0.0.1:{full_port}"

    done = run(*command, "--env", "production", "--endpoint-url", url)

    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert f"no response from AWS: cannot connect to {url}: timed out" in done.stderr
    assert "--endpoint-url" in done.stderr


def test_server_that_has_answered_is_retried_for_longer(no_backoff: list[float]) -> None:
    with serving(lambda _: Answer(200, b"{}", {"Connection": "close"})) as server:
        sqs = server.session().client("sqs")
        sqs.list_queues()

    with pytest.raises(Exception, match="Could not connect"):
        sqs.list_queues()

    assert len(no_backoff) >= 3


def test_a_server_that_has_answered_gets_more_attempts() -> None:
    network = Network()

    assert network.is_starting("https://sqs.eu-west-1.amazonaws.com/")
    network.answered("https://sqs.eu-west-1.amazonaws.com/queue")
    assert not network.is_starting("https://sqs.eu-west-1.amazonaws.com:443")
    assert network.is_starting("https://s3.eu-west-1.amazonaws.com")


def test_all_addresses_of_a_host_are_tried(full_port: int) -> None:
    """localhost has two addresses on most machines, and here nothing listens on one of them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Network().connect(("localhost", server.getsockname()[1]), 10)
    connection.close()

    with pytest.raises(TimeoutError):
        Network().connect(("127.0.0.1", full_port), 0.2)


def test_the_host_may_be_an_ipv6_address() -> None:
    with suppress(OSError):  # nothing listens there, or this machine has no such addresses
        Network().connect(("::1", 1), 1).close()


def test_slow_servers_are_reported_in_one_line() -> None:
    reports: SimpleQueue[str] = SimpleQueue()
    waits = Waits(reports.put, first_s=60)
    for number in range(5):
        waits.begin(number, f"host-{number}")
    time.sleep(0.2)
    waits.first_s = 0.1  # now all have waited that long, also on a busy machine

    assert reports.get(timeout=20).startswith("waiting for host-0, host-1, host-2 and 2 more (")
    for number in range(5):
        waits.end(number)
