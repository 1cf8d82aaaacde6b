"""An SQS server in a process of its own on 127.0.0.1: SQS's JSON protocol, and fast.

It keeps everything in memory and takes as long for a receive of 200,000 messages as of one. The handle has what a test
wants besides: counts per action, all messages at once, a clock that can be moved, many messages quickly, latency.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sqs.service import ACCOUNT, REGION

_CONTROL = "/_control"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kept:
    """A message that is in a queue. `state`: visible, in-flight, delayed. Times in seconds of the server's clock."""

    queue: str
    id: str
    body: str
    receive_count: int
    state: str
    sent_s: float
    attributes: dict[str, Any]
    group: str | None
    deduplication: str | None
    trace: str | None
    source_arn: str | None


@dataclass
class SqsServer:
    """What the test holds; every method is one request to the server."""

    port: int
    pid: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _connection: http.client.HTTPConnection | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def arn(self, name: str) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def queue_url(self, name: str, base: str | None = None) -> str:
        return f"{base or self.url}/{ACCOUNT}/{name}"

    def create(self, name: str, **attributes: str) -> str:
        """Make a queue; returns its URL."""
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        self._ask("create", name=name, attributes=attributes)
        return self.queue_url(name)

    def create_pair(self, name: str, max_receive_count: int = 3, suffix: str = "-dlq", **attributes: str) -> list[str]:
        """A queue and its dead-letter queue; returns their names."""
        fifo = ".fifo" if name.endswith(".fifo") else ""
        dead = name.removesuffix(".fifo") + suffix + fifo
        self.create(dead, **attributes)
        policy = {"deadLetterTargetArn": self.arn(dead), "maxReceiveCount": max_receive_count}
        self.create(name, RedrivePolicy=json.dumps(policy), **attributes)
        return [name, dead]

    def fill(self, queue: str, count: int, body: str = '{"id": {n}}', start: int = 0, **more: Any) -> None:
        """Put `count` messages; {n} in body, group and deduplication is the message's number, from `start` on.

        `more`: attributes (as in JSON), trace, group, deduplication, receive_count, source (a queue's name),
        age_s (how long ago they were sent).
        """
        self._ask("fill", queue=queue, count=count, body=body, start=start, **more)

    def clear(self, queue: str) -> None:
        self._ask("clear", queue=queue)

    def messages(self, *queues: str) -> list[Kept]:
        """All messages of these queues, in the order in which they came."""
        return [Kept(*item) for item in self._ask("messages", queues=queues)]

    def bodies(self, queue: str) -> list[str]:
        found: list[str] = self._ask("bodies", queue=queue)
        return found

    def depth(self, queue: str) -> int:
        """Messages in whatever state."""
        return int(self._ask("depth", queue=queue))

    def counts(self, reset: bool = False) -> dict[str, int]:
        """Requests per action."""
        found: dict[str, int] = self._ask("counts", reset=reset)
        return found

    def advance(self, seconds: float) -> None:
        """Let the server's clock be that much later."""
        self._ask("advance", seconds=seconds)

    def latency(self, seconds: float) -> None:
        """Every request from now on takes that much longer, half of it before it is acted on."""
        self._ask("latency", seconds=seconds)

    def shown(self, queue: str) -> int:
        """How many messages SQS counts, which may be old."""
        return int(self._ask("shown", queue=queue))

    def lag(self, seconds: float) -> None:
        """Counts of messages are from now on as old as that."""
        self._ask("lag", seconds=seconds)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _ask(self, what: str, **given: Any) -> Any:
        with self._lock:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            self._connection.request("POST", _CONTROL, json.dumps({"do": what, **given}).encode())
            answer = self._connection.getresponse()
            found = json.loads(answer.read())
        if answer.status != 200:
            raise AssertionError(f"{what} {given}: {found}")
        return found


@contextlib.contextmanager
def sqs_server() -> Iterator[SqsServer]:
    """A server without queues; it ends with the block, or with this process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.sqs.process"], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        server = SqsServer(int(process.stdout.readline()), process.pid)
        yield server
        server.close()
    finally:
        process.kill()
        process.communicate()
