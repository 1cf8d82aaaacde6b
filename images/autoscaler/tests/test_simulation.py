"""The decision over simulated days: bursts, lulls, readings that fail, tasks that take 60 to 90 s to start."""

from __future__ import annotations

from statistics import median

import pytest

from benchmarks.rnr.autoscaler.load import DAY, day
from benchmarks.rnr.autoscaler.policies import Autoscaler, Keda
from benchmarks.rnr.autoscaler.simulation import Outcome, Simulation


@pytest.fixture(scope="module", params=[1, 2, 3], ids="day {}".format)
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """A day with the function's decision and its default settings."""
    return Simulation(Autoscaler(), day(request.param), protection=True, seed=request.param).run()


def test_the_count_does_not_flap(outcome: Outcome) -> None:
    assert outcome.flaps(within_s=900) == 0
    assert outcome.reversals <= 40  # the producer publishes 288 times a day


def test_busy_workers_are_never_scaled_in(outcome: Outcome) -> None:
    assert outcome.below_busy == 0
    assert outcome.kills == 0


def test_the_backlog_is_drained(outcome: Outcome) -> None:
    """Ten tasks need 40 minutes for the largest burst; a wait is longer by their start and by readings that fail."""
    assert outcome.completed == len(outcome.waits) > 1_000
    assert max(outcome.waits) < 55 * 60
    assert outcome.samples[-1].at < DAY + 3_600


def test_the_first_message_is_worked_on_after_one_reading_and_the_start_of_a_task(outcome: Outcome) -> None:
    """One interval of a minute, 5 s of lag, 90 s of start; each reading that fails costs a minute."""
    assert median(outcome.from_zero) <= 155
    assert max(outcome.from_zero) <= 155 + 2 * 60
    assert max(outcome.reactions) <= 65 + 2 * 60


def test_the_age_of_the_backlog_is_right_to_the_time_between_two_readings(outcome: Outcome) -> None:
    compared = [sample for sample in outcome.samples if sample.seen_age is not None and sample.head_age > 0]
    wrong = [sample for sample in compared if abs((sample.seen_age or 0) - sample.head_age) > 75]

    assert len(compared) > 300
    assert len(wrong) <= len(compared) / 20  # at the moments when the head changes, or after readings that failed


def test_without_protection_another_algorithm_stops_busy_tasks() -> None:
    """The simulation can show it: a policy that does not look at busy workers, on a service without protection."""
    outcome = Simulation(Keda(), day(1), protection=False, seed=1).run()

    assert outcome.below_busy > 0
    assert outcome.kills > 0
