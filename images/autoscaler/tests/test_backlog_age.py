"""The age of the queue's head, compared with a queue whose messages are known."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.backlog_age import Samples


def test_an_empty_queue_has_no_age() -> None:
    assert Samples().add(100, 7, 0).age(0) == 0


def test_the_age_grows_while_nothing_is_consumed() -> None:
    samples = Samples().add(0, 10, 0).add(60, 20, 10).add(120, 20, 10).add(180, 20, 10)

    assert samples.age(10) == 180


def test_the_age_is_the_time_since_the_head_was_published() -> None:
    samples = Samples().add(0, 0, 0).add(60, 10, 10).add(120, 20, 20).add(180, 30, 15)

    assert samples.age(15) == 90  # 15 of 30 are gone: the head came in the middle between 60 and 120


def test_a_backlog_that_was_there_before_the_first_sample_has_at_least_the_time_since_then() -> None:
    assert Samples().add(1_000, 500, 400).add(1_600, 500, 390).age(390) == 600


def test_after_a_restart_of_the_broker_the_age_goes_on() -> None:
    samples = Samples().add(0, 1_000, 0).add(60, 1_100, 100).add(120, 0, 100).add(180, 20, 120)

    assert samples.offset == 1_100
    assert samples.age(120) == 180
    assert samples.add(240, 20, 10).age(10) == 90  # the head is one of the 20 since the restart


rows = st.lists(
    st.tuples(st.integers(1, 5), st.lists(st.integers(1, 59), max_size=8), st.integers(0, 12), st.booleans()),
    max_size=60,
)


@given(rows)
def test_the_age_is_right_to_the_time_between_two_samples(steps: list[tuple[int, list[int], int, bool]]) -> None:
    """Each step: minutes to the next sample, when messages come in the last one, how many are consumed, a restart."""
    queue: deque[int] = deque()
    samples, now, count = Samples().add(0, 0, 0), 0, 0
    for minutes, published, consumed, restarted in steps:
        count = 0 if restarted else count
        now += 60 * minutes
        queue.extend(sorted(now - 60 + second for second in published))
        count += len(published)
        for _ in range(min(consumed, len(queue))):
            queue.popleft()
        samples = Samples.from_json(samples.add(now, count, len(queue)).to_json())
        age = samples.age(len(queue))
        if queue and len(samples.points) < 60 and not any(step[3] for step in steps):
            assert abs(age - (now - queue[0])) <= 300
        if not queue:
            assert age == 0
