"""What comes back: messages that were sent, and are dead again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAddress, QueueAttributes
from refinerctl.console import Progress
from refinerctl.dlq.redrive.ports import Queue
from refinerctl.errors import RefinerctlError

LOOK_SECONDS = 1.0
# Counts are approximate: a queue that is empty this many times in a row is.
EMPTY_LOOKS = 3
# No more than that is held at the same time, in memory and out of other people's sight.
MAX_HELD = 20_000
# A call each; what is not given back comes back by itself when the watch would have ended.
BATCH = 10
GRACE_SECONDS = 30


@dataclass(frozen=True)
class Tracked(OutgoingMessage):
    """An outgoing message that knows which one it was."""

    original_id: str = ""
    original_sent_at: datetime | None = None


@dataclass(frozen=True)
class Original:
    id: str
    sent_at: datetime | None


@dataclass
class SentMessages:
    """The new ids of what was sent, and what they were before; safe to share between threads."""

    originals: dict[str, Original] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, queue: Queue) -> Queue:
        """The same queue, with what is sent to it written down."""
        return _Recorded(queue, self)

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What an earlier part of the run has sent: ids before and after."""
        for before, new in pairs:
            self.originals.setdefault(new, Original(before, None))

    def note(self, message: OutgoingMessage, result: EntryResult) -> None:
        if result.is_done and result.message_id is not None and isinstance(message, Tracked):
            with self._lock:
                self.originals[result.message_id] = Original(message.original_id, message.original_sent_at)


@dataclass(frozen=True)
class _Recorded:
    queue: Queue
    sent: SentMessages

    @property
    def address(self) -> QueueAddress:
        return self.queue.address

    def attributes(self) -> QueueAttributes:
        return self.queue.attributes()

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        return self.queue.receive(count, visibility_s=visibility_s, wait_s=wait_s)

    def send(
        self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = lambda: None
    ) -> list[EntryResult]:
        results = self.queue.send(messages, leaving)
        for message, result in zip(messages, results, strict=True):
            self.sent.note(message, result)
        return results

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        return self.queue.delete(receipts)

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        return self.queue.change_visibility(receipts, visibility_s)


@dataclass(frozen=True)
class Returned:
    """A message that came back, as it is now, and what it was when it was sent."""

    queue: QueueAddress
    letter: Message
    original: Original


@dataclass(frozen=True)
class Watched:
    """`is_settled`: nothing that was sent is left in the queues that it was sent to. `is_partial`: more than could be
    looked at was in the dead-letter queues."""

    returned: tuple[Returned, ...]
    is_settled: bool
    is_partial: bool = False


@dataclass
class Watch:
    """Looks into the dead-letter queues until all is processed or the time is over; gives back what it holds.

    Each message is received once: it stays hidden until the watch ends, so that the next look finds only new ones.
    """

    dead: Sequence[Queue]
    targets: Sequence[Queue]
    sent: SentMessages
    seconds: float
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    _returned: dict[str, Returned] = field(default_factory=dict)
    _held: list[tuple[Queue, str]] = field(default_factory=list)

    @property
    def returned(self) -> tuple[Returned, ...]:
        return tuple(self._returned.values())

    def run(self, progress: Progress) -> Watched:
        """Raises RefinerctlError if a queue cannot be looked at."""
        deadline = self.monotonic() + self.seconds
        empty = 0
        try:
            while True:
                for queue in self.dead:
                    self._look(queue, deadline)
                total = len(self.sent.originals)
                left = max(deadline - self.monotonic(), 0)
                progress.update(f"watching for {left:.0f} s more: {len(self._returned):,} of {total:,} came back")
                empty = empty + 1 if self._all_processed() else 0
                is_settled = empty >= EMPTY_LOOKS or len(self._returned) >= total
                if is_settled or left <= 0:
                    return Watched(self.returned, is_settled, len(self._held) >= MAX_HELD)
                self.sleep(min(LOOK_SECONDS, left))
        finally:
            self._give_back()

    def _look(self, queue: Queue, deadline: float) -> None:
        hidden = int(max(deadline - self.monotonic(), 0)) + GRACE_SECONDS
        while len(self._held) < MAX_HELD:
            letters = queue.receive(BATCH, visibility_s=min(hidden, 43_200), wait_s=1)
            for letter in letters:
                self._held.append((queue, letter.receipt))
                if letter.id in self.sent.originals:
                    self._returned[letter.id] = Returned(queue.address, letter, self.sent.originals[letter.id])
            if not letters:
                return

    def _all_processed(self) -> bool:
        return all(queue.attributes().total == 0 for queue in self.targets)

    def _give_back(self) -> None:
        for queue, receipts in _batches(self._held):
            # They come back by themselves, a little later.
            with contextlib.suppress(RefinerctlError):
                queue.change_visibility(receipts, 0)
        self._held.clear()


def _batches(held: Sequence[tuple[Queue, str]]) -> Iterator[tuple[Queue, list[str]]]:
    by_queue: dict[int, tuple[Queue, list[str]]] = {}
    for queue, receipt in held:
        by_queue.setdefault(id(queue), (queue, []))[1].append(receipt)
    for queue, receipts in by_queue.values():
        for start in range(0, len(receipts), BATCH):
            yield queue, receipts[start : start + BATCH]
