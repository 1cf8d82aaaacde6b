"""A worker of a copy: receives, sends, deletes, again, with fewer than twenty messages in hand."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

from refinerctl.aws.messages import MAX_BATCH, EntryResult, Message, QueueAddress
from refinerctl.dlq.held import clock
from refinerctl.dlq.redrive.routes import SendTo
from refinerctl.dlq.redrive.shared import Batch, InHand, Run, backoff_s
from refinerctl.dlq.redrive.source import Source
from refinerctl.errors import TransientError

SEND_ATTEMPTS = 8
# Maximum time that a message waits for a full batch.
LINGER_S = 0.5
# Maximum size of a batch that every queue accepts, in bytes; larger messages are sent alone.
SAFE_BATCH_BYTES = 262_144
# A FIFO queue drops what it got within the last five minutes; a bit less, as clocks differ.
DEDUPLICATED_FOR_S = 290.0
# With less than this left before others can receive a message it is not sent.
MARGIN_S = 15.0
# The times of RabbitMQ are in seconds, and the start of a run is rounded up.
RETURNED_IN_DOUBT = timedelta(seconds=3)


class Worker:
    """Used by one thread."""

    def __init__(self, run: Run, source: Source) -> None:
        self._run = run
        self._source = source
        self._journal = run.journal
        self._pending: dict[QueueAddress, list[InHand]] = {}
        self._deletions: list[InHand] = []
        self._pending_since = 0.0
        self._is_dry = False  # the last poll returned no message
        # Not Thread.join: after an interrupt it treats a running thread as ended (Python 3.11).
        self.ended = threading.Event()

    def work(self) -> None:
        """Work until nothing is left or the run fails. Raises nothing: an error becomes the run's failure."""
        run, is_over = self._run, False
        while not is_over:
            try:
                batch = None if run.stopping.is_set() else self._source.receive(is_dry=self._is_dry)
                is_over = batch is None
                if batch is not None:
                    self._is_dry = batch.was_received and not batch.messages
                    self._sort(batch)
                is_late = time.monotonic() - self._pending_since > LINGER_S
                everything = batch is None or not batch.messages or is_late or run.sends_at_once
                for target, due in self._due(everything):
                    confirmed = self._send(target, due)
                    self._deletions += confirmed
                    if target.is_fifo and len(confirmed) < len(due) and not run.stopping.is_set():
                        self._stop_groups(target, due, confirmed)
                self._delete(everything)
            except Exception as error:  # then one last round, to release the messages in hand
                run.fail(error)
            except BaseException as error:
                run.fail(error)
                break
        self.ended.set()

    def _sort(self, batch: Batch) -> None:
        """Decide on each message of a batch."""
        messages, left = deque(batch.messages), batch.allowed
        try:
            messages = self._take_in_hand(messages, batch.hidden_until)
            while messages:
                left -= self._sort_message(messages[0], batch, left)
                messages.popleft()
        finally:
            self._run.allowance.give_back(left)
            if messages:
                self._release([_in_hand(message, batch.hidden_until) for message in messages])

    def _take_in_hand(self, messages: deque[Message], hidden_until: float) -> deque[Message]:
        """Without those that another worker has in hand, and those that were deleted before, to be deleted again."""
        deleted = {message.id for message in messages if self._journal.was_deleted(message.id)}
        for message in messages:
            if message.id in deleted:
                self._deletions.append(_in_hand(message, hidden_until, is_reserved=False))
        others = [message for message in messages if message.id not in deleted]
        new = self._journal.received([(message.id, message.receipt) for message in others]) if others else set()
        if self._run.stopping.is_set():  # then the other worker has just released these
            again = [message for message in others if message.id not in new]
            if again:
                self._source.release([_in_hand(message, hidden_until) for message in again])
        return deque(message for message in others if message.id in new)

    def _sort_message(self, message: Message, batch: Batch, left: int) -> bool:
        """Whether it uses one of `left` that may be sent."""
        run, state = self._run, self._journal.state
        item = _in_hand(message, batch.hidden_until)
        known = state.unsettled.get(message.id)
        if known is not None and known.new_id is not None:  # by an earlier part of the run, or its deletion failed
            item.is_reserved = False
            self._deletions.append(item)
            return False
        is_late = message.arrived_at >= run.start
        if state.may_be_new_id(message.sent_id) and (is_late or self._may_have_returned(message)):
            run.count("returned")
        elif not is_late and batch.allowed:
            route = run.route(message)
            if not isinstance(route, SendTo):
                run.count("failed" if route.is_failure else "skipped", route.reason if route.is_failure else None)
            elif left:
                item.outgoing = route.message
                if not self._pending:
                    self._pending_since = time.monotonic()
                self._pending.setdefault(route.queue, []).append(item)
                return True
        self._hold(item)
        return False

    def _may_have_returned(self, message: Message) -> bool:
        """A message of RabbitMQ has no id of its own: one that arrived long before the run began is an equal one."""
        return not message.content_id or message.arrived_at >= self._run.start - RETURNED_IN_DOUBT

    def _due(self, everything: bool) -> Iterator[tuple[QueueAddress, list[InHand]]]:
        """Batches to send now: full ones, with `everything` also the rest. None if the run is stopping."""
        for target, items in list(self._pending.items()):
            while items and (everything or target.is_fifo or len(items) >= MAX_BATCH):
                batch = _first_batch(items, target)
                for item in batch:
                    items.remove(item)
                if self._run.stopping.is_set():
                    self._release(batch)
                else:
                    yield target, batch
            if not items:
                del self._pending[target]

    def _delete(self, everything: bool) -> None:
        while len(self._deletions) >= (1 if everything else MAX_BATCH):
            batch, self._deletions = self._deletions[:MAX_BATCH], self._deletions[MAX_BATCH:]
            self._source.delete(batch)
            self._journal.state.let_go([item.id for item in batch])
            self._run.allowance.spend(sum(item.is_reserved for item in batch))

    def _send(self, target: QueueAddress, batch: Sequence[InHand]) -> list[InHand]:  # noqa: C901 - a case each
        """Send; returns those that the target confirmed. The others are held or released."""
        run, queue = self._run, self._run.queue_at(target)
        confirmed: list[InHand] = []
        waiting = list(batch)
        for number in range(1, SEND_ATTEMPTS + 1):
            if any(item.hidden_until < clock() + MARGIN_S for item in waiting):  # others may receive them soon
                if number == 1:
                    self._release(waiting)
                for item in waiting if number > 1 else ():
                    self._hold_instead(item, "failed", "timed out")
                break
            ids, counted = [item.id for item in waiting], list[str]()
            messages = [item.outgoing for item in waiting if item.outgoing]
            results = queue.send(messages, partial(self._leaving, target, ids, counted))
            cause = results[0].cause
            others = self._read(target, waiting, results, counted, confirmed)
            if cause is not None and results[0].is_sender_fault and len(waiting) > 1:
                middle = len(waiting) // 2
                return confirmed + self._send(target, waiting[:middle]) + self._send(target, waiting[middle:])
            if cause is not None and not isinstance(cause, TransientError) and not results[0].is_sender_fault:
                run.fail(cause)
                self._release(waiting)
                break
            waiting = []
            for item, result in others:
                if result.is_done:
                    self._hold_instead(item, "dropped_duplicates")
                elif result.is_sender_fault or number == SEND_ATTEMPTS:
                    self._hold_instead(item, "failed", result.message or result.error)
                else:
                    waiting.append(item)
            if not waiting:
                break
            if run.stopping.wait(backoff_s(number, run.max_pause_s)):
                self._release(waiting)
                break
        return confirmed

    def _leaving(self, target: QueueAddress, ids: Sequence[str], counted: list[str]) -> None:
        """Record that a request is about to be sent; `counted` gets those that may then exist twice."""
        now = clock() + self._run.server_ahead_s
        since = now - DEDUPLICATED_FOR_S if target.is_fifo else float("inf")
        more = [message_id for message_id in ids if not self._journal.state.left_after(message_id, since)]
        self._journal.left(more, now)
        counted += more

    def _read(
        self,
        target: QueueAddress,
        items: Sequence[InHand],
        results: Sequence[EntryResult],
        counted: Sequence[str],
        confirmed: list[InHand],
    ) -> list[tuple[InHand, EntryResult]]:
        """Record the result of a request, and add to `confirmed`; returns the other items with their results."""
        sent: list[tuple[str, str]] = []
        others: list[tuple[InHand, EntryResult]] = []
        for item, result in zip(items, results, strict=True):
            new_id = result.message_id
            if not result.is_done or new_id is None or (target.is_fifo and self._is_duplicate(item, new_id, sent)):
                others.append((item, result))
                continue
            sent.append((item.id, new_id))
            confirmed.append(item)
            self._run.on_sent(item, new_id)
        if sent:
            self._journal.sent(sent)
        without_effect = {item.id for item, result in others if not result.is_uncertain}
        if refused := [message_id for message_id in counted if message_id in without_effect]:
            self._journal.refused(refused)
        return others

    def _is_duplicate(self, item: InHand, new_id: str, sent: Sequence[tuple[str, str]]) -> bool:
        """A FIFO queue answers with the id of the message that it got first."""
        return new_id == item.id or any(new_id == other for _, other in sent) or self._journal.is_new_id(new_id)

    def _stop_groups(self, target: QueueAddress, batch: Sequence[InHand], confirmed: Sequence[InHand]) -> None:
        """If a message stays, later messages of its group stay, too: their order must not change."""
        groups = {item.group for item in batch} - {item.group for item in confirmed}
        items = self._pending.get(target, [])
        for item in [item for item in items if item.group in groups]:
            items.remove(item)
            self._hold_instead(item, "failed", "an earlier message of its group stays in the queue")

    def _hold_instead(self, item: InHand, name: str, reason: str | None = None) -> None:
        """Hold a message that could not be sent."""
        self._run.count(name, reason)
        self._run.allowance.give_back(1)
        self._hold(item)

    def _hold(self, item: InHand) -> None:
        self._source.hold([item])
        self._journal.forget([item.id])

    def _release(self, items: Sequence[InHand]) -> None:
        """Release a message that was not sent because the run is stopping."""
        self._source.release(items)
        self._run.allowance.give_back(sum(item.outgoing is not None for item in items))


def _in_hand(message: Message, hidden_until: float, *, is_reserved: bool = True) -> InHand:
    return InHand(message.id, message.receipt, message.sent_at, hidden_until, is_reserved=is_reserved)


def _first_batch(items: Sequence[InHand], target: QueueAddress) -> list[InHand]:
    """Up to ten from the front that fit into one request, at least one; for a FIFO queue one of each group.

    A batch may fail in part: two of a group could arrive in the wrong order.
    """
    batch: list[InHand] = []
    groups: set[str | None] = set()
    size = 0
    for item in items:
        if target.is_fifo and item.group in groups:
            continue
        size += item.outgoing.size if item.outgoing else 0
        if len(batch) == MAX_BATCH or (batch and size > SAFE_BATCH_BYTES):
            break
        groups.add(item.group)
        batch.append(item)
    return batch
