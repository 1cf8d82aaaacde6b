"""One lane of the pipeline for each ruleset; where there are many, one for all that need no attention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from refinerctl.insight.report.page.numbers import Count, total, utc
from refinerctl.insight.report.types import Report, RulesetActivity
from refinerctl.insight.status_types import RulesetStatus


@dataclass(frozen=True)
class Lane:
    """What stands on a lane: of one ruleset, or of several, with the worst of their ages and times."""

    name: str
    prefix: str
    has_function: bool
    matched: Count
    undelivered: Count
    queued: Count
    attempts: Count
    completed: Count
    failed: Count
    waiting: Count
    in_flight: Count
    dead: Count
    delivery_dead: Count
    oldest_s: float | None = None
    p95_ms: float | None = None
    last: datetime | None = None

    @property
    def trouble(self) -> tuple[int, int, int]:
        """The greater, the sooner somebody should look: the dead, the failed, then the busy."""
        return (
            total((self.dead, self.delivery_dead)).value or 0,
            (self.failed.value or 0) + (self.undelivered.value or 0),
            self.attempts.value or self.matched.value or 0,
        )


def lanes(report: Report) -> tuple[Lane, ...]:
    """All rulesets, in the status's order."""
    activity = {item.ruleset: item for item in report.activity}
    return tuple(_lane(ruleset, activity.get(ruleset.name)) for ruleset in report.status.rulesets)


def drawn(all_lanes: Sequence[Lane], most: int) -> tuple[Lane, ...]:
    """At most so many lanes: those with the most trouble in their order, then one that sums up the others."""
    if len(all_lanes) <= most:
        return tuple(all_lanes)
    worst = sorted(range(len(all_lanes)), key=lambda place: all_lanes[place].trouble, reverse=True)[: most - 1]
    others = [lane for place, lane in enumerate(all_lanes) if place not in worst]
    return (*(all_lanes[place] for place in sorted(worst)), _together(others))


def _lane(ruleset: RulesetStatus, activity: RulesetActivity | None) -> Lane:
    flow = activity.flow if activity else None
    is_cut = bool(activity and activity.is_cut)
    queue, function, done = ruleset.queue, ruleset.function, ruleset.last_completion
    return Lane(
        name=ruleset.name,
        prefix=ruleset.prefix or "",
        has_function=function is not None,
        matched=Count(flow.matched if flow else None),
        undelivered=Count(flow.undelivered if flow else None),
        queued=Count(flow.queued if flow else None),
        attempts=Count(flow.attempts if flow else None, is_cut),
        completed=Count(flow.completed if flow else None, is_cut),
        failed=Count(flow.failed if flow else None, is_cut),
        waiting=Count(queue.visible + queue.delayed if queue else None),
        in_flight=Count(queue.in_flight if queue else None),
        dead=Count(ruleset.dlq.depth if ruleset.dlq else None),
        delivery_dead=Count(ruleset.delivery_dlq.depth if ruleset.delivery_dlq else None),
        oldest_s=queue.oldest_age_s if queue else None,
        p95_ms=function.duration_p95_ms if function else None,
        last=utc(done.at) if done else None,
    )


def _together(lanes: Sequence[Lane]) -> Lane:
    def worst(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    with_function = [lane for lane in lanes if lane.has_function]
    return Lane(
        name=f"{len(lanes)} other rulesets",
        prefix="summed up; each of them is in the table below",
        has_function=bool(with_function),
        matched=total(lane.matched for lane in lanes),
        undelivered=total(lane.undelivered for lane in lanes),
        queued=total(lane.queued for lane in lanes),
        attempts=total(lane.attempts for lane in with_function or lanes),
        completed=total(lane.completed for lane in with_function),
        failed=total(lane.failed for lane in with_function),
        waiting=total(lane.waiting for lane in lanes),
        in_flight=total(lane.in_flight for lane in lanes),
        dead=total(lane.dead for lane in lanes),
        delivery_dead=total(lane.delivery_dead for lane in lanes),
        oldest_s=worst(lane.oldest_s for lane in lanes),
        p95_ms=worst(lane.p95_ms for lane in lanes),
        last=max((lane.last for lane in lanes if lane.last), default=None),
    )
