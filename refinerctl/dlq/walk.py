"""Receiving the messages of a queue, each once. At the end all are released (visible again), unless deleted.

Not the loop of `dlq redrive` (redrive/source.py): that one has a journal, a limit on what is sent, a rate, and queues
that take minutes to end; a walk looks at what there is within its visibility timeout and ends.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from refinerctl.aws.messages import MAX_BATCH, EntryResult, Message
from refinerctl.console import counted
from refinerctl.errors import TransientError
from refinerctl.parallel import LOOK_SECONDS, attempt, concurrently, through_interrupt

if TYPE_CHECKING:
    from refinerctl.aws.message_queue import MessageQueue
    from refinerctl.dlq.errors import ErrorFinder
    from refinerctl.dlq.filters import MessageFilter

WORKERS = 16
WAIT_S = 1
# After this many empty answers in a row the queue counts as empty; after one if all of the start have been received.
ENOUGH_EMPTY = 3
# A queue may be filled meanwhile: a walk ends after the messages of its start plus this share of them.
GROWTH, LEAST_GROWTH = 0.1, 100
# Long enough for a receive in progress; a server that does not respond is not waited for.
DRAIN_S = 3.0
ATTEMPTS = 6
PAUSE_S = 0.2
# Minimum rate of a walk in messages per second, from which the visibility timeout is calculated.
SLOWEST = 200.0
SLOWEST_WITH_LOGS = 20.0
SHORTEST_S = 10
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LONGEST_S = 43_200
# A walk ends after this share of the visibility timeout, before its first messages become visible again.
SAFE_SHARE = 0.9


def visibility_timeout_s(count: int, per_second: float) -> int:
    """Visibility timeout of a walk over `count` messages: short, as this process may be killed, and long enough."""
    return min(LONGEST_S, SHORTEST_S + round(count / per_second))


class Walk:
    """Receives the messages of a queue that match a filter; to be used in a `with` statement.

    At most `limit` messages match, and at most `max_received` are received; `errors` finds errors for the filter.
    `received`, `matched` and `deleted` count messages, each once; `receives` counts every receive, which raised a
    receive count by one. At the end, `left` visible messages were not received, and `unreleased` ones stay invisible
    until the visibility timeout ends.
    """

    def __init__(
        self,
        source: MessageQueue,
        which: MessageFilter,
        errors: ErrorFinder,
        *,
        limit: int | None = None,
        max_received: int | None = None,
        workers: int = WORKERS,
        pause_s: float = PAUSE_S,
    ) -> None:
        self.queue = source.address
        self.errors = errors
        self.limit = limit
        self.start = source.attributes()
        # Without a filter each message matches: no more are received than wanted.
        limits = [count for count in (limit if which.is_empty else None, max_received) if count is not None]
        self._wanted = min([self.start.visible, *limits])
        self.visibility_s = visibility_timeout_s(self._wanted, SLOWEST_WITH_LOGS if which.needs_error else SLOWEST)
        self.received = 0
        self.receives = 0
        self.matched = 0
        self.deleted = 0
        self.left = 0
        self.unreleased = 0
        self._source = source
        self._which = which
        self._pause_s = pause_s
        self._began = time.monotonic()
        self._seen: set[str] = set()
        self._chunk: dict[str, str] = {}  # receipts of the current chunk by message id
        self._receipts: list[str] = []  # of messages to release; SQS has at most 120,000 in flight
        self._most = min(limits, default=sys.maxsize)
        self._workers = 1 if self.queue.is_fifo else max(1, min(workers, -(-self._wanted // MAX_BATCH)))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._polls = 0  # under way
        self._arrived: list[Message] = []

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        # An interrupt here would leave all messages invisible without a message to the user.
        through_interrupt(partial(self._finish, counts=kind is None))

    def _finish(self, *, counts: bool) -> None:
        try:
            self._put_away()
            end = time.monotonic() + DRAIN_S
            while self._polls and time.monotonic() < end:
                time.sleep(LOOK_SECONDS / 10)
            with self._lock:
                self.receives += len(self._arrived)
                self._receipts += [message.receipt for message in self._arrived]
            if counts:
                attributes = attempt(self._source.attributes).value
                self.left = attributes.visible if attributes else 0
        finally:
            self._release()

    @property
    def is_complete(self) -> bool:
        """Whether all messages that were visible at the start have been received."""
        return self.left == 0 or self.received >= self.start.visible

    def progress(self) -> str:
        return f"received {progress_text(self.received, self._wanted, time.monotonic() - self._began)}"

    def notes(self) -> Iterator[str]:
        """Notes for the user at the end of a walk."""
        if self.receives:
            yield f"receive counts of {counted(self.receives, 'message')} increased by 1"
        if self.start.in_flight:
            yield f"not received, because in flight: {counted(self.start.in_flight, 'message')}"
        if not self.is_complete and self.queue.is_fifo:
            yield "a FIFO queue returns only the first messages of each message group"
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
        batches = [messages[start : start + MAX_BATCH] for start in range(0, len(messages), MAX_BATCH)]
        concurrently([partial(self._delete, batch) for batch in batches], WORKERS)

    def _delete(self, messages: Sequence[Message]) -> None:
        """A repeated delete of a message that is already deleted does no harm."""
        waiting = messages
        for number in range(ATTEMPTS):
            results = self._source.delete([message.receipt for message in waiting])
            answered = list(zip(waiting, results, strict=True))
            with self._lock:
                for message, result in answered:
                    if result.is_done:
                        self._chunk.pop(message.id, None)
                        self.deleted += 1
            waiting = [message for message, result in answered if _can_retry(result)]
            if not waiting or number == ATTEMPTS - 1:
                break
            time.sleep(self._pause_s * 2**number)

    def _received(self) -> Iterator[list[Message]]:
        """Until the queue returns no more, or the first messages are about to become visible again."""
        expected, empty_polls = self.start.visible, 0
        while self.receives < min(self._most, expected * (1 + GROWTH) + LEAST_GROWTH):
            left = min(self._most - self.receives, self._workers * MAX_BATCH)
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
            empty = sum(not answer.value for answer in answers)
            empty_polls = 0 if arrived else empty_polls + empty
            is_empty = empty > 0 if self.receives >= expected else empty_polls >= ENOUGH_EMPTY
            if is_empty or time.monotonic() >= self._began + SAFE_SHARE * self.visibility_s:
                return

    def _poll(self, count: int) -> int:
        """How many messages have arrived. One that is left behind at an interrupt is waited for at the end."""
        with self._lock:
            if self._stop.is_set():
                return 0
            self._polls += 1
        found: list[Message] = []
        try:
            found = self._receive(count)
        finally:
            with self._lock:
                self._arrived += found
                self._polls -= 1
        return len(found)

    def _receive(self, count: int) -> list[Message]:
        for number in range(ATTEMPTS - 1):
            try:
                return self._source.receive(count, visibility_s=self.visibility_s, wait_s=WAIT_S)
            except TransientError:
                if self._stop.wait(self._pause_s * 2**number):
                    return []
        return self._source.receive(count, visibility_s=self.visibility_s, wait_s=WAIT_S)

    def _new(self, batch: list[Message]) -> Iterator[Message]:
        """SQS may return a message twice."""
        self.receives += len(batch)
        for message in batch:
            if message.id in self._seen:
                self._receipts.append(message.receipt)
                continue
            self._seen.add(message.id)
            self.received += 1
            self._chunk[message.id] = message.receipt
            yield message

    def _put_away(self) -> None:
        with self._lock:
            self._receipts += self._chunk.values()
            self._chunk.clear()

    def _release(self) -> None:
        receipts = list(dict.fromkeys(self._receipts))
        batches = [receipts[start : start + MAX_BATCH] for start in range(0, len(receipts), MAX_BATCH)]
        answers = concurrently([partial(self._source.change_visibility, batch, 0) for batch in batches], WORKERS)
        self.unreleased = sum(not result.is_done for results in answers for result in results)


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
