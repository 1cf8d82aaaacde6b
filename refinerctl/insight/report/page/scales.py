"""Axes: round numbers for their ticks, and where a value lies between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_STEPS = (1, 2, 5, 10)
_TIME_STEPS = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 20160, 40320)
)


@dataclass(frozen=True)
class Scale:
    """Maps `low`…`high` onto `start`…`end` in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return self.start
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def count_ticks(highest: int, wanted: int = 4) -> tuple[int, ...]:
    """Whole, round numbers from 0 to at least `highest`, about `wanted` steps apart."""
    if highest <= 0:
        return (0, 1)
    raw = highest / wanted
    power = 10 ** math.floor(math.log10(raw)) if raw >= 1 else 1
    step = max(1, round(next(step * power for step in _STEPS if step * power >= raw or step == _STEPS[-1])))
    return tuple(range(0, highest + step, step)) if highest % step else tuple(range(0, highest + 1, step))


def time_ticks(start: datetime, end: datetime, wanted: int = 6) -> tuple[datetime, ...]:
    """Round moments (UTC) from `start` to `end`, at most about `wanted`."""
    length = end - start
    step = next((step for step in _TIME_STEPS if length / step <= wanted), _TIME_STEPS[-1])
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    steps = math.ceil((start - midnight) / step)
    ticks: list[datetime] = []
    while (tick := midnight + steps * step) <= end and len(ticks) < 2 * wanted:
        ticks.append(tick)
        steps += 1
    return tuple(ticks)


def tick_text(at: datetime, previous: datetime | None) -> str:
    """The time of day; the date where a day begins or nothing stands before it."""
    if previous is None or at.date() != previous.date():
        return f"{at:%d %b}" if at.hour == at.minute == 0 else f"{at:%d %b %H:%M}"
    return f"{at:%H:%M}"


def every(items: Sequence[int], most: int) -> list[int]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
