from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from refinerctl.aws.messages import Message, OutgoingMessage, QueueAddress
from refinerctl.console import Progress
from refinerctl.dlq.redrive.copy import CopyRules, RedriveResult, copy
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal, find
from refinerctl.dlq.redrive.routes import Route
from refinerctl.files import DISK, Disk
from tests.unit.dlq.redrive.memory_queue import NOW, MemoryQueue, forward

if TYPE_CHECKING:
    from refinerctl.aws.message_queue import MessageQueue


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

    def make_fifo(self) -> None:
        self.source.name, self.target.name = "q-dlq.fifo", "q.fifo"

    def begin(self, disk: Disk = DISK) -> RedriveJournal:
        return RedriveJournal.begin(self.folder, JournalHeader(self.source.address.url, self.source.name), disk)

    def run(self, route: Callable[[Message], Route] | None = None, *, disk: Disk = DISK, **rules: Any) -> RedriveResult:
        """A new run."""
        with self.begin(disk) as journal:
            return self.go_on(journal, route, **rules)

    def resume(
        self, route: Callable[[Message], Route] | None = None, *, disk: Disk = DISK, **rules: Any
    ) -> RedriveResult:
        with RedriveJournal.resume(self.journal, disk) as journal:
            return self.go_on(journal, route, **rules)

    def go_on(
        self, journal: RedriveJournal, route: Callable[[Message], Route] | None = None, **given: Any
    ) -> RedriveResult:
        rules = CopyRules(**{"workers": 2, "max_pause_s": 0.0, **given})
        queues = {queue.address.url: queue for queue in (self.source, self.target)}

        def queue_at(address: QueueAddress) -> MessageQueue:
            return cast("MessageQueue", queues[address.url])

        source = queue_at(self.source.address)
        return copy(source, queue_at, route or forward(self.target), rules, journal, Progress())

    def killed(self, count: int, left: int, sent: int) -> None:
        """An earlier run was killed with `count` messages in hand: of these `left` may have been sent, `sent` were."""
        messages = self.source.receive(count, visibility_s=120, wait_s=0)
        ids = [message.id for message in messages]
        with self.begin() as journal:
            journal.begin_part(NOW)
            journal.received([(message.id, message.receipt) for message in messages])
            if left:
                journal.left(ids[:left], NOW.timestamp())
                results = self.target.send([OutgoingMessage(message.body) for message in messages[:left]], lambda: None)
                pairs = [(before, result.message_id or "") for before, result in zip(ids, results, strict=False)]
                journal.sent(pairs[:sent])
        self.source.calls.clear()

    @property
    def journal(self) -> Path:
        return find(self.folder)[0].path

    def is_released(self) -> bool:
        return not any(item.hidden for item in self.source.kept.values())


@pytest.fixture
def redrive(tmp_path: Path) -> Redrive:
    return Redrive(tmp_path)
