"""Status of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


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
