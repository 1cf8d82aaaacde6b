"""Concurrent calls, on daemon threads that need not be joined."""

from __future__ import annotations

import math
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from refinerctl.errors import NotFoundError, RefinerctlError, Terminated, TimedOutError

# The main thread handles a signal that another thread received, or that came just before the wait, only when it wakes.
LOOK_SECONDS = 0.1

Result = TypeVar("Result")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Answer(Generic[Result]):
    """What a call returned, or the error that it raised. Without an error `value` is what the call returned."""

    value: Result | None = None
    error: RefinerctlError | None = None

    @property
    def not_found(self) -> bool:
        return isinstance(self.error, NotFoundError)


def attempt(call: Callable[[], Result]) -> Answer[Result]:
    """Call, and keep a RefinerctlError instead of raising it: for reads of which some may fail."""
    try:
        return Answer(call())
    except RefinerctlError as error:
        return Answer(error=error)


def concurrently(tasks: Iterable[Callable[[], Result]], threads: int) -> list[Result]:
    """Run all tasks, `threads` at once; their results in the order of the tasks.

    The first error is raised at once: tasks that have not begun never will. Threads that are busy are left behind,
    as on Ctrl-C: they are daemons, so a blocking read delays neither the caller nor the end of the interpreter.
    """
    waiting = deque(enumerate(tasks))
    count = len(waiting)
    done: queue.SimpleQueue[tuple[int, Result | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            try:
                number, task = waiting.popleft()
            except IndexError:
                return
            try:
                done.put((number, task(), None))
            except BaseException as error:  # raised where it is waited for
                done.put((number, None, error))
                return

    for number in range(min(threads, count)):
        threading.Thread(target=work, name=f"parallel-{number}", daemon=True).start()
    results: dict[int, Result] = {}
    try:
        while len(results) < count:
            try:
                number, result, error = done.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            results[number] = result  # type: ignore[assignment]  # None is then what the task gave
    finally:
        waiting.clear()
    return [results[number] for number in range(count)]


class Background(Generic[Result]):
    """A call that is made once: in the background after `start`, at the latest when its result is asked for."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._begun = False
        self._done = threading.Event()
        self._outcome: tuple[Result | None, BaseException | None] = None, None

    def start(self) -> None:
        with self._lock:
            if not self._begun:
                self._begun = True
                threading.Thread(target=self._work, name="background", daemon=True).start()

    def result(self, within_s: float = math.inf) -> Result:
        """Wait for it. Raises what the call raised, each time, and TimeoutError if it takes longer than `within_s`."""
        self.start()
        deadline = time.monotonic() + within_s
        while not self._done.wait(min(LOOK_SECONDS, within_s)):
            if time.monotonic() >= deadline:
                raise TimeoutError
        result, error = self._outcome
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None is then what the call gave

    def _work(self) -> None:
        try:
            self._outcome = self._call(), None
        except BaseException as error:  # raised where it is waited for
            self._outcome = None, error
        self._done.set()


def through_interrupt(task: Callable[[], Result]) -> Result:
    """Run a task that is not to be left half-done: Ctrl-C and SIGTERM are raised when it has ended.

    A second one gets through at once.
    """
    outcome: list[tuple[Result | None, BaseException | None]] = []
    ended = threading.Event()
    begin = threading.Lock()  # the first one to acquire it decides whether the task begins

    def work() -> None:
        if not begin.acquire(blocking=False):
            return
        try:
            outcome.append((task(), None))
        except BaseException as error:  # raised where it is waited for
            outcome.append((None, error))
        ended.set()

    interrupt: BaseException | None = None
    try:
        threading.Thread(target=work, name="through-interrupt", daemon=True).start()
    except (KeyboardInterrupt, Terminated) as error:  # start() waits for the thread, in which the task may run already
        if begin.acquire(blocking=False):
            raise
        interrupt = error
    while not ended.is_set():
        try:
            ended.wait(LOOK_SECONDS)
        except (KeyboardInterrupt, Terminated) as error:
            if interrupt is not None:
                raise
            interrupt = error
    result, failure = outcome[0]
    if (raised := interrupt or failure) is not None:
        raise raised
    return result  # type: ignore[return-value]  # None is then what the task gave


class _OutOfTime(BaseException):
    """A BaseException, like KeyboardInterrupt, so that no handler of errors catches it."""


@contextmanager
def time_limit(seconds: float, error: TimedOutError) -> Iterator[None]:
    """Raise `error` after so many seconds, whatever the main thread does then. Only for the main thread."""

    def out_of_time(*_: object) -> None:
        raise _OutOfTime

    began, handler = time.monotonic(), signal.signal(signal.SIGALRM, out_of_time)
    outer_s, repeat_s = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            if outer_s:  # continue an outer time limit
                signal.setitimer(signal.ITIMER_REAL, max(0.001, outer_s + began - time.monotonic()), repeat_s)
    except _OutOfTime:
        raise error from None


def both(first: Callable[[], Result], second: Callable[[], Other]) -> tuple[Result, Other]:
    """The results of two different calls, made concurrently."""
    results: list[Result | Other] = concurrently([first, second], 2)
    return results[0], results[1]  # type: ignore[return-value]  # in the order of the tasks
