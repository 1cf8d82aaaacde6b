"""The report on an environment: everything that its page shows, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from refinerctl.insight.stage_status import PipelineStatus
from refinerctl.insight.verify.checks import CheckResult
from refinerctl.releases.release import Release


@dataclass(frozen=True)
class Histogram:
    """How often values fell between neighbours of `edges` (one more than `counts`), lowest first."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The value that `share` (0 to 1) of all are not above, as far as the edges tell; None without values."""
        wanted, seen = share * self.total, 0
        for upper, count in zip(self.edges[1:], self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return upper
        return None


@dataclass(frozen=True)
class Interval:
    """What one ruleset's function finished in a stretch of time that begins at `start`."""

    start: datetime
    completed: int
    failed: int


@dataclass(frozen=True)
class FailureGroup:
    """Attempts that failed for the same cause: `signature` is their error without what differs from one to the next.

    `keys` are some of the inputs, `request_ids` some of the invocations, the newest first. Times in UTC.
    """

    ruleset: str
    signature: str
    count: int
    first: datetime
    last: datetime
    example: str
    keys: tuple[str, ...] = ()
    request_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flow:
    """Counts over the report's time, on the edges of one ruleset's part of the pipeline; None where nothing tells.

    `matched`: events that its rule matched; `undelivered`: those that did not reach the queue; `queued`: messages sent
    to the queue; `attempts`: inputs given to the function (or messages taken, without one); `completed` and `failed`:
    how those attempts ended.
    """

    matched: int | None = None
    undelivered: int | None = None
    queued: int | None = None
    attempts: int | None = None
    completed: int | None = None
    failed: int | None = None


@dataclass(frozen=True)
class RulesetActivity:
    """One ruleset over the report's time.

    `latency_s`: from the event of the input to the end of its processing; `duration_ms`: of the processing alone; both
    of what was completed. `is_cut`: there was more in the log than was read, so the numbers are too low.
    """

    ruleset: str
    flow: Flow
    intervals: tuple[Interval, ...] = ()
    latency_s: Histogram | None = None
    duration_ms: Histogram | None = None
    failures: tuple[FailureGroup, ...] = ()
    is_cut: bool = False


@dataclass(frozen=True)
class Report:
    """Everything at `status.at` and over the time before it, since `since`. `problems`: what could not be looked at.

    `releases` newest first. `checks` None: verify was not run. `bucket` and `bus` are names.
    """

    env: str
    stack: str
    bucket: str
    bus: str
    since: datetime
    interval: timedelta
    status: PipelineStatus
    activity: tuple[RulesetActivity, ...] = ()
    releases: tuple[Release, ...] = ()
    checks: tuple[CheckResult, ...] | None = None
    problems: tuple[str, ...] = ()
