"""Bar charts: attempts over time, and how long they took. Geometry is in pixels of each chart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from refinerctl.console import counted
from refinerctl.insight.report.activity import StageActivity
from refinerctl.insight.report.tally import Histogram, Interval
from refinerctl.insight.report.text import duration, short_count

FONT_SIZE = 12
ALL = "All stages"
LATENCY = "Latency"
# Number of stages with a chart of their own; the tables have all of them.
MOST_PLOTTED = 16
MOST_BARS, MOST_SMALL_BARS = 96, 48
QUANTILES = (0.5, 0.95, 0.99)
_TIME_STEPS = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 20160, 40320)
)


class Frame(NamedTuple):
    """The size of a chart, the room of its axes, and how many steps its axis of counts has about."""

    width: float
    height: float
    left: float
    top: float
    bottom: float
    steps: int = 4
    right: float = 8

    @property
    def floor(self) -> float:
        return self.height - self.bottom


WIDE = Frame(900, 200, left=52, top=12, bottom=26)
NARROW = Frame(336, 190, left=48, top=12, bottom=26)
SMALL = Frame(256, 124, left=40, top=10, bottom=24)
DISTRIBUTION = Frame(340, 186, left=44, top=54, bottom=26, steps=3)
SMALL_DISTRIBUTION = Frame(256, 160, left=40, top=54, bottom=24, steps=3)


@dataclass(frozen=True)
class Bar:
    """What a bar stands for; `failed` is stacked on `count`. `start` is set for an interval of time (UTC)."""

    name: str
    text: str
    count: int
    failed: int = 0
    start: datetime | None = None


class Label(NamedTuple):
    """Text in a chart; `y` is its baseline, `anchor` SVG's text-anchor, `kind` tick or mark."""

    x: float
    y: float
    text: str
    kind: str = "tick"
    anchor: str = "middle"

    @property
    def width(self) -> float:
        """In a wide sans-serif such as DejaVu Sans: the reader's font is unknown. Marks are bold."""
        return len(self.text) * FONT_SIZE * (0.64 if self.kind == "tick" else 0.7)

    @property
    def left(self) -> float:
        return self.x - {"start": 0.0, "middle": self.width / 2, "end": self.width}[self.anchor]

    @property
    def right(self) -> float:
        return self.left + self.width


@dataclass(frozen=True)
class Chart:
    """`paths` are outlines of what was counted and of what failed, with a text; `marks` are lines with labels."""

    frame: Frame
    paths: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[Label, ...]
    marks: tuple[tuple[float, Label], ...]


@dataclass(frozen=True)
class Plot:
    """Charts of one stage or of all: `narrow` is for a phone, `quantiles` are p50, p95 and p99 as text."""

    id: str
    name: str
    what: str
    caption: str
    description: str
    bars: tuple[Bar, ...]
    chart: Chart
    narrow: Chart | None = None
    quantiles: tuple[str, ...] = ()


def throughput(
    activity: Sequence[StageActivity], since: datetime, until: datetime, step: timedelta
) -> tuple[Plot, ...]:
    """All stages together, then each, the busiest first; nothing if no attempt ended."""
    active = [item for item in activity if any(part.completed or part.failed for part in item.intervals)]
    if not active:
        return ()
    together = [part for item in active for part in item.intervals]
    bars = over_time(together, since, until, step)
    name = ALL if len(active) > 1 else active[0].stage
    first = _throughput("throughput", name, bars, WIDE, NARROW)
    if len(active) == 1:
        return (first,)
    each = [(item.stage, over_time(item.intervals, since, until, step, MOST_SMALL_BARS)) for item in active]
    each.sort(key=lambda pair: -sum(bar.count + bar.failed for bar in pair[1]))
    return (first, *(_throughput(f"throughput-{number}", *item, SMALL) for number, item in enumerate(each, 1)))


def _throughput(identifier: str, name: str, bars: tuple[Bar, ...], frame: Frame, narrow: Frame | None = None) -> Plot:
    caption = f"{sum(bar.count for bar in bars):,} completed, {sum(bar.failed for bar in bars):,} failed"
    busiest = max(bars, key=lambda bar: bar.count + bar.failed)
    return Plot(
        identifier,
        name,
        "Throughput",
        caption,
        f"{caption} in {counted(len(bars), 'interval')}. The busiest: {busiest.text}.",
        bars,
        bar_chart(bars, frame, _time_columns(bars, frame), one_path=narrow is None),
        bar_chart(bars, narrow, _time_columns(bars, narrow), one_path=True) if narrow else None,
    )


