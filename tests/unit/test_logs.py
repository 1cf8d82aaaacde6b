"""Merging the logs of many functions, following them, and finding one invocation's lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinerctl.models import LogEvent
from refinerctl.operations import logs as operation
from refinerctl.operations.logs import LOOK_BACK, LogsRequest, follow, of_request, read
from tests.unit.fakes import START, Clock, FakeLogGroups

ID, OTHER = "8f5df350-6a1c-4b2b-9e0e-0a1b2c3d4e5f", "00000000-6a1c-4b2b-9e0e-0a1b2c3d4e5f"


def line(at_ms: int, message: str = "", group: str = "g0", stream: str = "s", event_id: str = "") -> LogEvent:
    return LogEvent(START + timedelta(milliseconds=at_ms), group, stream, message, event_id)


class TestRead:
    @given(st.lists(st.lists(st.integers(0, 50)).map(sorted), max_size=5))
    def test_all_lines_of_all_groups_in_time_order(self, times: list[list[int]]) -> None:
        groups = FakeLogGroups()
        groups.written = [
            line(at, group=f"g{number}", event_id=f"{number}.{index}")
            for number, of_group in enumerate(times)
            for index, at in enumerate(of_group)
        ]
        found = list(read(groups, LogsRequest(tuple(f"g{number}" for number in range(len(times))), START)))
        assert sorted(found, key=lambda event: event.event_id) == sorted(groups.written, key=lambda e: e.event_id)
        assert [event.timestamp for event in found] == sorted(event.timestamp for event in found)

    def test_no_group_is_read_further_than_needed(self) -> None:
        """Memory stays flat: of a long log the next page only is asked for."""

        class Endless(FakeLogGroups):
            read = 0

            def events(
                self,
                group: str,
                since: datetime,
                pattern: str | None = None,
                *,
                until: datetime | None = None,
                streams: Sequence[str] = (),
            ) -> Iterator[LogEvent]:
                while True:
                    self.read += 1
                    yield line(self.read, group=group)

        groups = Endless()
        events = read(groups, LogsRequest(("g0", "g1"), START))
        for _ in range(100):
            next(events)
        assert groups.read <= 103


class LiveGroups(FakeLogGroups):
    """Lines that can be read some time after they were written, by the clock."""

    def __init__(self, clock: Clock, lines: list[tuple[LogEvent, float]]) -> None:
        super().__init__()
        self._clock = clock
        self._lines = lines

    def events(
        self,
        group: str,
        since: datetime,
        pattern: str | None = None,
        *,
        until: datetime | None = None,
        streams: Sequence[str] = (),
    ) -> Iterator[LogEvent]:
        self.written = sorted(
            (event for event, there_at in self._lines if there_at <= self._clock.now), key=lambda event: event.timestamp
        )
        # CloudWatch takes whole milliseconds.
        since = since.replace(microsecond=since.microsecond // 1000 * 1000)
        return super().events(group, since, pattern, until=until, streams=streams)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    use(clock, monkeypatch)
    return clock


def use(clock: Clock, monkeypatch: pytest.MonkeyPatch, ahead: timedelta = timedelta()) -> None:
    class FakeDatetime(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return START + ahead + timedelta(seconds=clock.now)

    monkeypatch.setattr(operation, "time", clock)
    monkeypatch.setattr(operation, "datetime", FakeDatetime)


def followed(clock: Clock, lines: list[tuple[LogEvent, float]], seconds: float) -> list[str]:
    """The ids of what is followed for so long."""

    class EnoughError(Exception):
        pass

    def enough() -> None:
        raise EnoughError

    clock.at(seconds, enough)
    found: list[str] = []
    request = LogsRequest(("g0", "g1"), START - timedelta(seconds=5))
    with contextlib.suppress(EnoughError):
        found.extend(event.event_id for event in follow(LiveGroups(clock, lines), request))
    return found


class TestFollow:
    @settings(max_examples=75)
    @given(
        st.lists(st.tuples(st.integers(-4000, 100_000), st.floats(0, LOOK_BACK.total_seconds() - 5)), max_size=30),
        st.sampled_from([-3600, -1, 0, 1, 3600]),
    )
    def test_every_line_once_although_they_come_late(self, written: list[tuple[int, float]], ahead_s: int) -> None:
        """Also where this machine's clock is wrong by an hour."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            clock = Clock()
            use(clock, monkeypatch, timedelta(seconds=ahead_s))
            lines = [
                (line(at, group=f"g{number % 2}", event_id=str(number)), at / 1000 + late)
                for number, (at, late) in enumerate(written)
            ]
            found = followed(clock, lines, 170)
            newest = -5.0
            certain = set()
            # What comes later than a look goes back, behind what was seen before, is the one thing that may be missed.
            for event, there_at in sorted(lines, key=lambda item: item[1]):
                at = (event.timestamp - START).total_seconds()
                if at > newest - LOOK_BACK.total_seconds() + 5:
                    certain.add(event.event_id)
                newest = max(newest, there_at)
        assert len(found) == len(set(found))
        assert certain <= set(found)

    def test_the_same_text_twice_is_two_lines(self, clock: Clock) -> None:
        lines = [(line(5, "same", event_id=name), 0.0) for name in ("a", "b")]
        assert followed(clock, lines, 20) == ["a", "b"]

    def test_what_it_remembers_does_not_grow(self, clock: Clock) -> None:
        lines = [(line(at * 1000, event_id=str(at)), float(at)) for at in range(1000)]
        assert followed(clock, lines, 1100) == [str(at) for at in range(1000)]


class TestOfRequest:
    def test_lines_without_the_id_that_stand_between_those_that_have_it(self) -> None:
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
        found = [event.message for event in of_request(groups, LogsRequest(("g0", "g1"), START), ID)]
        assert found == [groups.written[3].message, "plain", groups.written[6].message]

    def test_an_invocation_that_nobody_has_heard_of(self) -> None:
        assert list(of_request(FakeLogGroups(), LogsRequest(("g0",), START), ID)) == []
