"""A project whose stack rnr has its queues on a real RabbitMQ; of AWS there is what names the broker and its secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pika

from refinerctl.local.rabbitmq import RabbitMQServer
from rnr_common.topology import declare


@dataclass
class Account:
    """Amazon MQ with one broker, Secrets Manager with its secret, CloudWatch Logs with `log_events`; S3 has nothing."""

    name: str
    broker: RabbitMQServer
    amqp_url: str = ""
    api_url: str = ""
    log_events: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, target: str) -> dict[str, Any] | None:
        if path.startswith("/v1/brokers/"):
            endpoint = {
                "endpoints": [self.amqp_url or self.broker.endpoint],
                "consoleURL": self.api_url or self.broker.api_url,
            }
            return {"brokerState": "RUNNING", "engineVersion": "3.13", "brokerInstances": [endpoint]}
        if path.startswith("/v1/brokers"):
            return {"brokerSummaries": [{"brokerName": self.name, "brokerId": "b-1"}]}
        if target.endswith("GetSecretValue"):
            login = {"username": self.broker.username, "password": self.broker.password}
            return {"SecretString": json.dumps(login), "Name": self.name}
        return {"events": self.log_events} if target.endswith("FilterLogEvents") else None


@contextmanager
def served(account: Account) -> Iterator[Account]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = account.answer(self.path, self.headers.get("X-Amz-Target") or "")
            body = json.dumps(found or {"__type": "NotFoundException"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_POST = do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        account.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield account
        server.shutdown()


@dataclass
class Stage:
    """The queues `NAME-work` and `NAME-work-dlq`, and the project in `folder`."""

    name: str
    folder: Path
    account: Account

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = 'environment = "account"\nstack = "rnr"\n[environments.account]\nregion = "us-east-1"\n'
        (self.folder / "refinerctl.toml").write_text(f'{settings}[stacks.rnr]\nname_prefix = "{self.name}"\n')
        with self.channel() as channel:
            declare(channel, self.work)

    @property
    def work(self) -> str:
        return f"{self.name}-work"

    @property
    def dlq(self) -> str:
        return f"{self.name}-work-dlq"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "REFINERCTL_ENDPOINT_URL": self.account.url,
        }

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel with confirms."""
        connection = pika.BlockingConnection(pika.URLParameters(self.account.broker.amqp_url))
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
        connection.close()

    def fail(self, bodies: list[str], **properties: Any) -> None:
        """Messages that a consumer of the work queue rejects, and that are in the DLQ then."""
        before = self.depth(self.dlq)
        headers = properties.pop("headers", {"traceparent": "00-1"})
        with self.channel() as channel:
            for number, body in enumerate(bodies):
                given = {"message_id": f"claim-{number}", "timestamp": 1_700_000_000 + number, **properties}
                channel.basic_publish(self.work, self.work, body, pika.BasicProperties(headers=headers, **given))
                method, _, _ = channel.basic_get(self.work)
                channel.basic_reject(method.delivery_tag, requeue=False)
        self.wait(lambda: self.depth(self.dlq) == before + len(bodies))

    def fill(self, count: int, size: int = 600) -> None:
        """Messages in the DLQ, without a trace of where they were before."""
        with self.channel() as channel:
            for number in range(count):
                channel.basic_publish("", self.dlq, json.dumps({"n": number, "x": "x" * size}))

    def depth(self, queue: str) -> int:
        """How many messages are ready."""
        with self.channel() as channel:
            count: int = channel.queue_declare(queue, passive=True).method.message_count
            return count

    def taken(self, queue: str) -> list[tuple[Any, str]]:
        """All messages of a queue, properties and body, which is empty then."""
        found = []
        with self.channel() as channel:
            while (item := channel.basic_get(queue, auto_ack=True))[0] is not None:
                found.append((item[1], item[2].decode()))
        return found

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.05)

    def start(self, *arguments: str, program: Sequence[str] = ("-m", "refinerctl")) -> subprocess.Popen[str]:
        """The command in a process of its own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "REFINERCTL_"))}
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=self.folder,
            env={**inherited, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
