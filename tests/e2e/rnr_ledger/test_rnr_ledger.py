"""No input of stack rnr is lost and none counts twice: 1,000 of them without faults, fewer under all faults."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.tests.site import serving
from refinerctl.embedded import Instance
from refinerctl.local.emulator import start_emulator
from refinerctl.local.rabbitmq import RabbitMQServer
from refinerctl.local.redis import RedisServer, start_redis
from tests.brokers import needs_rabbitmq, needs_redis
from tests.e2e.rnr_ledger.faults import CONSUMER_TIMEOUT_S, MALFORMED, WORKERS, Faults, is_poison
from tests.e2e.rnr_ledger.ledger import read_ledger
from tests.e2e.rnr_ledger.pipeline import INPUT, OUTPUT, Pipeline
from tests.e2e.rnr_ledger.unreliable_s3 import UnreliableS3
from worker import routing
from worker.tests.environment import Environment, wait_for

OBJECTS, PRODUCTS = 900, 100
SUMMARY = """#!/bin/sh
# One row: the input's name and MD5. A program that starts fast.
read -r md5 _ <<END
$(md5sum < "$1")
END
printf 'name,md5\\n%s,%s\\n' "${1##*/}" "$md5" > "$2/summary.csv"
"""


@pytest.fixture(scope="module")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """S3 and Secrets Manager."""
    instance = Instance(tmp_path_factory.mktemp("emulator") / "instance")
    instance.prepare()
    emulator = start_emulator(instance, None, "us-east-1")
    yield emulator.endpoint_url
    emulator.stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQServer]:
    """A broker that takes messages back after seconds. RabbitMQ 3.10 looks once a minute, unless it is told here."""
    needs_rabbitmq()
    folder = tmp_path_factory.mktemp("rabbitmq")
    (folder / "advanced.config").write_text("[{rabbit, [{channel_tick_interval, 1000}]}].\n")
    settings = {"consumer_timeout": str(CONSUMER_TIMEOUT_S * 1000)}
    server = RabbitMQServer(folder, "admin", "a test's password", settings=settings)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    needs_redis()
    server = start_redis(tmp_path_factory.mktemp("redis") / "server", password="a test's password")
    yield server
    server.stop()


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_each_of_1000_inputs_has_one_result_and_is_merged_once(
    broker: RabbitMQServer, cache: RedisServer, aws_url: str, tmp_path: Path
) -> None:
    program = tmp_path / "summary.sh"
    program.write_text(SUMMARY)
    program.chmod(0o700)
    environment = Environment(broker, aws_url, tmp_path, "ledger-calm")
    with serving() as site:
        variables = {"PROCESSOR_COMMAND": str(program), "RNR_FEED_URL": site.url}
        pipeline = Pipeline(environment, cache, aws_url, variables)
        try:
            producers = [pipeline.function("producer.handler") for _ in range(2)]
            pipeline.start_workers(2)
            ids = [f"product-{number:03}" for number in range(PRODUCTS)]
            site.add(*ids[:60], *ids[:10])
            bodies = {f"{number:04}.csv": f"input {number}".encode() for number in range(OBJECTS)}
            pipeline.put({name: bodies[name] for name in list(bodies)[: OBJECTS // 2]})
            runs = [producer.begin() for producer in producers]
            pipeline.put({name: bodies[name] for name in list(bodies)[OBJECTS // 2 :]})
            for producer, run in zip(producers, runs, strict=True):
                assert producer.end(run)["message"] == "run done"
            site.pages.append([])
            site.add(*ids[50:], page=1)
            assert producers[0].run()["message"] == "run done"
            again = producers[1].run()
            assert (again["claimed"], again["duplicates"]) == (0, OBJECTS + PRODUCTS)

            pipeline.put_by_producer()
            pipeline.wait_until_done_with(pipeline.inputs)
            pipeline.wait_until_empty()
            pipeline.stop_workers()
            merge = pipeline.function("postprocess.handler")
            wait_for("a run that merges the last", lambda: merge.run()["remaining"] == 0)
            ledger = read_ledger(pipeline)
            outputs = pipeline.keys(OUTPUT)
            bodies |= {f"{id_}.json": pipeline.get(f"{INPUT}{id_}.json") for id_ in ids}
            print(ledger)  # noqa: T201 - pytest shows it after a failure
        finally:
            pipeline.close()
    assert set(ledger.attempted.values()) == set(bodies) == ledger.results
    assert sorted(outputs) == sorted(f"{name}/summary.csv" for name in bodies)
    once = dict.fromkeys(ledger.attempted, 1)
    assert (ledger.claimed, ledger.confirmed, ledger.delivered, ledger.acknowledged) == (once, once, once, once)
    md5 = {name: hashlib.md5(body, usedforsecurity=False).hexdigest() for name, body in bodies.items()}
    assert set(ledger.merged) == {(f"{name}/summary.csv", name, md5[name]) for name in bodies}
    assert (ledger.lost, ledger.doubled, ledger.dead) == (set(), set(), {})


@pytest.mark.timeout(1800)
def test_nothing_is_lost_or_counted_twice_under_faults(
    broker: RabbitMQServer, cache: RedisServer, aws_url: str, tmp_path: Path
) -> None:
    """RNR_LEDGER_SEED chooses the order of the faults, RNR_LEDGER_ROUNDS how often they happen."""
    seed = int(os.environ.get("RNR_LEDGER_SEED", "12"))
    print(f"RNR_LEDGER_SEED={seed}")  # noqa: T201 - pytest shows it after a failure
    rng = random.Random(seed)  # noqa: S311
    s3 = UnreliableS3(aws_url, rng)
    environment = Environment(broker, aws_url, tmp_path, "ledger-faults")
    pipeline = Pipeline(
        environment,
        cache,
        s3.url,
        {
            "PROCESSOR": "tests.e2e.rnr_ledger.processor:process",
            "RNR_JOB_TIMEOUT_S": "60",
            "RNR_BROKER_CONSUMER_TIMEOUT_S": "3600",  # it is not so: jobs are longer than the broker's limit
        },
    )
    try:
        pipeline.start_workers(WORKERS)
        faults = Faults(pipeline, s3, rng)
        for _ in range(int(os.environ.get("RNR_LEDGER_ROUNDS", "1"))):
            faults.round()
        good = [name for name in pipeline.inputs if not is_poison(name)]
        pipeline.wait_until_done_with(good)
        poison = {message.claim_id for name, message in pipeline.inputs.items() if is_poison(name)} | {MALFORMED}
        wait_for("all poison in the DLQ", lambda: poison <= set(pipeline.dead_letters()))
        pipeline.wait_until_empty()
        pipeline.stop_workers()
        faults.merge()
        ledger = read_ledger(pipeline)
        outputs = pipeline.stored(OUTPUT)
        print(ledger, f"S3: {s3.refusals} refused, {s3.breaks} broken off", sep="\n")  # noqa: T201 - pytest shows it after a failure
    finally:
        pipeline.close()
        s3.close()

    assert ledger.lost == set()
    expected = {f"{name}/routed.csv": routed(tmp_path, faults.bodies[name]) for name in good}
    assert outputs == expected
    assert ledger.results == set(good)
    assert ledger.doubled == set()
    rows = {key: body.decode().splitlines()[1:] for key, body in expected.items()}
    assert set(ledger.merged) == {(key, *line.split(",")) for key, lines in rows.items() for line in lines}
    assert set(ledger.dead) == poison
    assert any("closed the channel" in line["error"]["message"] for line in pipeline.lines("broker connection lost"))
    assert list(pipeline.lines("message will be delivered again"))  # the long job's
    assert list(pipeline.lines("download interrupted"))
    assert s3.refusals > 0


def routed(folder: Path, body: bytes) -> bytes:
    """Return the result of a hydrograph without a fault."""
    (folder / "hydrograph.csv").write_bytes(body)
    routing.process(folder / "hydrograph.csv", folder)
    return (folder / "routed.csv").read_bytes()
