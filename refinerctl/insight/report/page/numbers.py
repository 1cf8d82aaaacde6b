"""How numbers, durations and moments read on the page. A dash stands for what is not known, never for none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

UNKNOWN = "—"
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


@dataclass(frozen=True)
class Count:
    """A count, or what is known of it: `at_least` where a part of a sum is not known. None: nothing is."""

    value: int | None = None
    at_least: bool = False

    @property
    def text(self) -> str:
        return self._with_mark(count(self.value))

    @property
    def short(self) -> str:
        """For where there is little room: six characters and the mark."""
        return self._with_mark(short_count(self.value))

    def __bool__(self) -> bool:
        return bool(self.value)

    def _with_mark(self, text: str) -> str:
        return f"≥ {text}" if self.at_least and self.value is not None else text


def total(parts: Iterable[Count]) -> Count:
    """The sum of what is known."""
    counts = list(parts)
    known = [part.value for part in counts if part.value is not None]
    if not known:
        return Count()
    return Count(sum(known), len(known) < len(counts) or any(part.at_least for part in counts))


def count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def short_count(value: int | None) -> str:
    """Like `count` up to 99,999; above that in thousands (k) or millions (M)."""
    if value is None or abs(value) < 100_000:
        return count(value)
    if abs(value) < 999_500:
        return f"{value / 1000:.0f} k"
    return f"{value / 1_000_000:,.1f} M"


def counted(value: int, noun: str, plural: str | None = None) -> str:
    """`1 message`, `2 messages`."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def duration(seconds: float | None) -> str:
    """A duration with two or three digits that count: `850 ms`, `1.2 s`, `45 s`, `3 min 20 s`, `13 d 4 h`."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    if math.isinf(seconds):
        return "∞"
    if seconds < 0.9995:
        return f"{_trimmed(seconds * 1000)} ms"
    if seconds < 59.95:
        return f"{_trimmed(seconds)} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if parts:
            return parts[0] + (f" {number} {unit}" if number else "")
        if number:
            parts.append(f"{number} {unit}")
    return parts[0]


def _trimmed(value: float) -> str:
    """One decimal below ten, and none that is zero."""
    text = f"{max(value, 0):.1f}" if value < 9.95 else f"{value:.0f}"
    return text.removesuffix(".0")


def milliseconds(value: float | None) -> str:
    return duration(None if value is None else value / 1000)


def span(seconds: float) -> str:
    """A stretch of time as people name it: `24 h` rather than `1 d`."""
    if 3600 <= seconds < 2 * 86400 and seconds % 3600 == 0:
        return f"{seconds / 3600:.0f} h"
    return duration(seconds)


def share(part: int, whole: int) -> str:
    """`part` of `whole` in percent; neither rounds to all or nothing unless it is."""
    if not whole:
        return UNKNOWN
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def utc(at: datetime | None) -> datetime | None:
    """In UTC; a moment without a zone is meant to be. None for the one that stands for no time at all."""
    if at is None or at.replace(tzinfo=None) == datetime.min:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def ago(at: datetime | None, now: datetime) -> str:
    """How long before `now` it was."""
    moment, present = utc(at), utc(now)
    if moment is None or present is None:
        return UNKNOWN
    seconds = (present - moment).total_seconds()
    return "now" if seconds < 1 else f"{duration(seconds)} before"


def cut(text: str, length: int) -> str:
    """At most so many characters: what is longer says how much is missing."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text) - length:,} characters more)"
