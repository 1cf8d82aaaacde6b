"""Stack `rnr`: scheduled functions around a RabbitMQ queue, and an ECS service whose tasks consume it.

Names are those of terraform/stacks/rnr; a test compares them with Terraform's outputs.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.images import ImageReference, Platform, RunsOn
from refinerctl.keys import MAX_KEY_BYTES, check_key, normalize_prefix
from refinerctl.stacks.base import (
    Broker,
    Bucket,
    Cache,
    CompletionDocument,
    CompletionPlace,
    CompletionStatus,
    Component,
    Function,
    InputMessage,
    InputObject,
    Pipeline,
    Queue,
    Schedule,
    Service,
    Stack,
    Stage,
    StageImage,
    Storage,
    Values,
)
from refinerctl.stacks.log_lines import RECORD_MESSAGES, read_log_line
from refinerctl.stacks.records import NO_REASON

PLATFORMS = {"x86_64": Platform("linux", "amd64"), "arm64": Platform("linux", "arm64")}
FUNCTIONS = ("producer", "autoscaler", "postprocess")
WORKER = "worker"
COMPLETION_SUFFIX = ".json"
NAMESPACE = "rnr"
# Of the queue, as images/rnr_common/topology.py declares it.
DELIVERY_LIMIT = 5

_SETTINGS = {
    "bucket": "rnr-data",
    "output_bucket": "",
    "input_prefix": "rnr/input/",
    "output_prefix": "rnr/output/",
    "complete_prefix": "rnr/complete/",
    "merged_prefix": "rnr/merged/",
    "name_prefix": "rnr-local",
}
_FUNCTION_IDS = (
    "function_arn",
    "role_arn",
    "dlq_arn",
    "schedule_arn",
    "schedule_role_arn",
    "delivery_dlq_arn",
)
_WORKER_IDS = (
    "cluster_arn",
    "service_arn",
    "task_role_arn",
    "execution_role_arn",
    "security_group_id",
    "task_definition_arn",
)


def _storage(settings: Mapping[str, str]) -> Storage:
    return Storage(
        settings["bucket"],
        normalize_prefix(settings["input_prefix"]),
        normalize_prefix(settings["output_prefix"]),
        normalize_prefix(settings["complete_prefix"]),
        output_bucket=settings["output_bucket"] or None,
        merged_prefix=normalize_prefix(settings["merged_prefix"]),
    )


@dataclass(frozen=True)
class _Names:
    """What the pipeline's names follow from; `recorded` are ARNs and ids by stage, from Terraform's outputs."""

    name: str
    storage: Storage
    told_by: str = ""
    recorded: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def _pipeline(settings: Mapping[str, str], values: Values) -> Pipeline:
    """From an environment's values, and from the settings where the values have none."""
    app_name, env = values.get("app_name"), values.get("env")
    given = {
        "bucket": values.get("input_bucket_name"),
        "output_bucket": values.get("output_bucket_name"),
        **{name: values.get(name) for name in _SETTINGS if name.endswith("_prefix") and name != "name_prefix"},
    }
    try:
        storage = _storage({**settings, **{name: value for name, value in given.items() if value}})
    except UsageError as error:
        raise RefinerctlError(f"a prefix of stack rnr: {error.message}", hint=error.hint) from error
    except (TypeError, AttributeError) as error:
        raise RefinerctlError(f"the values of stack rnr cannot be read: {error!r}") from error
    return _of_names(_Names(f"{app_name}-{env}" if app_name and env else settings["name_prefix"], storage))


def _of_names(names: _Names) -> Pipeline:
    name, storage = names.name, names.storage
    broker = Broker(f"{name}-broker", secret=f"{name}-broker")
    cache = Cache(f"{name}-cache", secret=f"{name}-cache")
    inputs, results = Bucket(storage.bucket), Bucket(storage.result_bucket)
    worker = Stage(
        WORKER,
        queue=Queue(f"{name}-work", Queue(f"{name}-work-dlq", broker=broker), broker, DELIVERY_LIMIT),
        consumer=Service(
            f"{name}-worker", cluster=name, log_group=f"/aws/ecs/{name}-worker", metric_namespace=NAMESPACE
        ),
        input_prefix=storage.input_prefix,
        writes=(storage.output_prefix, storage.complete_prefix),
        completions=CompletionPlace(storage.complete_prefix, COMPLETION_SUFFIX),
        results=storage.result_bucket,
        recorded=names.recorded.get(WORKER, {}),
    )
    stages = {stage: _scheduled(name, stage, storage, names.recorded.get(stage, {})) for stage in FUNCTIONS}
    producer, autoscaler, postprocess = (stages[stage] for stage in FUNCTIONS)
    edges = (
        (inputs, producer.consumer),
        (producer.consumer, cache),
        (producer.consumer, worker.queue),
        (worker.consumer, results),
        (results, postprocess.consumer),
        (autoscaler.consumer, worker.consumer),
    )
    shared: tuple[Component, ...] = tuple(dict.fromkeys((inputs, results, cache, broker)))
    return Pipeline(
        name,
        (producer, worker, autoscaler, postprocess),
        shared=shared,
        shared_edges=tuple((source, target) for source, target in edges if source and target),
        told_by=names.told_by,
        recorded=names.recorded.get("", {}),
    )


