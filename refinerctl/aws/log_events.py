"""Lines of CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class LogEvent:
    """One line of a log group. `timestamp` in UTC; `event_id` differs between all events of the account."""

    timestamp: datetime
    group: str
    stream: str
    message: str
    event_id: str = ""


class LogSource(Protocol):
    """CloudWatch Logs, as far as reading lines goes."""

    def events(
        self,
        group: str,
        since: datetime,
        pattern: str | None = None,
        *,
        until: datetime | None = None,
        streams: Sequence[str] = (),
    ) -> Iterator[LogEvent]:
        """Lines of `group` from `since` to `until`, in time order, each once; `pattern` is CloudWatch's."""
