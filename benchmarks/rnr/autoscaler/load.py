"""A day of work, as forecasts arrive: cycles every six hours, a flood, a trickle between, lulls; readings that fail."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import log

DAY = 86_400
MINUTE, HOUR = 60, 3_600


@dataclass(frozen=True)
class Load:
    """`arrivals`: durations of the jobs that are published, by time; `failures`: when no reading succeeds."""

    arrivals: dict[int, tuple[int, ...]]
    failures: frozenset[int]  # minutes

    def fails(self, now: int) -> bool:
        return now // MINUTE in self.failures


def day(seed: int) -> Load:
    """Return the load of 24 hours; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311
    arrivals = {}
    for at in range(0, DAY, 5 * MINUTE):  # the producer's schedule
        durations = tuple(_duration(chance) for _ in range(_count(at, chance)))
        if durations:
            arrivals[at + chance.randrange(0, 20, 5)] = durations
    single = {minute for minute in range(DAY // MINUTE) if chance.random() < 0.02}
    outage = set(range(13 * 60 + 10, 13 * 60 + 25))  # the broker fails over, with a backlog
    return Load(arrivals, frozenset(single | outage))


def _count(at: int, chance: random.Random) -> int:
    hour = at / HOUR
    if hour % 6 < 1 / 12:
        return chance.randint(60, 90)  # a cycle of forecasts
    if 15 <= hour < 16:
        return chance.randint(15, 35)  # a flood: updates every five minutes for an hour
    if 2 <= hour < 5 or 20 <= hour < 22.5:
        return 0
    if 8.5 <= hour < 11.5:
        return chance.randint(3, 8)  # about as much as two or three tasks do
    return chance.choice((0, 0, 0, 0, 1, 2, 4))


def _duration(chance: random.Random) -> int:
    return round(min(max(chance.lognormvariate(log(150), 0.5), 45), 900))
