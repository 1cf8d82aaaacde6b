"""Receiving the messages of a queue, each once. At the end all are released (visible again), unless deleted."""

from __future__ import annotations

import queue
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
# After this many empty answers in a row the queue counts as empty.
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
        self._lock = threading.Lock()
        count = 1 if self.queue.is_fifo else max(1, min(workers, -(-self._wanted // MAX_BATCH)))
        self._receivers = _Receivers(
            source, self.start.visible, min(limits, default=sys.maxsize), self.visibility_s, count, pause_s
        )

    def __enter__(self) -> Walk:
        self._receivers.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._receivers.stop()
        # An interrupt here would leave all messages invisible without a message to the user.
        through_interrupt(partial(self._finish, counts=kind is None))

    def _finish(self, *, counts: bool) -> None:
        try:
            self._put_away()
            for batch in self._receivers.drain():
                self.receives += len(batch)
                self._receipts += [message.receipt for message in batch]
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

    def chunks(self, size: int) -> Iterator[list[Message]]:
        """The messages that match, of at most about `size` received ones at a time; a chunk may be empty.

        Raises what a receive raised, after all messages that were received before.
        """
        for received in self._received(size):
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

    def _received(self, size: int) -> Iterator[list[Message]]:
        while True:
            chunk: list[Message] = []
            while len(chunk) < size and (batch := self._receivers.next(wait=not chunk)) is not None:
                chunk.extend(self._new(batch))
            if not chunk:
                break
            yield chunk
            self._put_away()
        if self._receivers.error is not None:
            raise self._receivers.error

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
        batches = [self._receipts[start : start + MAX_BATCH] for start in range(0, len(self._receipts), MAX_BATCH)]
        answers = concurrently([partial(self._source.change_visibility, batch, 0) for batch in batches], WORKERS)
        self.unreleased = sum(not result.is_done for results in answers for result in results)


class _Receivers:
    """Threads that receive up to `limit` messages, until the queue returns no more or before they time out.

    `expected`: visible messages at the start. `error`: what ended them, to be raised after the last message.
    """

    def __init__(
        self, source: MessageQueue, expected: int, limit: int, visibility_s: int, workers: int, pause_s: float
    ) -> None:
        self.error: BaseException | None = None
        self._source = source
        self._expected = expected
        self._tokens = limit
        self._visibility_s = visibility_s
        self._pause_s = pause_s
        self._end = time.monotonic() + SAFE_SHARE * visibility_s
        self._found = 0
        self._empty = 0
        # The caller waits for messages. While it works, a delete may free further messages of a FIFO group.
        self._is_idle = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"walk-{number}", daemon=True) for number in range(workers)
        ]
        self._working = workers
        self._out: queue.Queue[list[Message] | None] = queue.Queue(maxsize=2 * workers)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def next(self, *, wait: bool) -> list[Message] | None:
        """A batch of messages; None if there is none yet, or no more comes."""
        while self._working:
            self._is_idle = wait
            try:
                batch = self._out.get(timeout=LOOK_SECONDS) if wait else self._out.get_nowait()
            except queue.Empty:
                if wait:
                    continue
                return None
            self._is_idle = False
            if batch is not None:
                return batch
            self._working -= 1
        return None

    def drain(self) -> Iterator[list[Message]]:
        """What the threads have received or are about to receive, once they have been stopped."""
        end = time.monotonic() + DRAIN_S
        while self._working and time.monotonic() < end:
            if (batch := self.next(wait=False)) is not None:
                yield batch
            else:
                time.sleep(LOOK_SECONDS / 10)

    def _work(self) -> None:
        try:
            while not self._stop.is_set() and (count := self._take_tokens(MAX_BATCH)):
                batch = self._receive(count)
                self._take_tokens(len(batch) - count)
                if batch:
                    self._hand_out(batch)
                elif not self._is_idle:
                    self._stop.wait(LOOK_SECONDS / 10)
                if self._is_over(len(batch)):
                    self._stop.set()
        except BaseException as error:  # raised in chunks()
            self.error = error
            self._stop.set()
        finally:
            self._hand_out(None)

    def _take_tokens(self, count: int) -> int:
        """Of `limit`: how many of `count` are left; a negative count returns some."""
        with self._lock:
            taken = min(count, self._tokens)
            self._tokens -= taken
            return taken

    def _receive(self, count: int) -> list[Message]:
        for number in range(ATTEMPTS):
            try:
                return self._source.receive(count, visibility_s=self._visibility_s, wait_s=WAIT_S)
            except TransientError:
                if number == ATTEMPTS - 1:
                    raise
                if self._stop.wait(self._pause_s * 2**number):  # the other workers have received the rest
                    break
        return []

    def _hand_out(self, batch: list[Message] | None) -> None:
        """Blocks until there is room: at the end `drain` makes it."""
        self._is_idle = False
        self._out.put(batch)

    def _is_over(self, count: int) -> bool:
        with self._lock:
            self._found += count
            if count or not (self._is_idle and self._out.empty()):
                self._empty = 0
            else:
                self._empty += 1
            has_all = self._found >= self._expected
            is_growing = self._found >= self._expected * (1 + GROWTH) + LEAST_GROWTH
            is_empty = self._empty >= (1 if has_all else ENOUGH_EMPTY)
        return is_empty or is_growing or time.monotonic() >= self._end


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
