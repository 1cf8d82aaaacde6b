"""Inputs of a stack whose queue is on a private broker and whose results are in another bucket."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from refinerctl.aws.service_metrics import ServiceCounts, counts_of, wanted_metrics
from refinerctl.console import Progress
from refinerctl.errors import AccessDeniedError
from refinerctl.inputs.completions import Completions
from refinerctl.inputs.follow import Upload, UploadStatus, existing_completions, follow
from refinerctl.inputs.listing import list_inputs
from refinerctl.inputs.messages import read_messages
from refinerctl.stacks.base import Pipeline, Service
from refinerctl.stacks.rnr import STACK
from tests.unit.fakes import START, Clock, FakeBucket
from tests.unit.insight.fakes import Account

BODY = json.dumps({"status": "completed", "outputs": [{"key": "rnr/output/a.csv/flow.csv"}]})


def pipeline() -> Pipeline:
    assert STACK.pipeline is not None
    return STACK.pipeline(STACK.settings, {"app_name": "rnr", "env": "test", "output_bucket_name": "results"})


WORKER = pipeline().choose(("worker",))[0]


@pytest.fixture
def buckets() -> tuple[FakeBucket, FakeBucket]:
    clock = Clock()
    return FakeBucket(clock), FakeBucket(clock, name="results")


@pytest.fixture
def completions(buckets: tuple[FakeBucket, FakeBucket]) -> Completions:
    assert STACK.storage is not None
    storage = STACK.storage({**STACK.settings, "output_bucket": "results"})
    return Completions(buckets[0], storage, STACK, pipeline(), results=buckets[1])


def test_inputs_and_completions_are_in_their_own_buckets(
    completions: Completions, buckets: tuple[FakeBucket, FakeBucket]
) -> None:
    inputs, results = buckets
    for name in ("a.csv", "b.csv"):
        inputs.write(f"rnr/input/{name}")
    results.write("rnr/complete/a.csv.json", BODY)
    found = {item.info.key: item.completion for item in list_inputs(completions, "rnr/input/")}
    assert found["rnr/input/a.csv"]
    assert found["rnr/input/b.csv"] is None


def test_an_upload_is_followed_to_its_completion_in_the_other_bucket(
    completions: Completions, buckets: tuple[FakeBucket, FakeBucket]
) -> None:
    inputs, results = buckets
    written = inputs.write("rnr/input/a.csv")
    assert existing_completions(completions, [written.key]) == {}
    upload = Upload(written.key, 0, written.version_id, UploadStatus.UPLOADED, START)
    results.write("rnr/output/a.csv/flow.csv", "1")
    results.write("rnr/complete/a.csv.json", BODY, {"source-bucket-key": "data-repository/rnr/input/a.csv"})
    (done,) = follow(completions, [upload], existing={}, timeout_s=1, progress=Progress(), clock=inputs.clock)
    assert (done.status, done.outputs) == (UploadStatus.COMPLETED, ("rnr/output/a.csv/flow.csv",))


class TestMessagesOnABroker:
    @pytest.fixture
    def account(self) -> Account:
        return Account((WORKER,), STACK)

    def publish(self, account: Account, **values: float) -> None:
        for name, value in values.items():
            account.metrics.set("rnr-test-worker", name, value)

    def unread(self, account: Account) -> dict[str, str]:
        return dict(read_messages(account.app, (WORKER,))[0][WORKER].unread)

    def test_they_are_counted_by_the_metrics_of_the_consumer(self, account: Account) -> None:
        self.publish(account, Ready=2, Unacknowledged=1, DlqMessages=1)
        assert self.unread(account) == {"rnr-test-work": "3 messages", "rnr-test-work-dlq": "1 message"}

    def test_a_note_says_that_the_messages_of_the_dlq_are_unknown(self, account: Account) -> None:
        notes = read_messages(account.app, (WORKER,))[1]
        assert notes == [
            "which inputs have a message in rnr-test-work-dlq is unknown: broker rnr-test-broker cannot be reached",
            "Forward a port.",
        ]

    def test_an_empty_queue_holds_no_input(self, account: Account) -> None:
        self.publish(account, Ready=0, Unacknowledged=0, DlqMessages=0)
        assert self.unread(account) == {}

    def test_without_metrics_any_input_may_have_a_message(self, account: Account) -> None:
        assert self.unread(account) == {"rnr-test-work": "no recent metrics of service rnr-test-worker"}
        account.metrics.error = AccessDeniedError("access denied: GetMetricData")
        assert self.unread(account) == {"rnr-test-work": "access denied: GetMetricData"}


def test_counts_are_the_newest_values_of_the_metrics() -> None:
    account = Account((WORKER,), STACK)
    account.metrics.set("rnr-test-worker", "Ready", 9, 4)
    account.metrics.set("rnr-test-worker", "BacklogPerTask", 2.5)
    service = WORKER.service
    assert service is not None
    wanted = wanted_metrics([service])
    assert {(metric.namespace, metric.dimension, metric.of) for metric in wanted.values()} == {
        ("rnr", "Service", "rnr-test-worker")
    }
    points = account.metrics.read(wanted, START, datetime.now(UTC))
    at = START - timedelta(minutes=1)
    assert counts_of(service, points) == ServiceCounts(at, ready=4, backlog_per_task=2.5)
    assert counts_of(service, {}) is None


def test_a_service_without_a_namespace_publishes_nothing() -> None:
    assert wanted_metrics([Service("s", "c", "/aws/ecs/s")]) == {}
