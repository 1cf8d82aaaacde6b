"""Tables as plain lines: as wide as they need to be, the same in a log and on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table. A cell without text gets a dash, so that columns can be told apart by `awk`."""
    filled = [header, *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in filled) for column in range(len(header))]
    for row in filled:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def size(size_bytes: float) -> str:
    """In units of 1,000, as ECR's console has them."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def seconds(value: float | None) -> str:
    """A duration in its two largest units: `45s`, `3m12s`, `2h5m`, `13d4h`; a dash for None."""
    if value is None:
        return "-"
    left = round(max(0.0, value))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if parts:
            return parts[0] + (f"{count}{unit}" if count else "")
        if count:
            parts.append(f"{count}{unit}")
    return parts[0] if parts else "0s"
