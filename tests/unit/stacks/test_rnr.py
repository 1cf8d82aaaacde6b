"""Stack `rnr`: its pipeline from values and from Terraform's outputs, its images, completions and log lines."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.images import RunsOn
from refinerctl.stacks.base import (
    Broker,
    Bucket,
    Cache,
    CompletionStatus,
    Function,
    InputObject,
    Pipeline,
    Queue,
    Schedule,
    Service,
)
from refinerctl.stacks.records import RecordEvent
from refinerctl.stacks.rnr import STACK, input_message, read_completion
from refinerctl.terraform.hcl import variable_defaults
from rnr_common.message import WorkMessage
from rnr_common.trace_context import child_traceparent
from tests.conftest import ROOT

VALUES: dict[str, Any] = {
    "app_name": "rnr",
    "env": "test",
    "input_bucket_name": "forecasts",
    "output_bucket_name": "results",
    "input_prefix": "/in/",
}
BROKER = Broker("rnr-test-broker", secret="rnr-test-broker")
MODULE = ROOT / "terraform" / "stacks" / "rnr"
IMAGES = {name: f"rnr/{name}" for name in ("producer", "worker", "autoscaler", "postprocess")}


def pipeline(values: dict[str, Any]) -> Pipeline:
    assert STACK.pipeline is not None
    return STACK.pipeline(STACK.settings, values)


def outputs() -> dict[str, Any]:
    """Terraform's, in the form of terraform/stacks/rnr."""
    names = ("function_arn", "role_arn", "dlq_arn", "schedule_arn", "schedule_role_arn", "delivery_dlq_arn")
    worker = (
        "cluster_arn",
        "service_arn",
        "task_role_arn",
        "execution_role_arn",
        "security_group_id",
        "task_definition_arn",
    )
    return {
        "name": "rnr-test",
        "input_bucket": "forecasts",
        "output_bucket": "results",
        "input_prefix": "in/",
        "output_prefix": "rnr/output/",
        "complete_prefix": "rnr/complete/",
        "merged_prefix": "rnr/merged/",
        "functions": {
            stage: {name: f"{stage}-{name}" for name in names} for stage in ("producer", "autoscaler", "postprocess")
        },
        "worker": {name: name for name in worker},
        "broker": {"id": "b-1", "arn": "arn:broker", "security_group_id": "sg-1"},
        "cache": {"security_group_id": "sg-2"},
    }


def test_a_queue_on_the_broker_leads_to_the_service() -> None:
    worker = pipeline(VALUES).choose(("worker",))[0]
    assert worker.queue == Queue("rnr-test-work", Queue("rnr-test-work-dlq", broker=BROKER), BROKER, 5)
    assert worker.service == Service(
        "rnr-test-worker", cluster="rnr-test", log_group="/aws/ecs/rnr-test-worker", metric_namespace="rnr"
    )
    assert worker.function is None
    assert worker.sqs_queues == ()
    assert worker.prefix == "in/"
    assert worker.writes == ("rnr/output/", "rnr/complete/")


def test_schedules_start_functions_with_dlqs_for_deliveries_and_for_runs() -> None:
    producer = pipeline(VALUES).choose(("producer",))[0]
    assert producer.source == Schedule("rnr-test-producer", "rnr-test", dlq=Queue("rnr-test-producer-delivery-dlq"))
    assert producer.function == Function("rnr-test-producer", dlq=Queue("rnr-test-producer-dlq"))
    assert producer.dlq == Queue("rnr-test-producer-dlq")
    assert producer.queues == (producer.dlq, producer.delivery_dlq)
    assert (producer.function, producer.dlq) in producer.edges


def test_data_flows_from_the_inputs_to_the_merged_outputs() -> None:
    found = pipeline(VALUES)
    service, queue = next(found.by_kind(Service)), Queue("rnr-test-work", next(found.by_kind(Queue)), BROKER)
    assert [item.name for item in found.by_kind(Bucket)] == ["forecasts", "results"]
    assert list(found.by_kind(Broker)) == [BROKER]
    assert list(found.by_kind(Cache)) == [Cache("rnr-test-cache", secret="rnr-test-cache")]
    assert Function("rnr-test-producer", Queue("rnr-test-producer-dlq")) in found.downstream_of(Bucket("forecasts"))
    assert queue.name in [getattr(item, "name", "") for item in found.upstream_of(service)]
    assert found.downstream_of(service) == (Bucket("results"),)


def test_one_bucket_for_inputs_and_outputs_is_one_component() -> None:
    values = {**VALUES, "output_bucket_name": None}
    assert list(pipeline(values).by_kind(Bucket)) == [Bucket("forecasts")]


def test_settings_name_everything_without_values() -> None:
    found = pipeline({})
    assert found.name_prefix == "rnr-local"
    assert [stage.name for stage in found.stages] == ["producer", "worker", "autoscaler", "postprocess"]
    assert STACK.storage is not None
    storage = STACK.storage({**STACK.settings, "output_bucket": "other"})
    assert (storage.result_bucket, STACK.storage(STACK.settings).result_bucket) == ("other", "rnr-data")


def test_values_that_cannot_be_read_are_an_error() -> None:
    with pytest.raises(RefinerctlError, match="a prefix of stack rnr"):
        pipeline({**VALUES, "input_prefix": "no-slash"})
    with pytest.raises(RefinerctlError, match="stack rnr"):
        pipeline({**VALUES, "input_prefix": 1})


def test_outputs_name_the_same_pipeline_as_the_values() -> None:
    assert STACK.pipeline_of_outputs is not None
    found = STACK.pipeline_of_outputs(outputs())
    assert found.stages == pipeline(VALUES).stages
    assert found.shared == pipeline(VALUES).shared
    assert found.recorded["broker_id"] == "b-1"
    assert found.choose(("producer",))[0].recorded["schedule_role_arn"] == "producer-schedule_role_arn"


