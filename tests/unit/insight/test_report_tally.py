"""Counts of attempts: by interval, latency, duration and cause, in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.logs import LogEvent
from refinerctl.insight.attempts import MAX_OPEN, Attempt, read_attempts
from refinerctl.insight.report.tally import (
    DURATION_EDGES_MS,
    LATENCY_EDGES_S,
    MAX_CAUSES,
    MAX_INTERVALS,
    MAX_KEYS,
    MAX_SHOWN,
    OTHER_CAUSES,
    AttemptTally,
    Bins,
    FailureGroup,
    Timeline,
)
from refinerctl.stacks.refiner import STACK
from tests.unit.fakes import START
from tests.unit.function_logs import Lines, request_id

HOUR = timedelta(hours=1)
LINES = Lines()


def read(*events: LogEvent) -> AttemptTally:
    return read_all(events)


def read_all(events: Iterable[LogEvent], max_open: int = MAX_OPEN) -> AttemptTally:
    return AttemptTally.of(read_attempts(events, STACK.read_log_line, max_open), Timeline.over(START, START + HOUR))


def counts(tally: AttemptTally) -> tuple[int, int, int]:
    return tally.attempts, tally.completed, tally.failed


def only_failure(tally: AttemptTally) -> FailureGroup:
    (group,) = tally.failures("R")
    return group


class TestFunctionsThatLogTheirInputs:
    def test_completed_input(self) -> None:
        tally = read(LINES.start(9), LINES.received(10, event_s=8), LINES.done(12, duration_ms=1100), LINES.report(12))
        assert counts(tally) == (1, 1, 0)
        assert tally.latency_s is not None
        assert tally.latency_s.edges == (4.0, 5.0)
        assert tally.duration_ms is not None
        assert tally.duration_ms.edges == (1000.0, 1250.0)
        (interval,) = [item for item in tally.intervals(START + HOUR) if item.completed]
        assert (interval.start, interval.completed, interval.failed) == (START, 1, 0)

    def test_each_failed_attempt_counts_under_its_cause(self) -> None:
        """Keys and request ids newest first, each once."""
        tally = read(
            LINES.received(1, 1, key="In/a"),
            LINES.failed(2, 1, key="In/a", error="no In/a there"),
            LINES.received(61, 2, key="In/b"),
            LINES.failed(62, 2, key="In/b", error="no In/b there"),
            LINES.received(121, 3, key="In/a"),
            LINES.failed(122, 3, key="In/a", error="no In/a there"),
        )
        assert counts(tally) == (3, 0, 3)
        group = only_failure(tally)
        assert (group.signature, group.count, group.example) == ("NoSuchKey: no … there", 3, "NoSuchKey: no In/a there")
        assert group.keys == ("In/a", "In/b")
        assert group.request_ids == (request_id(3), request_id(2), request_id(1))
        assert (group.first, group.last) == (START + timedelta(seconds=2), START + timedelta(seconds=122))
        assert [item.failed for item in tally.intervals(START + HOUR)][:4] == [1, 1, 1, 0]

    def test_batch_that_timed_out_fails_only_what_was_not_done(self) -> None:
        tally = read(
            LINES.received(1, 1, "m1", key="In/a"),
            LINES.received(1, 1, "m2", key="In/b"),
            LINES.done(2, 1, "m1"),
            LINES.timed_out(4),
            LINES.report(4, more="Status: timeout"),
        )
        assert counts(tally) == (2, 1, 1)
        group = only_failure(tally)
        assert (group.signature, group.keys) == ("Task timed out after … seconds", ("In/b",))

    def test_invocation_that_failed_before_it_named_an_input_counts(self) -> None:
        tally = read(
            LINES.received(1, 1),
            LINES.done(2, 1),
            LINES.text(3, f"RequestId: {request_id(2)} Error: Runtime exited with error: signal: killed"),
            LINES.report(3, 2, more="Status: error\tError Type: Runtime.ExitError"),
        )
        assert counts(tally) == (2, 1, 1)
        assert only_failure(tally).request_ids == (request_id(2),)

    def test_ignored_input_is_completed_without_latency_and_duration(self) -> None:
        tally = read(LINES.received(1), LINES.record(2, "record ignored", reason="a folder", durationMs=3))
        assert (counts(tally), tally.latency_s, tally.duration_ms) == ((1, 1, 0), None, None)

    def test_attempts_that_began_before_the_period_or_have_not_ended_count(self) -> None:
        tally = read(LINES.done(1, 1), LINES.received(2, 2, "m2"))
        assert counts(tally) == (2, 1, 0)
        assert tally.latency_s is None
        assert tally.duration_ms is not None


class TestOtherFunctions:
    def test_invocations_count(self) -> None:
        tally = read(
            LINES.start(1, 1),
            LINES.text(1, '{"level": "info", "message": "something else"}'),
            LINES.report(2, 1, 90),
            LINES.start(3, 2),
            LINES.text(4, "[ERROR] ValueError: no such thing: 7\nTraceback"),
            LINES.report(4, 2, 70),
            LINES.start(5, 3),
            LINES.timed_out(8, 3),
            LINES.report(8, 3, 3000, "Status: timeout"),
            LINES.start(9, 4),
        )
        assert counts(tally) == (3, 1, 2)
        groups = {group.signature: group.request_ids for group in tally.failures("R")}
        assert groups == {
            "ValueError: no such thing: …": (request_id(2),),
            "Task timed out after … seconds": (request_id(3),),
        }
        assert tally.latency_s is None
        assert tally.duration_ms is not None
        assert tally.duration_ms.total == 1

    def test_report_of_the_emulator_for_a_failure_is_not_a_completion(self) -> None:
        elsewhere = Lines("emulator")
        error = 'ERROR {"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 2.00 seconds"}'
        tally = read(
            *(LINES.text(2, error), elsewhere.report(2, 1)),
            *(LINES.text(62, "about to: x"), LINES.text(64, error), elsewhere.report(64, 2)),
            elsewhere.report(65, 3),
        )
        assert counts(tally) == (3, 1, 2)
        assert [(item.completed, item.failed) for item in tally.intervals(START + HOUR)][:2] == [(0, 1), (1, 1)]
        assert only_failure(tally).count == 2


class TestMemory:
    def lines(self, count: int) -> Iterator[LogEvent]:
        """No attempt ends, all causes differ, and every stream is new."""
        for number in range(count):
            lines = Lines(f"stream {number}")
            name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
            yield lines.received(number / 100, number, key=f"In/{number}")
            yield lines.failed(number / 100, number, "other", key=f"In/{number}", error=f"cause {name}")
            yield lines.text(number / 100, f"ERROR {name} before any input")

    def test_memory_does_not_grow_with_the_log(self) -> None:
        def memory(count: int) -> tuple[int, AttemptTally]:
            tracemalloc.start()
            tally = read_all(self.lines(count), max_open=50)
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return used, tally

        small, _ = memory(400)
        large, tally = memory(1600)
        assert large < small * 1.3
        assert tally.failed >= 1600

    def test_causes_are_bounded_and_each_failure_counts(self) -> None:
        tally = AttemptTally(Timeline.over(START, START + HOUR))
        names = [f"{one}{two}" for one in "abcdefghijklmnopq" for two in "abcdefghijklmnopq"]
        assert len(names) > MAX_CAUSES
        for number, name in enumerate(names):
            at = START + timedelta(seconds=number)
            for again in range(3 if name == "qq" else 2 if number < 5 else 1):
                key = f"In/{number}-{again}"
                tally.add(Attempt("", "s", at, key=key, ended=at, error=f"{name}: broke"))
        groups = tally.failures("R")
        assert groups == tally.failures("R")
        assert len(groups) == MAX_SHOWN + 1
        assert sum(group.count for group in groups) == len(names) + 5 + 2
        assert [group.count for group in groups[:6]] == [2] * 5 + [1]
        other = groups[-1]
        assert (other.signature, other.example, len(other.keys)) == (OTHER_CAUSES, "qq: broke", MAX_KEYS)
        assert other.keys[0] == f"In/{len(names) - 1}-2"
        assert other.last == START + timedelta(seconds=len(names) - 1)
        assert max(len(group.keys) for group in groups) <= MAX_KEYS


class TestTimeline:
    @given(
        st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
        st.timedeltas(timedelta(seconds=1), timedelta(days=4000)),
    )
    def test_intervals_are_round_equal_and_cover_the_period(self, since: datetime, length: timedelta) -> None:
        until = since + length
        line = Timeline.over(since, until)
        assert line.start <= since
        assert since - line.start < line.step
        assert line.start + line.step * (line.count - 1) <= until < line.start + line.step * line.count
        assert line.count <= MAX_INTERVALS + 2
        assert (line.start.timestamp() % line.step.total_seconds()) == 0
        assert line.place(since) == 0
        assert line.place(until) == line.count - 1

    @pytest.mark.parametrize(
        ("hours", "step"),
        [
            (1, timedelta(minutes=1)),
            (24, timedelta(minutes=30)),
            (7 * 24, timedelta(hours=3)),
            (1.0003, timedelta(minutes=1)),
        ],
    )
    def test_interval_of_usual_periods(self, hours: float, step: timedelta) -> None:
        line = Timeline.over(START, START + timedelta(hours=hours))
        assert line.step == step
        assert line.count >= 48


class TestBins:
    @given(st.lists(st.floats(0, 1e9), min_size=1))
    def test_each_value_is_in_a_bin_and_the_outer_bins_are_not_empty(self, values: list[float]) -> None:
        for edges in (LATENCY_EDGES_S, DURATION_EDGES_MS):
            bins = Bins(edges)
            for value in values:
                bins.add(value)
            found = bins.histogram()
            assert found is not None
            assert found.total == len(values)
            assert len(found.edges) == len(found.counts) + 1
            assert found.counts[0]
            assert found.counts[-1]
            inside = [value for value in values if edges[0] <= value < edges[-1]]
            assert all(found.edges[0] <= value < found.edges[-1] for value in inside)

    def test_edges_are_geometric(self) -> None:
        for edges in (LATENCY_EDGES_S, DURATION_EDGES_MS):
            ratios = [upper / lower for lower, upper in pairwise(edges)]
            assert 1.2 < min(ratios) <= max(ratios) < 1.31

    def test_no_histogram_without_values(self) -> None:
        assert Bins(LATENCY_EDGES_S).histogram() is None
