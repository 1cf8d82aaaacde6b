"""Counts of what a function finished, in memory that does not grow with their number."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from refinerctl.insight.attempts import Attempt
from refinerctl.insight.error_signature import signature
from refinerctl.stacks.base import NO_REASON

# Ten to a decade, rounded: the series R10 of ISO 3.
_DECADE = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)
LATENCY_EDGES_S = tuple(round(step * 10.0**power, 4) for power in range(-2, 7) for step in _DECADE)
DURATION_EDGES_MS = tuple(round(step * 10.0**power, 2) for power in range(7) for step in _DECADE)

MAX_INTERVALS = 60
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)

MAX_CAUSES = 200
MAX_SHOWN = 20
MAX_KEYS = 10
MAX_EXAMPLE = 500
OTHER_CAUSES = "other causes"


@dataclass(frozen=True)
class Histogram:
    """How many values are between neighbours of `edges` (one more than `counts`), lowest first."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The edge that at least `share` (0 to 1) of all values are not above; None without values."""
        wanted, seen = share * self.total, 0
        for upper, count in zip(self.edges[1:], self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return upper
        return None


@dataclass(frozen=True)
class Interval:
    """How many attempts one stage's function finished in an interval of the report that begins at `start`."""

    start: datetime
    completed: int
    failed: int


@dataclass(frozen=True)
class FailureGroup:
    """Failed attempts with one cause: `signature` is their error without what differs from one to the next.

    `keys` are some of the inputs, `request_ids` some of the invocations, newest first. Times in UTC.
    """

    stage: str
    signature: str
    count: int
    first: datetime
    last: datetime
    example: str
    keys: tuple[str, ...] = ()
    request_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """Intervals of equal length at round times (UTC) that cover the report's period: at most MAX_INTERVALS + 2."""

    start: datetime
    step: timedelta
    count: int

    @classmethod
    def over(cls, since: datetime, until: datetime) -> Timeline:
        """The last hour is in minutes, although it began slightly more than an hour ago."""
        whole_s, day = (until - since).total_seconds(), _STEPS_S[-1]
        whole_days = day * (int(whole_s) // (day * MAX_INTERVALS) + 1)
        step_s = next((step for step in _STEPS_S if whole_s < step * (MAX_INTERVALS + 1)), whole_days)
        start_s = int(since.timestamp()) // step_s * step_s
        count = int(until.timestamp() - start_s) // step_s + 1
        return cls(datetime.fromtimestamp(start_s, UTC), timedelta(seconds=step_s), count)

    def place(self, at: datetime) -> int:
        """The number of the interval that has `at`; the first or last one for times outside."""
        return min(max(0, (at - self.start) // self.step), self.count - 1)


class Bins:
    """Counts the values of a histogram; values outside of the edges count in the first or last bin."""

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) - 1)

    def add(self, value: float) -> None:
        self._counts[min(max(0, bisect_right(self._edges, value) - 1), len(self._counts) - 1)] += 1

    def histogram(self) -> Histogram | None:
        """Without empty bins at either end; None without values."""
        used = [place for place, count in enumerate(self._counts) if count]
        if not used:
            return None
        first, last = used[0], used[-1] + 1
        return Histogram(self._edges[first : last + 1], tuple(self._counts[first:last]))


def _newest() -> deque[str]:
    return deque(maxlen=MAX_KEYS)


@dataclass
class _Cause:
    """A failure group that is being counted; the newest keys and request ids are last, each once."""

    first: datetime
    last: datetime
    count: int = 0
    example: str = ""
    keys: deque[str] = field(default_factory=_newest)
    request_ids: deque[str] = field(default_factory=_newest)

    def add(self, other: _Cause) -> None:
        """Add failures of which the newest is the newest of all."""
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.count, self.example = self.count + other.count, other.example
        for known, new in ((self.keys, other.keys), (self.request_ids, other.request_ids)):
            for text in filter(None, new):
                if text in known:
                    known.remove(text)
                known.append(text)

    def group(self, stage: str, text: str) -> FailureGroup:
        keys, request_ids = tuple(reversed(self.keys)), tuple(reversed(self.request_ids))
        return FailureGroup(stage, text, self.count, self.first, self.last, self.example, keys, request_ids)


def _merged(causes: Sequence[_Cause]) -> _Cause:
    ordered = sorted(causes, key=lambda cause: cause.last)
    whole = _Cause(ordered[0].first, ordered[0].last)
    for cause in ordered:
        whole.add(cause)
    return whole


class AttemptTally:
    """What was finished: when, how fast, and why not."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._completed = [0] * timeline.count
        self._failed = [0] * timeline.count
        self._latency_s, self._duration_ms = Bins(LATENCY_EDGES_S), Bins(DURATION_EDGES_MS)
        self._causes: dict[str, _Cause] = {}
        self.attempts = 0

    @classmethod
    def of(cls, attempts: Iterable[Attempt], timeline: Timeline) -> AttemptTally:
        """Of a function that names its inputs, these are counted; of any other, its invocations."""
        inputs, invocations, names_inputs = cls(timeline), cls(timeline), False
        unnamed = Counter[int]()
        for attempt in attempts:
            if attempt.message_id is not None:
                names_inputs = True
                inputs.add(attempt)
                continue
            if attempt.ended is not None:
                invocations.add(attempt)
            if attempt.error is not None:  # it failed before it named an input
                inputs.add(attempt)
            if not attempt.request_id:
                unnamed[timeline.place(attempt.ended or attempt.started)] += 1
        if names_inputs:
            return inputs
        invocations._take_back(unnamed)
        return invocations

    def add(self, attempt: Attempt) -> None:
        self.attempts += 1
        at = attempt.ended
        if attempt.error is not None:
            self._fail(at or attempt.started, attempt.error, attempt.key or "", attempt.request_id)
        elif at is not None:
            self._completed[self._timeline.place(at)] += 1
            if attempt.ignored is None and attempt.duration_ms is not None:
                self._duration_ms.add(attempt.duration_ms)
            if attempt.ignored is None and attempt.event_at is not None:
                self._latency_s.add(max(0.0, (at - attempt.event_at).total_seconds()))

    def _fail(self, at: datetime, error: str, key: str, request_id: str) -> None:
        self._failed[self._timeline.place(at)] += 1
        text = signature(error, (key, request_id)) or NO_REASON
        if text not in self._causes and len(self._causes) >= MAX_CAUSES:
            text = OTHER_CAUSES
        new = _Cause(at, at, 1, error[:MAX_EXAMPLE], deque([key]), deque([request_id]))
        self._causes.setdefault(text, _Cause(at, at)).add(new)

    def _take_back(self, failed: Counter[int]) -> None:
        """Errors that name no invocation, by interval: the emulator reported each elsewhere, as a success."""
        for place, number in failed.items():
            for near in range(place, min(place + 2, self._timeline.count)):
                taken = min(number, self._completed[near])
                self._completed[near] -= taken
                self.attempts -= taken
                number -= taken

    @property
    def completed(self) -> int:
        return sum(self._completed)

    @property
    def failed(self) -> int:
        return sum(self._failed)

    @property
    def latency_s(self) -> Histogram | None:
        return self._latency_s.histogram()

    @property
    def duration_ms(self) -> Histogram | None:
        return self._duration_ms.histogram()

    def failures(self, stage: str) -> tuple[FailureGroup, ...]:
        """The MAX_SHOWN most frequent causes first; the others are the last group."""
        ranked = sorted(self._causes.items(), key=lambda item: (item[0] == OTHER_CAUSES, -item[1].count, item[0]))
        shown, rest = ranked[:MAX_SHOWN], [cause for _, cause in ranked[MAX_SHOWN:]]
        if rest:
            shown.append((OTHER_CAUSES, _merged(rest)))
        return tuple(cause.group(stage, text) for text, cause in shown)

    def intervals(self, until: datetime) -> tuple[Interval, ...]:
        """Those that begin before `until`: nothing is known about what was not read."""
        line = self._timeline
        starts = (line.start + line.step * place for place in range(line.count))
        counts = zip(starts, self._completed, self._failed, strict=True)
        return tuple(Interval(start, done, failed) for start, done, failed in counts if start <= until)
