"""Where an input of a stack with a private broker is: claim, message, attempts, outputs, merged file."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from refinerctl.aws.ecs_services import Task
from refinerctl.aws.logs import LogEvent
from refinerctl.aws.metrics import DataPoint
from refinerctl.errors import AccessDeniedError
from refinerctl.insight.trace import hops_of, trace_json
from refinerctl.insight.trace_facts import Facts, Place, TraceOutcome
from refinerctl.insight.trace_search import trace_input
from refinerctl.insight.trace_verdict import is_lost, verdict
from refinerctl.stacks.base import Storage
from refinerctl.stacks.rnr import STACK
from tests.unit.fakes import START
from tests.unit.insight.fakes import Account

KEY, NAME = "rnr/input/a b.csv", "rnr-test"
COMPLETION = "rnr/complete/a b.csv.json"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TASKS = {name: f"arn:aws:ecs:us-east-1:1:task/{NAME}/{name}" for name in ("one", "two")}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class World(Account):
    """The account, and what happens to an input there."""

    def line(self, group: str, seconds: float, message: str, **fields: Any) -> None:
        record = {"timestamp": at(seconds).isoformat(), "message": message, "key": KEY, "messageId": "m1", **fields}
        self.logs.written.append(LogEvent(at(seconds), group, fields.get("taskId", "s"), json.dumps(record)))

    def produced(self, seconds: float, message: str, **fields: Any) -> None:
        self.line(f"/aws/lambda/{NAME}-producer", seconds, message, traceparent=TRACE, **fields)

    def worked(self, seconds: float, message: str, task: str = "one", **fields: Any) -> None:
        self.line(f"/aws/ecs/{NAME}-worker", seconds, message, taskId=task, **fields)

    def publish(self) -> None:
        self.produced(60, "record claimed")
        self.produced(61, "record published")

    def counts(self, **values: float) -> None:
        for name, value in values.items():
            self.metrics.set(f"{NAME}-worker", name, value)

    def counts_at(self, seconds: float, **values: float) -> None:
        for name, value in values.items():
            self.metrics.points[f"{NAME}-worker", name] = (DataPoint(at(seconds), value),)

    def complete(self) -> None:
        self.worked(70, "record received", receiveCount=1, versionId="v1")
        self.worked(80, "output written", outputKey="rnr/output/a b.csv/flow.csv", bytes=3)
        self.worked(81, "completion written", completionKey=COMPLETION)
        self.worked(82, "record done", durationMs=12000)
        output = "rnr/output/a b.csv/flow.csv"
        self.bucket.write(output, "1", at=at(80))
        body = {"status": "completed", "outputs": [{"key": output}]}
        metadata = {"source-version": "v1", "source-bucket-key": f"data-repository/{KEY}"}
        self.bucket.write(COMPLETION, json.dumps(body), metadata, at=at(81))

    def merge(self, run: str, seconds: float, *completions: str) -> None:
        manifest = {"run_id": run, "inputs": [{"completion": key, "etag": "e"} for key in completions]}
        self.bucket.write(f"rnr/merged/{run}.json", json.dumps(manifest), at=at(seconds))

    def trace(self, seconds: float = 600) -> Facts:
        app = self.app
        app.storage = STACK.storage(STACK.settings)  # type: ignore[misc]
        app.results = self.bucket
        return trace_input(app, KEY, at(-86400), at(seconds))


@pytest.fixture
def world() -> World:
    assert STACK.pipeline is not None
    found = World((), STACK)
    pipeline = STACK.pipeline(STACK.settings, {"app_name": "rnr", "env": "test"})
    found = World(pipeline.stages, STACK, shared=pipeline.shared, shared_edges=pipeline.shared_edges)
    found.bucket.write(KEY, "content", at=at(0))
    found.services.running = (Task(TASKS["one"], "d", "RUNNING"),)
    return found


def check(found: Facts, place: Place, outcome: TraceOutcome, *said: str) -> Facts:
    given = verdict(found)
    assert (given.place, given.outcome) == (place, outcome)
    for text in said:
        assert text in given.text
    return found


class TestCompleted:
    def test_the_trace_goes_from_the_claim_to_the_merged_file(self, world: World) -> None:
        world.publish()
        world.complete()
        world.merge("run-1", 70, COMPLETION)  # before the completion: of an earlier version
        world.merge("run-2", 300, "rnr/complete/other.json")
        world.merge("run-3", 400, "rnr/complete/other.json", COMPLETION)
        found = world.trace()
        check(found, Place.COMPLETED, TraceOutcome.COMPLETED, "1 output", "; merged in rnr/merged/run-3.json")
        assert [(hop.component, hop.detail.split(",")[0]) for hop in hops_of(found)] == [
            ("S3", "version v1"),
            ("Lambda", "claimed by rnr-test-producer"),
            ("RabbitMQ", "published to rnr-test-work"),
            ("ECS", "attempt 1"),
            ("S3", "output rnr/output/a b.csv/flow.csv"),
            ("ECS", "done after 12000 ms"),
            ("S3", f"completion {COMPLETION}: completed"),
            ("S3", "merged rnr/merged/run-3.json"),
        ]
        document = trace_json(found, verdict(found))
        assert document["traceparent"] == TRACE
        assert [item.manifest for item in document["merged"]] == ["rnr/merged/run-3.json"]

    def test_outputs_that_are_not_merged_yet_are_completed(self, world: World) -> None:
        world.publish()
        world.complete()
        check(world.trace(), Place.COMPLETED, TraceOutcome.COMPLETED, "; not merged yet")

    def test_a_manifest_that_cannot_be_read_lists_nothing(self, world: World) -> None:
        world.complete()
        world.bucket.write("rnr/merged/run-1.json", "{", at=at(300))
        check(world.trace(), Place.COMPLETED, TraceOutcome.COMPLETED, "; not merged yet")


class TestBeforeTheFirstAttempt:
    def test_an_input_that_no_producer_has_claimed_is_recent_at_first(self, world: World) -> None:
        check(world.trace(120), Place.UNKNOWN, TraceOutcome.UNDER_WAY, "no producer of rnr-test-work has claimed it")
        found = check(world.trace(3600), Place.UNKNOWN, TraceOutcome.FAILED, "unknown after S3")
        assert is_lost(found, verdict(found))

    def test_a_claimed_input_is_published_by_the_next_run(self, world: World) -> None:
        world.produced(60, "record claimed")
        check(world.trace(), Place.WAITING, TraceOutcome.UNDER_WAY, "and not published yet")
        world.produced(61, "publish failed", reason="no confirm in 30 s")
        check(world.trace(), Place.WAITING, TraceOutcome.UNDER_WAY, "no confirm in 30 s; the next run claims it again")

    def test_a_published_input_waits_in_the_queue(self, world: World) -> None:
        world.publish()
        world.counts(Ready=3, Unacknowledged=1, Consumers=1)
        check(world.trace(120), Place.WAITING, TraceOutcome.UNDER_WAY, "3 messages waiting there, 1 consumer")

    def test_without_metrics_the_number_of_messages_is_unknown(self, world: World) -> None:
        world.publish()
        check(world.trace(), Place.WAITING, TraceOutcome.UNDER_WAY, "how many messages wait there is unknown")

    def test_a_message_that_is_neither_in_the_queue_nor_in_a_log_is_lost(self, world: World) -> None:
        world.publish()
        world.counts_at(590, Ready=0, Unacknowledged=0)
        check(world.trace(), Place.UNKNOWN, TraceOutcome.FAILED, "no task has logged it, and the queue is empty")


class TestAttempts:
    def failed(self, world: World, count: int, **fields: Any) -> None:
        world.publish()
        error = {"name": "ProgramError", "message": "exit code 2"}
        world.worked(70, "record received", receiveCount=count)
        world.worked(75, "record failed", receiveCount=count, error=error, durationMs=5000, **fields)

    def test_a_task_that_runs_processes_it(self, world: World) -> None:
        world.publish()
        world.worked(70, "record received", receiveCount=1)
        check(world.trace(), Place.IN_FLIGHT, TraceOutcome.UNDER_WAY, "worker processes it, task one since")

    def test_a_message_of_a_task_that_was_killed_is_delivered_again(self, world: World) -> None:
        world.publish()
        world.worked(70, "record received", task="two", receiveCount=1)
        check(world.trace(), Place.FAILING, TraceOutcome.UNDER_WAY, "the task has stopped", "delivered again")

    def test_a_failed_attempt_is_repeated_up_to_the_delivery_limit(self, world: World) -> None:
        self.failed(world, 3)
        found = world.trace()
        check(found, Place.FAILING, TraceOutcome.UNDER_WAY, "ProgramError: exit code 2", "attempt 3 of 6")

    def test_a_message_that_exceeded_the_delivery_limit_is_in_the_dlq(self, world: World) -> None:
        self.failed(world, 6)
        world.counts(DlqMessages=1)
        check(world.trace(), Place.DEAD, TraceOutcome.FAILED, "its message is in rnr-test-work-dlq")

    def test_a_rejected_message_is_in_the_dlq_at_once(self, world: World) -> None:
        self.failed(world, 1, outcome="rejected")
        check(world.trace(), Place.DEAD, TraceOutcome.FAILED, "refinerctl dlq inspect rnr-test-work-dlq")

    def test_a_message_that_was_redriven_or_purged_is_not_in_the_dlq(self, world: World) -> None:
        self.failed(world, 6)
        world.counts(DlqMessages=0)
        check(world.trace(), Place.DEAD, TraceOutcome.FAILED)  # the metric is older than the failure
        world.counts_at(590, DlqMessages=0)
        check(world.trace(), Place.UNKNOWN, TraceOutcome.FAILED, "redriven or purged")

    def test_a_returned_message_is_delivered_again(self, world: World) -> None:
        world.publish()
        world.worked(70, "record received", receiveCount=1)
        world.worked(75, "record returned", reason="the worker is stopping", receiveCount=1)
        check(world.trace(), Place.FAILING, TraceOutcome.UNDER_WAY, "the worker is stopping; attempt 1 of 6")


def test_what_cannot_be_read_is_told(world: World) -> None:
    world.metrics.error = AccessDeniedError("access denied: GetMetricData on the metrics")
    found = world.trace(3600)
    assert "access denied: GetMetricData on the metrics" in found.notes
    check(found, Place.UNKNOWN, TraceOutcome.FAILED, "access denied: GetMetricData")


def test_storage_of_the_stack_has_merged_outputs() -> None:
    assert STACK.storage is not None
    storage: Storage = STACK.storage(STACK.settings)
    assert storage.merged_prefix == "rnr/merged/"
