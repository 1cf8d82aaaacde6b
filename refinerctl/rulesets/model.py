"""Rulesets in an environment's tfvars, and the checks of a new one before it is written there.

Terraform validates the values of single settings. Here is only what an operator must know before Terraform runs: the
form of name and prefix, conflicts with other rulesets, and what Terraform cannot know or only warns of.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from refinerctl.aws.events import RULES_PER_BUS
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import ImageReference
from refinerctl.keys import check_key, normalize_prefix
from refinerctl.stacks.base import Stage
from refinerctl.stacks.refiner import STACK

VARIABLE = "rulesets"
# Rules, queues, functions and roles all accept this; with `-delivery-dlq` it still fits into the 80 of a queue.
MAX_FULL_NAME = 64
MAX_PREFIX = 512

_PREFIX = re.compile(r"(?:[^/*?$\x00-\x1f\x7f-\x9f]+/)+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,62}", re.ASCII)
_RESERVED_NAME = re.compile(r".*(?:-dlq|-delivery)|forward", re.IGNORECASE)


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
    read_access: Sequence[str] = ()
    read_kms_key_arns: Sequence[str] = ()

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> Ruleset:
        """From its entry in the environment's values, in which null means the default."""
        known = {item.name for item in fields(cls)} - {"name"}
        given = {key: value for key, value in values.items() if key in known and value is not None}
        return cls(name, **{**given, "prefix": str(given["prefix"]).removeprefix("/")})


