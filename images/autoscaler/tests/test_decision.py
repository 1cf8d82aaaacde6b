"""The decision: examples for each rule, and what always holds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decision import Decision, Reading, Settings, State, decide

SETTINGS = Settings(target_backlog=5, max_tasks=10, scale_in_cooldown_s=300, zero_cooldown_s=600)
IDLE = Reading(at=0, ready=0, unacknowledged=0, published=0, desired=0, running=0, pending=0, protected=0)


def follow(
    readings: list[Reading], settings: Settings = SETTINGS, *, start: int = 1_000, every: int = 60
) -> list[Decision]:
    """Return the decision on each reading, one a minute; the service follows at once."""
    decisions: list[Decision] = []
    state, desired = State(), readings[0].desired
    for number, reading in enumerate(readings):
        decision = decide(settings, replace(reading, at=start + every * number, desired=desired), state)
        decisions.append(decision)
        state, desired = State.from_json(json.loads(json.dumps(decision.state.to_json()))), decision.desired
    return decisions


def test_the_first_message_starts_a_task() -> None:
    (decision,) = follow([replace(IDLE, ready=1, published=1)])

    assert (decision.desired, decision.reason) == (1, "scale out")


def test_with_no_task_a_backlog_up_to_the_activation_starts_none() -> None:
    settings = replace(SETTINGS, activation=3)

    assert [d.desired for d in follow([replace(IDLE, ready=3), replace(IDLE, ready=4)], settings)] == [0, 1]


def test_a_burst_scales_out_in_steps_up_to_the_maximum() -> None:
    burst = replace(IDLE, ready=500, published=500)

    assert [d.desired for d in follow([burst] * 4, replace(SETTINGS, step_out=4))] == [4, 8, 10, 10]


def test_tasks_that_are_still_starting_count() -> None:
    decisions = follow([replace(IDLE, ready=20, pending=4, desired=4)] * 3)

    assert [d.desired for d in decisions] == [4, 4, 4]


def test_scale_in_waits_for_the_cool_down_and_takes_the_greatest_need_in_it() -> None:
    quiet, more = replace(IDLE, ready=5, desired=8, running=8), replace(IDLE, ready=13, desired=8, running=8)
    desired = [d.desired for d in follow([quiet, quiet, more, quiet, quiet, quiet], replace(SETTINGS, step_in=9))]

    assert desired == [8, 8, 8, 8, 8, 4]  # 13 messages need 4 tasks at 80 % of the target


def test_scale_in_goes_in_steps_with_a_cool_down_each() -> None:
    quiet = replace(IDLE, ready=1, desired=6, running=6)
    desired = [d.desired for d in follow([quiet] * 11, replace(SETTINGS, step_in=2))]

    assert desired == [6] * 5 + [4] * 5 + [2]


def test_within_the_hysteresis_nothing_changes() -> None:
    between = replace(IDLE, ready=9, desired=2, running=2)  # enough for two at the target, not for one at 80 %

    assert {d.desired for d in follow([between] * 30)} == {2}


def test_the_last_task_goes_after_the_queue_was_empty_for_the_cool_down_before_zero() -> None:
    empty = replace(IDLE, desired=1, running=1)
    desired = [d.desired for d in follow([empty] * 12)]

    assert desired == [1] * 10 + [0] * 2


def test_a_message_restarts_the_cool_down_before_zero() -> None:
    empty = replace(IDLE, desired=1, running=1)
    desired = [d.desired for d in follow([empty] * 9 + [replace(empty, ready=1)] + [empty] * 11)]

    assert desired == [1] * 20 + [0]


@pytest.mark.parametrize("busy", [{"protected": 6}, {"unacknowledged": 6}])
def test_busy_workers_are_not_scaled_in(busy: dict[str, int]) -> None:
    working = replace(IDLE, desired=8, running=8, **busy)

    assert {d.desired for d in follow([working] * 40)} == {8, 6}


def test_busy_workers_come_before_a_lowered_maximum_and_before_a_count_set_by_hand() -> None:
    lowered = replace(SETTINGS, max_tasks=3)

    assert follow([replace(IDLE, ready=90, desired=8, running=8, protected=7)], lowered)[0].desired == 7
    assert follow([replace(IDLE, desired=0, running=4, protected=4)])[0].desired == 4


def test_one_worker_with_many_unacknowledged_messages_is_one_busy_worker() -> None:
    assert follow([replace(IDLE, unacknowledged=20, desired=4, running=1)])[0].desired == 4
    assert replace(IDLE, unacknowledged=20, running=1).busy == 1


def test_a_gap_between_readings_restarts_cool_downs() -> None:
    empty = replace(IDLE, desired=4, running=4)

    assert {d.desired for d in follow([empty] * 10, every=200)} == {4}


def test_an_older_reading_changes_nothing() -> None:
    state = follow([replace(IDLE, ready=5, published=5)])[0].state
    decision = decide(SETTINGS, replace(IDLE, at=900, ready=500, published=500), state)

    assert (decision.desired, decision.state) == (0, state)


def test_the_minimum_is_kept() -> None:
    assert [d.desired for d in follow([IDLE] * 40, replace(SETTINGS, min_tasks=2))][-1] == 2


@pytest.mark.parametrize(
    "wrong", [{"min_tasks": 5, "max_tasks": 4}, {"target_backlog": 0}, {"step_in": 0}, {"hysteresis": 1.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|exclude"):
        replace(SETTINGS, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("document", [[], {"at": "x"}, {"at": 1}, {"at": 1, "samples": []}, "text", 5])
def test_a_document_that_is_no_state_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not a state"):
        State.from_json(document)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Settings, list[Reading]]:
    """Settings and readings a minute apart, in which anything may happen to the queue and the service."""
    least = draw(st.integers(0, 3))
    settings = Settings(
        target_backlog=draw(st.sampled_from((0.5, 1, 5, 20))),
        min_tasks=least,
        max_tasks=draw(st.integers(least, 12)),
        activation=draw(st.integers(0, 3)),
        step_out=draw(st.integers(1, 5)),
        step_in=draw(st.integers(1, 5)),
        hysteresis=draw(st.sampled_from((0, 0.2, 0.5))),
        scale_in_cooldown_s=draw(st.sampled_from((0, 120, 300))),
        zero_cooldown_s=draw(st.sampled_from((0, 300, 600))),
    )
    small = st.integers(0, 15)
    queue = st.one_of(st.just((0, 0, 0)), st.tuples(st.integers(0, 100), small, st.integers(0, 10**9)))
    tasks = st.tuples(small, small, small)
    rows = draw(st.lists(st.tuples(queue, tasks, st.none() | small), min_size=1, max_size=25))
    state, desired, now, readings = State(), 0, 1_000, []
    for (ready, unacknowledged, published), (running, pending, protected), by_hand in rows:
        now += draw(st.sampled_from((60, 60, 60, 60, 500)))
        desired = desired if by_hand is None else by_hand
        reading = Reading(now, ready, unacknowledged, published, desired, running, pending, protected)
        readings.append(reading)
        decision = decide(settings, reading, state)
        state, desired = decision.state, decision.desired
    return settings, readings


@given(histories())
def test_what_always_holds(history: tuple[Settings, list[Reading]]) -> None:
    settings, readings = history
    state = State()
    changed_out, empty_since = 0.0, None
    for reading in readings:
        decision = decide(settings, reading, state)
        before, after = reading.desired, decision.desired
        empty_since = None if reading.backlog or reading.busy else (empty_since or reading.at)
        assert after >= reading.busy
        assert after >= min(settings.min_tasks, before + settings.step_out)
        assert after <= max(settings.max_tasks, before, reading.busy)
        assert after <= max(before + settings.step_out, reading.busy)
        if after > before:
            changed_out = reading.at
        elif after < before <= settings.max_tasks:
            assert before - after <= settings.step_in
            assert reading.at - changed_out >= settings.scale_in_cooldown_s
            assert after * settings.target_backlog >= reading.backlog
        if before > after == 0:
            assert empty_since is not None
            assert before > settings.max_tasks or reading.at - empty_since >= settings.zero_cooldown_s
        if before == 0 and reading.backlog > settings.activation and settings.max_tasks:
            assert after > 0
        assert decision.backlog_age >= 0
        assert State.from_json(decision.state.to_json()) == decision.state
        state = decision.state


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**12), st.integers(0, 10**7)), max_size=150))
def test_the_state_fits_in_a_parameter(rows: list[tuple[int, int, int]]) -> None:
    state, now, published = State(), 1_800_000_000, 0
    for step, more, ready in rows:
        now, published = now + step, published + more
        state = decide(SETTINGS, Reading(now, ready, 0, published, 1, 1, 0, 0), state).state
        assert len(json.dumps(state.to_json(), separators=(",", ":"))) < 4_096
