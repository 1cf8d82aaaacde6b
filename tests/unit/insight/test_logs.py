"""Merging the logs of many functions, following them, and finding one invocation's lines."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinerctl.aws.logs import LogEvent, LogGroups
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.insight.log_reads import (
    LONG_OVERLAP,
    LONG_OVERLAP_SECONDS,
    InputLines,
    OverlappingReads,
    follow,
    of_request,
    read,
)
from refinerctl.insight.logs import pretty, short_line
from refinerctl.stacks.log_lines import read_log_line
from tests.unit.fakes import START, Clock, FakeLogGroups
from tests.unit.insight.fakes import stage_of

ID, OTHER = "8f5df350-6a1c-4b2b-9e0e-0a1b2c3d4e5f", "00000000-6a1c-4b2b-9e0e-0a1b2c3d4e5f"


def line(at_ms: int, message: str = "", group: str = "g0", stream: str = "s", event_id: str = "") -> LogEvent:
    return LogEvent(START + timedelta(milliseconds=at_ms), group, stream, message, event_id)


class TestRead:
    @given(st.lists(st.lists(st.integers(0, 50)).map(sorted), max_size=5))
    def test_all_lines_of_all_groups_in_order_of_time(self, times: list[list[int]]) -> None:
        groups = FakeLogGroups()
        groups.written = [
            line(at, group=f"g{number}", event_id=f"{number}.{index}")
            for number, of_group in enumerate(times)
            for index, at in enumerate(of_group)
        ]
        found = list(read(groups, [f"g{number}" for number in range(len(times))], START))
        assert sorted(found, key=lambda event: event.event_id) == sorted(groups.written, key=lambda e: e.event_id)
        assert [event.timestamp for event in found] == sorted(event.timestamp for event in found)

    def test_only_the_pages_that_are_needed_are_read(self) -> None:
        """Memory stays flat."""

        class Endless(FakeLogGroups):
            read = 0

            def events(self, group: str, *_: Any, **__: Any) -> Iterator[LogEvent]:
                while True:
                    self.read += 1
                    yield line(self.read, group=group)

        groups = Endless()
        events = read(groups, ("g0", "g1"), START)
        for _ in range(100):
            next(events)
        assert groups.read <= 103


class LiveGroups(FakeLogGroups):
    """Lines that can be read some time after they were written, by the clock."""

    def __init__(self, clock: Clock, lines: list[tuple[LogEvent, float]]) -> None:
        super().__init__()
        self._clock = clock
        self._lines = lines

    def events(self, group: str, since: datetime, *rest: Any, **more: Any) -> Iterator[LogEvent]:
        self.written = sorted(
            (event for event, there_at in self._lines if there_at <= self._clock.now), key=lambda event: event.timestamp
        )
        # CloudWatch takes whole milliseconds.
        since = since.replace(microsecond=since.microsecond // 1000 * 1000)
        return super().events(group, since, *rest, **more)


# A read with the long overlap follows the one before it after a minute and some seconds.
LATE_S = LONG_OVERLAP.total_seconds() - LONG_OVERLAP_SECONDS - 5


@dataclass
class Machine:
    """A clock, and what this machine believes the time is."""

    clock: Clock = field(default_factory=Clock)
    error: timedelta = timedelta()

    def now(self) -> datetime:
        return START + self.error + timedelta(seconds=self.clock.now)


class EnoughError(Exception):
    """Ends an endless iterator."""


def enough() -> None:
    raise EnoughError


def unexpected(error: RefinerctlError) -> None:
    raise error


def followed(
    machine: Machine, groups: LogGroups, seconds: float, on_error: Callable[[RefinerctlError], None] = unexpected
) -> list[str]:
    """The ids of the lines that are followed for so long."""
    machine.clock.at(seconds, enough)
    found: list[str] = []
    reads = partial(read, groups, ("g0", "g1"))
    with contextlib.suppress(EnoughError):
        for event in follow(reads, START - timedelta(seconds=5), on_error, machine.clock, machine.now):
            found.append(event.event_id)  # noqa: PERF401 - it is kept if the clock ends this
    return found


class TestFollow:
    @settings(max_examples=40)
    @given(
        st.lists(st.tuples(st.integers(-4000, 100_000), st.floats(0, LATE_S)), max_size=30),
        st.sampled_from([-3600, -1, 0, 1, 3600]),
    )
    def test_late_lines_are_shown_once(self, written: list[tuple[int, float]], ahead_s: int) -> None:
        """Even if the clock of this machine is wrong by an hour, and if their texts are equal."""
        machine = Machine(error=timedelta(seconds=ahead_s))
        lines = [
            (line(at, group=f"g{number % 2}", event_id=str(number)), at / 1000 + late)
            for number, (at, late) in enumerate(written)
        ]
        found = followed(machine, LiveGroups(machine.clock, lines), 100 + LATE_S + 70)
        newest = -5.0
        certain = set()
        # Only what arrives later than a read goes back, behind lines that were read before, may be missed.
        for event, there_at in sorted(lines, key=lambda item: item[1]):
            at = (event.timestamp - START).total_seconds()
            if at > newest - LATE_S:
                certain.add(event.event_id)
            newest = max(newest, there_at)
        assert len(found) == len(set(found))
        assert certain <= set(found)

    def test_no_line_is_shown_again_if_the_clock_is_set_back(self) -> None:
        machine = Machine()
        lines = [(line(at * 1000, event_id=str(at)), float(at)) for at in range(0, 600, 7)]
        machine.clock.at(500, lambda: setattr(machine, "error", timedelta(hours=-2)))
        found = followed(machine, LiveGroups(machine.clock, lines), 900)
        assert found == [str(at) for at in range(0, 600, 7)]

    def test_remembered_lines_are_bounded(self) -> None:
        """Also in a first read of hours of lines."""
        machine = Machine(error=timedelta(hours=4))
        groups = FakeLogGroups()
        groups.written = [line(at * 100, event_id=str(at)) for at in range(100_000)]
        reads = OverlappingReads(partial(read, groups, ("g0",)), START, machine.clock, machine.now)
        most = 0
        for number, _ in enumerate(reads.new_lines()):
            most = max(most, len(reads.remembered)) if number % 100 == 0 else most
        assert most < 30_000
        assert len(reads.remembered) <= LONG_OVERLAP.total_seconds() * 10 + 1

    @pytest.mark.parametrize("position", [0, 3, 10, 14])
    def test_errors_lose_no_line_and_repeat_none(self, position: int) -> None:
        """For ten minutes each read fails after so many lines."""
        machine, heard = Machine(), set[str]()

        class Failing(LiveGroups):
            def events(self, group: str, *rest: Any, **more: Any) -> Iterator[LogEvent]:
                for number, event in enumerate(super().events(group, *rest, **more)):
                    if 100 < machine.clock.now < 700 and number >= position:
                        raise RefinerctlError("throttled")
                    yield event

        lines = [(line(at * 1000, event_id=str(at), group=f"g{at % 2}"), float(at)) for at in range(0, 900, 7)]
        found = followed(machine, Failing(machine.clock, lines), 1000, lambda error: heard.add(error.message))
        assert found == [str(at) for at in range(0, 900, 7)]
        assert heard == {"throttled"}

    @pytest.mark.parametrize("first_reads", [0, 2])
    def test_denied_access_ends_it(self, first_reads: int) -> None:
        class Denied(FakeLogGroups):
            reads = 0

            def events(self, *_: Any, **__: Any) -> Iterator[LogEvent]:
                self.reads += 1
                if self.reads > first_reads:
                    raise AccessDeniedError("expired")
                return iter(())

        with pytest.raises(AccessDeniedError):
            followed(Machine(), Denied(), 100)


class TestOfRequest:
    def test_lines_between_those_with_the_request_id_belong_to_it(self) -> None:
        groups = FakeLogGroups()
        groups.written = [
            line(0, f"START RequestId: {OTHER} Version: 1"),
            line(1, "of the other"),
            line(2, f"REPORT RequestId: {OTHER}\tDuration: 1 ms"),
            line(2, f"START RequestId: {ID} Version: 1"),
            line(3, "plain"),
            line(3, "elsewhere", stream="s2"),
            line(4, f"REPORT RequestId: {ID}\tDuration: 1 ms"),
            line(4, f"START RequestId: {OTHER} Version: 1"),
        ]
        found = [event.message for event in of_request(groups, ("g0", "g1"), START, None, ID)]
        assert found == [groups.written[3].message, "plain", groups.written[6].message]

    def test_an_invocation_that_is_still_running(self) -> None:
        """Includes the lines after the last one that names it."""
        groups = FakeLogGroups()
        groups.written = [line(2, f"START RequestId: {ID} Version: 1"), line(3, "plain"), line(900, "plain, too")]
        until = START + timedelta(minutes=1)
        found = [event.message for event in of_request(groups, ("g0",), START, until, ID)]
        assert found == [item.message for item in groups.written]

    def test_an_unknown_invocation_has_no_lines(self) -> None:
        assert list(of_request(FakeLogGroups(), ("g0",), START, None, ID)) == []


def record(message: str, key: str | None = None, **fields: Any) -> str:
    return json.dumps({"level": "INFO", "message": message, "requestId": ID, "messageId": "m", "key": key, **fields})


def test_lines_about_an_input_include_lines_of_its_invocation_that_name_no_input() -> None:
    groups = FakeLogGroups(
        line(0, record("record received", "In/a.txt.bak", requestId=OTHER)),
        line(1, f"START RequestId: {ID} Version: 1"),
        line(2, record("record received", "In/a.txt")),
        line(3, record("record received", "In/b.txt")),
        line(4, "Killed"),
        line(5, f"REPORT RequestId: {ID}\tDuration: 1 ms"),
        line(6, "after it"),
    )
    lines = InputLines(groups, ("g0",), ("g0",), "In/a.txt", read_log_line)
    found = lines.all(START, START + timedelta(minutes=1))
    assert [event.message for event in found] == [groups.written[n].message for n in (1, 2, 4, 5)]
    assert [event.message for event in lines.naming(START)] == [groups.written[2].message]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (record("record received", "In/a.txt"), "14:00:00  In  record received  a.txt"),
        (record("record failed", "In/a", level="ERROR", error={"name": "E", "message": "no"}), "14:00:00  In  ERROR "),
        (f"REPORT\tRequestId: {ID}\nmore", f"14:00:00  In  REPORT RequestId: {ID}"),
        (record("failed:\n  at line 1"), "14:00:00  In  failed:"),
        ("x" * 200, f"14:00:00  In  {'x' * 65}…"),
    ],
)
def test_short_lines_fit_the_terminal(message: str, expected: str) -> None:
    text = "".join(part for part, _ in short_line(line(0, message), stage_of("In"), 2, 80, START))
    assert text.startswith(expected)
    assert len(text) <= 80
    assert "\n" not in text


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"timestamp": "t", "level": "ERROR", "message": "failed", "n": 1}, "ERROR failed  n=1"),
        ({"msg": "x", "error": {"name": "E", "message": "m"}, "list": ["ü"]}, 'x  error=E: m  list=["ü"]'),
        ({"message": {"not": "text"}}, '  message={"not":"text"}'),
    ],
)
def test_json_lines_are_printed_as_text(record: dict[str, Any], expected: str) -> None:
    assert "".join(text for text, _ in pretty(record)) == expected
