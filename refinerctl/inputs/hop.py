"""A hop of an input."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Hop:
    """One station on an object's way through the pipeline; `at` is None where the station tells no time."""

    station: str
    detail: str
    at: datetime | None
