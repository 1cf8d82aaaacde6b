"""How a redrive's plan, its progress and its end look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from refinerctl.console import Progress
from refinerctl.dlq.redrive.types import Moved, RedrivePlan
from refinerctl.dlq.walk import progress_text

if TYPE_CHECKING:
    from refinerctl.console import Renderer
    from refinerctl.dlq.redrive.command_errors import SameErrors

UPDATE_SECONDS = 0.2
MAX_REASONS = 5


def plan_lines(plan: RedrivePlan) -> Iterator[str]:
    """The plan in a few lines."""
    held = f", {plan.in_flight:,} more in other hands or delayed" if plan.in_flight else ""
    yield f"from  {plan.origin.queue.name}  ({plan.origin.kind}; {messages(plan.depth)}{held})"
    for target, health in zip(plan.targets, plan.health, strict=True):
        consumers = ", ".join(health.consumers)
        yield f"to    {target.name}" + (f"  (read by {consumers})" if consumers else "")
    if plan.matching is not None:
        yield f"what  {messages(plan.matching)} of these"
    yield f"how   {plan.choice.method}: {plan.choice.reason}"


def plan_json(plan: RedrivePlan) -> dict[str, Any]:
    return {
        "dry_run": True,
        "queue": plan.origin.queue.name,
        "url": plan.origin.queue.url,
        "kind": plan.origin.kind,
        "method": plan.choice.method,
        "reason": plan.choice.reason,
        "messages": plan.depth,
        "in_flight": plan.in_flight,
        "matching": plan.matching,
        "targets": [
            {
                "name": target.name,
                "url": target.url,
                "consumers": health.consumers,
                "broken": health.broken,
                "doubts": health.doubts,
            }
            for target, health in zip(plan.targets, plan.health, strict=True)
        ],
        "would_stay": plan.reasons,
    }


def show_doubts(render: Renderer, plan: RedrivePlan) -> None:
    """What may go wrong, and what would."""
    for health in plan.health:
        for sentence in (*health.broken, *health.doubts):
            render.warning(sentence)
    ordered = sorted(plan.reasons.items(), key=lambda item: -item[1])
    for reason, count in ordered[:MAX_REASONS]:
        render.warning(f"{count:,} of {messages(plan.looked_at)} that were looked at would stay: {reason}")
    if len(ordered) > MAX_REASONS:
        render.warning(f"{len(ordered) - MAX_REASONS} more reasons")


def summary(moved: Moved, came_back: int | None = None) -> str:
    """The one line at the end."""
    parts = [
        f"moved {moved.moved:,}",
        f"skipped {moved.skipped:,}",
        f"failed {moved.failed:,}",
        f"sent twice {moved.sent_twice:,}",
        f"left {'?' if moved.left is None else f'{moved.left:,}'}",
    ]
    if moved.dropped_duplicates:
        parts.append(f"dropped by the FIFO queue {moved.dropped_duplicates:,}")
    if came_back:
        parts.append(f"came back {came_back:,}")
    return ", ".join(parts)


def moved_json(
    moved: Moved, came_back: int | None, same: SameErrors | None, run: str | None, *, is_finished: bool
) -> dict[str, Any]:
    """In the contract's form. `came_back` None: nobody watched; `run` names the journal of a copy."""
    return {
        "method": moved.method,
        "moved": moved.moved,
        "skipped": moved.skipped,
        "failed": moved.failed,
        "sent_twice": moved.sent_twice,
        "left": moved.left,
        "dropped_duplicates": moved.dropped_duplicates,
        "came_back": came_back,
        "same_error": same.same if same else None,
        "errors": dict(same.errors) if same else {},
        "reasons": dict(moved.reasons),
        "run": run,
        "finished": is_finished,
    }


def messages(count: int) -> str:
    return f"{count:,} message" + ("" if count == 1 else "s")


class CountedProgress:
    """Progress in messages instead of bytes: how many, how fast, and how long still."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._began = self._shown = time.monotonic()

    def step(self, text: str) -> None:
        self._progress.step(text)

    def update(self, text: str) -> None:
        """The counts say more."""

    def advance(self, size: int) -> None:
        self._done += size
        now = time.monotonic()
        if now - self._shown >= UPDATE_SECONDS:
            self._shown = now
            self._progress.update(progress_text(self._done, self._total, now - self._began))
