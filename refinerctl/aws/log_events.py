"""Lines of CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from refinerctl.aws.logs import LogEvent

__all__ = ["LogEvent", "LogSource"]


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