def _scheduled(name: str, stage: str, storage: Storage, recorded: Mapping[str, str]) -> Stage:
    base = f"{name}-{stage}"
    merged = (storage.merged_prefix,) if stage == "postprocess" and storage.merged_prefix else ()
    results = (storage.output_prefix, storage.complete_prefix, *merged)
    reads = {
        "postprocess": tuple(f"s3://{storage.result_bucket}/{prefix}" for prefix in results),
    }
    return Stage(
        stage,
        source=Schedule(base, group=name, dlq=Queue(f"{base}-delivery-dlq")),
        consumer=Function(base, dlq=Queue(f"{base}-dlq")),
        writes=merged,
        reads=reads.get(stage, ()),
        lists=(storage.bucket,) if stage == "producer" else (),
        results=storage.result_bucket,
        recorded=recorded,
    )


def _pipeline_of_outputs(outputs: Values) -> Pipeline:
    """From Terraform's outputs. Raises RefinerctlError if they are not this stack's."""
    try:
        functions, worker = outputs["functions"], outputs["worker"]
        recorded = {name: {key: functions[name][key] for key in _FUNCTION_IDS} for name in FUNCTIONS}
        recorded[WORKER] = {key: worker[key] for key in _WORKER_IDS}
        recorded[""] = {"broker_id": outputs["broker"]["id"], "broker_arn": outputs["broker"]["arn"]}
        recorded[""] |= {
            f"{name}_security_group_id": outputs[name]["security_group_id"] for name in ("broker", "cache")
        }
        storage = Storage(
            outputs["input_bucket"],
            outputs["input_prefix"],
            outputs["output_prefix"],
            outputs["complete_prefix"],
            output_bucket=outputs["output_bucket"],
            merged_prefix=outputs["merged_prefix"],
        )
        return _of_names(_Names(outputs["name"], storage, "Terraform's outputs", recorded))
    except (KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"Terraform's outputs are not those of stack rnr: {error!r}") from error


def _images(values: Values) -> tuple[StageImage, ...]:
    """The images of the functions and of the worker."""
    try:
        platform = PLATFORMS[values.get("architecture") or "x86_64"]
        images = values.get("images") or {}
        return tuple(
            StageImage(
                name,
                ImageReference.parse(images.get(name) or f"rnr/{name}"),  # the default of the root module
                platform,
                runs_on=RunsOn.ECS if name == WORKER else RunsOn.LAMBDA,
            )
            for name in (*FUNCTIONS, WORKER)
        )
    except UsageError as error:
        raise RefinerctlError(f"images of stack rnr: {error.message}", hint=error.hint) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"the images of stack rnr cannot be read: {error!r}") from error


def _completion_keys(storage: Storage, pipeline: Pipeline, input_key: str) -> tuple[str, ...]:
    """The key of the completion of `input_key`; none if S3 cannot take it."""
    stage = pipeline.stage_for(input_key)
    place = stage.completions if stage and stage.completions else CompletionPlace(storage.complete_prefix, ".json")
    prefix = stage.prefix if stage and stage.prefix else storage.input_prefix
    key = f"{place.prefix}{input_key.removeprefix(prefix)}{place.suffix}"
    return (key,) if len(key.encode()) <= MAX_KEY_BYTES else ()


def read_completion(body: bytes) -> CompletionDocument:
    """Read `{"status": "completed", "outputs": [{"key": …}]}`, or `{"status": "failed", "error": …}`.

    Never raises: what cannot be read is `malformed`, with the reason in `error`.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, not UTF-8, or a number of 5,000 digits
        return _malformed(f"not JSON: {error}")
    if not isinstance(document, dict):
        return _malformed(f"expected an object, found {type(document).__name__}")
    if document.get("status") == "failed":
        return CompletionDocument(CompletionStatus.FAILED, error=str(document.get("error") or NO_REASON))
    if document.get("status") != "completed":
        # It may be any JSON value: only its beginning is printed.
        return _malformed(f"status is {repr(document.get('status'))[:40]}, neither completed nor failed")
    outputs = document.get("outputs")
    try:
        if not isinstance(outputs, list):
            return _malformed("outputs is not a list")
        return CompletionDocument(CompletionStatus.COMPLETED, tuple(check_key(item["key"]) for item in outputs))
    except (KeyError, TypeError, AttributeError):
        return _malformed("the list of outputs has an item without a key")
    except UsageError as error:
        return _malformed(f"the list of outputs has an item that is not a key: {error.message}")


def _malformed(reason: str) -> CompletionDocument:
    return CompletionDocument(CompletionStatus.MALFORMED, error=reason)


def input_message(item: InputObject, at: datetime) -> InputMessage:
    """The message that the producer would publish, in a new trace: images/rnr_common/message.py reads it."""
    claim = hashlib.sha256(f"{item.bucket}/{item.key}@{item.etag}".encode()).hexdigest()
    return InputMessage(
        json.dumps(item._asdict(), ensure_ascii=False),
        {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"},
        {"content_type": "application/json", "message_id": claim, "timestamp": str(int(at.timestamp()))},
    )


def merged_completions(body: bytes) -> frozenset[str]:
    """The keys of the completions that a manifest lists; none if it cannot be read."""
    try:
        return frozenset(str(item["completion"]) for item in json.loads(body)["inputs"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return frozenset()


STACK = Stack(
    "rnr",
    settings=_SETTINGS,
    storage=_storage,
    pipeline=_pipeline,
    pipeline_of_outputs=_pipeline_of_outputs,
    images=_images,
    completion_keys=_completion_keys,
    read_completion=read_completion,
    read_log_line=read_log_line,
    log_terms=RECORD_MESSAGES,
    input_message=input_message,
    merged_completions=merged_completions,
    checks=("refinerctl.insight.verify.rnr",),
    demo="refinerctl.local.demo_workers",
    needs=("registry",),
    apply_hint=" (about a minute: the provider waits for the cache)",
)
