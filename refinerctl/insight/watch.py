"""A screen that stays up to date until somebody has seen enough."""

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
from typing import TYPE_CHECKING, Generic, TypeVar

from refinerctl.errors import RefinerctlError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LOOK_SECONDS = 0.1
QUIT = "qQ"

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Frame(Generic[Seen]):
    """What is shown: the newest that was seen, and what keeps it from being newer."""

    seen: Seen
    error: RefinerctlError | None = None


def watch(look: Callable[[], Seen], draw: Callable[[Frame[Seen], int, int], RenderableType], interval_s: float) -> None:
    """Show what `look` sees on a terminal, anew every `interval_s` seconds, until `q` is pressed.

    `draw` gets the screen's width and height. Looks are taken beside, so that keys and a new size are answered at
    once. Nothing is drawn unless it differs. Whatever ends or stops it (Ctrl-Z), the terminal is as it was. The first
    look's error is raised; a later one stands beside what was seen last.
    """
    from rich.console import Console

    # Where somebody exports the size that the terminal once had, it would stay the size.
    console = Console(_environ={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")})
    frames = _Frames(Frame(look()))
    threading.Thread(target=_keep_looking, args=(look, frames, interval_s), daemon=True).start()
    with _stops() as stop:
        while not _shown_to_the_end(console, frames, draw, stop):
            stop.now()


def _shown_to_the_end(
    console: Console,
    frames: _Frames[Seen],
    draw: Callable[[Frame[Seen], int, int], RenderableType],
    stop: _Stop,
) -> bool:
    """Whether somebody has seen enough; False if the process is to stop for now."""
    from rich.live import Live

    shown: tuple[object, ...] = ()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not (pressed() & set(QUIT)):
            if stop.is_wanted:
                return False
            width, height = console.size
            if shown != (frames.newest, width, height):
                shown = (frames.newest, width, height)
                live.update(draw(frames.newest, width, height), refresh=True)
    return True


@dataclass
class _Stop:
    """Ctrl-Z: the terminal has to be put in order before the shell gets it."""

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
    if before is not signal.SIG_IGN:  # where nobody could continue us
        signal.signal(signal.SIGTSTP, stop.want)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTSTP, before)


@dataclass
class _Frames(Generic[Seen]):
    newest: Frame[Seen]


def _keep_looking(look: Callable[[], Seen], frames: _Frames[Seen], interval_s: float) -> None:
    while True:
        time.sleep(interval_s)
        try:
            frames.newest = Frame(look())
        except RefinerctlError as error:
            frames.newest = Frame(frames.newest.seen, error)
        except Exception as error:  # an SDK's: said on the screen, as nobody waits for this thread
            frames.newest = Frame(frames.newest.seen, RefinerctlError(str(error)))


@contextmanager
def _keys() -> Iterator[Callable[[], set[str]]]:
    """The keys that were pressed, waiting a moment for one; they are not echoed, and Ctrl-C is Ctrl-C."""
    if not sys.stdin.isatty():
        yield _no_keys
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda: _pressed(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _no_keys() -> set[str]:
    time.sleep(LOOK_SECONDS)
    return set()


def _pressed(descriptor: int) -> set[str]:
    ready, _, _ = select.select([descriptor], [], [], LOOK_SECONDS)
    if not ready:
        return set()
    return set(os.read(descriptor, 1024).decode(errors="replace")) or _no_keys()  # at its end it is ready for ever
