"""Receiving the messages of a queue, each once: they are held until the end and given back, unless deleted."""

from __future__ import annotations

import json
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Protocol, TypeVar

from refinerctl.aws.messages import MAX_BATCH, EntryResult, Message, QueueAddress, QueueAttributes
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.views import MessageError, standing
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.parallel import LOOK_SECONDS, concurrently, through_interrupt

LANES = 16
WAIT_S = 1
# Answers without a message, one after the other, after which nothing is left to be received.
ENOUGH_EMPTY = 3
# A queue may be filled while it is walked through; more than what was there plus this share is another walk's.
GROWTH, LEAST_GROWTH = 0.1, 100
# A lane that waits for messages is back by then; one that waits for a dead server is not waited for.
DRAIN_S = 3.0
ATTEMPTS = 6
PAUSE_S = 0.2
# What a walk manages at the very least, in messages per second: for so long messages are hidden.
SLOWEST = 200.0
SLOWEST_WITH_LOGS = 20.0
SHORTEST_S = 10
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LONGEST_S = 43_200
# How much of their time the held messages are held, before the first of them come back and would be seen again.
SAFE_SHARE = 0.9

Item = TypeVar("Item")


class Queue(Protocol):
    """One queue; refinerctl.aws.message_queue.MessageQueue is one. Safe to share between threads."""

    @property
    def address(self) -> QueueAddress: ...
    def attributes(self) -> QueueAttributes: ...
    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]: ...
    def delete(self, receipts: Sequence[str]) -> list[EntryResult]: ...
    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]: ...


@dataclass(frozen=True)
class WalkRules:
    """At most `limit` messages are received, by whoever keeps up with `pace` messages per second."""

    limit: int | None = None
    pace: float = SLOWEST
    lanes: int = LANES

    @classmethod
    def of(cls, which: MessageFilter, limit: int | None, lanes: int = LANES) -> WalkRules:
        """To find what `which` means among at most `limit` messages."""
        return cls(limit, SLOWEST_WITH_LOGS if which.needs_error else SLOWEST, lanes)

    def visibility_s(self, there: int) -> int:
        """For how long each message is hidden: short, as this process may die, and long enough to see all once."""
        count = there if self.limit is None else min(self.limit, there)
        return min(LONGEST_S, SHORTEST_S + round(count / self.pace))


