"""Bars over time and over ranges of a quantity: geometry and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from refinerctl.insight.report.page.numbers import counted, duration, short_count, utc
from refinerctl.insight.report.page.scales import Scale, count_ticks, every, tick_text, time_ticks
from refinerctl.insight.report.page.shapes import Label
from refinerctl.insight.report.page.text import BOLD, TICK_SIZE, text_width
from refinerctl.insight.report.types import Histogram, Interval, Report

MOST_BARS, MOST_SMALL_BARS = 96, 48
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Frame:
    """How large a chart is and how much room its axes take."""

    width: float
    height: float
    left: float
    top: float
    bottom: float
    right: float = 8

    @property
    def floor(self) -> float:
        return self.height - self.bottom


WIDE = Frame(900, 200, left=52, top=12, bottom=26)
NARROW = Frame(336, 190, left=48, top=12, bottom=26)
SMALL = Frame(256, 124, left=40, top=10, bottom=24)
DISTRIBUTION = Frame(340, 186, left=44, top=54, bottom=26)
SMALL_DISTRIBUTION = Frame(256, 160, left=40, top=54, bottom=24)


@dataclass(frozen=True)
class Bar:
    """`done` and `lost` are outlines of its two parts; `text` says what it stands for."""

    done: str
    lost: str
    text: str = ""


@dataclass(frozen=True)
class Mark:
    """A line across the chart, with its label."""

    x: float
    label: Label


@dataclass(frozen=True)
class Chart:
    frame: Frame
    bars: tuple[Bar, ...]
    rows: tuple[Label, ...]
    columns: tuple[Label, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Slot:
    """What was finished between two moments (UTC)."""

    start: datetime
    end: datetime
    completed: int
    failed: int

    @property
    def text(self) -> str:
        return f"{self.start:%d %b %H:%M} to {self.end:%H:%M}: {self.completed:,} completed, {self.failed:,} failed"


def slots(report: Report, intervals: Iterable[Interval], most: int = MOST_BARS) -> tuple[Slot, ...]:
    """The report's time in stretches of its interval, or of some of them together so that they are at most `most`."""
    since, until = utc(report.since), utc(report.status.at)
    if since is None or until is None or until <= since or report.interval <= timedelta(0):
        return ()
    together = math.ceil((until - since) / report.interval / most)
    length = report.interval * together
    sums: dict[int, tuple[int, int]] = {}
    for interval in intervals:
        start = utc(interval.start)
        if start is not None and start < until:
            place = max(0, (start - since) // length)
            completed, failed = sums.get(place, (0, 0))
            sums[place] = (completed + interval.completed, failed + interval.failed)
    return tuple(
        Slot(since + place * length, min(until, since + (place + 1) * length), *sums.get(place, (0, 0)))
        for place in range(math.ceil((until - since) / length))
    )


def over_time(all_slots: Sequence[Slot], frame: Frame, *, one_path: bool = False) -> Chart:
    """Stacked bars; `one_path`: all in one outline, where there are too many for a text on each."""
    ticks = count_ticks(max((slot.completed + slot.failed for slot in all_slots), default=0))
    up = Scale(0, ticks[-1], frame.floor, frame.top)
    across = Scale(0, len(all_slots), frame.left, frame.width - frame.right)
    bars = []
    for place, slot in enumerate(all_slots):
        gap, width = _gap_and_width(across, place)
        x, done = across(place) + gap, up(slot.completed)
        lost = _outline(x, done, up(slot.completed + slot.failed), width) if slot.failed else ""
        bars.append(Bar(_outline(x, up(0), done, width) if slot.completed else "", lost, slot.text))
    rows = _rows(ticks, up, frame)
    return Chart(frame, _joined(bars) if one_path else tuple(bars), rows, _times(all_slots, frame))


def _outline(x: float, bottom: float, top: float, width: float) -> str:
    """A bar; what is there is seen: at least one and a half pixels."""
    return f"M{x:.1f} {bottom:g}v{-max(bottom - top, 1.5):.1f}h{width:.1f}V{bottom:g}z"


def _rows(ticks: Sequence[int], up: Scale, frame: Frame) -> tuple[Label, ...]:
    return tuple(Label(frame.left - 6, up(tick), short_count(tick), "tick", "end") for tick in ticks)


def _times(all_slots: Sequence[Slot], frame: Frame) -> tuple[Label, ...]:
    if not all_slots:
        return ()
    start, end = all_slots[0].start, all_slots[-1].end
    across = Scale(start.timestamp(), end.timestamp(), frame.left, frame.width - frame.right)
    labels: list[Label] = []
    previous: datetime | None = None
    for tick in time_ticks(start, end, 8 if frame.width > 400 else 3):
        label = Label(across(tick.timestamp()), frame.height - 6, tick_text(tick, previous), "tick", "middle")
        half = text_width(label.text, TICK_SIZE) / 2
        clear = labels[-1].x + text_width(labels[-1].text, TICK_SIZE) / 2 + 6 if labels else 0
        if label.x - half >= clear and label.x + half <= frame.width:
            labels.append(label)
            previous = tick
    return tuple(labels)


@dataclass(frozen=True)
class Range:
    """One bar of a histogram, in words."""

    name: str
    count: int

    @property
    def text(self) -> str:
        return f"{self.name}: {counted(self.count, 'input')}"


def trimmed(histogram: Histogram) -> Histogram:
    """Without the empty ranges at both ends."""
    filled = [place for place, count in enumerate(histogram.counts) if count]
    if not filled:
        return Histogram(histogram.edges[:1], ())
    first, last = max(0, filled[0] - 1), min(len(histogram.counts), filled[-1] + 2)
    return Histogram(histogram.edges[first : last + 1], histogram.counts[first:last])


def ranges(histogram: Histogram, unit_s: float) -> tuple[Range, ...]:
    """`unit_s`: how many seconds one of the edges' units is."""
    edges = [duration(edge * unit_s) for edge in histogram.edges]
    return tuple(
        Range(f"{low} to {high}", count)
        for low, high, count in zip(edges[:-1], edges[1:], histogram.counts, strict=True)
    )


def distribution(histogram: Histogram, unit_s: float, frame: Frame, *, one_path: bool = False) -> Chart:
    """Each range has a bar of the same width, whatever its edges are: they may grow by a factor."""
    ticks = count_ticks(max(histogram.counts, default=0), 3)
    up = Scale(0, ticks[-1], frame.floor, frame.top)
    across = Scale(0, max(1, len(histogram.counts)), frame.left, frame.width - frame.right)
    bars = [
        Bar(_outline(across(place) + gap, up(0), up(part.count), width) if part.count else "", "", part.text)
        for place, part in enumerate(ranges(histogram, unit_s))
        for gap, width in [_gap_and_width(across, place)]
    ]
    columns = _apart(
        (
            Label(across(place), frame.height - 8, duration(histogram.edges[place] * unit_s), "tick", "middle")
            for place in every(range(len(histogram.edges)), 5)
        ),
        frame,
    )
    rows, marks = _rows(ticks, up, frame), _marks(histogram, unit_s, across, frame)
    return Chart(frame, _joined(bars) if one_path else tuple(bars), rows, columns, marks)


def _gap_and_width(across: Scale, place: int) -> tuple[float, float]:
    """Of a bar: there is always something between it and the next."""
    whole = across(place + 1) - across(place)
    gap = 0.5 if whole < 6 else 1.0
    return gap, whole - 2 * gap


def _joined(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    return (Bar("".join(bar.done for bar in bars), "".join(bar.lost for bar in bars)),)


def _apart(labels: Iterable[Label], frame: Frame) -> tuple[Label, ...]:
    """Without those that would run into the one before; pushed inside at the right end."""
    kept: list[Label] = []
    clear = 0.0
    for label in labels:
        half = text_width(label.text, TICK_SIZE) / 2
        x = math.floor(10 * min(label.x, frame.width - half)) / 10
        if x - half >= clear:
            kept.append(Label(x, label.y, label.text, label.kind, label.anchor))
            clear = x + half + 6
    return tuple(kept)


def _marks(histogram: Histogram, unit_s: float, across: Scale, frame: Frame) -> tuple[Mark, ...]:
    """Where the quantiles are, one label below the other, all on that side of their lines where no line crosses one."""
    values = [value for portion in QUANTILES if (value := histogram.quantile(portion)) is not None]
    texts = [
        f"p{portion * 100:g} ≤ {duration(value * unit_s)}" for portion, value in zip(QUANTILES, values, strict=False)
    ]
    places = [across(histogram.edges.index(value)) for value in values]
    widths = [text_width(text, TICK_SIZE) * BOLD for text in texts]
    is_right = all(x + 5 + width <= frame.width for x, width in zip(places, widths, strict=True))
    marks = []
    for number, (x, text, width) in enumerate(zip(places, texts, widths, strict=True)):
        row = number if is_right else len(places) - 1 - number
        # On the left there may be no room either: then the label stands across the line, and its halo keeps it legible.
        anchor, beside = ("end", x - 5) if not is_right and x - 5 - width >= 2 else ("start", x + 5 if is_right else 2)
        marks.append(Mark(x, Label(beside, 11 + 14 * row, text, "mark", anchor)))
    return tuple(marks)
