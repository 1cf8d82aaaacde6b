"""Counts of what a function finished, in memory that does not grow with how much that is."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from refinerctl.insight.error_signature import signature
from refinerctl.insight.report.types import FailureGroup, Histogram, Interval

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
NO_REASON = "no reason given"


@dataclass(frozen=True)
class Timeline:
    """Stretches of time of equal length at round times (UTC) that cover the report's: MAX_INTERVALS and two at most."""

    start: datetime
    step: timedelta
    count: int

    @classmethod
    def over(cls, since: datetime, until: datetime) -> Timeline:
        """The last hour is in minutes, although it began a moment more than an hour ago."""
        whole_s, day = (until - since).total_seconds(), _STEPS_S[-1]
        whole_days = day * (int(whole_s) // (day * MAX_INTERVALS) + 1)
        step_s = next((step for step in _STEPS_S if whole_s < step * (MAX_INTERVALS + 1)), whole_days)
        start_s = int(since.timestamp()) // step_s * step_s
        count = int(until.timestamp() - start_s) // step_s + 1
        return cls(datetime.fromtimestamp(start_s, UTC), timedelta(seconds=step_s), count)

    def place(self, at: datetime) -> int:
        """Which one `at` is in; the first or last one for what lies before or after all."""
        return min(max(0, (at - self.start) // self.step), self.count - 1)


class Bins:
    """A histogram that is being counted."""

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) - 1)

    def add(self, value: float) -> None:
        """What lies outside counts in the first or last bin."""
        self._counts[min(max(0, bisect_right(self._edges, value) - 1), len(self._counts) - 1)] += 1

    def histogram(self) -> Histogram | None:
        """Without empty bins at either end; None without values."""
        used = [place for place, count in enumerate(self._counts) if count]
        if not used:
            return None
        first, last = used[0], used[-1] + 1
        return Histogram(self._edges[first : last + 1], tuple(self._counts[first:last]))


@dataclass
class _Cause:
    first: datetime
    last: datetime
    count: int = 0
    example: str = ""
    keys: OrderedDict[str, None] = field(default_factory=OrderedDict)
    request_ids: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def add(self, at: datetime, error: str, key: str, request_id: str) -> None:
        self.count += 1
        self.first, self.last = min(self.first, at), max(self.last, at)
        self.example = error[:MAX_EXAMPLE]
        _remember(self.keys, key)
        _remember(self.request_ids, request_id)


def _together(causes: Sequence[_Cause]) -> _Cause:
    """Several causes as one; what is newest counts as the example, and stands last."""
    ordered = sorted(causes, key=lambda cause: cause.last)
    whole = _Cause(min(cause.first for cause in causes), ordered[-1].last, sum(cause.count for cause in causes))
    whole.example = ordered[-1].example
    for cause in ordered:
        for key in cause.keys:
            _remember(whole.keys, key)
        for request_id in cause.request_ids:
            _remember(whole.request_ids, request_id)
    return whole


def _remember(known: OrderedDict[str, None], text: str) -> None:
    """The newest at the end, each once, no more than MAX_KEYS."""
    if not text:
        return
    known[text] = None
    known.move_to_end(text)
    if len(known) > MAX_KEYS:
        known.popitem(last=False)


class Causes:
    """Failed attempts by cause."""

    def __init__(self) -> None:
        self._causes: dict[str, _Cause] = {}

    def add(self, at: datetime, error: str, key: str, request_id: str) -> None:
        text = signature(error, (key, request_id)) or NO_REASON
        if text not in self._causes and len(self._causes) >= MAX_CAUSES:
            text = OTHER_CAUSES
        cause = self._causes.setdefault(text, _Cause(at, at))
        cause.add(at, error, key, request_id)

    def groups(self, ruleset: str) -> tuple[FailureGroup, ...]:
        """The most frequent first, at most MAX_SHOWN; what is left is one group, the last."""
        named = [item for item in self._causes.items() if item[0] != OTHER_CAUSES]
        ranked = sorted(named, key=lambda item: (-item[1].count, item[0]))
        rest = [cause for _, cause in ranked[MAX_SHOWN:]]
        rest += [cause for text, cause in self._causes.items() if text == OTHER_CAUSES]
        shown = [*ranked[:MAX_SHOWN], *([(OTHER_CAUSES, _together(rest))] if rest else [])]
        return tuple(_group(ruleset, text, cause) for text, cause in shown)


def _group(ruleset: str, text: str, cause: _Cause) -> FailureGroup:
    keys, request_ids = tuple(reversed(cause.keys)), tuple(reversed(cause.request_ids))
    return FailureGroup(ruleset, text, cause.count, cause.first, cause.last, cause.example, keys, request_ids)


class Tally:
    """What was finished: when, how fast, and why not."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._completed = [0] * timeline.count
        self._failed = [0] * timeline.count
        self._latency = Bins(LATENCY_EDGES_S)
        self._duration = Bins(DURATION_EDGES_MS)
        self.causes = Causes()
        self.attempts = 0

    def complete(self, at: datetime, duration_ms: float | None = None, latency_s: float | None = None) -> None:
        self._completed[self._timeline.place(at)] += 1
        if duration_ms is not None:
            self._duration.add(duration_ms)
        if latency_s is not None:
            self._latency.add(max(0.0, latency_s))

    def fail(self, at: datetime, error: str, key: str = "", request_id: str = "") -> None:
        """Of what is not known the text is empty."""
        self._failed[self._timeline.place(at)] += 1
        self.causes.add(at, error, key, request_id)

    def take_back(self, at: datetime) -> None:
        """One that was counted as completed around `at` has failed."""
        for place in (self._timeline.place(at), self._timeline.place(at) + 1):
            if place < self._timeline.count and self._completed[place]:
                self._completed[place] -= 1
                return

    @property
    def completed(self) -> int:
        return sum(self._completed)

    @property
    def failed(self) -> int:
        return sum(self._failed)

    @property
    def latency_s(self) -> Histogram | None:
        return self._latency.histogram()

    @property
    def duration_ms(self) -> Histogram | None:
        return self._duration.histogram()

    def intervals(self, until: datetime) -> tuple[Interval, ...]:
        """Those that begin before `until`: of what was not read, nothing is said."""
        line = self._timeline
        starts = (line.start + line.step * place for place in range(line.count))
        counts = zip(starts, self._completed, self._failed, strict=True)
        return tuple(Interval(start, done, failed) for start, done, failed in counts if start <= until)
