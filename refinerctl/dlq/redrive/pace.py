"""How fast, and how many: a rate and a limit that many threads share."""

from __future__ import annotations

import threading
import time

from refinerctl.aws.messages import MAX_BATCH


class Pace:
    """A token bucket of `rate` messages a second; without a rate nobody waits.

    It holds no more than one batch, so that nothing comes in bursts, and what is taken is spent on messages that are
    yet to be received: none waits in hand for its turn.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self.is_limited = rate is not None
        self._lock = threading.Lock()
        self._next = time.monotonic()
        self.batch = MAX_BATCH if rate is None else max(1, min(MAX_BATCH, int(rate)))

    def take(self, count: int, stopping: threading.Event) -> None:
        """Wait until so many may go, or until `stopping`."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + count / self._rate
        stopping.wait(turn - now)

    def give_back(self, count: int) -> None:
        """So many did not go after all."""
        if self._rate is not None:
            with self._lock:
                self._next -= count / self._rate


class Limit:
    """How many messages may still be moved. What is in hand is reserved: it may come back."""

    def __init__(self, limit: int | None) -> None:
        self._left = limit
        self._reserved = 0
        self._lock = threading.Lock()

    def reserve(self, wanted: int) -> int:
        """Reserve up to so many; returns how many."""
        with self._lock:
            count = wanted if self._left is None else min(wanted, self._left)
            self._change(-count)
        return count

    def give_back(self, count: int) -> None:
        """So many of those reserved are not going to be moved."""
        with self._lock:
            self._change(count)

    def spend(self, count: int) -> None:
        """So many of those reserved were moved."""
        with self._lock:
            self._reserved -= count

    def is_in_hand(self) -> bool:
        """Whether nothing can be reserved now."""
        return self._left == 0

    def is_spent(self) -> bool:
        """Whether nothing can ever be reserved again."""
        with self._lock:
            return self._left == 0 and self._reserved == 0

    def _change(self, count: int) -> None:
        self._reserved -= count
        if self._left is not None:
            self._left += count
