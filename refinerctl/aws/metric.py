"""Metrics of CloudWatch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Metric:
    """A metric of CloudWatch `of` one thing, and how its values are to be summed up over each period.

    `more` are further dimensions, by name: CloudWatch knows a metric by all that it was sent with.
    """

    namespace: str
    name: str
    dimension: str
    of: str
    statistic: str
    period_s: int = 60
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DataPoint:
    at: datetime
    value: float
