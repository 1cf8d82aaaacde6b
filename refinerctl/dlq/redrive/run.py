"""What the lanes of one run share."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from refinerctl.aws.messages import Message, OutgoingMessage
from refinerctl.dlq.redrive.aside import Aside
from refinerctl.dlq.redrive.intake import Intake
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.ports import Queue
from refinerctl.dlq.redrive.types import Route
from refinerctl.errors import NotFoundError, RefinerctlError

# Every target takes batches of this size; those that take larger messages take larger batches, too.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
SAFE_BATCH_BYTES = 262_144
_MOST_REASONS = 50


@dataclass(slots=True)
class InHand:
    """A message on its way. `outgoing` None: it is only to be deleted. `hidden_until` by `awake`.

    `is_reserved`: it counts against the limit; what an earlier part has sent does not.
    """

    id: str
    receipt: str
    hidden_until: float
    outgoing: OutgoingMessage | None = None
    size: int = 0
    is_reserved: bool = True


@dataclass(frozen=True)
class Target:
    """A queue that messages go to, and the bytes that a message, or a batch of them, may have."""

    queue: Queue
    max_message_bytes: int | None

    @property
    def is_fifo(self) -> bool:
        return self.queue.address.is_fifo

    @property
    def batch_bytes(self) -> int:
        return max(SAFE_BATCH_BYTES, self.max_message_bytes or 0)


class Targets:
    """By URL, each asked for once."""

    def __init__(self, queue_at: Callable[[str], Queue]) -> None:
        self._queue_at = queue_at
        self._lock = threading.Lock()
        self._known: dict[str, Target] = {}

    def at(self, url: str) -> Target:
        """Raises NotFoundError if there is no such queue."""
        with self._lock:
            if url not in self._known:
                queue = self._queue_at(url)
                self._known[url] = Target(queue, _max_message_bytes(queue))
            return self._known[url]


def _max_message_bytes(queue: Queue) -> int | None:
    try:
        return queue.attributes().max_message_bytes
    except NotFoundError:
        raise
    except RefinerctlError:  # who may send need not be allowed to ask
        return None


@dataclass
class Tally:
    """Counts of this part of a run; what the journal counts is not among them."""

    skipped: int = 0
    failed: int = 0
    returned: int = 0
    dropped_duplicates: int = 0
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: str, reason: str | None = None) -> None:
        with self._lock:
            setattr(self, count, getattr(self, count) + 1)
            if reason is not None:
                self.reasons[reason if len(self.reasons) < _MOST_REASONS else "others"] += 1


@dataclass
class Run:
    """What the lanes share. `start`: what was sent later is not taken. `failure`: what ends the run before its time.

    `server_ahead_s`: by so much the server's clock is ahead of `awake`. `presumed_deleted`: ids of messages whose
    receipts may have been replaced by somebody else's, with which SQS says that it deleted and does not; `surely_gone`
    of them are gone at the end: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html
    """

    source: Queue
    targets: Targets
    route: Callable[[Message], Route]
    journal: RedriveJournal
    start: datetime
    intake: Intake
    aside: Aside
    stopping: threading.Event
    visibility_s: int
    longest_pause_s: float
    server_ahead_s: float
    tally: Tally = field(default_factory=Tally)
    presumed_deleted: list[str] = field(default_factory=list)
    surely_gone: int = 0
    failure: BaseException | None = None

    def server_time(self, moment: float) -> float:
        """A moment by `awake`, in seconds since the epoch by the server's clock: ours may be wrong, or be set."""
        return moment + self.server_ahead_s

    def fail(self, error: BaseException) -> None:
        """Let all lanes end. The first failure counts."""
        self.failure = self.failure or error
        self.stopping.set()
