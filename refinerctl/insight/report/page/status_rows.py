"""The table of all rulesets: one row of cells for each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from refinerctl.insight.report.page.numbers import UNKNOWN, count, duration, milliseconds, utc
from refinerctl.insight.status_types import DeadLetterStatus, RulesetStatus

GROUPS = (("Queue", 4), ("Dead letters", 3), ("Function, last hour", 6), ("Completions", 1), ("Release", 1))
COLUMNS = (
    "Waiting",
    "In flight",
    "Delayed",
    "Oldest",
    "DLQ",
    "Delivery",
    "Expires in",
    "Invocations",
    "Errors",
    "Throttles",
    "p50",
    "p95",
    "Concurrent",
    "Last",
    "Runs it",
)


@dataclass(frozen=True)
class Cell:
    """`is_bad`: somebody should look at it. `at`: the text is this moment."""

    text: str
    is_bad: bool = False
    at: datetime | None = None


@dataclass(frozen=True)
class Row:
    name: str
    prefix: str
    cells: tuple[Cell, ...]


def row(ruleset: RulesetStatus) -> Row:
    """Cells for each of COLUMNS."""
    queue, function, done = ruleset.queue, ruleset.function, ruleset.last_completion
    at = utc(done.at) if done else None
    cells = (
        _count(queue.visible if queue else None),
        _count(queue.in_flight if queue else None),
        _count(queue.delayed if queue else None),
        Cell(duration(queue.oldest_age_s if queue else None)),
        _bad(ruleset.dlq.depth if ruleset.dlq else None),
        _bad(ruleset.delivery_dlq.depth if ruleset.delivery_dlq else None),
        _expiry(ruleset.dlq, ruleset.delivery_dlq),
        _count(function.invocations if function else None),
        _bad(function.errors if function else None),
        _bad(function.throttles if function else None),
        Cell(milliseconds(function.duration_p50_ms if function else None)),
        Cell(milliseconds(function.duration_p95_ms if function else None)),
        _count(function.concurrency if function else None),
        Cell(UNKNOWN if at is None else f"{at:%d %b %H:%M}", at=at),
        _release(function.runs_release if function else None),
    )
    return Row(ruleset.name, ruleset.prefix or "", cells)


def _count(value: int | None) -> Cell:
    return Cell(count(value))


def _bad(value: int | None) -> Cell:
    return Cell(count(value), is_bad=bool(value))


def _expiry(*queues: DeadLetterStatus | None) -> Cell:
    left = [queue.expires_in_s for queue in queues if queue and queue.depth and queue.expires_in_s is not None]
    return Cell(duration(min(left)), is_bad=min(left) < 86400) if left else Cell(UNKNOWN)


def _release(runs_it: bool | None) -> Cell:
    if runs_it is None:
        return Cell(UNKNOWN)
    return Cell("yes") if runs_it else Cell("no", is_bad=True)
