"""Counts of attempts: by interval, latency, duration and cause, in bounded memory."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.logs import LogEvent
from refinerctl.insight.attempts import Attempt, read_attempts
from refinerctl.insight.report.tally import (
    DURATION_EDGES_MS,
    LATENCY_EDGES_S,
    MAX_CAUSES,
    MAX_INTERVALS,
    MAX_KEYS,
    MAX_SHOWN,
    OTHER_CAUSES,
    AttemptTally,
    Histogram,
    bin_of,
    histogram,
    interval_length,
)
from refinerctl.stacks.refiner import STACK
from tests.unit.fakes import START
from tests.unit.function_logs import Lines, request_id

HOUR = timedelta(hours=1)
LINES = Lines()


def read(*events: LogEvent) -> AttemptTally:
    return AttemptTally.of(read_attempts(events, STACK.read_log_line), "R", START, START + HOUR)


def counts(tally: AttemptTally) -> tuple[int, int, int]:
    return tally.attempts, tally.completed, tally.failed


class TestFunctionsThatLogTheirInputs:
    def test_completed_input(self) -> None:
        tally = read(LINES.start(9), LINES.received(10, event_s=8), LINES.done(12, duration_ms=1100), LINES.report(12))
        assert counts(tally) == (1, 1, 0)
        assert tally.latency_s == Histogram((4.0, 5.0), (1,))
        assert tally.duration_ms == Histogram((1000.0, 1250.0), (1,))
        (interval,) = [item for item in tally.intervals(START + HOUR) if item.completed]
        assert (interval.start, interval.completed, interval.failed) == (START, 1, 0)

    def test_each_failed_attempt_counts_under_its_cause(self) -> None:
        """Keys and request ids newest first, each once."""
        lines = []
        for number, key in enumerate(("In/a", "In/b", "In/a")):
            lines.append(LINES.received(60 * number + 1, number, key=key))
            lines.append(LINES.failed(60 * number + 2, number, key=key, error=f"no {key} there"))
        tally = read(*lines)
        assert counts(tally) == (3, 0, 3)
        (group,) = tally.failures()
        assert (group.stage, group.signature, group.count) == ("R", "NoSuchKey: no … there", 3)
        assert (group.example, group.keys) == ("NoSuchKey: no In/a there", ("In/a", "In/b"))
        assert group.request_ids == (request_id(2), request_id(1), request_id(0))
        assert (group.first, group.last) == (START + timedelta(seconds=2), START + timedelta(seconds=122))
        assert [item.failed for item in tally.intervals(START + HOUR)][:4] == [1, 1, 1, 0]

    def test_invocation_that_failed_before_it_named_an_input_counts(self) -> None:
        tally = read(
            *(LINES.received(1, 1), LINES.done(2, 1)),
            LINES.text(3, f"RequestId: {request_id(2)} Error: Runtime exited with error: signal: killed"),
            LINES.report(3, 2, more="Status: error\tError Type: Runtime.ExitError"),
        )
        assert counts(tally) == (2, 1, 1)
        assert [group.request_ids for group in tally.failures()] == [(request_id(2),)]

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
            *(LINES.start(1, 1), LINES.report(2, 1, 90)),
            *(LINES.start(3, 2), LINES.text(4, "[ERROR] ValueError: no: 7\nTraceback"), LINES.report(4, 2, 70)),
            LINES.start(9, 4),
        )
        assert counts(tally) == (2, 1, 1)
        (group,) = tally.failures()
        assert (group.signature, group.request_ids) == ("ValueError: no: …", (request_id(2),))
        assert (tally.latency_s, tally.duration_ms) == (None, Histogram((80.0, 100.0), (1,)))

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
        assert [group.count for group in tally.failures()] == [2]


def test_causes_are_bounded_and_each_failure_counts() -> None:
    tally = AttemptTally("R", START, START + HOUR)
    names = [f"{one}{two}" for one in "abcdefghijklmnopq" for two in "abcdefghijklmnopq"]
    assert len(names) > MAX_CAUSES
    for number, name in enumerate(names):
        at = START + timedelta(seconds=number)
        for again in range(3 if name == "qq" else 2 if number < 5 else 1):
            tally.add(Attempt("", "s", at, key=f"In/{number}-{again}", ended=at, error=f"{name}: broke"))
    groups = tally.failures()
    assert groups == tally.failures()
    assert len(groups) == MAX_SHOWN + 1
    assert sum(group.count for group in groups) == len(names) + 5 + 2
    assert [group.count for group in groups[:6]] == [2] * 5 + [1]
    other = groups[-1]
    assert (other.signature, other.example, len(other.keys)) == (OTHER_CAUSES, "qq: broke", MAX_KEYS)
    assert other.keys[0] == f"In/{len(names) - 1}-2"
    assert other.last == START + timedelta(seconds=len(names) - 1)
    assert max(len(group.keys) for group in groups) <= MAX_KEYS


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(seconds=1), timedelta(days=4000)),
)
def test_intervals_are_round_equal_and_cover_the_period(since: datetime, length: timedelta) -> None:
    until, step = since + length, interval_length(since, since + length)
    starts = [interval.start for interval in AttemptTally("R", since, until).intervals(until)]
    assert starts[0] <= since < starts[0] + step
    assert starts[-1] <= until < starts[-1] + step
    assert {after - before for before, after in pairwise(starts)} <= {step}
    assert len(starts) <= MAX_INTERVALS + 2
    assert starts[0].timestamp() % step.total_seconds() == 0


@pytest.mark.parametrize(("hours", "minutes"), [(1, 1), (1.0003, 1), (24, 30), (7 * 24, 180)])
def test_interval_of_usual_periods(hours: float, minutes: int) -> None:
    assert interval_length(START, START + timedelta(hours=hours)) == timedelta(minutes=minutes)


@pytest.mark.parametrize("edges", [LATENCY_EDGES_S, DURATION_EDGES_MS])
class TestHistogram:
    @given(st.lists(st.floats(0, 1e9), min_size=1))
    def test_each_value_is_in_a_bin_and_the_outer_bins_are_not_empty(
        self, edges: tuple[float, ...], values: list[float]
    ) -> None:
        found = histogram(Counter(bin_of(value, edges) for value in values), edges)
        assert found is not None
        assert found.total == len(values)
        assert len(found.edges) == len(found.counts) + 1
        assert found.counts[0]
        assert found.counts[-1]
        inside = [value for value in values if edges[0] <= value < edges[-1]]
        assert all(found.edges[0] <= value < found.edges[-1] for value in inside)

    def test_edges_are_geometric(self, edges: tuple[float, ...]) -> None:
        ratios = [upper / lower for lower, upper in pairwise(edges)]
        assert 1.2 < min(ratios) <= max(ratios) < 1.31

    def test_without_values_there_is_none(self, edges: tuple[float, ...]) -> None:
        assert histogram(Counter(), edges) is None
