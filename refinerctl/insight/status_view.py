"""How a status looks: a table as wide as there is room for, or a line for a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refinerctl.insight.status_types import DeadLetterStatus, PipelineStatus, RulesetStatus

SHORT_DIGEST = 19  # sha256: and twelve digits
GAP = 2


@dataclass(frozen=True)
class Cell:
    """`is_bad`: somebody should look at it."""

    text: str
    is_bad: bool = False


@dataclass(frozen=True)
class Column:
    """`rank`: where there is no room for all, those with the highest go first."""

    title: str
    rank: int


COLUMNS = (
    Column("RULESET", 0),
    Column("WAITING", 0),
    Column("IN FLIGHT", 1),
    Column("DELAYED", 9),
    Column("OLDEST", 3),
    Column("DEAD", 0),
    Column("EXPIRES", 4),
    Column("UNDELIVERED", 2),
    Column("ERRORS", 2),
    Column("THROTTLES", 5),
    Column("P50", 8),
    Column("P95", 6),
    Column("CONCURRENT", 8),
    Column("LAST DONE", 5),
    Column("RELEASE", 6),
)


def cells(status: PipelineStatus, ruleset: RulesetStatus) -> tuple[Cell, ...]:
    """A ruleset's row, one cell for each of COLUMNS."""
    queue, dlq, undelivered, function = ruleset.queue, ruleset.dlq, ruleset.delivery_dlq, ruleset.function
    done = ruleset.last_completion
    return (
        Cell(ruleset.name),
        Cell(_number(queue.visible if queue else None)),
        Cell(_number(queue.in_flight if queue else None)),
        Cell(_number(queue.delayed if queue else None)),
        Cell(seconds(queue.oldest_age_s if queue else None)),
        Cell(_number(dlq.depth if dlq else None), bool(dlq.depth if dlq else None)),
        Cell(_at_most(_first_to_expire(dlq, undelivered))),
        Cell(_number(undelivered.depth if undelivered else None), bool(undelivered.depth if undelivered else None)),
        Cell(_number(function.errors if function else None), bool(function.errors if function else None)),
        Cell(_number(function.throttles if function else None), bool(function.throttles if function else None)),
        Cell(_milliseconds(function.duration_p50_ms if function else None)),
        Cell(_milliseconds(function.duration_p95_ms if function else None)),
        Cell(_number(function.concurrency if function else None)),
        Cell(f"{seconds((status.at - done.at).total_seconds())} ago" if done else "-"),
        _release(status, ruleset),
    )


def _first_to_expire(*queues: DeadLetterStatus | None) -> float | None:
    return min((queue.expires_in_s for queue in queues if queue and queue.expires_in_s is not None), default=None)


def _release(status: PipelineStatus, ruleset: RulesetStatus) -> Cell:
    function = ruleset.function
    if function is None:
        return Cell("-")
    running = (function.digest or "-")[:SHORT_DIGEST]
    if function.runs_release is None:
        return Cell(running)
    name = status.release or "the release"
    return Cell(name) if function.runs_release else Cell(f"not {name}: {running}", is_bad=True)


def heading(status: PipelineStatus, env: str) -> str:
    """Where and when."""
    release = status.release or ("without a tag" if status.is_released else "none recorded")
    return f"environment {env}, release {release}, {status.at:%Y-%m-%d %H:%M:%SZ}"


def log_lines(status: PipelineStatus) -> list[str]:
    """A line for each ruleset: `name=value` pairs."""
    names = [column.title.lower().replace(" ", "_") for column in COLUMNS]
    lines = []
    for ruleset in status.rulesets:
        row = cells(status, ruleset)
        pairs = (f"{name}={cell.text.replace(' ', '_')}" for name, cell in zip(names[1:], row[1:], strict=True))
        lines.append(f"{status.at:%Y-%m-%dT%H:%M:%SZ} {ruleset.name} {' '.join(pairs)}")
    return lines


def fitted(rows: Sequence[Sequence[Cell]], width: int | None) -> list[list[Cell]]:
    """Title and rows, padded to equal widths, with as many columns as fit into `width` characters (None: all)."""
    full = [[Cell(column.title) for column in COLUMNS], *rows]
    widths = [max(len(row[number].text) for row in full) for number in range(len(COLUMNS))]
    shown = set(range(len(COLUMNS)))
    for number in sorted(shown, key=lambda number: (-COLUMNS[number].rank, -number))[:-1]:
        if width is None or sum(widths[other] + GAP for other in shown) - GAP <= width:
            break
        shown.discard(number)
    return [[Cell(row[n].text.ljust(widths[n]), row[n].is_bad) for n in sorted(shown)] for row in full]


def seconds(value: float | None) -> str:
    """A duration in its two largest units: `45s`, `3m12s`, `2h5m`, `13d4h`; a dash for none."""
    if value is None:
        return "-"
    left = round(max(0.0, value))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if parts:
            return parts[0] + (f"{count}{unit}" if count else "")
        if count:
            parts.append(f"{count}{unit}")
    return parts[0] if parts else "0s"


def _at_most(value: float | None) -> str:
    return "-" if value is None else f"<{seconds(value)}"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}ms" if value < 10_000 else f"{value / 1000:.1f}s"
