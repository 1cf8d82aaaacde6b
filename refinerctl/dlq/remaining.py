"""When a run may say that a queue holds no messages but those that the run holds itself.

A poll returns visible messages only. A message is in flight if the response that held it was lost, or if another
consumer or a killed run received it. SQS's counts are approximate and lag. So after polls without a message the counts
are read repeatedly, until they show exactly what is held several times in a row, or waiting does not help.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from refinerctl.aws.messages import QueueAttributes
from refinerctl.console import counted
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.held import clock
from refinerctl.errors import TransientError
from refinerctl.parallel import attempt

# Number of equal reads in a row that prove it, each after a long poll that returned nothing.
LOOKS = 2
# The same if a count was wrong before, or a response was lost.
LOOKS_IN_DOUBT = 10
# Counts that show more than can be explained may lag: "at least 1 minute".
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
LOOKS_UNEXPLAINED = 60
PAUSE_S = 1.0
# Clocks differ, and a request may have reached SQS late.
GRACE_S = 3.0
# No run looks more often, or waits longer than so many pauses.
MOST_LOOKS = 150
MAX_IN_FLIGHT = 120_000


class Remaining:
    """Looks at the counts of a queue, of which `start` was the first.

    `is_none`: nothing was left but what the run holds; `count`: how many messages may be left, None if unknown.
    """

    def __init__(self, queue: QueueClient, start: QueueAttributes, pause_s: float = PAUSE_S) -> None:
        self.is_none = False
        self.count: int | None = None
        self.start = start
        self.hidden_until = 0.0
        self._queue = queue
        self._pause_s = pause_s
        self._last: QueueAttributes | None = None
        self._held = 0
        self._looks = self._in_a_row = 0
        self._lost = 0
        self._began: float | None = None
        self._looked_at = 0.0

    def lost_response(self, visibility_s: float) -> None:
        """A receive failed just now after which messages may be hidden for so long."""
        self._lost += 1
        self.expect(clock() + visibility_s)

    def expect(self, until: float) -> None:
        """Messages may be hidden until then, and are to be received after that."""
        self.hidden_until = max(self.hidden_until, until + GRACE_S)

    def look(self, held: int, seen: int, expected: int = 0) -> bool:
        """After a poll that returned no message: whether the queue has been watched for long enough.

        The run has `seen` so many messages and holds `held` of them; it is no surprise if `expected` others are left.
        """
        time.sleep(max(0.0, self._looked_at + self._pause_s - time.monotonic()))
        self._looked_at = time.monotonic()
        self._began = self._began or clock()
        self._looks += 1
        self.read(held)
        if self._shows_none:
            # Counts that lag show too many messages rather than too few, so the first one proves nothing about these.
            is_expected = self.start.total == seen or self._queue.counts_lag_s > 0
            looks = LOOKS if is_expected and not self.hidden_until else LOOKS_IN_DOUBT
            if self._in_a_row == looks - 1:
                time.sleep(self._pause_s / 2)
                self.read(held)
            self.is_none = self._shows_none and self._in_a_row >= looks
            return self.is_none
        end = self._began + MOST_LOOKS * self._pause_s
        if clock() < self.hidden_until <= end:
            return False
        is_explained = self._is_explained(expected) or self.hidden_until > end
        enough = LOOKS_IN_DOUBT if is_explained else LOOKS_UNEXPLAINED
        return self._in_a_row >= enough or self._looks >= MOST_LOOKS

    def read(self, held: int) -> None:
        """Read the counts once."""
        found = attempt(self._queue.attributes)
        if found.error is not None and not isinstance(found.error, TransientError):
            raise found.error
        before, self._last, self._held = (self.count, self._has_caught_up), found.value, held
        self.count = max(0, found.value.total - held) if found.value else None
        is_same = before == (self.count, self._has_caught_up)
        self._in_a_row = self._in_a_row + 1 if is_same else 1

    @property
    def has_looked(self) -> bool:
        return self._began is not None

    @property
    def visible(self) -> int:
        return self._last.visible if self._last else 0

    @property
    def _shows_none(self) -> bool:
        return self.count == 0 and self._has_caught_up

    @property
    def _has_caught_up(self) -> bool:
        """Counts that show fewer messages than are held are old."""
        return self._last is not None and self._last.total >= self._held

    def _is_explained(self, expected: int) -> bool:
        """Whether the counts can be right: a longer wait changes nothing then."""
        if not self.count or self._last is None:
            return False
        is_blocked = self._last.visible > 0 and (self._queue.address.is_fifo or self._held >= MAX_IN_FLIGHT)
        return is_blocked or self.count <= expected

    @property
    def sentence(self) -> str:
        """`20 messages may be left: 10 in flight, …`."""
        what = counted(self.count, "message") if self.count else "an unknown number of messages"
        return f"{what} may be left in {self._queue.address.name}: {', '.join(self._reasons())}"

    def _reasons(self) -> Iterator[str]:
        last = self._last
        if last is None:
            yield "the queue's message counts could not be read"
            return
        if last.visible and self._queue.address.is_fifo:
            yield "a FIFO queue returns only the first messages of each message group"
        elif last.visible:
            yield f"{last.visible:,} visible but not received"
        if (others := last.in_flight - self._held) > 0:
            lost = f", or in {counted(self._lost, 'lost response')}" if self._lost else ""
            yield f"{others:,} in flight (received by another consumer or by a killed run{lost})"
        if last.delayed:
            yield f"{last.delayed:,} delayed"
        if not self.is_none and not (self.count and (last.visible or others > 0 or last.delayed)):
            yield "the queue's counts lag"
