"""How the pipeline is doing: what each ruleset is made of, and what its parts tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.models import Pipeline, QueueDepth, normalize_prefix


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


@dataclass(frozen=True)
class QueueState:
    """A queue's approximate counts and the settings that say what becomes of its messages; times in seconds."""

    depth: QueueDepth
    retention_s: int
    visibility_timeout_s: int
    max_receive_count: int | None = None


@dataclass(frozen=True)
class RunningFunction:
    """A function as Lambda has it: `digest` is that of the image that it runs, None where Lambda does not tell."""

    name: str
    digest: str | None
    timeout_s: int
    state: str = "Active"


@dataclass(frozen=True)
class Metric:
    """A metric of CloudWatch `of` one thing, and how its values are to be summed up over each period.

    `more` are further dimensions, by name: CloudWatch knows a metric by all that it was sent with.
    """

    namespace: str
    name: str
    dimension: str
    of: str
    statistic: str
    period_s: int = 60
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DataPoint:
    at: datetime
    value: float


@dataclass(frozen=True)
class QueueStatus:
    """A queue's counts; `oldest_age_s` None: there are no metrics, or nothing is in it."""

    name: str
    visible: int
    in_flight: int
    delayed: int
    oldest_age_s: float | None = None


@dataclass(frozen=True)
class DeadLetterStatus:
    """A dead-letter queue. `expires_in_s`: its oldest message is gone at the latest then; None if nothing tells."""

    name: str
    depth: int
    oldest_age_s: float | None = None
    expires_in_s: float | None = None


@dataclass(frozen=True)
class FunctionStatus:
    """A function's last hour; None where CloudWatch has nothing. Durations in milliseconds.

    `runs_release`: whether it runs the digest that the ledger has; None if one of the two is not known.
    """

    name: str
    state: str | None = None
    digest: str | None = None
    runs_release: bool | None = None
    invocations: int | None = None
    errors: int | None = None
    throttles: int | None = None
    duration_p50_ms: float | None = None
    duration_p95_ms: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True)
class LastCompletion:
    """The newest completion; `key` None where only the minute is known, from the queue's metrics."""

    at: datetime
    key: str | None = None


@dataclass(frozen=True)
class RulesetStatus:
    """One ruleset. What could not be looked at is None, with the reason among `problems`.

    `function` None: it has none; of one that could not be looked at only the name is known.
    """

    name: str
    prefix: str
    queue: QueueStatus | None = None
    dlq: DeadLetterStatus | None = None
    delivery_dlq: DeadLetterStatus | None = None
    function: FunctionStatus | None = None
    last_completion: LastCompletion | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class PipelineStatus:
    """All rulesets at one moment (UTC). `release` is the tag in place; `is_released` False: the ledger has none."""

    at: datetime
    rulesets: tuple[RulesetStatus, ...]
    release: str | None = None
    is_released: bool = False
    problems: tuple[str, ...] = ()
