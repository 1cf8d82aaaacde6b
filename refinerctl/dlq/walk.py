"""Receiving the messages of a queue, each once. At the end all are released (visible again), unless deleted.

Not the loop of `dlq redrive` (redrive/source.py): that one has a journal, a limit on what is sent and a rate.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from refinerctl.aws.messages import MAX_BATCH, EntryResult, Message
from refinerctl.console import counted
from refinerctl.dlq.held import HeldMessages, clock
from refinerctl.dlq.remaining import PAUSE_S as LOOK_PAUSE_S
from refinerctl.dlq.remaining import Remaining
from refinerctl.errors import TransientError
from refinerctl.parallel import LOOK_SECONDS, attempt, concurrently, through_interrupt

if TYPE_CHECKING:
    from refinerctl.dlq.client import QueueClient
    from refinerctl.dlq.errors import ErrorFinder
    from refinerctl.dlq.filters import MessageFilter

WORKERS = 16
WAIT_S = 1
# A queue may be filled meanwhile: a walk ends after so many times the messages of its start, and some more.
GROWTH, LEAST_GROWTH = 10, 10_000
# Long enough for a receive in progress; a server that does not respond is not waited for.
DRAIN_S = 3.0
ATTEMPTS = 6
PAUSE_S = 0.2
# Messages are hidden for a short time, as this process may be killed, which is extended while it lives. It grows with
# their number, so that extending them takes a part of the time only.
MESSAGES_PER_S = 200.0
SHORTEST_S = 10
EXTEND_EVERY_S = 1.0
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LONGEST_S = 43_200


def visibility_timeout_s(count: int) -> int:
    """Visibility timeout of a walk over `count` messages."""
    return min(LONGEST_S, SHORTEST_S + round(count / MESSAGES_PER_S))


class Walk:
    """Receives the messages of a queue that match a filter; to be used in a `with` statement.

    At most `limit` messages match, and at most `max_received` are received; `errors` finds errors for the filter.
    `received`, `matched` and `deleted` count messages, each once; `receives` counts every receive, which raised a
    receive count by one. Messages are hidden until the end; `unreleased` ones stay hidden until the visibility timeout
    ends. `remaining` tells whether others are left; without `needs_end` nobody has to know.
    """

    def __init__(
        self,
        source: QueueClient,
        which: MessageFilter,
        errors: ErrorFinder,
        *,
        limit: int | None = None,
        max_received: int | None = None,
        workers: int = WORKERS,
        pause_s: float = PAUSE_S,
        needs_end: bool = True,
    ) -> None:
        self.queue = source.address
        self.errors = errors
        self.limit = limit
        self.start = source.attributes()
        # The server's Date has no fractions.
        self.start_at = self.start.at + timedelta(seconds=1)
        # Without a filter each message matches: no more are received than wanted.
        limits = [count for count in (limit if which.is_empty else None, max_received) if count is not None]
        self._wanted = min([self.start.visible, *limits])
        self.visibility_s = visibility_timeout_s(self._wanted)
        self.remaining = Remaining(source, self.start, pause_s * LOOK_PAUSE_S / PAUSE_S)
        self.received = 0
        self.receives = 0
        self.matched = 0
        self.unreleased = 0
        self._needs_end = needs_end
        self._source = source
        self._which = which
        self._pause_s = pause_s
        self._began = time.monotonic()
        self._seen: set[str] = set()
        self._chosen: set[str] = set()  # to be deleted
        self._deleted: set[str] = set()
        # Receipts of the current chunk by message id, and until when each message is hidden.
        self._chunk: dict[str, tuple[str, float]] = {}
        self._held = HeldMessages(source, self.visibility_s)
        self._is_waiting = False
        self._most = min(limits, default=sys.maxsize)
        self._max_workers = 1 if self.queue.is_fifo else min(workers, source.max_workers)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._extender = threading.Thread(target=self._keep_hidden, name="walk-extend", daemon=True)
        self._polls = 0  # under way
        self._arrived: list[tuple[Message, float]] = []

    def __enter__(self) -> Walk:
        self._extender.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        # An interrupt here would leave all messages invisible without a message to the user.
        through_interrupt(partial(self._finish, counts=kind is None))

    def _finish(self, *, counts: bool) -> None:
        try:
            self._extender.join(DRAIN_S)
            end = time.monotonic() + DRAIN_S
            while self._polls and time.monotonic() < end:
                time.sleep(LOOK_SECONDS / 10)
            with self._lock:
                self.receives += len(self._arrived)
                for message, until in self._arrived:
                    self._chunk[message.id] = message.receipt, until
            self._put_away()
            if counts and not self.remaining.is_none:
                self.remaining.read(self.kept)
        finally:
            self.unreleased = self._held.release()
            self._held.close()

    @property
    def deleted(self) -> int:
        """A deletion may be done although SQS did not confirm it: if nothing is left, all are."""
        return len(self._chosen if self.remaining.is_none else self._deleted)

    @property
    def kept(self) -> int:
        """Messages that were received and are not to be deleted."""
        return self.received - len(self._chosen)

    @property
    def is_complete(self) -> bool:
        """Whether all messages of the queue have been received."""
        return self.remaining.is_none

    def progress(self) -> str:
        waiting = f", {counted(self.remaining.count, 'message')} may be left" if self.remaining.count else ""
        return f"received {progress_text(self.received, self._wanted, time.monotonic() - self._began)}{waiting}"

    def notes(self) -> Iterator[str]:
        """Notes for the user at the end of a walk."""
        if self.receives:
            yield f"receive counts of {counted(self.receives, 'message')} increased by 1"
        if self.unreleased:
            what = counted(self.unreleased, "message")
            yield f"{what} could not be released: invisible for at most {self.visibility_s} s"
        yield from self.errors.notes()

    def chunks(self) -> Iterator[list[Message]]:
        """The messages that match, of those that all workers received at once; a chunk may be empty.

        Raises what a receive raised, after all messages that were received before.
        """
        for received in self._received():
            found = matching(received, self._which, self.errors)
            if self.limit is not None:
                found = found[: self.limit - self.matched]
            self.matched += len(found)
            yield found
            if self.matched == self.limit:
                return

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages of the current chunk. Those that cannot be deleted are released at the end.

        Raises an error that each further call would meet, too.
        """
        ids = [message.id for message in messages]
        self._chosen.update(ids)
        batches = [ids[start : start + MAX_BATCH] for start in range(0, len(ids), MAX_BATCH)]
        concurrently([partial(self._delete, batch) for batch in batches], WORKERS)

    def _delete(self, ids: Sequence[str]) -> None:
        """A repeated delete of a message that is already deleted does no harm.

        With a receipt whose visibility timeout is over SQS confirms the deletion and may delete nothing: such a message
        is not deleted, and one whose confirmation comes too late does not count as deleted.
        """
        for number in range(ATTEMPTS):
            self._extend_chunk(ids)
            with self._lock:
                held = [(item, *self._chunk[item]) for item in ids if item in self._chunk]
            held = [item for item in held if item[2] > clock()]
            if not held:
                return
            results = self._source.delete([receipt for _, receipt, _ in held])
            now = clock()
            with self._lock:
                for (message_id, _, until), result in zip(held, results, strict=True):
                    if result.is_done and now < until:
                        self._chunk.pop(message_id, None)
                        self._deleted.add(message_id)
            ids = [item[0] for item, result in zip(held, results, strict=True) if _can_retry(result)]
            if not ids or number == ATTEMPTS - 1:
                return
            time.sleep(self._pause_s * 2**number)

    def _received(self) -> Iterator[list[Message]]:
        """Until nothing is left, or waiting for more does not help."""
        workers = min(self._max_workers, max(1, -(-self._wanted // MAX_BATCH)))
        most = min(self._most, self.start.total * GROWTH + LEAST_GROWTH)
        while self.receives < most:
            left = min(self._most - self.receives, workers * MAX_BATCH)
            counts = [min(MAX_BATCH, left - start) for start in range(0, left, MAX_BATCH)]
            answers = concurrently([partial(attempt, partial(self._poll, count)) for count in counts], len(counts))
            arrived = list(self._new(self._arrived))
            self._arrived = []  # not before: an interrupt may come at any moment, and then these are released, too
            if arrived:
                yield arrived
                self._put_away()
            for answer in answers:
                if answer.error is not None:
                    raise answer.error
            is_dry = not all(answer.value for answer in answers)
            if is_dry and not arrived and not self._needs_end:
                return
            expected = self.start.in_flight + self.start.delayed + len(self._chosen) - len(self._deleted)
            if is_dry and self.remaining.look(self.kept, self.received, expected):
                return
            self._is_waiting = is_dry and not arrived
            workers = 1 if self._is_waiting else min(self._max_workers, workers * 2)
            if self._is_waiting:
                yield []

    def _poll(self, count: int) -> int:
        """How many messages have arrived. One that is left behind at an interrupt is waited for at the end."""
        with self._lock:
            if self._stop.is_set():
                return 0
            self._polls += 1
        found, until = list[Message](), 0.0
        try:
            found, until = self._receive(count)
        finally:
            with self._lock:
                self._arrived += [(message, until) for message in found]
                self._polls -= 1
        return len(found)

    def _receive(self, count: int) -> tuple[list[Message], float]:
        """Messages, and until when they are hidden."""
        # If a response is lost while others are waited for, its messages are to be visible again soon.
        visibility_s = SHORTEST_S if self._is_waiting else self.visibility_s
        for number in range(ATTEMPTS):
            until = clock() + visibility_s
            try:
                return self._source.receive(count, visibility_s=visibility_s, wait_s=WAIT_S), until
            except TransientError as error:
                if error.is_uncertain:
                    self.remaining.lost_response(visibility_s)
                if number == ATTEMPTS - 1:
                    raise
                if self._stop.wait(self._pause_s * 2**number):
                    break
        return [], 0.0

    def _new(self, batch: list[tuple[Message, float]]) -> Iterator[Message]:
        """SQS may return a message twice, also one whose deletion it confirmed."""
        self.receives += len(batch)
        again: list[Message] = []
        for message, until in batch:
            if message.id in self._seen and message.id not in self._chosen and message.id not in self._chunk:
                self._held.hold([(message.id, message.receipt)], until)
                continue
            with self._lock:
                self._chunk[message.id] = message.receipt, until
            if message.id in self._chosen:
                again.append(message)
            elif message.id not in self._seen:
                self._seen.add(message.id)
                self.received += 1
                yield message
        if again:
            self.delete(again)

    def _put_away(self) -> None:
        if not self._stop.is_set():
            self._extend_chunk(list(self._chunk))
        with self._lock:
            items, self._chunk = self._chunk, {}
        for message_id, (receipt, until) in items.items():
            self._held.hold([(message_id, receipt)], until)

    def _keep_hidden(self) -> None:
        """Reading logs, or a slow disk, may take longer than the visibility timeout."""
        while not self._stop.wait(EXTEND_EVERY_S):
            if attempt(partial(self._held.extend, self._stop)).error is not None:  # no room on the disk
                return
            self._extend_chunk(list(self._chunk))

    def _extend_chunk(self, ids: Sequence[str]) -> None:
        """Extend the visibility timeout of those of which half is over."""
        with self._lock:
            held = [(message_id, *self._chunk[message_id]) for message_id in ids if message_id in self._chunk]
        due = [item for item in held if item[2] < clock() + self.visibility_s / 2]
        for start in range(0, len(due), MAX_BATCH):
            batch = due[start : start + MAX_BATCH]
            until = clock() + self.visibility_s
            results = self._source.change_visibility([receipt for _, receipt, _ in batch], self.visibility_s)
            with self._lock:
                for (message_id, receipt, _), result in zip(batch, results, strict=True):
                    if result.is_done and self._chunk.get(message_id, ("",))[0] == receipt:
                        self._chunk[message_id] = receipt, until


def _can_retry(result: EntryResult) -> bool:
    if result.is_done or result.is_sender_fault:
        return False
    if result.cause is not None and not isinstance(result.cause, TransientError):
        raise result.cause
    return True


def matching(messages: Sequence[Message], which: MessageFilter, errors: ErrorFinder) -> list[Message]:
    """The messages that match; logs are read only if the filter is about errors.

    A message does not match if its error could not be looked up. Raises RefinerctlError if that is so for all, as
    `error == null` would match messages that failed for any reason.
    """
    candidates = [message for message in messages if which.may_match(message)]
    if not which.needs_error:
        return candidates
    known = errors.find(candidates)
    errors.check()
    texts = {message.id: known[message.id].text if message.id in known else None for message in candidates}
    return [item for item in candidates if errors.is_settled(item) and which.matches(item, texts[item.id])]


def progress_text(done: int, total: int | None, seconds: float) -> str:
    """Progress of an operation that began `seconds` ago: `1,200 of 5,000 messages (2,100/s, 2 s left)`."""
    rate = done / seconds if seconds > 0 else 0.0
    whole = f" of {total:,}" if total else ""
    left = f", {max(total - done, 0) / rate:.0f} s left" if total and rate else ""
    return f"{done:,}{whole} messages ({rate:,.0f}/s{left})"
