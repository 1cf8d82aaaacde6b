"""Text that others choose: keys, errors, names. Made harmless to what stands around it."""

from __future__ import annotations

import unicodedata

from refinerctl.console import printable

# In pixels of a drawing.
FONT_SIZE, TICK_SIZE = 13, 12
BOLD = 1.12  # times as wide

# More of them on one character than any language has would be drawn over the neighbouring lines.
_MOST_MARKS = 3


def harmless(text: str) -> str:
    """Control and bidi characters become visible, and heaps of combining marks are cut. Not escaped for HTML yet."""
    shown = printable(text, keep="\n\t")
    return shown if shown.isascii() else _without_heaps(shown)


def _without_heaps(text: str) -> str:
    kept, marks = [], 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if marks <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)


def text_width(text: str, size: float = FONT_SIZE) -> float:
    """How wide the text is in a wide sans-serif such as DejaVu Sans: nobody knows which one the reader has."""
    return size * sum(_em(char) for char in text)


def _em(char: str) -> float:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    if char in "mwMW@%—…":
        return 1.0
    if char in " .,:;|'!()[]/\\ijlItfr-":
        return 0.42
    return 0.8 if char.isupper() or not char.isascii() else 0.65


def fitted(text: str, width: float, size: float = FONT_SIZE) -> str:
    """As much of the text as there is room for, as it will be shown."""
    text = harmless(text[:500])
    if text_width(text, size) <= width:
        return text
    room = width - size
    kept = 0
    for char in text:
        room -= size * _em(char)
        if room < 0:
            break
        kept += 1
    return text[:kept].rstrip() + "…"
