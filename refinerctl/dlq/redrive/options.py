"""The options of a redrive: those of the command line, or those of an unfinished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from refinerctl.dlq.filters import Expression, MessageFilter
from refinerctl.dlq.queues import at_queue
from refinerctl.dlq.redrive.journal import FoundJournal, find
from refinerctl.dlq.redrive.plan import Method
from refinerctl.errors import NotFoundError, RefinerctlError

if TYPE_CHECKING:
    from refinerctl.app import AppContext


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
        return MessageFilter(
            since=datetime.fromisoformat(self.since) if self.since else None,
            until=datetime.fromisoformat(self.until) if self.until else None,
            key_prefix=self.key_prefix,
            expression=Expression.parse(self.expression) if self.expression else None,
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The options that a move task of SQS does not have."""
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


def find_unfinished(app: AppContext, queue: str | None, run: str | None) -> FoundJournal:
    """The unfinished run of this name, else the latest, of `queue` if given. Raises NotFoundError without one."""
    found = [item for item in find(app.settings.work_folder) if not item.is_finished]
    if run is not None:
        named = [item for item in found if run in (item.run, item.path.name, str(item.path))]
        if not named and queue is not None:
            names = ", ".join(item.run for item in found)
            raise NotFoundError(f"no unfinished run {run}", hint=f"Unfinished runs: {names or 'none'}.")
        queue, found = (queue, named) if named else (run, found)  # --resume QUEUE
    if queue is not None:
        name = queue.rpartition("/")[2].rpartition(":")[2]
        found = [item for item in found if item.header.queue == name]
        if len({item.header.source_url for item in found}) > 1:  # queues of one name in several environments
            url = at_queue(app, queue).queues.address(queue).url
            found = [item for item in found if item.header.source_url == url]
    if not found:
        raise NotFoundError(
            f"no unfinished run{f' of {queue}' if queue else ''} to resume",
            hint="A run that was killed before it had a journal has moved nothing: run it again without --resume.",
        )
    return found[0]
