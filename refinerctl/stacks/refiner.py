"""Stack `refiner`: objects below a prefix start a function, one ruleset for each prefix.

Names are those of terraform/stacks/refiner; a test compares them with Terraform's outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.images import ImageReference, Platform
from refinerctl.keys import MAX_KEY_BYTES, check_key, normalize_prefix
from refinerctl.stacks.base import (
    Bucket,
    CompletionDocument,
    CompletionPlace,
    CompletionStatus,
    Component,
    EventBus,
    EventRule,
    Function,
    Pipeline,
    Queue,
    Stack,
    Stage,
    StageImage,
    Storage,
    Values,
)
from refinerctl.stacks.log_lines import RECORD_MESSAGES, read_log_line

DEFAULT_BUS = "default"
PLATFORMS = {"x86_64": Platform("linux", "amd64"), "arm64": Platform("linux", "arm64")}

_SETTINGS = {
    "bucket": "data-repository",
    "input_prefix": "RefinerInput/",
    "output_prefix": "RefinerOutput/",
    "complete_prefix": "RefinerComplete/",
    "name_prefix": "dibbs-ecr",
    "bus_name": "data-repository-bus",
}
_SHARED_IDS = ("bus_arn", "forward_rule_arn", "forward_dlq_arn")
_STAGE_IDS = (
    "rule_arn",
    "queue_arn",
    "dlq_arn",
    "delivery_dlq_arn",
    "function_arn",
    "role_arn",
    "event_source_mapping_id",
)


def _storage(settings: Mapping[str, str]) -> Storage:
    return Storage(
        settings["bucket"],
        normalize_prefix(settings["input_prefix"]),
        normalize_prefix(settings["output_prefix"]),
        normalize_prefix(settings["complete_prefix"]),
    )


def _pipeline(settings: Mapping[str, str], values: Values) -> Pipeline:
    """From an environment's values. Without rulesets there, those that the settings have prefixes for."""
    name_prefix = values.get("name_prefix") or settings["name_prefix"]
    bus = values.get("bus_name") or settings["bus_name"]
    rulesets = values if values.get("rulesets") is not None else {"rulesets": _default_rulesets(settings)}
    stages = tuple(
        _stage(ruleset_stage(name, _ruleset_prefix(ruleset), f"{name_prefix}-{name}", bus), ruleset, values, settings)
        for name, ruleset in _rulesets(rulesets)
    )
    return _of_stages(name_prefix, values.get("bucket_name") or settings["bucket"], bus, stages)


def _stage(stage: Stage, ruleset: Values, values: Values, settings: Mapping[str, str]) -> Stage:
    """With the function and its data, if the ruleset has one."""
    if ruleset.get("image_uri") is None or stage.queue is None:
        return stage
    bucket = values.get("bucket_name") or settings["bucket"]

    def prefix(name: str) -> str:
        return normalize_prefix(values.get(name) or settings[name])

    try:
        environment = {**(values.get("function_environment") or {}), **(ruleset.get("environment") or {})}
        default = _place(prefix("input_prefix"), prefix("complete_prefix"), stage.prefix or "")
        place = CompletionPlace(
            normalize_prefix(environment.get("REFINER_COMPLETE_PREFIX") or default.prefix),
            environment.get("REFINER_COMPLETE_SUFFIX") or default.suffix,
        )
        output_prefix = normalize_prefix(environment.get("REFINER_OUTPUT_PREFIX") or prefix("output_prefix"))
        return replace(
            stage,
            consumer=Function(stage.queue.name),
            writes=(output_prefix, place.prefix),
            completions=place,
            reads=tuple(_s3_uri(bucket, item) for item in ruleset.get("read_access") or ()),
            read_keys=tuple(ruleset.get("read_kms_key_arns") or ()),
        )
    except UsageError as error:
        raise RefinerctlError(f"a prefix of ruleset {stage.name}: {error.message}", hint=error.hint) from error
    except (TypeError, AttributeError) as error:
        raise RefinerctlError(f"the stack's rulesets cannot be read: {error!r}") from error


