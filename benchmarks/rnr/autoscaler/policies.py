"""Three ways to choose the number of tasks: refinerctl's decision, KEDA's algorithm, target tracking by two alarms."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

from autoscaler.decision import Reading, Settings, State, decide
from benchmarks.rnr.autoscaler.load import MINUTE


class Policy(Protocol):
    """`choose` returns the desired count. It is called each `interval_s`, with None if the reading failed."""

    interval_s: int

    def choose(self, now: int, desired: int, reading: Reading | None) -> int: ...


@dataclass
class Autoscaler:
    """The function of images/autoscaler, once a minute."""

    settings: Settings = Settings()  # noqa: RUF009
    state: State = State()  # noqa: RUF009
    age: float | None = None
    interval_s: int = MINUTE

    def choose(self, now: int, desired: int, reading: Reading | None) -> int:
        if reading is None:
            self.age = None
            return desired
        decision = decide(self.settings, reading, State.from_json(self.state.to_json()))
        self.state, self.age = decision.state, decision.backlog_age
        return decision.desired


@dataclass
class Keda:
    """A ScaledObject with a RabbitMQ trigger (mode QueueLength) and its HPA, with their default settings.

    Polling every 30 s activates from 0 to 1 and, 300 s after the last activity, scales to 0. The HPA (every 15 s) adds
    at most 4 tasks or as many as there are, and scales in to the highest recommendation of the last 300 s.
    """

    target: float = 5
    most: int = 10
    cooldown_s: int = 300
    window_s: int = 300
    last_active: int = -1_000_000
    recommended: deque[tuple[int, int]] = field(default_factory=deque)
    interval_s: int = 15

    def choose(self, now: int, desired: int, reading: Reading | None) -> int:
        if reading is None:
            return desired
        if now % 30 == 0 and reading.backlog:
            self.last_active = now
        if desired == 0:
            return 1 if self.last_active == now else 0
        if now - self.last_active >= self.cooldown_s:
            self.recommended.clear()
            return 0
        ratio = reading.backlog / (self.target * desired)
        wanted = desired if abs(ratio - 1) <= 0.1 else min(max(ceil(reading.backlog / self.target), 1), self.most)
        self.recommended.append((now, wanted))
        while self.recommended[0][0] <= now - self.window_s:
            self.recommended.popleft()
        if wanted > desired:
            return min(wanted, max(2 * desired, desired + 4))
        return min(desired, max(number for _, number in self.recommended))


@dataclass
class TargetTracking:
    """Application Auto Scaling on BacklogPerTask: 3 data points of a minute above the target, 15 below 90 % of it.

    Cool-downs of 60 s out and 300 s in. A step policy with an alarm of one data point adds the first task, because a
    backlog per task says nothing without a task. An alarm sees the data point of the minute before.
    """

    target: float = 5
    most: int = 10
    points: deque[float | None] = field(default_factory=lambda: deque(maxlen=16))
    last_out: int = -1_000_000
    last_in: int = -1_000_000
    interval_s: int = MINUTE

    def choose(self, now: int, desired: int, reading: Reading | None) -> int:
        self.points.append(None if reading is None else reading.backlog / max(reading.running, 1))
        seen = [point for point in list(self.points)[:-1] if point is not None]  # missing data is ignored
        if not seen:
            return desired
        if desired == 0:
            self.last_out = now if seen[-1] > 0 else self.last_out
            return 1 if seen[-1] > 0 else 0
        if len(seen) >= 3 and min(seen[-3:]) > self.target and now - self.last_out >= 60:
            self.last_out = now
            return min(max(ceil(desired * seen[-1] / self.target), desired + 1), max(self.most, desired))
        quiet = len(seen) >= 14 and max(seen) < 0.9 * self.target
        if quiet and now - max(self.last_in, self.last_out) >= 300:
            self.last_in = now
            return min(desired, ceil(desired * seen[-1] / self.target))
        return desired
