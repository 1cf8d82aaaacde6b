"""Where a copy gets its messages: when to receive, when nothing is left, what stays hidden until the end."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

from refinerctl.aws.messages import MAX_BATCH, Message
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.held import HeldMessages, change_visibility, clock
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.shared import Batch, InHand, Run, backoff_s
from refinerctl.dlq.remaining import Remaining
from refinerctl.errors import TransientError
from refinerctl.parallel import LOOK_SECONDS, attempt

WAIT_S = 1  # the shortest poll that queries all servers of SQS
# When few messages are expected and the response of a poll is lost, they are to be visible again soon.
LAST_VISIBILITY_S = 30
# How many late messages are received at least, whatever the count says, before older ones are given up.
FEWEST_LATE = 100
RECEIVE_ATTEMPTS = 8
# Once the run is stopping, only what was sent already is worth a few attempts.
DELETE_ATTEMPTS = 8
LAST_DELETE_ATTEMPTS = 3


class Source(ABC):
    """Where messages come from; shared by all workers. A source that nobody else receives from has nothing to hide."""

    @abstractmethod
    def receive(self, *, is_dry: bool) -> Batch | None:
        """The next messages, maybe none; None if there are no more. `is_dry`: the caller's last poll was empty."""

    @abstractmethod
    def delete(self, items: Sequence[InHand]) -> None:
        """These were sent."""

    def hold(self, items: Sequence[InHand]) -> None:  # noqa: B027 - nothing to do without others
        """Keep these, and hide them until the end of the run."""

    def release(self, items: Sequence[InHand]) -> None:  # noqa: B027 - nothing to do without others
        """Keep these, and make them visible."""


class QueueSource(Source):
    """A DLQ as the source of a copy; messages that were sent at `run.start` or later stay in it.

    With `is_selective` most of what is received stays, so that whole batches are received whatever the limit.
    """

    def __init__(
        self,
        queue: QueueClient,
        run: Run,
        held: HeldMessages,
        remaining: Remaining,
        visibility_s: int,
        *,
        is_selective: bool,
    ) -> None:
        self._queue = queue
        self._run = run
        self._held = held
        self._remaining = remaining
        self._visibility_s = self._poll_visibility_s = visibility_s
        self._is_selective = is_selective
        self._owed: list[str] = []
        self._lock = threading.Lock()
        self._late_allowed: int | None = None

    def begin_round(self) -> None:
        """Before workers begin: receive again what was sent and not deleted, also beyond the limit."""
        self._owed = self._run.journal.state.undeleted
        if self._remaining.has_looked:
            self._poll_visibility_s = min(self._visibility_s, LAST_VISIBILITY_S)

    def receive(self, *, is_dry: bool) -> Batch | None:
        run, allowance = self._run, self._run.allowance
        is_owed = any(message_id in run.journal.state.unsettled for message_id in self._owed)
        if run.stopping.is_set() or is_dry or self.is_flooded or (allowance.is_spent and not is_owed):
            return None
        allowed = allowance.reserve(run.stopping)
        if not allowed and not allowance.is_spent:  # other workers may release some
            run.stopping.wait(LOOK_SECONDS)
            return Batch(was_received=False)
        hidden_until = clock() + self._poll_visibility_s
        try:
            found = self._poll(allowance.batch if self._is_selective or not allowed else allowed)
            self._count(found)
        except BaseException:
            allowance.give_back(allowed)
            raise
        return Batch(found, allowed, hidden_until)

    def _poll(self, count: int) -> list[Message]:
        for number in range(1, RECEIVE_ATTEMPTS + 1):
            if self._run.stopping.is_set():
                break
            try:
                return self._queue.receive(count, visibility_s=self._poll_visibility_s, wait_s=WAIT_S)
            except TransientError as error:
                if error.is_uncertain:
                    self._remaining.lost_response(self._poll_visibility_s)
                if number == RECEIVE_ATTEMPTS:
                    raise
                self._run.stopping.wait(backoff_s(number, self._run.max_pause_s))
        return []

    def _count(self, found: Sequence[Message]) -> None:
        """Older messages may be behind late ones, but not behind more of them than there are now."""
        with self._lock:
            if any(message.arrived_at < self._run.start for message in found):
                self._late_allowed = None
            elif found and self._late_allowed is not None:
                self._late_allowed -= len(found)
            elif found and (visible := self._visible()) is not None:
                self._late_allowed = max(visible, FEWEST_LATE)

    @property
    def is_flooded(self) -> bool:
        """Whether so many late messages have been received that no older one can be expected."""
        return self._late_allowed is not None and self._late_allowed <= 0

    def _visible(self) -> int | None:
        found = attempt(self._queue.attributes)
        if found.error is not None and not isinstance(found.error, TransientError):
            raise found.error
        return found.value.visible if found.value else None

    def hold(self, items: Sequence[InHand]) -> None:
        for item in items:
            pair, until = (item.id, item.receipt), item.hidden_until
            if until < clock() + self._visibility_s / 2:
                until = clock() + self._visibility_s
                change_visibility(self._queue, [pair], self._visibility_s)
            self._held.hold([pair], until)

    def release(self, items: Sequence[InHand]) -> None:
        for start in range(0, len(items), MAX_BATCH):
            pairs = [(item.id, item.receipt) for item in items[start : start + MAX_BATCH]]
            release_and_record(self._queue, self._run.journal, pairs)

    def delete(self, items: Sequence[InHand]) -> None:
        """What cannot be deleted stays sent in the journal: received again, it is deleted and not sent."""
        run, waiting = self._run, list(items)
        for number in range(1, DELETE_ATTEMPTS + 1):
            results = self._queue.delete([run.journal.receipt(item.id, item.receipt) for item in waiting])
            now = clock()
            # A receipt that is not the newest any more gets the same answer, and deletes nothing.
            done = [item.id for item, result in zip(waiting, results, strict=True) if result.is_done]
            run.journal.deleted([item.id for item in waiting if item.id in done and item.hidden_until > now])
            if (cause := results[0].cause) is not None and not isinstance(cause, TransientError):
                run.fail(cause)
                return
            pairs = zip(waiting, results, strict=True)
            waiting = [item for item, result in pairs if not result.is_done and not result.is_sender_fault]
            if not waiting or (number >= LAST_DELETE_ATTEMPTS and run.stopping.is_set()):
                break
            run.stopping.wait(backoff_s(number, run.max_pause_s))
        if in_doubt := [item.hidden_until for item in items if item.id in run.journal.state.unsettled]:
            self._remaining.expect(max(in_doubt))


def release_and_record(queue: QueueClient, journal: RedriveJournal, items: Sequence[tuple[str, str]]) -> None:
    """If the journal cannot be written, a resumed run releases them again."""
    if change_visibility(queue, items, 0)[0].cause is None:
        attempt(partial(journal.released, [message_id for message_id, _ in items]))
