"""What `verify` checks: the pipeline as it should be, what AWS told of it, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from refinerctl.aws.events import BusSettings, RuleSettings, RuleTarget
from refinerctl.aws.iam import Role
from refinerctl.aws.kms import KmsKey
from refinerctl.aws.lambda_ import Concurrency, FunctionConfiguration, SourceMapping
from refinerctl.aws.log_settings import LogGroupSettings
from refinerctl.aws.policies import Policy
from refinerctl.aws.sqs import QueueSettings
from refinerctl.errors import RefinerctlError
from refinerctl.insight.verify.answers import Answer
from refinerctl.releases.model import Release
from refinerctl.stacks.names import RulesetNames, ruleset_names
from refinerctl.stacks.settings import Pipeline


class Status(StrEnum):
    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Finding:
    """What a check saw; `fix` replaces the check's own."""

    status: Status
    seen: str
    fix: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """A check's result, of one ruleset or of the whole pipeline; `why` it matters and what would `fix` it."""

    id: str
    status: Status
    seen: str
    why: str
    fix: str
    ruleset: str | None = None


@dataclass(frozen=True)
class RulesetParts:
    """How a ruleset's parts are called. `arns` are what Terraform recorded: by the output's name, where it has them."""

    name: str
    prefix: str
    rule: str
    queue: str
    dlq: str
    delivery_dlq: str
    function: str | None = None
    log_group: str | None = None
    arns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineParts:
    """How a stack's parts are called; `source` says who told. Prefixes have no leading slash."""

    bucket: str
    bus: str
    forward_rule: str
    forward_dlq: str
    output_prefix: str
    complete_prefix: str
    rulesets: tuple[RulesetParts, ...]
    source: str
    arns: Mapping[str, str] = field(default_factory=dict)


_PIPELINE_ARNS = ("bus_arn", "forward_rule_arn", "forward_dlq_arn")
_RULESET_ARNS = (
    "rule_arn",
    "queue_arn",
    "dlq_arn",
    "delivery_dlq_arn",
    "function_arn",
    "role_arn",
    "event_source_mapping_id",
)


def names_from_outputs(outputs: Mapping[str, Any]) -> PipelineParts:
    """From the outputs of stack refiner, by name. Raises RefinerctlError if they are others."""
    try:
        return PipelineParts(
            bucket=outputs["bucket"],
            bus=outputs["bus_name"],
            forward_rule=outputs["forward_rule_name"],
            forward_dlq=outputs["forward_dlq_name"],
            output_prefix=outputs["output_prefix"],
            complete_prefix=outputs["complete_prefix"],
            rulesets=tuple(_names_of(name, item) for name, item in sorted(outputs["rulesets"].items())),
            source="Terraform's outputs",
            arns={key: outputs[key] for key in _PIPELINE_ARNS},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"the stack's outputs are not those of stack refiner: {error!r}") from error


def _names_of(name: str, item: Mapping[str, Any]) -> RulesetParts:
    return RulesetParts(
        name=name,
        prefix=item["prefix"],
        rule=item["rule_name"],
        queue=item["queue_name"],
        dlq=item["dlq_name"],
        delivery_dlq=item["delivery_dlq_name"],
        function=item["function_name"],
        log_group=item["log_group"],
        arns={key: item[key] for key in _RULESET_ARNS if item[key]},
    )


def names_from_values(
    values: Mapping[str, Any], defaults: Mapping[str, Any], pipeline: Pipeline, source: str
) -> PipelineParts:
    """From the stack's variables, by the rules of terraform/stacks/refiner; `pipeline` has what they leave out."""
    given = {**defaults, **values}
    return PipelineParts(
        bucket=given.get("bucket_name") or pipeline.bucket,
        bus=given.get("bus_name") or pipeline.bus_name,
        forward_rule=(forward := f"{given.get('name_prefix') or pipeline.name_prefix}-forward"),
        forward_dlq=f"{forward}-delivery-dlq",
        output_prefix=(given.get("output_prefix") or pipeline.output_prefix).removeprefix("/"),
        complete_prefix=(given.get("complete_prefix") or pipeline.complete_prefix).removeprefix("/"),
        rulesets=tuple(_derived(names) for names in ruleset_names(values, defaults, pipeline)),
        source=source,
    )


def _derived(names: RulesetNames) -> RulesetParts:
    return RulesetParts(
        name=names.name,
        prefix=names.prefix,
        rule=names.base,
        queue=names.queue,
        dlq=names.dlq,
        delivery_dlq=names.delivery_dlq,
        function=names.base if names.has_function else None,
        log_group=names.log_group if names.has_function else None,
    )


@dataclass(frozen=True)
class RulesetSnapshot:
    """A ruleset as AWS has it. What belongs to a function is None in a completion ruleset."""

    names: RulesetParts
    rule: Answer[RuleSettings]
    targets: Answer[tuple[RuleTarget, ...]]
    queue: Answer[QueueSettings]
    dlq: Answer[QueueSettings]
    delivery_dlq: Answer[QueueSettings]
    function: Answer[FunctionConfiguration] | None = None
    mappings: Answer[tuple[SourceMapping, ...]] | None = None
    role: Answer[Role] | None = None
    log_group: Answer[LogGroupSettings] | None = None
    image: Answer[str] | None = None


@dataclass(frozen=True)
class Snapshot:
    """A pipeline as AWS has it. `rules` are a bus's, by its name; `keys` are by the id they are used with.

    `queues` are those that the targets and redrive policies name, by ARN: they may be others than they should be.
    `senders` are the names of the rules that send to a queue or bus, by its ARN.
    """

    names: PipelineParts
    account: str
    partition: str
    bucket: Answer[str]
    sends_events: Answer[bool]
    bucket_policy: Answer[Policy]
    bucket_key: Answer[str | None]
    bus: Answer[BusSettings]
    forward_rule: Answer[RuleSettings]
    forward_targets: Answer[tuple[RuleTarget, ...]]
    forward_role: Answer[Role]
    forward_dlq: Answer[QueueSettings]
    rulesets: tuple[RulesetSnapshot, ...]
    concurrency: Answer[Concurrency]
    release: Answer[Release]
    rules: Mapping[str, Answer[tuple[RuleSettings, ...]]] = field(default_factory=dict)
    senders: Mapping[str, Answer[frozenset[str]]] = field(default_factory=dict)
    keys: Mapping[str, Answer[KmsKey]] = field(default_factory=dict)
    queues: Mapping[str, Answer[QueueSettings]] = field(default_factory=dict)
    embedded: bool = False

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.names.bucket}"

    @property
    def region(self) -> str:
        """Where the pipeline is; without its bus it does not matter."""
        return self.bus.arn.split(":")[3] if isinstance(self.bus, BusSettings) else ""
