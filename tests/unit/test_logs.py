"""Merging the logs of many functions, following them, and finding one invocation's lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinerctl.aws.logs import LogEvent
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.insight import logs as operation
from refinerctl.insight.logs import LATE_LOOK_BACK, LATE_LOOK_SECONDS, LogsRequest, follow, of_request, read
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


# From a look for late lines to the next one it takes a minute, and some seconds.
LATE_S = LATE_LOOK_BACK.total_seconds() - LATE_LOOK_SECONDS - 5


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


def unexpected(error: RefinerctlError) -> None:
    raise error


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
        found.extend(event.event_id for event in follow(LiveGroups(clock, lines), request, unexpected))
    return found


class TestFollow:
    @settings(max_examples=40)
    @given(
        st.lists(st.tuples(st.integers(-4000, 100_000), st.floats(0, LATE_S)), max_size=30),
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
            found = followed(clock, lines, 100 + LATE_S + 70)
            newest = -5.0
            certain = set()
            # What comes later than a look goes back, behind what was seen before, is the one thing that may be missed.
            for event, there_at in sorted(lines, key=lambda item: item[1]):
                at = (event.timestamp - START).total_seconds()
                if at > newest - LATE_S:
                    certain.add(event.event_id)
                newest = max(newest, there_at)
        assert len(found) == len(set(found))
        assert certain <= set(found)

    def test_the_same_text_twice_is_two_lines(self, clock: Clock) -> None:
        lines = [(line(5, "same", event_id=name), 0.0) for name in ("a", "b")]
        assert followed(clock, lines, 20) == ["a", "b"]

    def test_a_line_that_is_minutes_late_is_shown_all_the_same(self, clock: Clock) -> None:
        """An environment that was frozen sends what it has logged when it is used again."""
        lines = [(line(at * 1000, event_id=str(at)), float(at)) for at in range(200)]
        late = (line(3000, event_id="late"), 3 + 180.0)
        assert sorted(followed(clock, [*lines, late], 300)) == sorted([*map(str, range(200)), "late"])

    def test_a_clock_that_is_set_back_shows_nothing_again(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = [(line(at * 1000, event_id=str(at)), float(at)) for at in range(0, 600, 7)]
        clock.at(500, lambda: use(clock, monkeypatch, timedelta(hours=-2)))
        assert followed(clock, lines, 900) == [str(at) for at in range(0, 600, 7)]

    def test_what_it_remembers_does_not_grow(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor in a first look, through hours of lines."""
        use(clock, monkeypatch, timedelta(hours=4))
        groups = FakeLogGroups()
        groups.written = [line(at * 100, event_id=str(at)) for at in range(100_000)]
        looks = operation._Looks(START)
        most = 0
        for number, _ in enumerate(looks.take(groups, LogsRequest(("g0",), START))):
            most = max(most, len(looks._seen)) if number % 100 == 0 else most
        assert most < 30_000
        assert len(looks._seen) <= LATE_LOOK_BACK.total_seconds() * 10 + 1

    @pytest.mark.parametrize("position", [0, 3, 10, 14])
    def test_trouble_loses_nothing_and_shows_nothing_twice(self, clock: Clock, position: int) -> None:
        """A look breaks off after so many lines, over and over for ten minutes; then it goes on where it was."""
        heard: list[str] = []

        class Troubled(LiveGroups):
            def events(self, group: str, *rest: Any, **more: Any) -> Iterator[LogEvent]:
                for number, event in enumerate(super().events(group, *rest, **more)):
                    if 100 < clock.now < 700 and number >= position:
                        raise RefinerctlError("throttled")
                    yield event

        lines = [(line(at * 1000, event_id=str(at), group=f"g{at % 2}"), float(at)) for at in range(0, 900, 7)]
        found: list[str] = []

        class EnoughError(Exception):
            pass

        def enough() -> None:
            raise EnoughError

        clock.at(1000, enough)
        request = LogsRequest(("g0", "g1"), START)
        with contextlib.suppress(EnoughError):
            for event in follow(Troubled(clock, lines), request, lambda error: heard.append(error.message)):
                found.append(event.event_id)  # noqa: PERF401 - it does not end by itself
        assert found == [str(at) for at in range(0, 900, 7)]
        assert set(heard) == {"throttled"}

    @pytest.mark.parametrize("first_looks", [0, 2])
    def test_what_will_not_pass_ends_it(self, clock: Clock, first_looks: int) -> None:
        class Denied(FakeLogGroups):
            looks = 0

            def events(self, *_: Any, **__: Any) -> Iterator[LogEvent]:
                self.looks += 1
                if self.looks > first_looks:
                    raise AccessDeniedError("expired")
                return iter(())

        with pytest.raises(AccessDeniedError):
            list(follow(Denied(), LogsRequest(("g0",), START), unexpected))


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

    def test_one_that_goes_on(self) -> None:
        """What it has printed since the last line that names it is there, too."""
        groups = FakeLogGroups()
        groups.written = [line(2, f"START RequestId: {ID} Version: 1"), line(3, "plain"), line(900, "plain, too")]
        until = START + timedelta(minutes=1)
        found = [event.message for event in of_request(groups, LogsRequest(("g0",), START, until), ID)]
        assert found == [item.message for item in groups.written]

    def test_an_invocation_that_nobody_has_heard_of(self) -> None:
        assert list(of_request(FakeLogGroups(), LogsRequest(("g0",), START), ID)) == []