def over_time(
    intervals: Iterable[Interval], since: datetime, until: datetime, step: timedelta, most: int = MOST_BARS
) -> tuple[Bar, ...]:
    """A bar for each interval, or for several together so that there are at most `most`."""
    length = step * math.ceil((until - since) / step / most)
    sums: dict[int, tuple[int, int]] = {}
    for interval in intervals:
        if interval.start < until:
            place = max(0, (interval.start - since) // length)
            completed, failed = sums.get(place, (0, 0))
            sums[place] = (completed + interval.completed, failed + interval.failed)
    bars = []
    for place in range(math.ceil((until - since) / length)):
        start, end = since + place * length, min(until, since + (place + 1) * length)
        completed, failed = sums.get(place, (0, 0))
        name = f"{start:%d %b %H:%M} to {end:%H:%M}"
        bars.append(Bar(name, f"{name}: {completed:,} completed, {failed:,} failed", completed, failed, start))
    return tuple(bars)


def distributions(activity: Sequence[StageActivity]) -> tuple[tuple[Plot, ...], tuple[Plot, ...]]:
    """Latency and duration of all stages together and of each, most inputs first; of a single stage, only together."""
    found = [item for item in activity if item.latency_s or item.duration_ms]
    if len(found) == 1:
        return _distributions("0", found[0].stage, found, DISTRIBUTION), ()
    found.sort(key=lambda item: -max(part.total for part in (item.latency_s, item.duration_ms) if part))
    each = (
        plot
        for number, item in enumerate(found, 1)
        for plot in _distributions(str(number), item.stage, [item], SMALL_DISTRIBUTION)
    )
    return _distributions("0", ALL, found, DISTRIBUTION), tuple(each)


def _distributions(identifier: str, name: str, activity: Sequence[StageActivity], frame: Frame) -> tuple[Plot, ...]:
    latency_s = _sum(item.latency_s for item in activity)
    duration_ms = _sum(item.duration_ms for item in activity)
    given = ((LATENCY, latency_s, 1.0), ("Duration", duration_ms, 0.001))
    return tuple(
        distribution(f"{what.lower()}-{identifier}", name, what, whole, unit_s, frame)
        for what, whole, unit_s in given
        if whole
    )


def _sum(histograms: Iterable[Histogram | None]) -> Histogram | None:
    """Of histograms whose ranges are parts of one scale."""
    counts: Counter[float] = Counter()  # by the lower edge
    edges: set[float] = set()
    for histogram in histograms:
        if histogram:
            counts.update(dict(zip(histogram.edges, histogram.counts, strict=False)))
            edges.update(histogram.edges)
    ordered = tuple(sorted(edges))
    return Histogram(ordered, tuple(counts[edge] for edge in ordered[:-1])) if ordered else None


def distribution(identifier: str, name: str, what: str, whole: Histogram, unit_s: float, frame: Frame) -> Plot:
    """A bar of the same width for each range, whose edges may grow by a factor; `unit_s` is their unit in seconds."""
    filled = [place for place, number in enumerate(whole.counts) if number]
    first, last = max(0, filled[0] - 1), min(len(whole.counts), filled[-1] + 2)
    edges, counts = whole.edges[first : last + 1], whole.counts[first:last]
    texts = [duration(edge, unit_s) for edge in edges]
    names = [f"{low} to {high}" for low, high in pairwise(texts)]
    bars = tuple(
        Bar(name, f"{name}: {counted(number, 'input')}", number) for name, number in zip(names, counts, strict=True)
    )
    values = [whole.quantile(portion) or 0.0 for portion in QUANTILES]
    quantiles = tuple(duration(value, unit_s) for value in values)
    # At most five labels, evenly spread, the first and the last edge among them.
    shown = range(len(edges)) if len(edges) <= 5 else [round(place * (len(edges) - 1) / 4) for place in range(5)]
    marks = [
        (edges.index(value), f"p{portion * 100:g} ≤ {text}")
        for portion, value, text in zip(QUANTILES, values, quantiles, strict=True)
    ]
    p50, p95, p99 = quantiles
    return Plot(
        identifier,
        name,
        what,
        counted(whole.total, "input"),
        f"{counted(whole.total, 'input')}: p50 at most {p50}, p95 at most {p95}, p99 at most {p99}.",
        bars,
        bar_chart(bars, frame, [(place, texts[place]) for place in shown], marks, one_path=frame.width < 300),
        quantiles=quantiles,
    )


def bar_chart(
    bars: Sequence[Bar],
    frame: Frame,
    columns: Iterable[tuple[float, str | datetime]],
    marks: Sequence[tuple[float, str]] = (),
    *,
    one_path: bool = False,
) -> Chart:
    """`columns` and `marks` are placed in bars from the left; `one_path`: too many bars for a text on each."""
    ticks = count_ticks(max(bar.count + bar.failed for bar in bars), frame.steps)
    pitch, scale = (frame.width - frame.right - frame.left) / len(bars), (frame.floor - frame.top) / ticks[-1]
    gap = 0.5 if pitch < 6 else 1.0

    def outline(place: int, below: int, count: int) -> str:
        """What is counted is seen: at least one and a half pixels."""
        bottom = f"{frame.floor - below * scale:.1f}"
        return (
            f"M{frame.left + place * pitch + gap:.1f} {bottom}v{-max(count * scale, 1.5):.1f}"
            f"h{pitch - 2 * gap:.1f}V{bottom}z"
            if count
            else ""
        )

    paths = [
        (outline(place, 0, bar.count), outline(place, bar.count, bar.failed), bar.text)
        for place, bar in enumerate(bars)
        if bar.count or bar.failed
    ]
    if one_path:
        paths = [("".join(done for done, _, _ in paths), "".join(failed for _, failed, _ in paths), "")]
    return Chart(
        frame,
        tuple(paths),
        tuple((round(frame.floor - tick * scale, 1), short_count(tick)) for tick in ticks),
        _column_labels([(frame.left + place * pitch, value) for place, value in columns], frame),
        _marks([(round(frame.left + place * pitch, 1), text) for place, text in marks], frame),
    )


def _column_labels(columns: Iterable[tuple[float, str | datetime]], frame: Frame) -> tuple[Label, ...]:
    """Without labels that overlap the one before; moved inside at both ends. A time's text depends on that, too."""
    labels: list[Label] = []
    clear, before = 0.0, None
    for x, value in columns:
        label = Label(x, frame.height - 7, value if isinstance(value, str) else tick_text(value, before))
        half = label.width / 2
        label = label._replace(x=math.floor(10 * min(max(x, half + 0.1), frame.width - half)) / 10)
        if label.left >= clear:
            labels.append(label)
            clear, before = label.right + 6, value if isinstance(value, datetime) else None
    return tuple(labels)


def _marks(marks: Sequence[tuple[float, str]], frame: Frame) -> tuple[tuple[float, Label], ...]:
    """One label below the other, all on the side of their lines on which no line crosses a label."""
    labels = [Label(x + 5, 11 + 14 * number, text, "mark", "start") for number, (x, text) in enumerate(marks)]
    if any(label.right > frame.width for label in labels):
        labels = [
            label._replace(y=other.y, x=label.x - 10, anchor="end")
            for label, other in zip(labels, reversed(labels), strict=True)
        ]
        # Without room on either side it is across the line, legible by its halo.
        labels = [label if label.left >= 2 else label._replace(x=2, anchor="start") for label in labels]
    return tuple((x, label) for (x, _), label in zip(marks, labels, strict=True))


def count_ticks(highest: int, wanted: int = 4) -> tuple[int, ...]:
    """Whole, round numbers from 0 to at least `highest`, about `wanted` steps."""
    if highest <= 0:
        return (0, 1)
    raw = highest / wanted
    power = 10 ** math.floor(math.log10(raw)) if raw >= 1 else 1
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= raw)
    return tuple(range(0, highest + step if highest % step else highest + 1, step))


def _time_columns(bars: Sequence[Bar], frame: Frame) -> list[tuple[float, datetime]]:
    """Round times, and where they are in bars from the left."""
    if len(bars) < 2 or (start := bars[0].start) is None or (second := bars[1].start) is None:
        return []
    length = second - start
    ticks = time_ticks(start, start + length * len(bars), 8 if frame.width > 400 else 3)
    return [((tick - start) / length, tick) for tick in ticks]


def time_ticks(start: datetime, end: datetime, wanted: int = 6) -> tuple[datetime, ...]:
    """Round times (UTC) from `start` to `end`, at most about `wanted`."""
    step = next((step for step in _TIME_STEPS if (end - start) / step <= wanted), _TIME_STEPS[-1])
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight + math.ceil((start - midnight) / step) * step
    return tuple(first + place * step for place in range(2 * wanted) if first + place * step <= end)


def tick_text(at: datetime, before: datetime | None) -> str:
    """The time of day, with the date if it is another one than `before`'s."""
    if before is None or at.date() != before.date():
        return f"{at:%d %b}" if at.hour == at.minute == 0 else f"{at:%d %b %H:%M}"
    return f"{at:%H:%M}"
