"""Checks that only stack rnr has: functions and workers agree about queue, buckets and prefixes."""

from __future__ import annotations

from collections.abc import Mapping

from refinerctl.insight.findings import Finding, failed, passed
from refinerctl.insight.verify.checks import Section, known
from refinerctl.insight.verify.snapshot import DEFINITION, FUNCTION, SERVICE, Snapshot
from refinerctl.stacks.base import Function, Pipeline, Service, Stage

_BROKER = ("RNR_BROKER_URL", "RNR_BROKER_SECRET")
# Variables that each image needs, besides those whose values follow from the pipeline.
_REQUIRED = {
    "producer": (*_BROKER, "RNR_CACHE_URL"),
    "worker": _BROKER,
    "autoscaler": (*_BROKER, "RNR_BROKER_API_URL", "RNR_STATE_PARAMETER"),
    "postprocess": (),
}
_PROCESSORS = ("PROCESSOR", "PROCESSOR_COMMAND")

SECTION = Section("Stack rnr")


@SECTION.check(
    "rnr-environment",
    Function | Service,
    why="A function that has another queue or prefix than the workers works on nothing, without an error.",
    fix="Remove the variable from `environment` and `function_environment` in the environment's tfvars, and deploy.",
    details="Compares RNR_NAME, RNR_QUEUE, buckets, prefixes, cluster and service with the stack's; the other "
    "variables that an image needs are set. A worker has not both PROCESSOR and PROCESSOR_COMMAND.",
)
def _environment(snapshot: Snapshot, consumer: Function | Service) -> Finding | None:
    stage = snapshot.stage_of(consumer)
    if stage.name not in _REQUIRED:
        return None
    given = _given(snapshot, consumer)
    expected = _expected(snapshot.pipeline, stage)
    wrong = [
        f"{name} is {given.get(name) or 'not set'}, not {value}"
        for name, value in expected.items()
        if given.get(name) != value
    ]
    wrong += [f"{name} is not set" for name in _REQUIRED[stage.name] if not given.get(name)]
    if stage.name == "worker" and all(given.get(name) for name in _PROCESSORS):
        wrong.append(f"{' and '.join(_PROCESSORS)} are both set")
    if wrong:
        return failed(f"environment of {consumer.name}: {'; '.join(wrong)}")
    return passed(f"the environment of {consumer.name} names the stack's queue, buckets and prefixes")


def _given(snapshot: Snapshot, consumer: Function | Service) -> Mapping[str, str]:
    if isinstance(consumer, Function):
        return known(snapshot.get(FUNCTION, consumer.name)).environment
    state = known(snapshot.get(SERVICE, consumer.cluster, consumer.name))
    return dict(known(snapshot.get(DEFINITION, state.task_definition, consumer.container)).environment)


def _expected(pipeline: Pipeline, stage: Stage) -> dict[str, str]:
    """The variables whose values the pipeline knows."""
    stages = {item.name: item for item in pipeline.stages}
    worker, merged = stages["worker"], stages["postprocess"].writes
    found = {"RNR_NAME": pipeline.name_prefix}
    if stage.name != "postprocess" and worker.queue:
        found["RNR_QUEUE"] = worker.queue.name
    if stage.name in ("producer", "worker"):
        found |= {"RNR_INPUT_BUCKET": pipeline.bucket or "", "RNR_INPUT_PREFIX": worker.prefix or ""}
    if stage.name in ("worker", "postprocess"):
        found["RNR_OUTPUT_BUCKET"] = worker.results or ""
        found |= dict(zip(("RNR_OUTPUT_PREFIX", "RNR_COMPLETE_PREFIX"), worker.writes, strict=True))
    if stage.name == "postprocess":
        found["RNR_MERGED_PREFIX"] = "".join(merged)
    if stage.name == "autoscaler" and worker.service:
        found |= {"RNR_CLUSTER": worker.service.cluster, "RNR_SERVICE": worker.service.name}
    return found
