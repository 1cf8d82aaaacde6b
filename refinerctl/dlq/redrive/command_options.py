"""What a redrive was asked for: from the command line, or from the journal of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from refinerctl.dlq.filters import Expression, MessageFilter
from refinerctl.dlq.redrive.types import Asked, Method
from refinerctl.errors import RefinerctlError


@dataclass(frozen=True)
class RedriveOptions:
    """What decides on which messages go where: a resumed run has to decide the same.

    `queue` and `to` as given; `file` with its SHA-256; `edited`: the file that holds what is sent instead.
    """

    queue: str = ""
    filter: MessageFilter = field(default_factory=MessageFilter)
    to: str | None = None
    limit: int | None = None
    rate: float | None = None
    max_redrives: int | None = None
    file: Path | None = None
    digest: str | None = None
    edited: Path | None = None

    def asked(self, method: Method | None, *, edits: bool, watches: bool) -> Asked:
        """What decides on the method."""
        wants = {
            "filter": not self.filter.is_empty,
            "--limit": self.limit is not None,
            "--edit": edits,
            "--max-redrives": self.max_redrives is not None,
            "--from-file": self.file is not None,
        }
        needs = tuple(name for name, is_wanted in wants.items() if is_wanted)
        return Asked(method, rate=self.rate, watches=watches, needs=needs)

    def to_json(self) -> dict[str, Any]:
        """For a journal."""
        chosen = self.filter
        return {
            "queue": self.queue,
            "since": chosen.since.isoformat() if chosen.since else None,
            "until": chosen.until.isoformat() if chosen.until else None,
            "key_prefix": chosen.key_prefix,
            "filter": chosen.expression.text if chosen.expression else None,
            "to": self.to,
            "limit": self.limit,
            "rate": self.rate,
            "max_redrives": self.max_redrives,
            "file": str(self.file) if self.file else None,
            "digest": self.digest,
            "edited": str(self.edited) if self.edited else None,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> RedriveOptions:
        """Raises RefinerctlError for what no run has written."""
        try:
            return cls(
                given["queue"],
                MessageFilter(
                    since=_moment(given["since"]),
                    until=_moment(given["until"]),
                    key_prefix=given["key_prefix"],
                    expression=Expression.parse(given["filter"]) if given["filter"] else None,
                ),
                to=given["to"],
                limit=given["limit"],
                rate=given["rate"],
                max_redrives=given["max_redrives"],
                file=Path(given["file"]) if given["file"] else None,
                digest=given["digest"],
                edited=Path(given["edited"]) if given["edited"] else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RefinerctlError(f"the journal's options cannot be read: {error!r}") from error

    def with_rate(self, rate: float | None) -> RedriveOptions:
        return self if rate is None else replace(self, rate=rate)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
