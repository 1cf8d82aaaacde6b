"""Which tasks of a service are started and stopped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.local.ecs_plan import Changes, TaskState, plan_tasks


def states(text: str) -> list[TaskState]:
    """One task per letter: n new, e of an earlier deployment; capitals are protected, a dot after it: just started."""
    found: list[TaskState] = []
    for letter in text.replace(" ", ""):
        if letter == ".":
            last = found.pop()
            found.append(TaskState(last.id, last.current, last.protected, steady=False))
        else:
            found.append(TaskState(f"{letter}{len(found)}", letter.lower() == "n", protected=letter.isupper()))
    return found


@pytest.mark.parametrize(
    ("tasks", "desired", "start", "stop"),
    [
        ("", 3, 3, ()),
        ("nn", 2, 0, ()),
        ("nnn", 1, 0, ("n2", "n1")),  # the latest first
        ("nNn", 1, 0, ("n2", "n0")),  # unprotected ones first
        ("NNN", 1, 0, ()),  # never a protected one
        ("NNn", 0, 0, ("n2",)),
        ("ee", 2, 1, ()),  # a new task first
        ("een.", 2, 0, ()),  # until it is steady
        ("een", 2, 0, ("e0",)),
        ("en", 2, 1, ()),
        ("enn", 2, 0, ("e0",)),
        ("EEn", 2, 0, ()),  # waits for protected ones
        ("Een", 2, 0, ("e1",)),
        ("eeeee", 3, 0, ("e0", "e1")),  # scale-in comes before the replacement
        ("ee", 0, 0, ("e0", "e1")),
        ("EE", 5, 4, ()),  # scale-out does not wait
    ],
)
def test_changes(tasks: str, desired: int, start: int, stop: tuple[str, ...]) -> None:
    assert plan_tasks(states(tasks), desired) == Changes(start, stop)


TASKS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=8)


@pytest.mark.hypothesis
@given(TASKS, st.integers(0, 6))
def test_it_always_ends_with_the_desired_tasks_and_never_stops_a_protected_one(
    given_tasks: list[tuple[bool, bool, bool]], desired: int
) -> None:
    tasks = [TaskState(f"t{number}", *values) for number, values in enumerate(given_tasks)]
    for number in range(40):
        protected = {task.id for task in tasks if task.protected}
        changes = plan_tasks(tasks, desired)
        assert not protected & set(changes.stop)
        assert len(tasks) - len(changes.stop) + changes.start >= min(desired, len(tasks))
        tasks = [TaskState(t.id, t.current, t.protected) for t in tasks if t.id not in changes.stop]
        tasks += [TaskState(f"s{number}-{one}", True, steady=False) for one in range(changes.start)]
    current = [task for task in tasks if task.current]
    earlier = [task for task in tasks if not task.current]
    assert all(task.protected for task in earlier)
    assert len(current) <= max(desired, sum(task.protected for task in current))
    assert len(current) >= desired or len(tasks) > desired  # protected ones of earlier deployments fill the place
