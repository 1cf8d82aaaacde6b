"""Which tasks of a service to start and to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskState:
    """An active task. `current`: the service's present deployment started it; `steady`: it has been up for a while."""

    id: str
    current: bool
    protected: bool = False
    steady: bool = True


@dataclass(frozen=True)
class Changes:
    """`start` so many tasks; `stop` those with these ids."""

    start: int = 0
    stop: tuple[str, ...] = ()


def plan_tasks(tasks: Sequence[TaskState], desired: int) -> Changes:
    """The next changes towards `desired` tasks of the present deployment. `tasks` are in the order of their start.

    A protected task is never stopped. Tasks of earlier deployments are replaced one after the other: the next one is
    stopped when another is steady in its place.
    """
    current = [task for task in tasks if task.current]
    earlier = [task for task in tasks if not task.current]
    room = desired + (1 if earlier else 0) - len(tasks)
    start = max(0, min(desired - len(current), room))
    steady = sum(task.steady for task in current)
    stop = _unprotected(earlier, len(earlier) + steady - desired)
    stop += _unprotected(current[::-1], len(current) - desired)  # the latest have done the least
    return Changes(start, tuple(stop))


def _unprotected(tasks: Sequence[TaskState], count: int) -> list[str]:
    return [task.id for task in tasks if not task.protected][: max(0, count)]
