"""`python -m benchmarks.rnr.producer`: new items/s that a run claims and publishes, and its peak memory.

Real RabbitMQ and Redis, the stack's own quorum queue; the listing of the bucket is made up as it is read. Beside it: a
loop with the same client libraries that claims, publishes and awaits the confirm of one item after the other. Each
measurement is a process of its own. Prints items/s, their ratio, which should be at least 3, and peak memory, which
should not grow with the number of items; asserts nothing.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pika
import redis

from producer.cache import CLAIM_S
from producer.run import Clients, Counts, run
from producer.settings import Settings
from refinerctl.local.rabbitmq import RabbitMQServer, start_rabbitmq
from refinerctl.local.redis import RedisServer, start_redis
from rnr_common import topology
from rnr_common.broker import Broker
from rnr_common.log import Logger
from rnr_common.message import WorkMessage
from rnr_common.trace_context import new_traceparent

QUEUE = "bench-work"
ITEMS = 10_000
MANY_ITEMS = 40_000
LOOP_ITEMS = 1_000  # a loop's rate does not depend on their number
ROUNDS = 3
CLAIM_HOURS = 48


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        broker, cache = start_rabbitmq(Path(name) / "rabbitmq"), start_redis(Path(name) / "redis")
        try:
            compare(broker, cache)
        finally:
            broker.stop()
            cache.kill()


def compare(broker: RabbitMQServer, cache: RedisServer) -> None:
    """Print the rates, measured in turns, and the memory of runs with few and with many items."""
    loop, ours = [], []
    for _ in range(ROUNDS):
        loop.append(measure(broker, cache, publish_one_at_a_time, LOOP_ITEMS)[0])
        rate, memory = measure(broker, cache, publish_with_producer, ITEMS)
        ours.append(rate)
    ratios = [producer / one for producer, one in zip(ours, loop, strict=True)]
    print(
        f"one at a time {statistics.median(loop):,.0f}/s, producer {statistics.median(ours):,.0f}/s, "
        f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f} in {ROUNDS} rounds)"
    )
    rate, memory_of_many = measure(broker, cache, publish_with_producer, MANY_ITEMS)
    print(
        f"peak memory of the producer: {memory:.1f} MB for {ITEMS:,} items, "
        f"{memory_of_many:.1f} MB for {MANY_ITEMS:,} ({rate:,.0f}/s)"
    )


def measure(broker: RabbitMQServer, cache: RedisServer, publish: Any, count: int) -> tuple[float, float]:
    """Publish with empty queue and cache; return items/s and the peak memory in MB."""
    redis.Redis.from_url(cache.url).flushall()
    with closing(pika.BlockingConnection(pika.URLParameters(broker.amqp_url))) as connection:
        channel = connection.channel()
        topology.declare(channel, QUEUE)
        channel.queue_purge(QUEUE)
        context = get_context("spawn")
        results: Any = context.SimpleQueue()
        process = context.Process(target=child, args=(publish, broker.amqp_url, cache.url, count, results))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{publish.__name__} failed")
        queued = channel.queue_declare(QUEUE, passive=True).method.message_count
        if queued != count:
            raise SystemExit(f"{queued:,} of {count:,} messages are in the queue")
    seconds, memory = results.get()
    return count / seconds, memory


def child(publish: Any, broker_url: str, cache_url: str, count: int, results: Any) -> None:
    """Run one measurement, in a process of its own."""
    with Path(os.devnull).open("w", encoding="utf-8") as log, redirect_stdout(log):  # written, as in the function
        began = time.perf_counter()
        publish(pika.URLParameters(broker_url), cache_url, count)
        seconds = time.perf_counter() - began
    # Not of getrusage: a process begins with its parent's peak there.
    status = Path("/proc/self/status").read_text()
    results.put((seconds, int(status.split("VmHWM:")[1].split()[0]) / 1000))


def publish_one_at_a_time(broker: pika.URLParameters, cache_url: str, count: int) -> None:
    """As pika's documentation shows, with the claims of the producer."""
    cache = redis.Redis.from_url(cache_url)
    with closing(pika.BlockingConnection(broker)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for item in items(count):
            message = WorkMessage("bucket", item["Key"], None, item["ETag"].strip('"'), item["Size"])
            claim = f"rnr:claim:bench:{message.claim_id}"
            if cache.set(claim, "claimed", nx=True, ex=CLAIM_S):
                properties = message.properties(new_traceparent())
                channel.basic_publish(QUEUE, QUEUE, message.body(), properties, mandatory=True)
                cache.set(claim, "published", ex=CLAIM_HOURS * 3600)


def publish_with_producer(broker: pika.URLParameters, cache_url: str, count: int) -> None:
    """A run of the producer."""
    environ = {
        "RNR_NAME": "bench",
        "RNR_QUEUE": QUEUE,
        "RNR_BROKER_URL": f"amqp://{broker.host}:{broker.port}",
        "RNR_BROKER_SECRET": "-",
        "RNR_CACHE_URL": cache_url,
        "RNR_INPUT_BUCKET": "bucket",
        "RNR_CLAIM_HOURS": str(CLAIM_HOURS),
    }
    credentials: Any = broker.credentials
    secret: Any = {"username": credentials.username, "password": credentials.password}
    s3: Any = Listing(count)
    run(Settings.of(environ), Clients(s3, Broker(environ, secret), None), Counts(), Logger(), lambda: 900.0)


class Listing:
    """An S3 client whose bucket has `count` new objects."""

    def __init__(self, count: int) -> None:
        self._count = count

    def get_paginator(self, _operation: str) -> Listing:
        return self

    def paginate(self, **_arguments: str) -> Iterator[dict[str, Any]]:
        return ({"Contents": [item]} for item in items(self._count))


def items(count: int) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    for number in range(count):
        key = f"rnr/input/river-{number:06}.csv"
        yield {"Key": key, "Size": 1000, "ETag": f'"{number:032x}"', "LastModified": now}


if __name__ == "__main__":
    main()
