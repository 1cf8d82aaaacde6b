"""The page's charts with their titles, descriptions and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refinerctl.insight.report.page.charts import (
    DISTRIBUTION,
    MOST_SMALL_BARS,
    NARROW,
    QUANTILES,
    SMALL,
    SMALL_DISTRIBUTION,
    WIDE,
    Chart,
    Range,
    Slot,
    distribution,
    over_time,
    ranges,
    slots,
    trimmed,
)
from refinerctl.insight.report.page.numbers import count, counted, duration
from refinerctl.insight.report.types import Histogram, Report

ALL = "All rulesets"
# Of how many rulesets there are plots of their own; the tables have all of them.
MOST_PLOTTED = 16


@dataclass(frozen=True)
class Throughput:
    """What was finished when, by one ruleset or all; `narrow` is for a phone."""

    id: str
    name: str
    slots: tuple[Slot, ...]
    chart: Chart
    narrow: Chart | None = None

    @property
    def completed(self) -> int:
        return sum(slot.completed for slot in self.slots)

    @property
    def failed(self) -> int:
        return sum(slot.failed for slot in self.slots)

    @property
    def text(self) -> str:
        return f"{self.completed:,} completed, {self.failed:,} failed"

    @property
    def description(self) -> str:
        busiest = max(self.slots, key=lambda slot: slot.completed + slot.failed)
        return f"{self.text} in {counted(len(self.slots), 'interval')}. The busiest: {busiest.text}."


def throughput(report: Report) -> tuple[Throughput, ...]:
    """All together, then each ruleset, the busiest first; nothing if nothing was finished."""
    active = [item for item in report.activity if any(part.completed or part.failed for part in item.intervals)]
    together = slots(report, [interval for item in active for interval in item.intervals])
    if not active or not together:
        return ()
    wide, narrow = over_time(together, WIDE), over_time(together, NARROW, one_path=True)
    first = Throughput("throughput", ALL if len(active) > 1 else active[0].ruleset, together, wide, narrow)
    if len(active) == 1:
        return (first,)
    each = ((item.ruleset, slots(report, item.intervals, MOST_SMALL_BARS)) for item in active)
    busiest = sorted(each, key=lambda pair: -sum(slot.completed + slot.failed for slot in pair[1]))
    return (
        first,
        *(
            Throughput(f"throughput-{number}", name, parts, over_time(parts, SMALL, one_path=True))
            for number, (name, parts) in enumerate(busiest, 1)
        ),
    )


@dataclass(frozen=True)
class Distribution:
    """How a quantity of one ruleset, or of all, was spread. `quantiles`: p50, p95 and p99 as text."""

    id: str
    name: str
    what: str
    total: int
    quantiles: tuple[str, ...]
    chart: Chart
    ranges: tuple[Range, ...]

    @property
    def description(self) -> str:
        p50, p95, p99 = self.quantiles
        return f"{counted(self.total, 'input')}: p50 at most {p50}, p95 at most {p95}, p99 at most {p99}."


@dataclass(frozen=True)
class Distributions:
    """Of all rulesets together, and of each; where there is one ruleset only, it is all."""

    together: tuple[Distribution, ...]
    each: tuple[Distribution, ...]


LATENCY = "Latency"
# What it is called, and its unit in seconds.
_KINDS = ((LATENCY, 1.0), ("Duration", 0.001))


def distributions(report: Report) -> Distributions:
    """Together if their ranges are the same; of each ruleset latency and duration, that with the most inputs first."""
    found = [
        (item.ruleset, item.latency_s, item.duration_ms)
        for item in report.activity
        if (item.latency_s and item.latency_s.total) or (item.duration_ms and item.duration_ms.total)
    ]
    if len(found) == 1:
        return Distributions(_both("0", *found[0]), ())
    found.sort(key=lambda item: -max(histogram.total for histogram in item[1:] if histogram))
    latency, duration_ms = _sum([item[1] for item in found]), _sum([item[2] for item in found])
    each = (_both(f"{number}", *item, is_small=True) for number, item in enumerate(found, 1))
    return Distributions(_both("0", ALL, latency, duration_ms), tuple(plot for pair in each for plot in pair))


def _both(
    identifier: str, name: str, latency: Histogram | None, duration_ms: Histogram | None, *, is_small: bool = False
) -> tuple[Distribution, ...]:
    plots = []
    for histogram, (what, unit_s) in zip((latency, duration_ms), _KINDS, strict=True):
        if histogram and histogram.total:
            short = trimmed(histogram)
            chart = distribution(short, unit_s, SMALL_DISTRIBUTION if is_small else DISTRIBUTION, one_path=is_small)
            quantiles = tuple(duration(_scaled(histogram.quantile(part), unit_s)) for part in QUANTILES)
            parts = ranges(short, unit_s)
            plots.append(
                Distribution(f"{what.lower()}-{identifier}", name, what, histogram.total, quantiles, chart, parts)
            )
    return tuple(plots)


def _scaled(value: float | None, unit_s: float) -> float | None:
    return None if value is None else value * unit_s


def _sum(histograms: Sequence[Histogram | None]) -> Histogram | None:
    """Of those whose ranges are parts of one scale; None if they are not, or there are none."""
    known = [histogram for histogram in histograms if histogram and histogram.total]
    edges = tuple(sorted({edge for histogram in known for edge in histogram.edges}))
    places = {edge: place for place, edge in enumerate(edges)}
    counts = [0] * (len(edges) - 1)
    for histogram in known:
        for low, high, number in zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True):
            if places[high] != places[low] + 1:
                return None
            counts[places[low]] += number
    return Histogram(edges, tuple(counts)) if known else None


def slot_text(slot: Slot) -> str:
    """For a cell of a table: what completed and, with a mark, what failed."""
    return f"{count(slot.completed)} ✗{count(slot.failed)}" if slot.failed else count(slot.completed)
