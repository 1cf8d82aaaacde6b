"""Rulesets as an environment's values have them, and the rules that a new one has to keep.

The rules are those of terraform/stacks/refiner/variables.tf and modules/prefix-ruleset, known before Terraform starts.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from refinerctl.aws.messages import QueueDepth
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import ImageReference
from refinerctl.keys import check_key
from refinerctl.stacks.names import RulesetNames

# What rules, queues, functions and roles all accept; `-delivery-dlq` still fits into the 80 of a queue.
MAX_FULL_NAME = 64
MAX_PREFIX = 512
MAX_ENVIRONMENT_BYTES = 4096
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html
MAX_BUCKET_POLICY = 20480

# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html: rules of one bus; can be raised.
RULES_PER_BUS = 300

_PREFIX = re.compile(r"(?:[^/*?$\x00-\x1f\x7f-\x9f]+/)+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,62}", re.ASCII)
_RESERVED_NAME = re.compile(r".*(?:-dlq|-delivery)|forward", re.IGNORECASE)
_REGISTRY = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+|localhost)", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+", re.ASCII)
_PIPELINE_VARIABLES = ("REFINER_INPUT_PREFIX", "REFINER_OUTPUT_PREFIX", "REFINER_COMPLETE_PREFIX")
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
_LAMBDA_VARIABLES = {
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
}


@dataclass(frozen=True)
class Ruleset:
    """A ruleset with the stack's defaults for what it does not set. `prefix` has no leading slash.

    Without `image_uri` it is a completion ruleset: queues, and no function. Memory in MB, timeout in seconds.
    """

    name: str
    prefix: str
    image_uri: str | None = None
    memory_mb: int = 1024
    timeout_s: int = 900
    max_receive_count: int = 5
    batch_size: int = 10
    max_concurrency: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    architecture: str = "x86_64"

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> Ruleset:
        """From its entry in the environment's values, where null is as good as nothing."""
        known = {item.name for item in fields(cls)} - {"name"}
        given = {key: value for key, value in values.items() if key in known and value is not None}
        return cls(name, **{**given, "prefix": str(given["prefix"]).removeprefix("/")})


