"""How many tasks the service should have: a pure function of settings, one reading and the state of the last run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from autoscaler.backlog_age import Samples


@dataclass(frozen=True)
class Settings:
    """Numbers of tasks, messages and seconds; `hysteresis` is a share of the target."""

    target_backlog: float = 5
    min_tasks: int = 0
    max_tasks: int = 10
    activation: int = 0  # with no task: start the first one if there are more messages than this
    step_out: int = 5
    step_in: int = 5
    hysteresis: float = 0.2
    scale_in_cooldown_s: float = 600
    zero_cooldown_s: float = 900
    max_gap_s: float = 180  # time between two readings that still counts as observed

    def __post_init__(self) -> None:
        if not 0 <= self.min_tasks <= self.max_tasks:
            raise ValueError(f"minimum of {self.min_tasks} tasks and maximum of {self.max_tasks} exclude each other")
        if self.target_backlog <= 0 or self.step_out < 1 or self.step_in < 1 or not 0 <= self.hysteresis < 1:
            raise ValueError("target backlog and steps must be positive, and hysteresis from 0 to below 1")


@dataclass(frozen=True)
class Reading:
    """What the broker and ECS said; `published` is the broker's count since it was started."""

    at: float
    ready: int
    unacknowledged: int
    published: int
    desired: int
    running: int
    pending: int
    protected: int

    @property
    def backlog(self) -> int:
        return self.ready + self.unacknowledged

    @property
    def busy(self) -> int:
        """Workers with a job: protected, or with an unacknowledged message (one worker may hold several)."""
        return max(self.protected, min(self.unacknowledged, self.running))


@dataclass(frozen=True)
class State:
    """What the next run has to know: since when fewer tasks would do, the most that were needed since; the samples."""

    at: float = 0
    lower_since: float | None = None
    lower_peak: int = 0
    empty_since: float | None = None
    samples: Samples = field(default_factory=Samples)

    @property
    def queue_seen(self) -> bool:
        """Whether the queue existed at an earlier reading."""
        return bool(self.samples.points) and self.samples.points[-1][1] > 0

    def to_json(self) -> dict[str, Any]:
        """Return a document of less than 4 KB, the size of an SSM parameter."""
        return {
            "at": round(self.at),
            "lower_since": self.lower_since and round(self.lower_since),
            "lower_peak": self.lower_peak,
            "empty_since": self.empty_since and round(self.empty_since),
            "samples": self.samples.to_json(),
        }

    @classmethod
    def from_json(cls, document: Any) -> State:
        """Return the state; raises ValueError if the document is not one."""
        try:
            return cls(
                at=float(document["at"]),
                lower_since=_number(document["lower_since"]),
                lower_peak=int(document["lower_peak"]),
                empty_since=_number(document["empty_since"]),
                samples=Samples.from_json(document["samples"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"not a state of the autoscaler: {error!r}") from error


@dataclass(frozen=True)
class Decision:
    """The desired count, why, and what to remember; `backlog_age` is the age of the queue's head message in seconds."""

    desired: int
    reason: str
    backlog_age: float
    state: State


def decide(settings: Settings, reading: Reading, state: State) -> Decision:
    """Return the decision; scales out at once and in after a cool-down, never below the number of busy workers."""
    if reading.at <= state.at:
        return Decision(reading.desired, "reading is out of date", state.samples.age(reading.ready), state)
    state = _observe(settings, reading, state)
    desired, reason = _desired(settings, reading, state)
    if desired != reading.desired:  # each step in waits for a cool-down of its own
        state = replace(state, lower_since=reading.at, lower_peak=0)
    return Decision(desired, reason, state.samples.age(reading.ready), state)


def _observe(settings: Settings, reading: Reading, state: State) -> State:
    """Return the state with the reading. Cool-downs begin again after a gap, in which anything may have happened."""
    if reading.at - state.at > settings.max_gap_s:
        state = replace(state, lower_since=None, empty_since=None)
    empty_since = None if reading.backlog or reading.busy else _or(state.empty_since, reading.at)
    enough = _tasks_for(settings, reading.backlog, settings.target_backlog * (1 - settings.hysteresis))
    if enough < reading.desired:
        lower_since = _or(state.lower_since, reading.at)
        peak = enough if state.lower_since is None else max(enough, state.lower_peak)
    else:
        lower_since, peak = None, 0
    samples = state.samples.add(reading.at, reading.published, reading.ready)
    return State(reading.at, lower_since, peak, empty_since, samples)


def _desired(settings: Settings, reading: Reading, state: State) -> tuple[int, str]:
    current = reading.desired
    wanted = _tasks_for(settings, reading.backlog, settings.target_backlog)
    if current == 0 and reading.backlog <= settings.activation:
        wanted = settings.min_tasks
    floor = max(wanted if wanted > current else 0, reading.busy)
    if floor > current:
        return max(min(floor, current + settings.step_out), reading.busy), "scale out"
    return _scale_in(settings, reading, state)


def _scale_in(settings: Settings, reading: Reading, state: State) -> tuple[int, str]:
    current = reading.desired
    if current > settings.max_tasks:  # the maximum was lowered
        return max(settings.max_tasks, reading.busy), "maximum"
    if state.lower_since is None:
        return current, "no change"
    if reading.at - state.lower_since < settings.scale_in_cooldown_s:
        return current, "cool-down"
    target = max(state.lower_peak, current - settings.step_in, reading.busy, settings.min_tasks)
    if target == 0 and (state.empty_since is None or reading.at - state.empty_since < settings.zero_cooldown_s):
        target = 1
    if target >= current:
        return current, "busy workers" if reading.busy >= current else "cool-down before zero"
    return target, "scale in"


def _tasks_for(settings: Settings, backlog: int, per_task: float) -> int:
    return min(max(ceil(backlog / per_task), settings.min_tasks), settings.max_tasks)


def _or(since: float | None, now: float) -> float:
    return now if since is None else since


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
