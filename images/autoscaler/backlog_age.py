"""The age of the queue's head message, from samples of how many messages were published: the broker does not say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST = 80  # samples; some 25 bytes each in a parameter of 4 KB


@dataclass(frozen=True)
class Samples:
    """(time, messages published until then) in order. A restart of the broker resets its count: `offset` was lost.

    The messages before the head were published, and are not ready: the head is number `published - ready + 1`, and its
    age is the time since `published` exceeded that number. Between two samples, messages are taken to arrive evenly.
    """

    points: tuple[tuple[float, int], ...] = ()
    offset: int = 0

    def add(self, at: float, count: int, ready: int) -> Samples:
        """Return the samples with one more, the broker's count at that time, and without those no longer needed."""
        last = self.points[-1][1] if self.points else 0
        # The broker was restarted: it kept the messages, and counts from 0. What it counted after the last sample is
        # unknown, so that the head may seem to be older than it is, not younger.
        offset = last if self.offset + count < last else self.offset
        points = (*self.points, (at, offset + count))
        before_head = offset + count - ready
        needed = next((i for i in range(len(points) - 1, 0, -1) if points[i][1] <= before_head), 0)
        return Samples(_thin(points[needed:]), offset)

    def age(self, ready: int) -> float:
        """Return the head's age in seconds; at least the time since the first sample if the head is older than that."""
        if ready <= 0 or not self.points:
            return 0.0
        now, published = self.points[-1]
        before_head = published - ready
        for (start, low), (end, high) in zip(self.points, self.points[1:], strict=False):
            if low <= before_head < high:
                return now - (start + (end - start) * (before_head - low) / (high - low))
        return now - self.points[0][0]

    def to_json(self) -> dict[str, Any]:
        """Return a short document: times as differences."""
        times = [round(at) for at, _ in self.points]
        steps = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
        return {"offset": self.offset, "points": [[step, n] for step, (_, n) in zip(steps, self.points, strict=True)]}

    @classmethod
    def from_json(cls, document: Any) -> Samples:
        """Return the samples; raises KeyError, TypeError or ValueError if the document is not theirs."""
        points: list[tuple[float, int]] = []
        for step, published in document["points"]:
            points.append(((points[-1][0] if points else 0.0) + float(step), int(published)))
        return cls(tuple(points), int(document["offset"]))


def _thin(points: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
    """Return at most MOST samples, without those between which no message came, then every second of the older half."""
    kept = [
        point
        for i, point in enumerate(points)
        if i in (0, len(points) - 1) or not points[i - 1][1] == point[1] == points[i + 1][1]
    ]
    if len(kept) > MOST:
        half = len(kept) // 2
        kept = kept[:1] + kept[2:half:2] + kept[half:]
    return tuple(kept)
