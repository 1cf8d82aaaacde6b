"""Workers as processes, with a real broker, an emulator for S3 and secrets, and a stand-in for the ECS agent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pika

from refinerctl.local.rabbitmq import RabbitMQServer
from rnr_common import topology
from rnr_common.message import WorkMessage
from rnr_common.trace_context import new_traceparent

IMAGES = Path(__file__).parents[2]
LIMIT_S = 120.0
HYDROGRAPH = b"# k_hours = 2.3\n# x = 0.15\ntime,inflow\n0,93\n1,137\n2,208\n3,320\n"


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """Return the condition's value when it is true."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {LIMIT_S:.0f} s: {what}")


@dataclass
class WorkerProcess:
    """A worker with its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message."""
        text = self.log.read_text()
        found = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in found if line["message"] == message]

    def wait_for_line(self, message: str, number: int = 1) -> dict[str, Any]:
        """The last of so many lines with this message."""

        def found() -> list[dict[str, Any]] | None:
            lines = self.lines(message)
            return lines if len(lines) >= number else None

        try:
            return dict(wait_for(f"{number} of {message!r}", found)[number - 1])
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-5000:]}") from None

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Environment:
    """One test's queue, bucket and workers."""

    broker: RabbitMQServer
    aws_url: str
    folder: Path
    name: str
    variables: dict[str, str] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = f"{self.name}-work"
        account: Any = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.s3 = boto3.client("s3", endpoint_url=self.aws_url, **account)
        self.secrets = boto3.client("secretsmanager", endpoint_url=self.aws_url, **account)
        self.s3.create_bucket(Bucket=self.name)
        secret = json.dumps({"username": self.broker.username, "password": self.broker.password})
        self.secret_arn = self.secrets.create_secret(Name=f"{self.name}-broker", SecretString=secret)["ARN"]
        with self.channel() as channel:
            topology.declare(channel, self.queue)

    def worker(self, code: str | None = None, **variables: str) -> WorkerProcess:
        """Start a worker; `code` is the Python program of its processor (arguments: input file, output folder)."""
        number = len(self.workers)
        log = self.folder / f"worker-{number}.log"
        if code is not None:
            program = self.folder / f"processor-{number}.py"
            program.write_text(code)
            variables = {"PROCESSOR_COMMAND": f"{sys.executable} {program}", **variables}
        temporary = self.folder / f"tmp-{number}"
        temporary.mkdir()
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(IMAGES),
            "TMPDIR": str(temporary),
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "RNR_NAME": self.name,
            "RNR_QUEUE": self.queue,
            "RNR_BROKER_URL": self.broker.endpoint,
            "RNR_BROKER_SECRET": self.secret_arn,
            "RNR_INPUT_BUCKET": self.name,
            "RNR_OUTPUT_BUCKET": self.name,
            "RNR_JOB_TIMEOUT_S": "300",
            "RNR_RETRY_DELAY_S": "0.05",
            **self.variables,
            **variables,
        }
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker"], cwd=self.folder, env=environ, stdout=file, stderr=subprocess.STDOUT
            )
        self.workers.append(WorkerProcess(process, log))
        return self.workers[-1]

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.broker.amqp_url))) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel

    def put(self, name: str, body: bytes = HYDROGRAPH) -> WorkMessage:
        """Put an input; return its message."""
        key = f"rnr/input/{name}"
        found = self.s3.put_object(Bucket=self.name, Key=key, Body=body)
        return WorkMessage(self.name, key, found.get("VersionId"), found["ETag"].strip('"'), len(body))

    def publish(self, message: WorkMessage) -> str:
        """Publish a message; return its traceparent."""
        traceparent = new_traceparent()
        self.publish_body(message.body(), message.properties(traceparent))
        return traceparent

    def publish_body(self, body: bytes, properties: pika.BasicProperties) -> None:
        with self.channel() as channel:
            channel.basic_publish(self.queue, self.queue, body, properties, mandatory=True)

    def completion(self, name: str) -> dict[str, Any] | None:
        """The completion of an input, with its metadata as `metadata`."""
        try:
            found = self.s3.get_object(Bucket=self.name, Key=f"rnr/complete/{name}.json")
        except self.s3.exceptions.NoSuchKey:
            return None
        return {**json.loads(found["Body"].read()), "metadata": found["Metadata"]}

    def ready(self, queue: str | None = None) -> int:
        """How many messages are ready for delivery."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue or self.queue, passive=True).method.message_count)

    def dead_letters(self) -> list[tuple[Any, bytes]]:
        """The messages of the DLQ, with their properties; they are released again."""
        found: list[tuple[Any, bytes]] = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(topology.dlq_name(self.queue))
                if method is None:
                    return found
                found.append((properties, body))

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()


class EcsAgent:
    """The task-protection endpoint of the ECS agent."""

    def __init__(self) -> None:
        self.refuse = False
        self.states: list[dict[str, Any]] = []
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                agent.states.append({"path": self.path, **asked})
                self._answer(agent.answer(asked))

            def do_GET(self) -> None:
                self._answer((200, {"TaskARN": "arn:aws:ecs:us-east-1:123456789012:task/rnr-test/0123456789abcdef"}))

            def _answer(self, answer: tuple[int, dict[str, Any]]) -> None:
                body = json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What ECS answers, as its documentation has it."""
        if self.refuse and asked["ProtectionEnabled"]:
            reason = "DEPLOYMENT_BLOCKED"
            return 200, {"failure": {"Arn": "arn:task", "Reason": reason, "Detail": None}}
        return 200, {"protection": {"TaskArn": "arn:task", "ProtectionEnabled": asked["ProtectionEnabled"]}}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