@dataclass(frozen=True)
class RulesetValues:
    """What an environment's values say about rulesets. Prefixes have no leading slash."""

    rulesets: Mapping[str, Ruleset]
    name_prefix: str
    output_prefix: str
    complete_prefix: str
    bus_name: str
    input_prefix: str | None = None
    region: str | None = None
    release_tag: str | None = None
    function_environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RulesetValues:
        """From tfvars over defaults. Raises UsageError without rulesets, RefinerctlError for invalid ones."""
        if VARIABLE not in values:
            raise UsageError("this stack has no rulesets", hint="Choose another stack: --stack refiner.")
        try:
            rulesets = {name: Ruleset.of(name, entry) for name, entry in values[VARIABLE].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise RefinerctlError(f"the stack's rulesets cannot be read: {error!r}") from error
        return cls(
            rulesets,
            name_prefix=values["name_prefix"],
            output_prefix=values["output_prefix"].removeprefix("/"),
            complete_prefix=values["complete_prefix"].removeprefix("/"),
            bus_name=values["bus_name"],
            input_prefix=values.get("input_prefix"),
            region=values.get("region"),
            release_tag=values.get("release_tag"),
            function_environment=values.get("function_environment") or {},
        )

    def stage(self, ruleset: Ruleset) -> Stage:
        """What the stack makes of a ruleset. Raises RefinerctlError for an invalid prefix in its environment."""
        assert STACK.pipeline is not None  # noqa: S101
        (stage,) = STACK.pipeline(STACK.settings, {**vars(self), "rulesets": {ruleset.name: vars(ruleset)}}).stages
        return stage


def default_name(prefix: str) -> str:
    """A ruleset's name after its prefix: `team/MyNew/` → `team-MyNew`. Raises UsageError if nothing is left of it."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", prefix, flags=re.ASCII).strip("-")
    if not name:
        raise UsageError(f"cannot derive a ruleset name from prefix {prefix}", hint="Name the ruleset: --name NAME.")
    return name


def read_prefix(text: str) -> str:
    """What a function may read, as the stack has it: a prefix, or `s3://bucket/prefix`. Raises UsageError otherwise."""
    if not text.startswith("s3://"):
        _check_prefix(prefix := normalize_prefix(text))
        return prefix
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{text!r} names no bucket", hint="Use s3://BUCKET/PREFIX, like s3://team-config/lab/.")
    if prefix.startswith("/"):
        raise UsageError(f"{text!r} has an empty part", hint="Use s3://BUCKET/PREFIX, like s3://team-config/lab/.")
    if prefix:
        _check_prefix(normalize_prefix(prefix))
    return f"s3://{bucket}/{prefix}"


def check_form(ruleset: Ruleset, name_prefix: str) -> None:
    """Raises UsageError for a name or prefix that no stack accepts."""
    _check_prefix(ruleset.prefix)
    full = f"{name_prefix}-{ruleset.name}"
    if not _NAME.fullmatch(ruleset.name):
        raise UsageError(
            f"{ruleset.name!r} is not a valid name of a ruleset",
            hint="Use 1 to 62 letters, digits, hyphens and underscores: --name NAME.",
        )
    if len(full) > MAX_FULL_NAME:
        raise UsageError(
            f"the function and its role would be named {full}: {len(full)} characters; AWS accepts {MAX_FULL_NAME}",
            hint="Use a shorter name: --name NAME.",
        )
    if ruleset.image_uri is not None:
        reference = ImageReference.parse(ruleset.image_uri)
        if reference.tag and reference.digest:
            raise UsageError(f"{ruleset.image_uri} has a tag and a digest", hint="Remove one of them.")


def _check_prefix(prefix: str) -> None:
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{prefix!r} is not a valid prefix of a ruleset",
            hint="A prefix ends in one slash and has none of * ? $ or control characters, like team/MyNew/.",
        )
    check_key(f"{prefix}x")
    if len(prefix) > MAX_PREFIX:
        raise UsageError(f"the prefix has {len(prefix)} characters; the stack accepts {MAX_PREFIX}")
    if unicodedata.normalize("NFC", prefix) != prefix:
        raise UsageError(
            f"{prefix!r} is not in Unicode normal form C, to which Terraform converts every string",
            hint="The rule would match no key that is written like this.",
        )


def check_conflicts(new: Ruleset, values: RulesetValues, rule_quota: int = RULES_PER_BUS) -> None:
    """Raises RefusedError, with all conflicts, if the ruleset conflicts with others."""
    if problems := list(_conflicts(new, values, rule_quota)):
        raise RefusedError(f"ruleset {new.name} cannot be added: {'; '.join(problems)}")


def _conflicts(new: Ruleset, values: RulesetValues, rule_quota: int) -> Iterator[str]:
    if _RESERVED_NAME.fullmatch(new.name):
        yield f"names like {new.name} are reserved for the stack's own queues; use another: --name NAME"
    for other in values.rulesets.values():
        if other.name.lower() == new.name.lower():
            yield f"ruleset {other.name} ({other.prefix}) already has that name"
        if other.prefix == new.prefix:
            yield f"ruleset {other.name} already has prefix {other.prefix}"
        elif _overlap(other.prefix, new.prefix):
            yield f"prefix {new.prefix} overlaps {other.prefix} of ruleset {other.name}: objects would match both"
    yield from _conflicts_of_results(new, values)
    if (rules := len(values.rulesets) + 1) > rule_quota:
        yield f"event bus {values.bus_name} would have {rules} rules; its quota is {rule_quota} (--rule-quota)"


def _conflicts_of_results(new: Ruleset, values: RulesetValues) -> Iterator[str]:
    stages = [values.stage(ruleset) for ruleset in (new, *values.rulesets.values()) if ruleset.image_uri is not None]
    written = [dict.fromkeys(stage.writes[number] for stage in stages) for number in range(2)]
    for stage in stages:
        for what, prefixes in zip(("outputs", "completions"), written, strict=True):
            for prefix in prefixes:
                if _overlap(prefix, stage.prefix or ""):
                    yield f"the functions' {what} ({prefix}) would be inputs of {stage.name} ({stage.prefix}): a loop"
    places = [(stage.name, stage.completions) for stage in stages if stage.completions is not None]
    for other, place in places[1:] if new.image_uri is not None else ():
        if place.overlaps(places[0][1]):
            yield f"its completions could have the same keys as those of ruleset {other} ({place})"


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def check_registry(image_uri: str, region: str | None) -> None:
    """Raises RefusedError for an image outside of ECR in the functions' `region` (None: unknown)."""
    reference = ImageReference.parse(image_uri)
    if reference.registry is None:
        return
    hint = "Copy the image to ECR first: `refinerctl sync SOURCE TARGET`."
    if reference.ecr is None:
        raise RefusedError(
            f"{reference.registry} is not an ECR registry, and Lambda accepts images from ECR only", hint=hint
        )
    if region not in (None, reference.ecr[1]):
        raise RefusedError(
            f"{image_uri} is in {reference.ecr[1]}, and the functions are in {region}: Lambda accepts images of its own"
            " region only",
            hint=hint,
        )
