"""Names of a ruleset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.keys import normalize_prefix
from refinerctl.stacks.settings import Pipeline


@dataclass(frozen=True)
class RulesetNames:
    """A ruleset, and what Terraform calls its parts: module `prefix-ruleset`. `base` is `<name_prefix>-<name>`."""

    name: str
    prefix: str
    base: str
    has_function: bool = True

    @property
    def queue(self) -> str:
        return self.base

    @property
    def dlq(self) -> str:
        """Messages that could not be processed."""
        return f"{self.base}-dlq"

    @property
    def delivery_dlq(self) -> str:
        """Events that EventBridge could not deliver to the queue."""
        return f"{self.base}-delivery-dlq"

    @property
    def log_group(self) -> str:
        return f"/aws/lambda/{self.base}"


def ruleset_names(
    values: Mapping[str, Any], defaults: Mapping[str, Any], pipeline: Pipeline
) -> tuple[RulesetNames, ...]:
    """The rulesets in a stack's values, by name; without any those that `pipeline` has prefixes for.

    Raises RefinerctlError for values that make no sense.
    """
    name_prefix = values.get("name_prefix", defaults.get("name_prefix")) or pipeline.name_prefix
    rulesets = values.get("rulesets", defaults.get("rulesets"))
    if rulesets is None:
        return (
            _named(pipeline.input_prefix, pipeline, has_function=True),
            _named(pipeline.complete_prefix, pipeline, has_function=False),
        )
    try:
        return tuple(
            RulesetNames(
                name,
                normalize_prefix(ruleset["prefix"]),
                f"{name_prefix}-{name}",
                has_function=ruleset.get("image_uri") is not None,
            )
            for name, ruleset in sorted(rulesets.items())
        )
    except UsageError as error:
        raise RefinerctlError(f"a ruleset's prefix: {error.message}", hint=error.hint) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"the stack's rulesets cannot be read: {error!r}") from error


def _named(prefix: str, pipeline: Pipeline, *, has_function: bool) -> RulesetNames:
    name = prefix.rstrip("/").replace("/", "-")
    return RulesetNames(name, prefix, pipeline.queue_name(prefix), has_function)
