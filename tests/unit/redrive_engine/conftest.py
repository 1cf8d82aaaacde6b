from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from refinerctl.aws.messages import Message
from refinerctl.console import Silent
from refinerctl.dlq.redrive.engine import copy
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal, find
from refinerctl.dlq.redrive.types import CopyRules, Moved, Route
from tests.unit.redrive_engine.queues import MemoryQueue, forward


@dataclass
class Redrive:
    """A dead-letter queue, the queue that it belongs to, and a work folder."""

    folder: Path
    source: MemoryQueue = field(default_factory=lambda: MemoryQueue("q-dlq"))
    target: MemoryQueue = field(default_factory=lambda: MemoryQueue("q"))

    def fill(self, count: int) -> list[str]:
        bodies = [f"message {number}" for number in range(count)]
        for body in bodies:
            self.source.put(body)
        return bodies

    def run(self, route: Callable[[Message], Route] | None = None, *, lanes: int = 2, **rules: float) -> Moved:
        """A new run."""
        header = JournalHeader(self.source.address.url, self.source.name)
        with RedriveJournal.begin(self.folder, header) as journal:
            return self.go_on(journal, route, lanes=lanes, **rules)

    def resume(self, route: Callable[[Message], Route] | None = None) -> Moved:
        with RedriveJournal.resume(self.journal) as journal:
            return self.go_on(journal, route)

    def go_on(self, journal: RedriveJournal, route: Callable[[Message], Route] | None = None, **given: float) -> Moved:
        rules = CopyRules(**{"lanes": 2, "longest_pause_s": 0.0, **given})  # type: ignore[arg-type]
        queues = {queue.address.url: queue for queue in (self.source, self.target)}
        return copy(self.source, queues.__getitem__, route or forward(self.target), rules, journal, Silent())

    @property
    def journal(self) -> Path:
        return find(self.folder)[0].path

    def is_given_back(self) -> bool:
        return not any(item.hidden for item in self.source.kept.values())


@pytest.fixture
def redrive(tmp_path: Path) -> Redrive:
    return Redrive(tmp_path)