class Walk:
    """A walk through a queue, to be used in a `with` statement: at its end, however it comes, messages are given back.

    `received` counts messages, each once; `receives` every receiving, each of which raised a receive count by one.
    `left` are those that can be received and were not, at the end of a walk; `kept_back` could not be given back and
    stay hidden for `visibility_s` seconds at most.
    """

    def __init__(self, source: Queue, rules: WalkRules) -> None:
        self._source = source
        self._rules = rules
        self.there = source.attributes()
        self.visibility_s = rules.visibility_s(self.there.visible)
        self.received = 0
        self.receives = 0
        self.left = 0
        self.kept_back = 0
        self._began = time.monotonic()
        self._end = self._began + SAFE_SHARE * self.visibility_s
        self._tokens = rules.limit
        self._empty = 0
        self._seen: set[str] = set()
        self._hands: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._found = 0
        # Nothing is being done with what was received: deleting it may set free what a FIFO queue holds back.
        self._is_idle = False
        self._error: BaseException | None = None
        # Receipts are long: those of many messages go into a file that has no name.
        self._spool = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed at the end of the walk
        self._wanted = self.there.visible if rules.limit is None else min(rules.limit, self.there.visible)
        lanes = 1 if source.address.is_fifo else max(1, min(rules.lanes, -(-self._wanted // MAX_BATCH)))
        self._lanes = [
            threading.Thread(target=self._work, name=f"walk-{number}", daemon=True) for number in range(lanes)
        ]
        self._working = len(self._lanes)
        self._out: queue.Queue[list[Message] | None] = queue.Queue(maxsize=2 * len(self._lanes))

    def __enter__(self) -> Walk:
        for lane in self._lanes:
            lane.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        # Interrupted here, all would stay hidden, and nobody would say so.
        through_interrupt(partial(self._finish, counts=kind is None))

    def _finish(self, *, counts: bool) -> None:
        try:
            self._drain()
            if counts:
                self._count_left()
        finally:
            self._give_back()
            self._spool.close()

    @property
    def is_whole(self) -> bool:
        """Whether all that could be received at the beginning was; what came later is another walk's."""
        return self.left == 0 or self.received >= self.there.visible

    def standing(self) -> str:
        """How far it is, how fast, and for how long still."""
        return f"looked at {standing(self.received, self._wanted, time.monotonic() - self._began)}"

    def notes(self) -> Iterator[str]:
        """What whoever asked for this walk should know, at its end."""
        if self.receives:
            yield f"looking raised the receive counts of {counted(self.receives, 'message')} by 1"
        if self.there.in_flight:
            yield f"{counted(self.there.in_flight, 'message')} in somebody's hands, not looked at"
        if not self.is_whole and self._source.address.is_fifo:
            yield "of a FIFO queue only the first messages of each message group can be received"
        if self.kept_back:
            what = counted(self.kept_back, "message")
            yield f"{what} could not be given back: hidden for {self.visibility_s} s at most"

    def chunks(self, size: int) -> Iterator[list[Message]]:
        """The messages, about `size` at a time at most: what is at hand is not kept waiting for more.

        Raises what receiving raised, once all that was received before has been given out.
        """
        while True:
            chunk: list[Message] = []
            while len(chunk) < size and (batch := self._next(wait=not chunk)) is not None:
                chunk.extend(self._new(batch))
            if not chunk:
                break
            yield chunk
            self._put_away()
        if self._error is not None:
            raise self._error

    def holds(self, letter: Message) -> bool:
        """Whether it is one of the last chunk, and not gone."""
        return letter.id in self._hands

    def gone(self, letters: Iterable[Message]) -> None:
        """These of the last chunk are deleted, and not to be given back."""
        for letter in letters:
            self._hands.pop(letter.id, None)

    def _next(self, *, wait: bool) -> list[Message] | None:
        """What a lane has received; None if nothing is at hand, or nothing comes any more."""
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

    def _new(self, batch: list[Message]) -> Iterator[Message]:
        """SQS may give a message twice; the newer receipt is the one that counts."""
        self.receives += len(batch)
        for letter in batch:
            if letter.id in self._seen:
                self._spool_receipts([letter.receipt])
                continue
            self._seen.add(letter.id)
            self.received += 1
            self._hands[letter.id] = letter.receipt
            yield letter

    def _put_away(self) -> None:
        self._spool_receipts(list(self._hands.values()))
        self._hands.clear()

    def _spool_receipts(self, receipts: list[str]) -> None:
        if receipts:
            self._spool.write("".join(f"{json.dumps(receipt)}\n" for receipt in receipts))

    def _work(self) -> None:
        """One lane."""
        try:
            while not self._stop.is_set() and (count := self._take()):
                batch = self._receive(count)
                self._give_up(count - len(batch))
                if batch:
                    self._hand_out(batch)
                elif not self._is_idle:
                    self._stop.wait(LOOK_SECONDS / 10)
                if self._is_over(len(batch)):
                    self._stop.set()
        except BaseException as error:  # raised where the messages are waited for
            self._error = error
            self._stop.set()
        finally:
            self._hand_out(None)

    def _take(self) -> int:
        with self._lock:
            if self._tokens is None:
                return MAX_BATCH
            count = min(MAX_BATCH, self._tokens)
            self._tokens -= count
            return count

    def _give_up(self, count: int) -> None:
        with self._lock:
            if self._tokens is not None:
                self._tokens += count

    def _receive(self, count: int) -> list[Message]:
        for attempt in range(ATTEMPTS):
            try:
                return self._source.receive(count, visibility_s=self.visibility_s, wait_s=WAIT_S)
            except TransientError:
                if attempt == ATTEMPTS - 1:
                    raise
                if self._stop.wait(PAUSE_S * 2**attempt):  # the others have all that there is
                    break
        return []

    def _hand_out(self, batch: list[Message] | None) -> None:
        """Nobody may be waiting any more: the end of the walk empties the queue, so that this comes to an end."""
        self._is_idle = False
        self._out.put(batch)

    def _is_over(self, count: int) -> bool:
        with self._lock:
            self._found += count
            if count or not (self._is_idle and self._out.empty()):
                self._empty = 0
            else:
                self._empty += 1
            has_all = self._found >= self.there.visible
            is_growing = self._found >= self.there.visible * (1 + GROWTH) + LEAST_GROWTH
            is_empty = self._empty >= (1 if has_all else ENOUGH_EMPTY)
        return is_empty or is_growing or time.monotonic() >= self._end

    def _drain(self) -> None:
        """What the lanes have received meanwhile, or are about to: nobody looks at it, and it is to be given back."""
        self._put_away()
        end = time.monotonic() + DRAIN_S
        while self._working and time.monotonic() < end:
            if (batch := self._next(wait=False)) is None:
                time.sleep(LOOK_SECONDS / 10)
                continue
            self.receives += len(batch)
            self._spool_receipts([letter.receipt for letter in batch])

    def _count_left(self) -> None:
        try:
            self.left = self._source.attributes().visible
        except RefinerctlError:
            self.left = 0

    def _give_back(self) -> None:
        """Several batches at once, of a file that may be long."""
        self._spool.seek(0)
        receipts: Iterator[str] = (json.loads(line) for line in self._spool)
        while wave := _taken(receipts, MAX_BATCH * LANES * 4):
            batches = [wave[start : start + MAX_BATCH] for start in range(0, len(wave), MAX_BATCH)]
            tasks: list[Callable[[], list[EntryResult]]] = [
                partial(self._source.change_visibility, batch, 0) for batch in batches
            ]
            results = [result for answer in concurrently(tasks, LANES) for result in answer]
            self.kept_back += sum(1 for result in results if not result.is_done)


def meant(letters: Sequence[Message], which: MessageFilter, errors: ErrorFinder) -> list[Message]:
    """Those that the filter means; logs are asked only if it is about errors.

    Of a message whose error nobody could look up nothing is known: it is not meant. Raises RefinerctlError if that is
    so of all, as `error == null` would mean what may have died of anything.
    """
    candidates = [letter for letter in letters if which.may_match(letter)]
    if not which.needs_error:
        return candidates
    known = errors.find(candidates)
    errors.check()
    settled = [letter for letter in candidates if errors.is_settled(letter)]
    return [letter for letter in settled if which.matches(letter, _text(known.get(letter.id)))]


def _text(error: MessageError | None) -> str | None:
    return error.text if error else None


def counted(count: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _taken(items: Iterator[Item], count: int) -> list[Item]:
    return list(islice(items, count))
