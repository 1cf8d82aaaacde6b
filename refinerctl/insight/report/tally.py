"""Counts of a function's finished attempts, in memory that does not grow with their number."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from refinerctl.insight.attempts import Attempt
from refinerctl.insight.error_signature import signature
from refinerctl.stacks.records import NO_REASON

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


def merged(groups: Sequence[FailureGroup], most: int = MAX_KEYS) -> FailureGroup:
    """The failures of all groups, as the group with the newest of them; at most `most` keys and request ids."""
    newest = sorted(groups, key=lambda group: group.last, reverse=True)
    keys = dict.fromkeys(key for group in newest for key in group.keys)
    request_ids = dict.fromkeys(request_id for group in newest for request_id in group.request_ids)
    return replace(
        newest[0],
        count=sum(group.count for group in groups),
        first=min(group.first for group in groups),
        keys=tuple(keys)[:most],
        request_ids=tuple(request_ids)[:most],
    )


def interval_length(since: datetime, until: datetime) -> timedelta:
    """A round length, so that at most MAX_INTERVALS + 2 intervals at round times (UTC) cover the period.

    The last hour is in minutes, although it began slightly more than an hour ago.
    """
    whole_s, day = (until - since).total_seconds(), _STEPS_S[-1]
    whole_days = day * (int(whole_s) // (day * MAX_INTERVALS) + 1)
    return timedelta(seconds=next((step for step in _STEPS_S if whole_s < step * (MAX_INTERVALS + 1)), whole_days))


def bin_of(value: float, edges: Sequence[float]) -> int:
    """The number of the bin that has `value`; the first or last one for values outside of the edges."""
    return min(max(0, bisect_right(edges, value) - 1), len(edges) - 2)


def histogram(bins: Counter[int], edges: tuple[float, ...]) -> Histogram | None:
    """Without empty bins at either end; None without values."""
    if not bins:
        return None
    first, last = min(bins), max(bins)
    return Histogram(edges[first : last + 2], tuple(bins[place] for place in range(first, last + 1)))


class AttemptTally:
    """What a stage's function finished in a period: when, how fast, and why not."""

    def __init__(self, stage: str, since: datetime, until: datetime) -> None:
        self._stage = stage
        self._step = interval_length(since, until)
        step_s = int(self._step.total_seconds())
        self._start = datetime.fromtimestamp(int(since.timestamp()) // step_s * step_s, UTC)
        self._last = (until - self._start) // self._step
        self._completed, self._failed = Counter[int](), Counter[int]()
        self._latencies, self._durations = Counter[int](), Counter[int]()
        self._causes: dict[str, FailureGroup] = {}
        self.attempts = 0

    @classmethod
    def of(cls, attempts: Iterable[Attempt], stage: str, since: datetime, until: datetime) -> AttemptTally:
        """Counts inputs if the function names them in its log, else invocations."""
        inputs, invocations, names_inputs = cls(stage, since, until), cls(stage, since, until), False
        unnamed = Counter[int]()
        for attempt in attempts:
            if attempt.message_id is not None:
                names_inputs = True
                inputs.add(attempt)
                continue
            if attempt.ended is not None:
                invocations.add(attempt)
            if attempt.error is not None:  # it failed before it logged an input
                inputs.add(attempt)
            if not attempt.request_id:
                unnamed[inputs._place(attempt.ended or attempt.started)] += 1
        if names_inputs:
            return inputs
        invocations._take_back(unnamed)
        return invocations

    def add(self, attempt: Attempt) -> None:
        self.attempts += 1
        at = attempt.ended
        if attempt.error is not None:
            self._fail(attempt, at or attempt.started, attempt.error)
        elif at is not None:
            self._completed[self._place(at)] += 1
            if attempt.ignored is None and attempt.duration_ms is not None:
                self._durations[bin_of(attempt.duration_ms, DURATION_EDGES_MS)] += 1
            if attempt.ignored is None and attempt.event_at is not None:
                self._latencies[bin_of((at - attempt.event_at).total_seconds(), LATENCY_EDGES_S)] += 1

    def _fail(self, attempt: Attempt, at: datetime, error: str) -> None:
        self._failed[self._place(at)] += 1
        key, request_id = attempt.key or "", attempt.request_id
        text = signature(error, (key, request_id)) or NO_REASON
        if text not in self._causes and len(self._causes) >= MAX_CAUSES:
            text = OTHER_CAUSES
        keys, request_ids = tuple(filter(None, [key])), tuple(filter(None, [request_id]))
        new = FailureGroup(self._stage, text, 1, at, at, error[:MAX_EXAMPLE], keys, request_ids)
        self._causes[text] = merged([new, self._causes[text]]) if text in self._causes else new

    def _place(self, at: datetime) -> int:
        """The number of the interval that has `at`; the first or last one for times outside of the period."""
        return min(max(0, (at - self._start) // self._step), self._last)

    def _take_back(self, failed: Counter[int]) -> None:
        """Errors that name no invocation, by interval: the emulator reported each elsewhere, as a success."""
        for place, number in failed.items():
            for near in range(place, min(place + 1, self._last) + 1):
                taken = min(number, self._completed[near])
                self._completed[near] -= taken
                self.attempts -= taken
                number -= taken

    @property
    def completed(self) -> int:
        return self._completed.total()

    @property
    def failed(self) -> int:
        return self._failed.total()

    @property
    def latency_s(self) -> Histogram | None:
        return histogram(self._latencies, LATENCY_EDGES_S)

    @property
    def duration_ms(self) -> Histogram | None:
        return histogram(self._durations, DURATION_EDGES_MS)

    def failures(self) -> tuple[FailureGroup, ...]:
        """The MAX_SHOWN most frequent causes first; the others are the last group."""
        ranked = sorted(self._causes.values(), key=lambda it: (it.signature == OTHER_CAUSES, -it.count, it.signature))
        shown, rest = ranked[:MAX_SHOWN], ranked[MAX_SHOWN:]
        return (*shown, *([replace(merged(rest), signature=OTHER_CAUSES)] if rest else []))

    def intervals(self, until: datetime) -> tuple[Interval, ...]:
        """Those that begin before `until`: nothing is known about what was not read."""
        starts = [self._start + self._step * place for place in range(self._last + 1)]
        return tuple(
            Interval(start, self._completed[place], self._failed[place])
            for place, start in enumerate(starts)
            if start <= until
        )
