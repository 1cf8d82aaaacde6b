"""What a redrive is asked to do: which messages go where, which a journal keeps, and how to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from refinerctl.errors import RefinerctlError

if TYPE_CHECKING:
    from refinerctl.dlq.filters import MessageFilter
    from refinerctl.dlq.redrive.plan import Method


@dataclass(frozen=True)
class RedriveOptions:
    """Which messages go where: what a journal keeps.

    Times are ISO 8601; `rate` in messages per second; `digest` is the SHA-256 of `file`; `edited` is a file of
    messages that are sent instead of the originals.
    """

    queue: str | None = None
    since: str | None = None
    until: str | None = None
    key_prefix: str | None = None
    expression: str | None = None
    to: str | None = None
    limit: int | None = None
    rate: float | None = None
    max_redrives: int | None = None
    file: str | None = None
    digest: str | None = None
    edited: str | None = None

    @classmethod
    def of_journal(cls, given: Mapping[str, Any], rate: float | None) -> RedriveOptions:
        """Those of an earlier run, with another `rate` if that is given."""
        try:
            return cls(**{**given, "rate": rate or given["rate"]})
        except (TypeError, KeyError) as error:
            raise RefinerctlError(f"the journal's options cannot be read: {error}") from error

    @cached_property
    def filter(self) -> MessageFilter:
        from refinerctl.dlq.filters import Expression, MessageFilter

        return MessageFilter(
            since=datetime.fromisoformat(self.since) if self.since else None,
            until=datetime.fromisoformat(self.until) if self.until else None,
            key_prefix=self.key_prefix,
            expression=Expression.parse(self.expression) if self.expression else None,
        )

    @property
    def arguments(self) -> list[str]:
        """The options of a command line that asks for the same."""
        given = {
            "--since": self.since,
            "--until": self.until,
            "--key-prefix": self.key_prefix,
            "--filter": self.expression,
            "--to": self.to,
            "--limit": self.limit,
            "--rate": self.rate and f"{self.rate:g}/s",
            "--max-redrives": self.max_redrives,
            "--from-file": self.file,
        }
        words = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        return [self.queue, *words] if self.queue else words

    @property
    def needs(self) -> tuple[str, ...]:
        """The options that a move task of SQS does not support."""
        given = {
            "filters": not self.filter.is_empty,
            "--limit": self.limit,
            "--max-redrives": self.max_redrives,
            "--from-file": self.file,
        }
        return tuple(name for name, value in given.items() if value)


@dataclass(frozen=True)
class RedriveFlags:
    """How to run, also when a run is continued. `wait_s` None: as long as the target's retries take."""

    method: Method | None = None
    edits: bool = False
    dry_run: bool = False
    waits: bool = False
    wait_s: float | None = None
    force: bool = False
    yes: bool = False
