"""`python -m benchmarks.rnr.worker`: messages/s through one worker with empty work, beside a bare pika consumer.

Real RabbitMQ, the stack's own quorum queue, one acknowledgement per message in both. The worker hands each message to
another thread and gets its result back; the bare consumer acknowledges in its callback. Prints messages/s and their
ratio, which should be at least 0.9; asserts nothing.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika

from refinerctl.local.rabbitmq import RabbitMQServer, start_rabbitmq
from rnr_common import topology
from rnr_common.broker import Broker
from rnr_common.log import Logger
from rnr_common.message import WorkMessage
from rnr_common.trace_context import new_traceparent
from worker.consumer import Consumer, Delivery, Outcome
from worker.protection import TaskProtection
from worker.settings import Settings

QUEUE = "bench-work"
MESSAGES = 2000
ROUNDS = 9


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        server = start_rabbitmq(Path(name) / "rabbitmq")
        try:
            for prefetch in (1, 20):
                compare(server, prefetch)
        finally:
            server.stop()


def compare(server: RabbitMQServer, prefetch: int) -> None:
    """Print the rates of both, measured in turns."""
    bare, ours = [], []
    for _ in range(ROUNDS):
        bare.append(rate(server, lambda: consume_bare(server, prefetch)))
        ours.append(rate(server, lambda: consume_with_worker(server, prefetch)))
    ratios = [worker / pika_alone for worker, pika_alone in zip(ours, bare, strict=True)]
    print(
        f"prefetch {prefetch}: pika {statistics.median(bare):,.0f}/s, worker {statistics.median(ours):,.0f}/s, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds)"
    )


def rate(server: RabbitMQServer, consume: Callable[[], float]) -> float:
    """Fill the queue; return the messages per second from the first delivery to the last acknowledgement."""
    publish(server)
    return MESSAGES / consume()


def publish(server: RabbitMQServer) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url))
    channel = connection.channel()
    topology.declare(channel, QUEUE)
    for number in range(MESSAGES):
        message = WorkMessage("bucket", f"rnr/input/{number}.csv", None, "0" * 32, 1000)
        properties = message.properties(new_traceparent())
        channel.basic_publish(QUEUE, QUEUE, message.body(), properties)
    while channel.queue_declare(QUEUE, passive=True).method.message_count < MESSAGES:
        time.sleep(0.05)
    connection.close()


class Watch:
    """Counts messages; knows the seconds from the first to the last."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0
        self.count = 0

    def tick(self) -> bool:
        """Return whether this was the last message."""
        self.began = self.began or time.perf_counter()
        self.count += 1
        self.ended = time.perf_counter()
        return self.count == MESSAGES

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def consume_bare(server: RabbitMQServer, prefetch: int) -> float:
    """What pika's documentation shows: acknowledge in the callback."""
    connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=prefetch)
    watch = Watch()

    def received(channel: Any, method: Any, _properties: object, _body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        if watch.tick():
            channel.stop_consuming()

    channel.basic_consume(QUEUE, received)
    channel.start_consuming()
    connection.close()
    return watch.seconds


class KnownSecret(dict[str, str]):
    """The broker's credentials without Secrets Manager."""

    def forget(self) -> None:
        """Nothing else is to be read."""


def consume_with_worker(server: RabbitMQServer, prefetch: int) -> float:
    """The worker's own consumer with work that does nothing."""
    buckets = {"RNR_INPUT_BUCKET": "bucket", "RNR_OUTPUT_BUCKET": "bucket"}
    settings = Settings.read({**buckets, "RNR_PREFETCH": str(prefetch), "RNR_BROKER_CONSUMER_TIMEOUT_S": "864000"})
    environ = {"RNR_NAME": "bench", "RNR_QUEUE": QUEUE, "RNR_BROKER_URL": server.endpoint, "RNR_BROKER_SECRET": "-"}
    secret: Any = KnownSecret(username=server.username, password=server.password)
    log = Logger(lambda _: None)
    watch = Watch()

    def work(_delivery: Delivery, _stop: threading.Event) -> Outcome:
        if watch.tick():
            consumer.stop()
        return Outcome.DONE

    consumer = Consumer(Broker(environ, secret), settings, work, TaskProtection({}, log), log)
    consumer.run()
    return watch.seconds


if __name__ == "__main__":
    main()
