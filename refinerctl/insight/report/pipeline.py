"""The data of the pipeline's drawing: the shared components, and a lane of components for each stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from refinerctl.insight.report.activity import Flow, StageActivity
from refinerctl.insight.report.text import Count, total, utc
from refinerctl.stacks.base import Bucket, Component, EventBus, EventRule, Pipeline, Schedule, Stage

if TYPE_CHECKING:
    from refinerctl.insight.status_model import ServiceStatus, StageStatus

MOST_LANES = 8
_KINDS: Mapping[type[Component], str] = {Bucket: "S3 bucket", EventBus: "Event bus", EventRule: "Event rule"}
_LOGGED = ("attempts", "completed", "failed")  # counts that come from the log


def shared_components(pipeline: Pipeline) -> tuple[tuple[str, str], ...]:
    """Kind and name of the shared components that lead to the stages, in the direction of the data."""
    leading: list[Component] = [stage.source for stage in pipeline.stages if stage.source]
    found: list[Component] = []
    for item in reversed(pipeline.shared):
        if any((item, target) in pipeline.shared_edges for target in (*leading, *found)):
            found.append(item)
    return tuple((_KINDS.get(type(item), type(item).__name__), item.name) for item in reversed(found))


@dataclass(frozen=True)
class StageLane:
    """What the drawing shows of one stage, or of several with the worst of their ages and durations.

    `counts` has only what the stage has: without a consumer no `completed`, without a queue no `waiting`. `tasks` are
    those of a service.
    """

    name: str
    prefix: str
    counts: Mapping[str, Count]
    schedule: str = ""
    has_completions: bool = False
    oldest_s: float | None = None
    p95_ms: float | None = None
    last: datetime | None = None
    queue_kind: str = "SQS queue"
    consumer_kind: str = "Lambda function"
    tasks: str = ""

    def __getitem__(self, name: str) -> Count:
        return self.counts.get(name, Count())

    @property
    def has_consumer(self) -> bool:
        return "completed" in self.counts

    @property
    def trouble(self) -> tuple[int, int, int]:
        """The sort key of lanes, worst last: messages in DLQs, failures, then load."""
        return (
            total((self["dlq"], self["delivery_dlq"])).value or 0,
            (self["failed"].value or 0) + (self["undelivered"].value or 0),
            self["attempts"].value or self["taken"].value or self["matched"].value or 0,
        )


def stage_lane(
    stage: Stage, status: StageStatus | None, activity: StageActivity | None, *, has_completions: bool
) -> StageLane:
    """`status` and `activity` are the stage's; None if they could not be read."""
    flow, is_cut = (activity.flow, activity.is_cut) if activity else (Flow(), False)
    queue = status.queue if status else None
    counts: dict[str, int | None] = {}
    if isinstance(stage.source, EventRule):
        counts |= {"matched": flow.matched, "undelivered": flow.undelivered}
    if stage.delivery_dlq:
        counts["delivery_dlq"] = status.delivery_dlq.depth if status and status.delivery_dlq else None
    if stage.queue:
        counts |= {"queued": flow.queued, "waiting": queue.visible + queue.delayed if queue else None}
        counts["in_flight"] = queue.in_flight if queue else None
    if stage.dlq:
        counts["dlq"] = status.dlq.depth if status and status.dlq else None
    if stage.consumer:
        counts |= {"attempts": flow.attempts, "completed": flow.completed, "failed": flow.failed}
    elif stage.queue:
        counts["taken"] = flow.attempts
    return StageLane(
        stage.name,
        stage.prefix or "",
        {name: Count(number, is_cut and name in _LOGGED) for name, number in counts.items()},
        schedule=stage.source.name if isinstance(stage.source, Schedule) else "",
        has_completions=has_completions and stage.consumer is not None and stage.prefix is not None,
        oldest_s=queue.oldest_age_s if queue else None,
        p95_ms=status.function.duration_p95_ms if status and status.function else None,
        last=utc(status.last_completion.at) if status and status.last_completion else None,
        queue_kind="RabbitMQ queue" if stage.queue and stage.queue.broker else "SQS queue",
        consumer_kind="ECS service" if stage.service else "Lambda function",
        tasks=_tasks(status.service) if status and status.service else "",
    )


def _tasks(service: ServiceStatus) -> str:
    counts = ("—" if count is None else str(count) for count in (service.running, service.desired))
    return f"{' of '.join(counts)} tasks"


def shown_lanes(lanes: Sequence[StageLane], most: int = MOST_LANES) -> tuple[StageLane, ...]:
    """At most `most` lanes: those with the most trouble in their order, then one that sums up the others."""
    if len(lanes) <= most:
        return tuple(lanes)
    worst = sorted(range(len(lanes)), key=lambda place: lanes[place].trouble, reverse=True)[: most - 1]
    others = [lane for place, lane in enumerate(lanes) if place not in worst]
    return (*(lanes[place] for place in sorted(worst)), _together(others))


def _together(lanes: Sequence[StageLane]) -> StageLane:
    def worst(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    names = dict.fromkeys(name for lane in lanes for name in lane.counts)
    return StageLane(
        f"{len(lanes)} other stages",
        "totals; the table below has each of them",
        {name: total(lane.counts[name] for lane in lanes if name in lane.counts) for name in names},
        schedule="" if "matched" in names else next((lane.schedule for lane in lanes if lane.schedule), ""),
        has_completions=any(lane.has_completions for lane in lanes),
        oldest_s=worst(lane.oldest_s for lane in lanes),
        p95_ms=worst(lane.p95_ms for lane in lanes),
        last=max((lane.last for lane in lanes if lane.last), default=None),
    )
