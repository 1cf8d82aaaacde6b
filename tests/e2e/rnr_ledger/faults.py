"""What goes wrong while inputs flow, in an order that a seed decides."""

from __future__ import annotations

import random
import secrets
import time

import pika

from producer.cache import CLAIM_S
from tests.e2e.rnr_ledger.pipeline import Pipeline
from tests.e2e.rnr_ledger.processes import run_until_output
from tests.e2e.rnr_ledger.unreliable_s3 import UnreliableS3
from worker.tests.environment import wait_for

CONSUMER_TIMEOUT_S = 5
WORKERS = 3
LONG_S = 8
PAUSE_S = 0.4
WAVE = 13  # inputs that are put before each fault
POISONED = 0.4  # share of the waves
MALFORMED = "malformed"  # the id of a message that is not JSON


def is_poison(name: str) -> bool:
    return name.startswith("poison")


class Faults:
    """`round` does each of them once, while inputs flow."""

    def __init__(self, pipeline: Pipeline, s3: UnreliableS3, rng: random.Random) -> None:
        self._pipeline, self._s3, self._rng = pipeline, s3, rng
        self._producer = pipeline.function("producer.handler")
        self._merges = [pipeline.function("postprocess.handler") for _ in range(2)]
        self.bodies: dict[str, bytes] = {}  # what was put, by name

    def round(self) -> None:
        """Do all faults; those that return messages to the queue come after the job that the broker takes back."""
        self._s3.refused, self._s3.broken = 0.05, 0.1
        long = f"long-{len(self.bodies)}-pause-{LONG_S}-.csv"
        self._put(long, self._hydrograph())
        self._produce()
        self._shuffled("redis_restarts", "redis_is_flushed", "s3_is_away", "producer_is_killed", "two_merges_at_once")
        self._pipeline.wait_until_done_with([long])
        self._shuffled(
            "worker_is_killed", "worker_is_stopped", "connections_are_cut", "password_is_rotated", "broker_is_killed"
        )
        self._publish_malformed()
        self._produce()

    def merge(self) -> None:
        """Merge what is left, without faults."""
        self._s3.refused = self._s3.broken = 0.0
        wait_for("a merge of all that is left", lambda: self._merges[0].run()["remaining"] == 0)

    def _shuffled(self, *names: str) -> None:
        for name in self._rng.sample(names, len(names)):
            began = time.monotonic()
            self._wave()
            getattr(self, f"_{name}")()
            print(f"{name}: {time.monotonic() - began:.1f} s")  # noqa: T201 - pytest shows it after a failure

    def _wave(self) -> None:
        """Put inputs, of which some take a while; some waves have one that is poison."""
        for _ in range(WAVE):
            kind = self._rng.choice(["", f"-pause-{PAUSE_S}-"])
            self._put(f"{len(self.bodies):04}{kind}.csv", self._hydrograph())
        if self._rng.random() < POISONED:
            self._put(f"poison-{len(self.bodies):04}.csv", b"time,inflow\n0,93\n1,much\n")

    def _hydrograph(self) -> bytes:
        rows = "".join(f"{hour},{self._rng.randint(50, 900)}\n" for hour in range(4))
        return f"# k_hours = 2.3\n# x = 0.15\ntime,inflow\n{rows}".encode()

    def _put(self, name: str, body: bytes) -> None:
        self.bodies[name] = body
        self._pipeline.put({name: body})

    def _produce(self) -> None:
        """Run the producer until all inputs are published; a listing that fails fails its run."""
        wait_for("a run of the producer that is done", lambda: self._producer.run()["message"] == "run done")

    def _redis_restarts(self) -> None:
        self._pipeline.cache.kill()
        away = self._producer.run()
        assert away["deduplicated"] is False, away  # it publishes all the same
        self._pipeline.cache.start()
        self._produce()

    def _redis_is_flushed(self) -> None:
        self._produce()
        self._pipeline.claims.flushall()
        self._produce()  # publishes everything once more

    def _s3_is_away(self) -> None:
        self._produce()
        self._pipeline.busy_worker()
        self._s3.refused = 0.5
        self._merges[0].run()
        time.sleep(1)
        self._s3.refused = 0.05

    def _producer_is_killed(self) -> None:
        """Between claim and publish: its claims expire, then the next run publishes."""
        self._wave()  # the log of two waves does not fit into a pipe
        run_until_output("producer.handler", self._pipeline.function_environ, b"record claimed")
        claims = self._pipeline.claims
        left = {key: claims.ttl(key) for key in claims.scan_iter() if claims.get(key) == "claimed"}
        assert left
        assert all(0 < seconds <= CLAIM_S for seconds in left.values()), left
        self._pipeline.claimed_by_killed |= {key.rpartition(":")[2] for key in left}
        assert self._producer.run()["published"] == 0
        claims.delete(*left)  # the time is over
        self._produce()

    def _two_merges_at_once(self) -> None:
        self._produce()
        self._pipeline.busy_worker()
        runs = [merge.begin() for merge in self._merges]
        for merge, run in zip(self._merges, runs, strict=True):
            assert merge.end(run)["message"] == "run done"

    def _worker_is_killed(self) -> None:
        self._produce()
        self._pipeline.busy_worker().kill()
        self._pipeline.start_workers(WORKERS)

    def _worker_is_stopped(self) -> None:
        self._produce()
        assert self._pipeline.busy_worker().terminate() == 0
        self._pipeline.start_workers(WORKERS)

    def _connections_are_cut(self) -> None:
        self._produce()
        self._pipeline.busy_worker()
        wait_for("connections in the broker's list", self._pipeline.cut_connections)

    def _password_is_rotated(self) -> None:
        self._produce()
        self._pipeline.busy_worker()
        self._pipeline.set_password(secrets.token_hex(8))
        wait_for("connections in the broker's list", self._pipeline.cut_connections)

    def _broker_is_killed(self) -> None:
        self._produce()
        self._pipeline.busy_worker()
        self._pipeline.broker.kill()
        assert self._producer.run()["message"] == "run failed"
        self._merges[0].run()
        self._pipeline.broker.start()
        self._wave()
        self._produce()

    def _publish_malformed(self) -> None:
        properties = pika.BasicProperties(message_id=MALFORMED, delivery_mode=2)
        self._pipeline.environment.publish_body(b"not JSON", properties)
