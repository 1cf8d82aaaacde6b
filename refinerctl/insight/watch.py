"""A live screen: a value that is read again and again, until `q` is pressed."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from refinerctl.errors import RefinerctlError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

POLL_SECONDS = 0.1

Value = TypeVar("Value")


Draw: TypeAlias = Callable[[Value, RefinerctlError | None, int, int], "RenderableType"]


def watch(read: Callable[[], Value], draw: Draw[Value], interval_s: float) -> None:
    """Show what `read` returns on a terminal, and read again every `interval_s` seconds, until `q` is pressed.

    `draw` gets the last value, the error that a later read raised, and the width and height of the screen. Reading has
    a thread of its own, so that keys and a new size are answered at once. Nothing is drawn unless it differs. The
    terminal is restored at the end and for Ctrl-Z. The error of the first read is raised.
    """
    from rich.console import Console

    # Exported variables would fix the size, whatever size the terminal has now.
    console = Console(_environ={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")})
    latest = _Latest(read())
    threading.Thread(target=latest.keep_reading, args=(read, interval_s), daemon=True).start()
    with _stops() as stop:
        while not _show(console, latest, draw, stop):
            stop.now()


def _show(console: Console, latest: _Latest[Value], draw: Draw[Value], stop: _Stop) -> bool:
    """Draw until `q` is pressed; False if the process has to stop first."""
    from rich.live import Live

    shown: object = None
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not pressed() & {"q", "Q"}:
            if stop.is_wanted:
                return False
            current = (latest.value, latest.error, *console.size)
            if shown != current:
                shown = current
                live.update(draw(*current), refresh=True)
    return True


@dataclass
class _Latest(Generic[Value]):
    """The last value, and the error of a later read."""

    value: Value
    error: RefinerctlError | None = None

    def keep_reading(self, read: Callable[[], Value], interval_s: float) -> None:
        while True:
            time.sleep(interval_s)
            try:
                self.value, self.error = read(), None
            except RefinerctlError as error:
                self.error = error
            except Exception as error:  # an SDK's: nobody waits for this thread, so the screen has to show it
                self.error = RefinerctlError(str(error))


@dataclass
class _Stop:
    """Ctrl-Z: the terminal is restored before the shell gets it."""

    is_wanted: bool = False

    def want(self, _number: int, _frame: FrameType | None) -> None:
        self.is_wanted = True

    def now(self) -> None:
        """Stop; returns when the process is continued."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        self.is_wanted = False
        signal.signal(signal.SIGTSTP, self.want)


@contextmanager
def _stops() -> Iterator[_Stop]:
    stop, before = _Stop(), signal.getsignal(signal.SIGTSTP)
    if before is not signal.SIG_IGN:  # nobody could continue the process
        signal.signal(signal.SIGTSTP, stop.want)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTSTP, before)


@contextmanager
def _keys() -> Iterator[Callable[[], set[str]]]:
    """A call that waits shortly and returns the keys that were pressed. They are not echoed; Ctrl-C interrupts."""
    if not sys.stdin.isatty():
        yield _no_keys
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda: pressed_keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _no_keys() -> set[str]:
    time.sleep(POLL_SECONDS)
    return set()


def pressed_keys(descriptor: int) -> set[str]:
    """The keys that were pressed, after a short wait for one."""
    ready, _, _ = select.select([descriptor], [], [], POLL_SECONDS)
    if not ready:
        return set()
    return set(os.read(descriptor, 1024).decode(errors="replace")) or _no_keys()  # at end of file it is always ready