def _place(input_prefix: str, complete_prefix: str, prefix: str) -> CompletionPlace:
    """Where the completions of the ruleset with this prefix are, if its environment does not say otherwise.

    An input of the first ruleset can have any folder in its name, so that only the suffix keeps the others' apart.
    """
    if prefix == input_prefix:
        return CompletionPlace(complete_prefix, ".json")
    return CompletionPlace(complete_prefix + prefix, ".completion")


def _default_rulesets(settings: Mapping[str, str]) -> Values:
    """Those that the settings have prefixes for."""
    prefixes = {name: normalize_prefix(settings[f"{name}_prefix"]) for name in ("input", "complete")}
    return {
        prefix.rstrip("/").replace("/", "-"): {"prefix": prefix, "image_uri": "unknown" if name == "input" else None}
        for name, prefix in prefixes.items()
    }


def _s3_uri(bucket: str, item: str) -> str:
    return item if item.startswith("s3://") else f"s3://{bucket}/{item.removeprefix('/')}"


def ruleset_stage(name: str, prefix: str, base: str, bus: str, *, has_function: bool = False) -> Stage:
    """A ruleset whose parts are called as module prefix-ruleset names them, after `base`."""
    return Stage(
        name,
        source=EventRule(base, bus, prefix, dlq=Queue(f"{base}-delivery-dlq")),
        queue=Queue(base, dlq=Queue(f"{base}-dlq")),
        consumer=Function(base) if has_function else None,
    )


def _of_stages(
    name_prefix: str,
    bucket: str,
    bus: str,
    stages: tuple[Stage, ...],
    *,
    forward: EventRule | None = None,
    told_by: str = "",
    recorded: Mapping[str, str] | None = None,
) -> Pipeline:
    rule = f"{name_prefix}-forward"
    forward = forward or EventRule(rule, DEFAULT_BUS, dlq=Queue(f"{rule}-delivery-dlq"))
    shared: tuple[Component, ...] = (Bucket(bucket), EventBus(DEFAULT_BUS), forward, EventBus(bus))
    assert forward.dlq is not None  # noqa: S101 - set above and in _pipeline_of_outputs
    return Pipeline(
        name_prefix,
        stages,
        shared=(*shared, forward.dlq),
        shared_edges=(
            *pairwise(shared),
            (forward, forward.dlq),
            *((shared[-1], stage.source) for stage in stages if stage.source is not None),
            *((stage.consumer, shared[0]) for stage in stages if stage.consumer is not None),
        ),
        told_by=told_by,
        recorded=recorded or {},
    )


def _rulesets(values: Values) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        rulesets = sorted((values.get("rulesets") or {}).items())
        for _, ruleset in rulesets:
            _ = ruleset["prefix"]
    except (KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"the stack's rulesets cannot be read: {error!r}") from error
    return rulesets


def _ruleset_prefix(ruleset: Mapping[str, Any]) -> str:
    try:
        return normalize_prefix(ruleset["prefix"])
    except UsageError as error:
        raise RefinerctlError(f"a ruleset's prefix: {error.message}", hint=error.hint) from error
    except (TypeError, AttributeError) as error:
        raise RefinerctlError(f"the stack's rulesets cannot be read: {error!r}") from error


def _pipeline_of_outputs(outputs: Values) -> Pipeline:
    """From Terraform's outputs. Raises RefinerctlError if they are not this stack's."""
    try:
        bus = outputs["bus_name"]
        # What an earlier release has deployed has the same prefixes and suffix for all.
        earlier = {"output_prefix": outputs["output_prefix"], "complete_prefix": outputs["complete_prefix"]}
        earlier |= {"complete_suffix": ".json", "read_access": (), "read_kms_key_arns": ()}
        stages = tuple(
            Stage(
                name,
                source=EventRule(item["rule_name"], bus, item["prefix"], dlq=Queue(item["delivery_dlq_name"])),
                queue=Queue(item["queue_name"], dlq=Queue(item["dlq_name"])),
                consumer=Function(item["function_name"]) if item["function_name"] else None,
                writes=(item["output_prefix"], item["complete_prefix"]) if item["function_name"] else (),
                completions=CompletionPlace(item["complete_prefix"], item["complete_suffix"])
                if item["function_name"]
                else None,
                reads=tuple(item["read_access"]),
                read_keys=tuple(item["read_kms_key_arns"]),
                recorded={key: item[key] for key in _STAGE_IDS if item[key]},
            )
            for name, item in ((name, earlier | item) for name, item in sorted(outputs["rulesets"].items()))
        )
        return _of_stages(
            outputs["forward_rule_name"].removesuffix("-forward"),
            outputs["bucket"],
            bus,
            stages,
            forward=EventRule(outputs["forward_rule_name"], DEFAULT_BUS, dlq=Queue(outputs["forward_dlq_name"])),
            told_by="Terraform's outputs",
            recorded={key: outputs[key] for key in _SHARED_IDS},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"Terraform's outputs are not those of stack refiner: {error!r}") from error


