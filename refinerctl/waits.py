"""The servers and programs that a command waits for, and reports about slow ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Tell = Callable[[str], None]

# On a terminal, unless it shows already that the command works.
TERMINAL_S = 2.0
# In a log, and beside a progress bar.
LONG_S = 10.0
# How often the watching thread looks.
_LOOK_S = 0.5
_MOST_NAMED = 3


def _nobody(_text: str) -> None:
    """Report to nobody."""


class Waits:
    """The servers that a command waits for. `tell` gets a line after `first_s`, LONG_S, and each doubling of that.

    A thread watches; it ends when the command waits for nothing.
    """

    def __init__(self, tell: Tell = _nobody, first_s: float = LONG_S) -> None:
        self.tell = tell
        self.first_s = first_s
        self._lock = threading.Lock()
        self._since: dict[object, tuple[str, float]] = {}
        self._is_watched = False

    def begin(self, key: object, host: str) -> None:
        """Begin a wait for `host`; `key` identifies it."""
        self._since[key] = host, time.monotonic()
        if not self._is_watched:
            with self._lock:
                is_watched, self._is_watched = self._is_watched, True
            if not is_watched:
                threading.Thread(target=self._watch, name="waits", daemon=True).start()

    def end(self, key: object) -> None:
        self._since.pop(key, None)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A wait for `what` within the `with` block."""
        key = object()
        self.begin(key, what)
        try:
            yield
        finally:
            self.end(key)

    def sending(self, key: object, host: str, body: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces of a request's body. While the next one is produced, maybe by another server, this is no wait."""
        pieces = iter(body)
        while True:
            self.end(key)
            piece = next(pieces, None)
            self.begin(key, host)
            if piece is None:
                return
            yield piece

    @contextmanager
    def beside(self, first_s: float) -> Iterator[None]:
        """Within the `with` block, something else shows that the command works: waits are reported after `first_s`."""
        before, self.first_s = self.first_s, max(first_s, self.first_s)
        try:
            yield
        finally:
            self.first_s = before

    def _watch(self) -> None:
        reported: dict[str, float] = {}
        while True:
            time.sleep(min(_LOOK_S, self.first_s))
            now, longest = time.monotonic(), dict[str, float]()
            for host, since in list(self._since.values()):
                longest[host] = max(longest.get(host, 0.0), now - since)
            reported = {host: waited_s for host, waited_s in reported.items() if host in longest}
            next_s = {host: max(LONG_S, 2 * waited_s) for host, waited_s in reported.items()}
            due = [host for host, waited_s in longest.items() if waited_s >= next_s.get(host, self.first_s)]
            if due:
                reported |= {host: longest[host] for host in due}
                more = f" and {len(due) - _MOST_NAMED} more" if len(due) > _MOST_NAMED else ""
                waited_s = max(longest[host] for host in due)
                self.tell(f"waiting for {', '.join(due[:_MOST_NAMED])}{more} ({waited_s:.0f} s)")
            with self._lock:
                if not self._since:
                    self._is_watched = False
                    return


# The waits of this process. The renderer sets where and when they are reported.
WAITS = Waits()
