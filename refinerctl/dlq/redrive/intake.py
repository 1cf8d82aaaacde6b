"""Who receives when, and when there is nothing more to receive.

A long poll of an empty queue is a call for nothing: the more come back empty, the fewer lanes receive.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from refinerctl.aws.messages import MAX_BATCH, Message
from refinerctl.dlq.redrive import awake
from refinerctl.dlq.redrive.pace import Limit, Pace
from refinerctl.dlq.redrive.ports import Queue
from refinerctl.dlq.redrive.types import CopyRules
from refinerctl.errors import TransientError
from refinerctl.parallel import LOOK_SECONDS

WAIT_S = 1  # the shortest poll that asks all of SQS's servers
EMPTY_POLLS = 2
# With these many still to be there, by a count that is approximate.
EMPTY_POLLS_AGAINST_THE_COUNT = 5
# So many that came after the start are looked at, whatever the count says, before older ones are given up.
FEWEST_STRANGERS = 100
RECEIVE_ATTEMPTS = 8
_FIRST_PAUSE_S = 0.1
FIRST_LANES = 2


class Turn(Enum):
    """What a lane is to do next."""

    RECEIVE = auto()
    WAIT = auto()
    END = auto()


@dataclass(frozen=True)
class Catch:
    """What a receive brought. `reserved`: how many may be moved; `is_tried`: the queue was asked.

    `began` is by the monotonic clock, `hidden_until` by `awake`.
    """

    letters: list[Message]
    reserved: int
    is_tried: bool
    began: float
    hidden_until: float


class Intake:
    """Shared by all lanes. `expected`: about so many messages are there. `is_owed`: some of them were sent before, and
    are to be deleted whatever the limit is.

    `unseen`: of so many the queue said at the end that they were there, and did not hand them out.
    """

    def __init__(
        self,
        source: Queue,
        expected: int,
        rules: CopyRules,
        stopping: threading.Event,
        is_owed: Callable[[], bool],
    ) -> None:
        self._source = source
        self._is_owed = is_owed
        self._stopping = stopping
        self.pace = Pace(rules.rate)
        self.limit = Limit(rules.limit)
        # A lane more than the rate needs would only wait for its turn.
        self._lanes = max(1, rules.lanes if rules.rate is None else min(rules.lanes, 1 + int(rules.rate / MAX_BATCH)))
        self._visibility_s = rules.visibility_s
        self._longest_pause_s = rules.longest_pause_s
        self._takes_whole_batches = rules.limit is None
        self._changed = threading.Condition()
        self._width = min(FIRST_LANES, self._lanes)
        self._receiving = 0
        # While a lane has messages of a FIFO queue in hand, nothing comes of their groups: no sign of the end.
        self._is_fifo = source.address.is_fifo
        self._busy: set[int] = set()
        self._expected = expected
        self._is_over = False
        self.unseen = 0
        self._is_counting = False
        self._last_found = time.monotonic()
        self._empty_polls = 0
        self._strangers_to_come: int | None = None

    def turn(self, *, may_wait: bool) -> Turn:
        """What to do. With `may_wait` it waits for its turn to receive, or for the end."""
        with self._changed:
            if threading.get_ident() in self._busy:
                self._busy.remove(threading.get_ident())
                self._last_found = time.monotonic()
            while True:
                if self._is_over or self._stopping.is_set() or self._is_enough():
                    return Turn.END
                if self._has_room() and (self.limit.is_spent() or not self.limit.is_in_hand()):
                    self._receiving += 1
                    return Turn.RECEIVE
                if not may_wait:
                    return Turn.WAIT
                self._changed.wait(timeout=LOOK_SECONDS)

    def _is_enough(self) -> bool:
        """What was sent in an earlier part, and is still to be deleted, is looked for beyond the limit."""
        return self.limit.is_spent() and not self._is_owed()

    def _has_room(self) -> bool:
        """No more than the lanes, and no more than there are batches to be received."""
        if self._is_counting or self._receiving >= self._width:
            return False
        return self._receiving < FIRST_LANES or self._receiving * MAX_BATCH < self._expected

    def receive(self) -> Catch:
        """After Turn.RECEIVE; `sorted` has to be called then. Raises RefinerctlError if nothing can be received."""
        reserved = self.limit.reserve(self.pace.batch)
        # Where a filter chooses, a batch holds messages beside those that are wanted.
        is_beyond = self.limit.is_spent()
        count = self.pace.batch if self._takes_whole_batches or is_beyond else reserved
        visibility_s = self._visibility_s
        letters = []
        try:
            self.pace.take(reserved, self._stopping)
            began, awake_since = time.monotonic(), awake.now()
            if (reserved or is_beyond) and not self._stopping.is_set():
                letters = self._try(count, visibility_s)
        except BaseException:
            self.give_back(reserved)
            raise
        return Catch(letters, reserved, reserved > 0 or is_beyond, began, awake_since + visibility_s)

    def give_back(self, count: int) -> None:
        """So many of those reserved are not going to be moved."""
        self.limit.give_back(count)
        self.pace.give_back(count)

    def some_stay(self, visibility_s: int) -> None:
        """There are messages that are not wanted: take whole batches, and let all be hidden until the end."""
        self._takes_whole_batches = True
        self._visibility_s = max(self._visibility_s, visibility_s)

    def sorted(self, catch: Catch | None, ours: int = 0) -> None:
        """Of this catch so many were what is looked for: dead letters from before the start. None: it failed."""
        with self._changed:
            self._receiving -= 1
            wants_counts = catch is not None and catch.is_tried and self._judge(catch, ours)
            self._is_counting |= wants_counts
            self._changed.notify_all()
        if wants_counts:
            self._count()
        if self._busy and catch is not None and not catch.letters and time.monotonic() - catch.began < LOOK_SECONDS:
            self._stopping.wait(LOOK_SECONDS)  # a file does not wait for messages, and the lane that has some is slow

    def _judge(self, catch: Catch, ours: int) -> bool:
        """Whether the counts could tell that this is the end."""
        now = time.monotonic()
        self._expected -= len(catch.letters)
        if self._expected < 0 and len(catch.letters) == MAX_BATCH:  # the count was too low: there may be as many again
            self._expected = self._width * MAX_BATCH
        if ours:
            if self._is_fifo:
                self._busy.add(threading.get_ident())
            self._last_found = now
            self._empty_polls = 0
            self._strangers_to_come = None
            if len(catch.letters) >= self.pace.batch / 2:
                self._width = min(self._lanes, self._width * 2)
        elif catch.letters:
            # Letters that came after the start, maybe in front of older ones: no more of them than are counted now.
            if self._strangers_to_come is None:
                return not self._is_counting
            self._strangers_to_come -= len(catch.letters)
            self._is_over |= self._strangers_to_come <= 0
        else:
            self._width = 1
            if self._busy:
                return False
            # A poll that ended with the last find tells nothing.
            self._empty_polls += catch.began > self._last_found or now - self._last_found > WAIT_S / 2
            return self._empty_polls >= EMPTY_POLLS and not self._is_counting
        return False

    def _count(self) -> None:
        visible: int | None = None
        try:
            with contextlib.suppress(TransientError):
                visible = self._source.attributes().visible
        finally:
            self._is_counting = False
        with self._changed:
            enough = EMPTY_POLLS if visible == 0 else EMPTY_POLLS_AGAINST_THE_COUNT
            if self._empty_polls >= enough:
                self._is_over = True
                self.unseen = visible or 0
            if self._empty_polls == 0 and self._strangers_to_come is None:
                self._strangers_to_come = None if visible is None else max(visible, FEWEST_STRANGERS)
            self._changed.notify_all()

    def pause_s(self, attempt: int) -> float:
        """Before attempt `attempt` + 1: twice as long each time, at random, so that lanes spread."""
        pause = min(self._longest_pause_s, _FIRST_PAUSE_S * 2.0**attempt)
        return random.uniform(pause / 2, pause)  # noqa: S311

    def _try(self, count: int, visibility_s: int) -> list[Message]:
        attempt = 0
        while True:
            try:
                return self._source.receive(count, visibility_s=visibility_s, wait_s=WAIT_S)
            except TransientError:
                attempt += 1
                if attempt == RECEIVE_ATTEMPTS or self._stopping.wait(self.pause_s(attempt)):
                    raise