@dataclass(frozen=True)
class StackValues:
    """What an environment's values, and the stack's defaults, say about rulesets. Prefixes have no leading slash."""

    rulesets: Mapping[str, Ruleset]
    name_prefix: str
    output_prefix: str
    complete_prefix: str
    bus_name: str
    region: str | None = None
    release_tag: str | None = None
    function_environment: Mapping[str, str] = field(default_factory=dict)
    bucket: str = ""
    makes_bucket: bool = True

    @classmethod
    def of(cls, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> StackValues:
        """Raises UsageError for a stack without rulesets, RefinerctlError for malformed ones."""
        if "rulesets" not in defaults:
            raise UsageError("this stack has no rulesets", hint="Choose another: --stack refiner.")
        given = {**defaults, **{name: value for name, value in values.items() if value is not None}}
        try:
            rulesets = {name: Ruleset.of(name, entry) for name, entry in given["rulesets"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise RefinerctlError(f"the stack's rulesets cannot be read: {error!r}") from error
        return cls(
            rulesets,
            name_prefix=given["name_prefix"],
            output_prefix=given["output_prefix"].removeprefix("/"),
            complete_prefix=given["complete_prefix"].removeprefix("/"),
            bus_name=given["bus_name"],
            region=given.get("region"),
            release_tag=given.get("release_tag"),
            function_environment=given.get("function_environment") or {},
            bucket=given.get("bucket_name") or "",
            makes_bucket=given.get("create_bucket", True),
        )

    def names(self, ruleset: Ruleset) -> RulesetNames:
        """What Terraform calls its parts."""
        base = f"{self.name_prefix}-{ruleset.name}"
        return RulesetNames(ruleset.name, ruleset.prefix, base, has_function=ruleset.image_uri is not None)

    def find(self, name_or_prefix: str) -> Ruleset | None:
        """The ruleset of that name, else the one of that prefix, with or without leading slash."""
        bare = name_or_prefix.removeprefix("/")
        by_prefix = (ruleset for ruleset in self.rulesets.values() if ruleset.prefix == bare)
        return self.rulesets.get(name_or_prefix) or next(by_prefix, None)


def queue_for(prefix: str, values: Mapping[str, Any], name_prefix: str) -> str | None:
    """The queue of the ruleset in `values` that takes the objects below `prefix`; None if there is no such ruleset.

    `name_prefix` is what the values need not say. Malformed values have none.
    """
    try:
        for name, ruleset in (values.get("rulesets") or {}).items():
            if prefix.startswith(ruleset["prefix"].removeprefix("/")):
                return f"{values.get('name_prefix') or name_prefix}-{name}"
    except (KeyError, TypeError, AttributeError):
        return None
    return None


def default_name(prefix: str) -> str:
    """A ruleset's name after its prefix: `team/MyNew/` → `team-MyNew`. Raises UsageError if nothing is left of it."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", prefix, flags=re.ASCII).strip("-")
    if not name:
        raise UsageError(f"prefix {prefix} makes no name", hint="Give the ruleset one: --name NAME.")
    return name


def check_form(ruleset: Ruleset, name_prefix: str) -> None:
    """Raises UsageError for a name, prefix, image or variable that Terraform or AWS would not take."""
    _check_prefix(ruleset.prefix)
    full = f"{name_prefix}-{ruleset.name}"
    if not _NAME.fullmatch(ruleset.name):
        raise UsageError(
            f"{ruleset.name!r} is not a name of a ruleset",
            hint="It has 1 to 62 letters, digits, hyphens and underscores: --name NAME.",
        )
    if len(full) > MAX_FULL_NAME:
        raise UsageError(
            f"the function and its role would be called {full}: {len(full)} characters; AWS takes {MAX_FULL_NAME}",
            hint="Give the ruleset a shorter name: --name NAME.",
        )
    if ruleset.image_uri is not None:
        _check_image_uri(ruleset.image_uri)
    _check_variables(ruleset.environment)


def _check_prefix(prefix: str) -> None:
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{prefix!r} is not a prefix for a ruleset",
            hint="It ends in one slash and has none of * ? $ or control characters, like team/MyNew/.",
        )
    check_key(f"{prefix}x")
    if len(prefix) > MAX_PREFIX:
        raise UsageError(f"the prefix has {len(prefix)} characters; the stack takes {MAX_PREFIX}")
    if unicodedata.normalize("NFC", prefix) != prefix:
        raise UsageError(
            f"{prefix!r} is not in Unicode's normal form C, which Terraform makes of every string",
            hint="It would match no key that is written like this.",
        )


def _check_image_uri(uri: str) -> None:
    reference = ImageReference.parse(uri)
    if reference.tag and reference.digest:
        raise UsageError(f"{uri} has a tag and a digest", hint="Leave out one of them.")
    if reference.registry and not _REGISTRY.fullmatch(reference.registry):
        raise UsageError(f"{reference.registry} is not a registry that the stack takes")


def _check_variables(environment: Mapping[str, str]) -> None:
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            raise UsageError(
                f"{name!r} is not a variable's name to Lambda",
                hint="It starts with a letter and has at least two letters, digits and underscores.",
            )
        if name in _LAMBDA_VARIABLES:
            raise UsageError(f"{name} is set by Lambda itself")
        if name in _PIPELINE_VARIABLES:
            raise UsageError(f"{name} follows from the prefixes and cannot be set")


def check_fits(new: Ruleset, values: StackValues, rule_quota: int = RULES_PER_BUS) -> None:
    """Raises RefusedError, with all that is wrong, if the ruleset does not go together with those that are there."""
    if problems := list(_conflicts(new, values, rule_quota)):
        raise RefusedError(f"ruleset {new.name} cannot be added: {'; '.join(problems)}")


def _conflicts(new: Ruleset, values: StackValues, rule_quota: int) -> Iterator[str]:
    if _RESERVED_NAME.fullmatch(new.name):
        yield f"the stack's own queues have names like {new.name}; give another: --name NAME"
    for other in values.rulesets.values():
        if other.name.lower() == new.name.lower():
            yield f"ruleset {other.name} ({other.prefix}) has that name already"
        if other.prefix == new.prefix:
            yield f"ruleset {other.name} has prefix {other.prefix} already"
        elif _overlap(other.prefix, new.prefix):
            yield f"prefix {new.prefix} overlaps {other.prefix} of ruleset {other.name}: both would get an object"
    for ruleset in (new, *values.rulesets.values()):
        yield from _loops(ruleset, values)
    if (rules := len(values.rulesets) + 1) > rule_quota:
        yield f"event bus {values.bus_name} would have {rules} rules; its quota is {rule_quota} (--rule-quota)"
    if new.image_uri is not None:
        yield from _too_large(new, values)
        size = _bucket_policy_size(values, new)
        if values.makes_bucket and size > MAX_BUCKET_POLICY:
            yield f"the policy of bucket {values.bucket} would have {size} characters; S3 takes {MAX_BUCKET_POLICY}"


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _loops(ruleset: Ruleset, values: StackValues) -> Iterator[str]:
    if ruleset.image_uri is None:
        return
    for what, prefix in (("outputs", values.output_prefix), ("completions", values.complete_prefix)):
        if _overlap(prefix, ruleset.prefix):
            yield f"the functions' {what} ({prefix}) would be inputs of {ruleset.name} ({ruleset.prefix}): a loop"


def _too_large(new: Ruleset, values: StackValues) -> Iterator[str]:
    prefixes = (new.prefix, values.output_prefix, values.complete_prefix)
    own = dict(zip(_PIPELINE_VARIABLES, (f"/{prefix}" for prefix in prefixes), strict=True))
    environment = {**values.function_environment, **new.environment, **own}
    size = len(json.dumps(environment, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_ENVIRONMENT_BYTES:
        yield f"its environment variables take {size} bytes; Lambda allows {MAX_ENVIRONMENT_BYTES}"


def _bucket_policy_size(values: StackValues, new: Ruleset) -> int:
    """As module data-repository writes it: two statements for each role. The account only has a length here."""
    bucket = f"arn:aws:s3:::{values.bucket}"
    statements: list[Any] = [
        {
            "Action": "s3:*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            "Effect": "Deny",
            "Principal": "*",
            "Resource": [bucket, f"{bucket}/*"],
            "Sid": "DenyInsecureTransport",
        }
    ]
    for ruleset in (*values.rulesets.values(), new):
        if ruleset.image_uri is not None:
            role = {"AWS": f"arn:aws:iam::123456789012:role/{values.name_prefix}-{ruleset.name}"}
            prefixes = (ruleset.prefix, values.output_prefix, values.complete_prefix)
            objects = [f"{bucket}/{prefix}*" for prefix in prefixes]
            common = {"Effect": "Allow", "Principal": role}
            statements.append({**common, "Action": ["s3:GetObject", "s3:PutObject"], "Resource": objects})
            statements.append({**common, "Action": ["s3:ListBucket"], "Resource": [bucket]})
    policy = {"Version": "2012-10-17", "Statement": statements}
    return len(json.dumps(policy, separators=(",", ":"), ensure_ascii=False))


def check_registry(image_uri: str, region: str | None) -> None:
    """Raises RefusedError for an image in another place than ECR in the functions' `region` (None: not known)."""
    reference = ImageReference.parse(image_uri)
    if reference.registry is None:
        return
    if reference.ecr is None:
        raise RefusedError(
            f"{reference.registry} is not an ECR registry, and Lambda takes images from ECR only",
            hint="Copy it there first: refinerctl sync --source … --target …",
        )
    if region not in (None, reference.ecr[1]):
        raise RefusedError(
            f"{image_uri} is in {reference.ecr[1]}, and the functions are in {region}: Lambda takes images of its own"
            " region only",
            hint="Copy it there first: refinerctl sync --source … --target …",
        )


def differences(wanted: Mapping[str, Any], there: Ruleset) -> tuple[str, ...]:
    """How a ruleset that is there differs from the settings that are `wanted`; others may be what they like."""
    return tuple(
        f"{name} is {_said(getattr(there, name))}, not {_said(value)}"
        for name, value in wanted.items()
        if getattr(there, name) != value
    )


def _said(value: object) -> str:
    return "none" if value is None else repr(value)


@dataclass(frozen=True)
class RulesetStatus:
    """A ruleset as configured and as deployed. `deployed` None: it is not known.

    `differs` are sentences. `image_uri` is the configured one, where it is configured; `release` is the one that the
    function's image is recorded with. Depths are None where there is no queue.
    """

    names: RulesetNames
    image_uri: str | None
    is_configured: bool
    deployed: bool | None = None
    differs: tuple[str, ...] = ()
    deployed_image: str | None = None
    release: str | None = None
    depth: QueueDepth | None = None
    dlq_depth: QueueDepth | None = None
    delivery_dlq_depth: QueueDepth | None = None
