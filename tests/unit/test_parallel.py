"""Several things at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from refinerctl.errors import NotFoundError, RefinerctlError, TimedOutError
from refinerctl.parallel import Background, both, concurrently, through_interrupt, time_limit


def test_results_come_in_order() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (5 - number))
        return number

    assert concurrently([partial(slow, number) for number in range(5)], 5) == [0, 1, 2, 3, 4]
    assert concurrently([], 3) == []
    assert both(lambda: 1, lambda: "two") == (1, "two")


def test_no_more_at_once_than_asked_for() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def task() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    concurrently([task] * 12, 3)

    assert most == 3


def test_the_first_error_comes_at_once_and_nothing_begins_after_it() -> None:
    begun = []
    blocked = threading.Event()

    def block() -> None:
        begun.append("block")
        blocked.wait(10)

    def fail() -> None:
        time.sleep(0.05)
        raise LookupError("early")

    began = time.monotonic()
    tasks: list[Callable[[], None]] = [block, fail, *[partial(begun.append, "late")] * 5]
    with pytest.raises(LookupError):
        concurrently(tasks, 2)

    assert time.monotonic() - began < 8
    blocked.set()
    time.sleep(0.05)
    assert begun == ["block"]


def interrupt_after(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_an_interrupt_is_raised_after_the_task_has_ended() -> None:
    ended = []

    def task() -> None:
        time.sleep(0.3)
        ended.append(True)

    interrupt_after(0.05)
    with pytest.raises(KeyboardInterrupt):
        through_interrupt(task)
    assert ended == [True]


def test_a_second_interrupt_gets_through() -> None:
    began = time.monotonic()
    interrupt_after(0.05)
    interrupt_after(0.2)
    with pytest.raises(KeyboardInterrupt):
        through_interrupt(partial(time.sleep, 30))
    assert time.monotonic() - began < 20


def test_without_an_interrupt_it_gives_and_raises_what_the_task_does() -> None:
    assert through_interrupt(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        through_interrupt(lambda: 1 // 0)


def test_time_limit_ends_any_work() -> None:
    def stubborn() -> None:
        try:
            concurrently([lambda: time.sleep(5)], 1)
        except RefinerctlError:
            time.sleep(5)  # an error of the task would be handled; the end of the time is none

    late = TimedOutError("too late")
    began = time.monotonic()

    with pytest.raises(TimedOutError) as raised, time_limit(0.1, late):
        stubborn()

    assert raised.value is late
    assert time.monotonic() - began < 4


def test_time_limit_leaves_the_alarm_of_others() -> None:
    def inner() -> None:
        with time_limit(5, TimedOutError("inner")):
            pass
        time.sleep(1)

    with pytest.raises(TimedOutError, match="outer"), time_limit(0.1, TimedOutError("outer")):
        inner()


class TestBackground:
    def test_a_call_that_was_started_runs_meanwhile_and_once(self) -> None:
        begun, go_on = threading.Event(), threading.Event()
        calls: list[int] = []

        def call() -> str:
            calls.append(1)
            begun.set()
            assert go_on.wait(5)
            return "done"

        background = Background(call)
        assert calls == []
        for _ in range(2):
            background.start()
        assert begun.wait(5)
        go_on.set()
        assert [background.result() for _ in range(2)] == ["done", "done"]
        assert calls == [1]

    def test_its_error_is_raised_each_time(self) -> None:
        def call() -> str:
            raise NotFoundError("nothing there")

        background = Background(call)
        for _ in range(2):
            with pytest.raises(NotFoundError, match="nothing there"):
                background.result()
