"""Formats numbers, durations, times and untrusted text for the page. A dash means unknown, never zero."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from refinerctl.console import printable

UNKNOWN = "—"
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

# More combining marks on one character than any language has would be drawn over the neighbouring lines.
_MOST_MARKS = 3


@dataclass(frozen=True)
class Count:
    """A count, None if unknown; `at_least` if a part of it is unknown."""

    value: int | None = None
    at_least: bool = False

    @property
    def text(self) -> str:
        return self._with_mark(count(self.value))

    @property
    def short(self) -> str:
        """At most six characters and the mark."""
        return self._with_mark(short_count(self.value))

    def __bool__(self) -> bool:
        return bool(self.value)

    def _with_mark(self, text: str) -> str:
        return f"≥ {text}" if self.at_least and self.value is not None else text


def total(parts: Iterable[Count]) -> Count:
    """The sum of the known parts."""
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
    return f"{value / 1000:.0f} k" if abs(value) < 999_500 else f"{value / 1_000_000:,.1f} M"


def share(part: int, whole: int) -> str:
    """`part` of `whole` in percent; 0 % and 100 % are exact."""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if 99.9 < percent < 100 else f"{percent:.1f}".removesuffix(".0") + " %"


def duration(value: float | None, unit_s: float = 1.0) -> str:
    """With two or three significant digits: `850 ms`, `1.2 s`, `45 s`, `3 min 20 s`, `13 d 4 h`."""
    if value is None:
        return UNKNOWN
    seconds = value * unit_s
    if seconds < 59.95:
        number, unit = (seconds * 1000, "ms") if seconds < 0.9995 else (seconds, "s")
        text = f"{max(number, 0):.1f}".removesuffix(".0") if number < 9.95 else f"{number:.0f}"
        return f"{text} {unit}"
    left = round(seconds)
    place = next(place for place, (_, size) in enumerate(_UNITS) if left >= size)
    (unit, size), (smaller, smaller_size) = _UNITS[place], _UNITS[place + 1]
    rest = left % size // smaller_size
    return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")


def span(seconds: float) -> str:
    """A period in common units: `24 h` rather than `1 d`."""
    if 3600 <= seconds < 2 * 86400 and seconds % 3600 == 0:
        return f"{seconds / 3600:.0f} h"
    return duration(seconds)


def utc(at: datetime | None) -> datetime | None:
    """In UTC, which a time without a zone is taken for. None for `datetime.min`, which stands for no time."""
    if at is None or at.replace(tzinfo=None) == datetime.min:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def ago(at: datetime | None, now: datetime) -> str:
    """How long before `now`, both in UTC."""
    if at is None:
        return UNKNOWN
    seconds = (now - at).total_seconds()
    return "now" if seconds < 1 else f"{duration(seconds)} before"


def cut(text: str, length: int) -> str:
    """At most `length` characters, and how many are missing."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text) - length:,} characters more)"


def named(names: Sequence[str], most: int = 8) -> str:
    """`A, B, C and 47 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(cut(name, 80) for name in names[:most]) + more


def harmless(text: str) -> str:
    """Control and bidi characters become visible; heaps of combining marks are cut. Not yet escaped for HTML."""
    shown = printable(text, keep="\n\t")
    if shown.isascii():
        return shown
    kept, marks = [], 0
    for char in shown:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if marks <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)
