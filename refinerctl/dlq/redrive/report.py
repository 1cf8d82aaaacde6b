"""Views of a redrive: its plan, its progress and its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from refinerctl.console import counted
from refinerctl.dlq.redrive.copy import RedriveResult
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.plan import RedrivePlan
from refinerctl.dlq.redrive.watch import Comparison
from refinerctl.errors import RefinerctlError, RefusedError, TimedOutError

if TYPE_CHECKING:
    from refinerctl.console import Renderer

MAX_REASONS = 5


def plan_lines(plan: RedrivePlan) -> Iterator[str]:
    more = f", {plan.in_flight:,} more in flight or delayed" if plan.in_flight else ""
    yield f"from      {plan.origin.queue.name}  ({plan.origin.kind}; {counted(plan.depth, 'message')}{more})"
    for target, health in zip(plan.targets, plan.health, strict=True):
        consumers = ", ".join(health.consumers)
        yield f"to        {target.name}" + (f"  (consumer: {consumers})" if consumers else "")
    if plan.matching is not None:
        yield f"matching  {counted(plan.matching, 'message')}"
    yield f"method    {plan.method}: {plan.method_reason}"


def plan_json(plan: RedrivePlan) -> dict[str, Any]:
    return {
        "dry_run": True,
        "queue": plan.origin.queue.name,
        "url": plan.origin.queue.url,
        "kind": plan.origin.kind,
        "method": plan.method,
        "reason": plan.method_reason,
        "messages": plan.depth,
        "in_flight": plan.in_flight,
        "matching": plan.matching,
        "targets": [
            {
                "name": target.name,
                "url": target.url,
                "consumers": health.consumers,
                "broken": health.broken,
                "warnings": health.warnings,
            }
            for target, health in zip(plan.targets, plan.health, strict=True)
        ],
        "would_stay": plan.reasons,
    }


def show_warnings(render: Renderer, plan: RedrivePlan) -> None:
    for health in plan.health:
        for sentence in (*health.broken, *health.warnings):
            render.warning(sentence)
    _show_reasons(render, plan.reasons, f" of {counted(plan.sampled, 'message')} sampled would stay")


def _show_reasons(render: Renderer, reasons: Mapping[str, int], what: str) -> None:
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    for reason, count in ordered[:MAX_REASONS]:
        render.warning(f"{count:,}{what}: {reason}")
    if len(ordered) > MAX_REASONS:
        render.warning(f"{len(ordered) - MAX_REASONS} more reasons")


@dataclass
class RedriveReport:
    """Filled in during the run. `came_back` None: not watched; `is_settled`: all was processed meanwhile.

    `is_whole`: neither a limit nor an edit kept messages from being sent; `resume`: the command that continues the run.
    """

    render: Renderer
    plan: RedrivePlan
    result: RedriveResult
    journal: RedriveJournal | None = None
    came_back: int | None = None
    comparison: Comparison | None = None
    is_settled: bool = True
    is_whole: bool = True
    resume: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to resume."""
        return self.result.stopped_by is None if self.journal is None else self.journal.is_finished

    def finish(self) -> None:
        """Show it, then raise what stopped the run, else a RefinerctlError if messages failed or came back."""
        self.show()
        if (stopped_by := self.result.stopped_by) is not None:
            if not isinstance(stopped_by, RefusedError):
                self.render.note(f"to continue, run `{self.resume}`")
            raise stopped_by
        failures = list(self._failures())
        for error in failures[1:]:
            self.render.warning(error.message)
        if failures:
            raise failures[0]
        if not self.is_settled:
            raise TimedOutError(
                "not all sent messages were processed in time",
                hint="Run `refinerctl dlq list` later to see whether messages failed again.",
            )

    def _failures(self) -> Iterator[RefinerctlError]:
        result, name = self.result, self.plan.origin.queue.name
        if result.failed:
            what = f"{counted(result.failed, 'message')} could not be sent and stayed in {name}"
            yield RefinerctlError(what, hint=f"When the cause is gone, run `{self.resume}`.")
        if result.dropped_duplicates:
            yield RefinerctlError(
                f"{counted(result.dropped_duplicates, 'message')} stayed in {name}: the target drops duplicates",
                hint=f"A FIFO queue drops an ID that it got within five minutes. After that, run `{self.resume}`.",
            )
        if result.left_over is not None or not (self.is_finished or result.failed or result.dropped_duplicates):
            doubt = "" if self.is_finished else ", and the deletion of some that were sent is not confirmed"
            what = result.left_over or f"messages may be left in {name}"
            yield RefinerctlError(f"{what}{doubt}", hint=f"To continue, run `{self.resume}`.")
        if self.came_back:
            yield RefinerctlError(self._sentence(self.came_back))

    def show(self) -> None:
        result = self.result
        _show_reasons(self.render, result.reasons, " stayed")
        if result.returned and self.came_back is None:
            self.render.warning(f"{self._sentence(result.returned)} while others were being sent")
        others = (result.left or 0) - result.skipped - result.failed - result.dropped_duplicates - result.returned
        if others > 0 and self.is_whole and not (result.stopped_by or result.left_over or self.came_back):
            self.render.warning(f"{counted(others, 'message')} left: arrived after the run started")
        if self.render.is_json:
            self.render.json(self._json())
        else:
            self.render.line(self._summary())

    def _sentence(self, came_back: int) -> str:
        return (self.comparison or Comparison()).sentence(came_back, self.result.moved)

    def _summary(self) -> str:
        result = self.result
        parts = [
            f"moved {result.moved:,}",
            f"skipped {result.skipped:,}",
            f"failed {result.failed:,}",
            f"sent twice {result.sent_twice:,}",
            f"left {'?' if result.left is None else f'{result.left:,}'}",
        ]
        if result.dropped_duplicates:
            parts.append(f"duplicates {result.dropped_duplicates:,}")
        if self.came_back:
            parts.append(f"returned {self.came_back:,}")
        return ", ".join(parts)

    def _json(self) -> dict[str, Any]:
        result = self.result
        found = asdict(self.comparison) if self.comparison else {}
        return {
            "method": result.method,
            "moved": result.moved,
            "skipped": result.skipped,
            "failed": result.failed,
            "sent_twice": result.sent_twice,
            "left": result.left,
            "dropped_duplicates": result.dropped_duplicates,
            "came_back": self.came_back,
            "same_error": found.get("same"),
            "errors": found.get("errors", {}),
            "reasons": result.reasons,
            "run": self.journal.path.stem if self.journal else None,
            "finished": self.is_finished,
        }
