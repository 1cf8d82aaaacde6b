"""A live screen: a value that is read again and again, until `q` is pressed."""

from __future__ import annotations

import math
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
from typing import TYPE_CHECKING, Any, TypeVar

from refinerctl.errors import RefinerctlError
from refinerctl.waits import WAITS

if TYPE_CHECKING:
    from rich.console import RenderableType

POLL_SECONDS = 0.1

Value = TypeVar("Value")


def watch(
    read: Callable[[], Value],
    draw: Callable[[Value, RefinerctlError | None, int, int], RenderableType],
    interval_s: float,
) -> None:
    """Show what `read` returns on a terminal, and read again every `interval_s` seconds, until `q` is pressed.

    `draw` gets the last value, the error that a later read raised, and the width and height of the screen. Reading has
    a thread of its own, so that keys and a new size are answered at once. Nothing is drawn unless it differs. The
    terminal is restored at the end and for Ctrl-Z. The error of the first read is raised.
    """
    from rich.console import Console
    from rich.live import Live

    # Exported variables would fix the size, whatever size the terminal has now.
    console = Console(_environ={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")})
    latest: list[tuple[Value, RefinerctlError | None]] = [(read(), None)]
    has_to_stop = False

    def show() -> bool:
        """Draw until `q` is pressed; False if the process has to stop first."""
        shown: object = None
        live_screen = Live(console=console, screen=True, auto_refresh=False)
        with WAITS.beside(math.inf), _keys() as pressed, live_screen as live:  # a line would spoil the screen
            while not pressed() & {"q", "Q"}:
                if has_to_stop:
                    return False
                current = (*latest[0], *console.size)
                if shown != current:
                    shown = current
                    live.update(draw(*current), refresh=True)
        return True

    def on_ctrl_z(*_: Any) -> None:
        nonlocal has_to_stop
        has_to_stop = True

    threading.Thread(target=_keep_reading, args=(latest, read, interval_s), daemon=True).start()
    before = signal.getsignal(signal.SIGTSTP)
    if before is not signal.SIG_IGN:  # the process could not be continued
        signal.signal(signal.SIGTSTP, on_ctrl_z)
    try:
        while not show():
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # returns when the process is continued
            has_to_stop = False
            signal.signal(signal.SIGTSTP, on_ctrl_z)
    finally:
        signal.signal(signal.SIGTSTP, before)


def _keep_reading(
    latest: list[tuple[Value, RefinerctlError | None]], read: Callable[[], Value], interval_s: float
) -> None:
    while True:
        time.sleep(interval_s)
        try:
            latest[0] = (read(), None)
        except Exception as error:  # an SDK's, too: nobody waits for this thread, so the screen has to show it
            latest[0] = (latest[0][0], error if isinstance(error, RefinerctlError) else RefinerctlError(str(error)))


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
