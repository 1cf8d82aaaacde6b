"""Messages that fail again after a redrive: those that were sent and are in a dead-letter queue again, and why."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from refinerctl.aws.messages import MAX_BATCH, Message
from refinerctl.console import Progress
from refinerctl.dlq.bodies import source_key
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.held import change_visibility
from refinerctl.errors import TransientError
from refinerctl.insight.error_signature import signature

LOOK_SECONDS = 1.0
# Counts are approximate: a queue is empty if they say so this many times in a row.
EMPTY_LOOKS = 3
EPOCH = datetime.fromtimestamp(0, UTC)
# Maximum number of messages that are hidden and in memory.
MAX_HELD = 20_000
# Time after the end of the watch until messages that could not be released become visible.
GRACE_SECONDS = 30
MAX_VISIBILITY_S = 43_200
# Maximum number of messages whose errors are looked up in logs.
MAX_COMPARED = 100


@dataclass(frozen=True)
class Original:
    """A message before it was sent; `sent_at` None: unknown."""

    id: str
    sent_at: datetime | None = None


@dataclass
class Watch:
    """Looks into `dlqs` for messages with an id in `sent` until all that was sent to `targets` is processed.

    A message of RabbitMQ that came there before `since` is another one that is equal.

    `is_settled`: nothing is left in the targets; `is_partial`: the DLQs hold more messages than may be held.
    """

    dlqs: Sequence[QueueClient]
    targets: Sequence[QueueClient]
    sent: Mapping[str, Original]
    seconds: float
    since: datetime = EPOCH
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    returned: dict[str, Message] = field(default_factory=dict)
    is_settled: bool = False
    _has_lost: bool = False  # a response, and with it maybe messages that returned
    _held: list[tuple[QueueClient, str, str]] = field(default_factory=list)

    @property
    def is_partial(self) -> bool:
        return len(self._held) >= MAX_HELD

    def run(self, progress: Progress) -> None:
        """Raises RefinerctlError if a queue cannot be read. Messages stay hidden until the end: each is seen once."""
        deadline = self.monotonic() + self.seconds
        empty, looks = 0, EMPTY_LOOKS + round(max((queue.counts_lag_s for queue in self.targets), default=0.0))
        try:
            while True:
                for queue in self.dlqs:
                    self._look(queue, deadline)
                left = max(deadline - self.monotonic(), 0)
                progress.update(
                    f"{len(self.returned):,} of {len(self.sent):,} returned to a DLQ; watching {left:.0f} s more"
                )
                empty = empty + 1 if all(queue.attributes().total == 0 for queue in self.targets) else 0
                is_empty = empty >= looks and not self._has_lost
                self.is_settled = is_empty or len(self.returned) >= len(self.sent)
                if self.is_settled or left <= 0:
                    return
                self.sleep(min(LOOK_SECONDS, left))
        finally:
            self._release()

    def _look(self, queue: QueueClient, deadline: float) -> None:
        visibility_s = min(int(max(deadline - self.monotonic(), 0)) + GRACE_SECONDS, MAX_VISIBILITY_S)
        while not self.is_partial:
            try:
                messages = queue.receive(MAX_BATCH, visibility_s=visibility_s, wait_s=1)
            except TransientError as error:
                self._has_lost = self._has_lost or error.is_uncertain
                return
            if not messages:
                return
            self._held += [(queue, message.id, message.receipt) for message in messages]
            self.returned |= {message.sent_id: message for message in messages if self._was_sent(message)}

    def _was_sent(self, message: Message) -> bool:
        return message.sent_id in self.sent and (message.moved_at is None or message.moved_at >= self.since)

    def _release(self) -> None:
        for queue in self.dlqs:
            items = [(message_id, receipt) for held_in, message_id, receipt in self._held if held_in is queue]
            for start in range(0, len(items), MAX_BATCH):
                if change_visibility(queue, items[start : start + MAX_BATCH], 0)[0].cause is not None:
                    break


@dataclass(frozen=True)
class Comparison:
    """Of `compared` messages that failed again, `same` have the same error; `errors` counts what they fail with now."""

    compared: int = 0
    same: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)

    def sentence(self, came_back: int, moved: int) -> str:
        """`12 of 40 failed again the same way: NoSuchKey: …`."""
        if not self.compared:
            return f"{came_back:,} of {moved:,} returned to a DLQ"
        common = next(iter(self.errors))
        if self.same == came_back:
            again = f"{came_back:,} of {moved:,} failed again the same way"
            return f"{again}: {common}" if len(self.errors) == 1 else f"{again}, most often: {common}"
        return (
            f"{came_back:,} of {moved:,} failed again; {self.same:,} of the {self.compared:,} errors found are the same"
            f" as before; most often now: {common}"
        )


def compare(
    returned: Mapping[str, Message], sent: Mapping[str, Original], before: ErrorFinder, now: ErrorFinder
) -> Comparison:
    """Compare each error with that of the message before; `before` reads logs up to the redrive's start."""
    some = list(returned.values())[:MAX_COMPARED]
    originals = [
        replace(message, id=sent[message.sent_id].id, sent_at=sent[message.sent_id].sent_at or message.sent_at)
        for message in some
    ]
    errors, earlier = now.find(some), before.find(originals)
    found: Counter[str] = Counter()
    same = 0
    for message, original in zip(some, originals, strict=True):
        if (error := errors.get(message.id)) is None:
            continue
        said = _signature(error.text, message)
        found[said] += 1
        was = earlier.get(original.id)
        same += was is not None and _signature(was.text, original) == said
    return Comparison(sum(found.values()), same, dict(found.most_common()))


def _signature(error: str, message: Message) -> str:
    return signature(error, [key] if (key := source_key(message.body)) else [])