def test_other_outputs_are_an_error() -> None:
    assert STACK.pipeline_of_outputs is not None
    with pytest.raises(RefinerctlError, match="not those of stack rnr"):
        STACK.pipeline_of_outputs({"bucket": "x"})


def test_images_of_the_functions_run_on_lambda_and_the_workers_on_ecs() -> None:
    found = STACK.images({"images": IMAGES, "architecture": "arm64"})
    assert {image.stage: (str(image.reference), image.runs_on) for image in found} == {
        "producer": ("rnr/producer", RunsOn.LAMBDA),
        "worker": ("rnr/worker", RunsOn.ECS),
        "autoscaler": ("rnr/autoscaler", RunsOn.LAMBDA),
        "postprocess": ("rnr/postprocess", RunsOn.LAMBDA),
    }
    assert {str(image.platform) for image in found} == {"linux/arm64"}
    assert [str(image.reference) for image in STACK.images({"images": {"worker": "own/worker"}})] == [
        "rnr/producer", "rnr/autoscaler", "rnr/postprocess", "own/worker"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values", [{"images": {"worker": "UPPER CASE"}}, {"images": 1}, {"images": IMAGES, "architecture": "sparc"}]
)
def test_malformed_images_are_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(RefinerctlError, match="images of stack rnr"):
        STACK.images(values)


def test_a_completion_has_the_inputs_name() -> None:
    assert STACK.completion_keys is not None
    assert STACK.storage is not None
    storage, found = STACK.storage(STACK.settings), pipeline({})
    assert STACK.completion_keys(storage, found, "rnr/input/a/b.csv") == ("rnr/complete/a/b.csv.json",)
    assert STACK.completion_keys(storage, Pipeline("rnr", ()), "rnr/input/x") == ("rnr/complete/x.json",)
    assert STACK.completion_keys(storage, found, "rnr/input/" + "x" * 1010) == ()


def test_a_completion_lists_its_outputs() -> None:
    body = {
        "status": "completed",
        "input": {"key": "in/a"},
        "outputs": [{"key": "out/a/1.csv", "etag": "e", "size": 1}],
    }
    document = read_completion(json.dumps(body).encode())
    assert (document.status, document.output_keys) == (CompletionStatus.COMPLETED, ("out/a/1.csv",))


def test_a_completion_of_a_failed_input_has_the_reason() -> None:
    document = read_completion(b'{"status": "failed", "error": "no flow"}')
    assert (document.status, document.error) == (CompletionStatus.FAILED, "no flow")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"status": "done"}',
        b'{"status": "completed"}',
        b'{"status": "completed", "outputs": [1]}',
        b'{"status": "completed", "outputs": [{"etag": "e"}]}',
        b'{"status": "completed", "outputs": [{"key": ""}]}',
    ],
)
def test_what_is_no_completion_is_malformed_with_a_reason(body: bytes) -> None:
    document = read_completion(body)
    assert document.status is CompletionStatus.MALFORMED
    assert document.error


def test_a_line_of_a_task_is_about_an_input() -> None:
    line = STACK.read_log_line({"message": "record received", "taskId": "t1", "messageId": "m1", "receiveCount": 2})
    assert line is not None
    assert (line.event, line.request_id, line.receive_count) == (RecordEvent.RECEIVED, "t1", 2)


class TestRootModule:
    """What the stack reads of terraform/stacks/rnr."""

    def test_defaults_of_its_variables_are_those_of_the_settings(self) -> None:
        defaults = variable_defaults(MODULE)
        prefixes = {name for name in STACK.settings if name.endswith("_prefix") and name != "name_prefix"}
        assert {name: defaults[name] for name in prefixes} == {name: STACK.settings[name] for name in prefixes}
        assert defaults["app_name"] == "rnr"
        declared = set(re.findall(r'^variable "(\w+)"', (MODULE / "variables.tf").read_text(), re.MULTILINE))
        assert {*VALUES, "images", "architecture", "pinned_images", "release_tag"} <= declared

    def test_its_outputs_have_what_the_stack_reads(self) -> None:
        text = (MODULE / "outputs.tf").read_text()
        for name, found in outputs().items():
            (body,) = re.findall(rf'^output "{name}" \{{$(.*?)^\}}$', text, re.MULTILINE | re.DOTALL)
            attributes = next(iter(found.values())) if name == "functions" else found
            for attribute in attributes if isinstance(attributes, dict) else ():
                assert re.search(rf"^\s+{attribute}\s+= ", body, re.MULTILINE), f"{name}.{attribute}"


@pytest.mark.parametrize("version_id", ["v1", None])
def test_the_message_about_an_input_is_one_that_the_producer_would_publish(version_id: str | None) -> None:
    item = InputObject("forecasts", "in/a b+ü%41.csv", version_id, "6f5902ac", 12)
    made = input_message(item, datetime(2026, 3, 1, 14, 0, 0, 5, tzinfo=UTC))
    read = WorkMessage.parse(made.body.encode())
    assert (read.bucket, read.key, read.version_id, read.etag, read.size) == item
    assert made.body.encode() == read.body()
    traceparent = made.headers["traceparent"]
    published = read.properties(traceparent)
    assert made.headers.keys() == published.headers.keys()
    assert made.properties["message_id"] == published.message_id
    assert made.properties["content_type"] == published.content_type
    assert made.properties["timestamp"] == "1772373600"
    assert child_traceparent(traceparent)[3:35] == traceparent[3:35]  # it is valid: a worker continues the trace