def _images(values: Values) -> tuple[StageImage, ...]:
    """The images of the rulesets with a function."""
    try:
        return tuple(
            StageImage(
                name,
                ImageReference.parse(ruleset["image_uri"]),
                PLATFORMS[ruleset.get("architecture") or "x86_64"],
            )
            for name, ruleset in _rulesets(values)
            if ruleset.get("image_uri") is not None
        )
    except UsageError as error:
        raise RefinerctlError(f"a ruleset's image_uri: {error.message}", hint=error.hint) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"the stack's rulesets cannot be read: {error!r}") from error


def _completion_keys(storage: Storage, pipeline: Pipeline, input_key: str) -> tuple[str, ...]:
    """The possible keys of the completion of `input_key`, the likelier first.

    This repository's image appends a suffix; the production refiner does not. Keys that S3 cannot take are left out.
    """
    stage = pipeline.stage_for(input_key)
    if stage is not None and stage.prefix is not None and stage.completions is not None:
        prefix, place = stage.prefix, stage.completions
    else:  # not among the rulesets that the values name: without its prefix, its completion's key follows all the same
        prefix = storage.input_prefix if input_key.startswith(storage.input_prefix) else ""
        place = _place(storage.input_prefix, storage.complete_prefix, prefix)
    key = place.prefix + input_key.removeprefix(prefix)
    return tuple(found for found in (f"{key}{place.suffix}", key) if len(found.encode()) <= MAX_KEY_BYTES)


def read_completion(body: bytes) -> CompletionDocument:
    """Read the plain array `["/RefinerOutput/…", …]` or the production refiner's object form.

    The object form is `{"RefinerSkip": false, "RefinerOutputFiles": [...]}` or `{"RefinerSkip": true, "Error": "…"}`.
    Never raises: what cannot be read is `malformed`, with the reason in `error`.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, not UTF-8, or a number of 5,000 digits
        return _malformed(f"not JSON: {error}")
    if isinstance(document, list):
        return _completed(document)
    if not isinstance(document, dict):
        return _malformed(f"expected an array or an object, found {type(document).__name__}")
    if document.get("RefinerSkip") is True or document.get("Error"):
        reason = document.get("Error") or "the refiner skipped this input without a reason"
        return CompletionDocument(CompletionStatus.FAILED, error=str(reason))
    if "RefinerOutputFiles" not in document:
        return _malformed("the object has neither RefinerOutputFiles nor Error")
    return _completed(document["RefinerOutputFiles"])


def _completed(outputs: object) -> CompletionDocument:
    if not isinstance(outputs, list) or not all(isinstance(item, str) for item in outputs):
        return _malformed("the list of outputs has an item that is not a key")
    try:
        keys = tuple(check_key(item.removeprefix("/")) for item in outputs)
    except UsageError as error:
        return _malformed(f"the list of outputs has an item that is not a key: {error.message}")
    return CompletionDocument(CompletionStatus.COMPLETED, keys)


def _malformed(reason: str) -> CompletionDocument:
    return CompletionDocument(CompletionStatus.MALFORMED, error=reason)


STACK = Stack(
    "refiner",
    settings=_SETTINGS,
    storage=_storage,
    pipeline=_pipeline,
    pipeline_of_outputs=_pipeline_of_outputs,
    images=_images,
    completion_keys=_completion_keys,
    read_completion=read_completion,
    read_log_line=read_log_line,
    log_terms=RECORD_MESSAGES,
    checks=("refinerctl.insight.verify.refiner",),
    demo="refinerctl.local.demo_input",
    needs=("registry",),
    apply_hint=" (about a minute: the AWS provider waits 25 s for each level of queues)",
)
