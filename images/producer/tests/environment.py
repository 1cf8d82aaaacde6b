"""What a test of the producer sees: its runs, its log, the queue, the claims."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pika
import pytest
import redis

from producer.handler import Producer
from producer.publisher import BrokerError
from refinerctl.local.rabbitmq import RabbitMQServer
from refinerctl.local.redis import RedisServer
from rnr_common.topology import dlq_name

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass
class Context:
    """Lambda's context: how much time is left is a fixed number, or what a function says."""

    time_left_s: float | Callable[[], float] = 300.0
    aws_request_id: str = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        left = self.time_left_s() if callable(self.time_left_s) else self.time_left_s
        return int(left * 1000)


@dataclass
class Environment:
    variables: dict[str, str]
    rabbitmq: RabbitMQServer
    redis_server: RedisServer
    capsys: pytest.CaptureFixture[str]
    s3: S3Client = field(default_factory=lambda: boto3.client("s3"))
    _lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def queue(self) -> str:
        return self.variables["RNR_QUEUE"]

    @property
    def redis(self) -> Any:
        return redis.Redis.from_url(self.redis_server.url, decode_responses=True)

    def producer(self, **variables: str) -> Producer:
        return Producer({**self.variables, **variables})

    def run(self, context: Context | None = None, **variables: str) -> dict[str, Any]:
        """The result of one run in a new function."""
        return self.producer(**variables)(None, context or Context())

    def wait_for_run(self) -> None:
        """Run until the broker takes all messages."""
        until = time.monotonic() + 60
        while True:
            try:
                self.run()
            except BrokerError:
                assert time.monotonic() < until
                time.sleep(0.1)
            else:
                return

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message up to now."""
        self._lines += [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]
        return [line for line in self._lines if line["message"] == message]

    def put(self, name: str, body: bytes = b"x") -> str:
        key = f"rnr/input/{name}"
        self.s3.put_object(Bucket="bucket", Key=key, Body=body)
        return key

    def stored(self) -> list[str]:
        """The keys of all objects."""
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket="bucket").get("Contents", [])]

    def claims(self) -> dict[str, str]:
        """The claims in Redis by their id, with their state."""
        client = self.redis
        keys = client.keys(f"rnr:claim:{self.variables['RNR_NAME']}:*")
        return {key.rsplit(":", 1)[1]: str(client.get(key)) for key in keys}

    @contextmanager
    def channel(self) -> Iterator[Any]:
        with pika.BlockingConnection(pika.URLParameters(self.rabbitmq.amqp_url)) as connection:
            yield connection.channel()

    def messages(self) -> list[tuple[pika.BasicProperties, dict[str, Any]]]:
        """Take all messages from the queue."""
        found = []
        with self.channel() as channel:
            while (got := channel.basic_get(self.queue, auto_ack=True))[0] is not None:
                found.append((got[1], json.loads(got[2])))
        return found

    def wait_for_depth(self, depth: int) -> None:
        until = time.monotonic() + 60
        with self.channel() as channel:
            while (seen := channel.queue_declare(self.queue, passive=True).method.message_count) != depth:
                assert time.monotonic() < until, f"{seen} messages, not {depth}"
                time.sleep(0.05)

    def set_secret(self, name: str, **values: str) -> None:
        boto3.client("secretsmanager").put_secret_value(SecretId=name, SecretString=json.dumps(values))

    def close(self) -> None:
        with self.channel() as channel:
            for name in (self.queue, dlq_name(self.queue)):
                channel.queue_delete(name)
                channel.exchange_delete(name)
