"""A day of one Fargate service behind one queue, in steps of 5 s; deterministic."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import pairwise

from autoscaler.decision import Reading
from benchmarks.rnr.autoscaler.load import DAY, Load
from benchmarks.rnr.autoscaler.policies import Policy

STEP = 5
STOP_TIMEOUT = 120


@dataclass
class Job:
    """A message and how long its work takes."""

    published: int
    duration: int


@dataclass(eq=False)
class Task:
    """A task takes its first message when it is `ready`; it is busy while it has a job."""

    ready: int
    job: Job | None = None
    began: int = 0


@dataclass(frozen=True)
class Sample:
    """The state at one time. `head_age` is the head message's true age, `seen_age` the policy's figure, if any."""

    at: int
    backlog: int
    desired: int
    tasks: int
    busy: int
    head_age: int
    seen_age: float | None = None


@dataclass
class Outcome:
    """What a day cost and brought."""

    samples: list[Sample] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)  # from publishing to the begin of the work that was finished
    from_zero: list[int] = field(default_factory=list)  # from the first message to the begin of its work
    reactions: list[int] = field(default_factory=list)  # from a burst to the first change of the desired count
    kills: int = 0
    lost_s: int = 0  # work that has to be done again
    below_busy: int = 0  # decisions to scale in below the number of busy workers
    task_s: int = 0
    completed: int = 0

    @property
    def changes(self) -> list[tuple[int, int]]:
        """When the desired count changed, and by how much."""
        return [(b.at, b.desired - a.desired) for a, b in pairwise(self.samples) if a.desired != b.desired]

    @property
    def reversals(self) -> int:
        """How often the direction changed."""
        return sum((a > 0) != (b > 0) for (_, a), (_, b) in pairwise(self.changes))

    def flaps(self, within_s: int = 900) -> int:
        """Return how often the count went out, in and out, or in, out and in, within that time."""
        triples = zip(self.changes, self.changes[1:], self.changes[2:], strict=False)
        return sum(
            (a > 0) != (b > 0) != (c > 0) and end - start <= within_s for (start, a), (_, b), (end, c) in triples
        )


class Simulation:
    """Runs a policy over a load. With `protection`, ECS stops no busy task; without, it stops any task."""

    def __init__(self, policy: Policy, load: Load, *, protection: bool, seed: int) -> None:
        self.policy, self.load, self.protection = policy, load, protection
        self.chance = random.Random(seed)  # noqa: S311
        self.queue: deque[Job] = deque()
        self.tasks: list[Task] = []
        self.stopping: list[Task] = []  # finish their job within the stop timeout
        self.desired = 0
        self.published = 0
        self.outcome = Outcome()
        self.burst_at: int | None = None
        self.empty_at_zero: int | None = None

    def run(self) -> Outcome:
        """Return the outcome of the day, and of the time until its last job is done."""
        now = 0
        while now < DAY or self.queue or any(task.job for task in self.tasks + self.stopping):
            seen = self._reading(now)  # before anything of this step: the broker's counts are up to 5 s old
            self._publish(now)
            self._work(now)
            if now % self.policy.interval_s == 0:
                busy = sum(task.job is not None for task in self.tasks)  # ECS knows at once what is protected
                self._choose(now, replace(seen, protected=busy if self.protection else 0))
            self._reconcile(now)
            self._record(now)
            now += STEP
            if now > 3 * DAY:
                raise RuntimeError("the backlog is never drained")
        return self.outcome

    def _reading(self, now: int) -> Reading:
        busy = sum(task.job is not None for task in self.tasks)
        running = sum(task.ready <= now for task in self.tasks)
        return Reading(
            at=now + 1_800_000_000,
            ready=len(self.queue),
            unacknowledged=busy + len(self.stopping),
            published=self.published,
            desired=self.desired,
            running=running,
            pending=len(self.tasks) - running,
            protected=0,
        )

    def _publish(self, now: int) -> None:
        durations = self.load.arrivals.get(now, ())
        if durations and not self.queue and not self.tasks:
            self.empty_at_zero = now
        if len(durations) >= 15 and self.desired < 10 and self.burst_at is None:
            self.burst_at = now
        self.queue.extend(Job(now, duration) for duration in durations)
        self.published += len(durations)

    def _work(self, now: int) -> None:
        for task in self.tasks + self.stopping:
            if task.job and now - task.began >= task.job.duration:
                self.outcome.waits.append(task.began - task.job.published)
                self.outcome.completed += 1
                task.job = None
        self.stopping = [task for task in self.stopping if task.job]
        for task in self.tasks:
            if task.job is None and task.ready <= now and self.queue and not self._surplus():
                task.job, task.began = self.queue.popleft(), now
                if self.empty_at_zero is not None:
                    self.outcome.from_zero.append(now - self.empty_at_zero)
                    self.empty_at_zero = None

    def _surplus(self) -> bool:
        """Return whether ECS stops a task as soon as its protection ends."""
        return self.protection and len(self.tasks) > self.desired

    def _choose(self, now: int, seen: Reading) -> None:
        before = self.desired
        self.desired = self.policy.choose(now, before, None if self.load.fails(now) else seen)
        self.outcome.below_busy += self.desired < before and self.desired < sum(t.job is not None for t in self.tasks)
        if self.burst_at is not None and self.desired > before:
            self.outcome.reactions.append(now - self.burst_at)
            self.burst_at = None

    def _reconcile(self, now: int) -> None:
        while len(self.tasks) < self.desired:
            self.tasks.append(Task(now + self.chance.randrange(60, 91, STEP)))
        while len(self.tasks) > self.desired:
            candidates = [task for task in self.tasks if task.job is None] if self.protection else self.tasks
            if not candidates:
                break
            task = next((task for task in candidates if task.ready > now), None) or self.chance.choice(candidates)
            self.tasks.remove(task)
            self._stop(task, now)

    def _stop(self, task: Task, now: int) -> None:
        if task.job is None:
            return
        if task.job.duration - (now - task.began) <= STOP_TIMEOUT:
            self.stopping.append(task)
            return
        self.outcome.kills += 1
        self.outcome.lost_s += now - task.began
        self.queue.appendleft(task.job)

    def _record(self, now: int) -> None:
        busy = sum(task.job is not None for task in self.tasks)
        head = now - self.queue[0].published if self.queue else 0
        seen_age = getattr(self.policy, "age", None) if now % self.policy.interval_s == 0 else None
        backlog = len(self.queue) + busy
        self.outcome.samples.append(Sample(now, backlog, self.desired, len(self.tasks), busy, head, seen_age))
        self.outcome.task_s += STEP * (len(self.tasks) + len(self.stopping))
