"""What the workers of a copy share, and the messages that they have in hand."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from refinerctl.aws.messages import MAX_BATCH, Message, OutgoingMessage, QueueAddress
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.routes import Route

_FIRST_PAUSE_S = 0.1
_MAX_REASONS = 50


def backoff_s(attempt_number: int, max_pause_s: float) -> float:
    """The pause after `attempts`: doubles each time, with jitter."""
    pause = min(max_pause_s, _FIRST_PAUSE_S * 2.0**attempt_number)
    return random.uniform(pause / 2, pause)  # noqa: S311


class Allowance:
    """How many messages may still be sent (`limit`), and how fast (`rate` per second); shared by all workers.

    What is reserved counts against both until it is given back. The rate allows no bursts of more than one batch.
    """

    def __init__(self, limit: int | None = None, rate: float | None = None) -> None:
        self.rate = rate
        self.batch = MAX_BATCH if rate is None else max(1, min(MAX_BATCH, int(rate)))
        self._left = float("inf") if limit is None else limit
        self._reserved = 0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    @property
    def is_spent(self) -> bool:
        """Whether the limit is used up."""
        return self._left == 0 and self._reserved == 0

    def reserve(self, stopping: threading.Event) -> int:
        """Reserve up to one batch and wait until it may be sent, or until `stopping`. 0: others may give back some."""
        with self._lock:
            count = int(min(self.batch, self._left))
            self._change(-count)
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + (count / self.rate if self.rate else 0)
        stopping.wait(turn - now)
        return count

    def give_back(self, count: int) -> None:
        """Release reservations of messages that are not sent."""
        with self._lock:
            self._change(count)
            self._next -= count / self.rate if self.rate else 0

    def spend(self, count: int) -> None:
        """Use up reservations of messages that were sent."""
        with self._lock:
            self._reserved -= count

    def _change(self, count: int) -> None:
        self._left += count
        self._reserved -= count


@dataclass(frozen=True)
class Batch:
    """Messages that were received, of which `allowed` may be sent; hidden until `hidden_until` by `clock`.

    `was_received` False: nothing has been requested, because nothing may be sent at the moment.
    """

    messages: Sequence[Message] = ()
    allowed: int = 0
    hidden_until: float = float("inf")
    was_received: bool = True


@dataclass(slots=True)
class InHand:
    """A message that a worker processes; hidden until `hidden_until` by `clock`. `outgoing` None: only to be deleted.

    `is_reserved`: it counts against the allowance.
    """

    id: str
    receipt: str
    sent_at: datetime
    hidden_until: float
    outgoing: OutgoingMessage | None = None
    is_reserved: bool = True

    @property
    def group(self) -> str | None:
        return self.outgoing.group if self.outgoing else None


@dataclass
class Run:
    """What the workers share. What was sent at `start` or later stays; `failure` is what ended the run early.

    By `server_ahead_s` the server's clock is ahead of `clock`. `on_sent` gets an item and its new id.
    """

    journal: RedriveJournal
    route: Callable[[Message], Route]
    queue_at: Callable[[QueueAddress], QueueClient]
    allowance: Allowance
    start: datetime
    server_ahead_s: float
    max_pause_s: float
    on_sent: Callable[[InHand, str], None] = lambda _item, _new_id: None
    sends_at_once: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    failure: BaseException | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str, reason: str | None = None) -> None:
        """Count a message of this part of the run; `reason` is why it could not be sent."""
        with self._lock:
            self.counts[name] += 1
            if reason is not None:
                self.reasons[reason if len(self.reasons) < _MAX_REASONS else "others"] += 1

    def fail(self, error: BaseException) -> None:
        """Stop all workers. The first failure is kept."""
        self.failure = self.failure or error
        self.stopping.set()
