"""What a check is: a function over a snapshot and the components that it is about, with its words beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from refinerctl.aws.event_pattern import Verdict
from refinerctl.insight.verify.snapshot import Snapshot
from refinerctl.parallel import Answer
from refinerctl.stacks.base import Component, EventRule, Pipeline, Queue, Schedule

Found = TypeVar("Found")

CANARY = "canary"  # the id of the result of `--canary`
DEPLOY = "`refinerctl deploy` restores the released configuration."


class Status(StrEnum):
    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Finding:
    """What a check saw; `fix` replaces the check's own."""

    status: Status
    seen: str
    fix: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """A finding with the check's words. `stage` None: it is about what all stages share."""

    id: str
    status: Status
    seen: str
    why: str
    fix: str
    stage: str | None = None


class CannotTellError(Exception):
    """What the check needs does not exist, which another check reports, or could not be read: it is skipped."""


@dataclass(frozen=True)
class Check:
    """A check of each component of one kind, of each pair of kinds that are connected, or of the whole pipeline.

    `look` gets the snapshot and the components; None: the check does not apply to them. `details` is for the docs.
    """

    id: str
    kinds: tuple[Any, ...]
    why: str
    fix: str
    details: str
    look: Callable[..., Finding | None]

    def run(self, snapshot: Snapshot) -> Iterator[CheckResult]:
        for subject in _subjects(snapshot.pipeline, self.kinds):
            try:
                found = self.look(snapshot, *subject)
            except CannotTellError as error:
                found = Finding(Status.SKIP, str(error))
            if found is not None:
                stage = _stage_of(snapshot.pipeline, subject[0]) if subject else None
                yield CheckResult(self.id, found.status, found.seen, self.why, found.fix or self.fix, stage)


def _subjects(pipeline: Pipeline, kinds: tuple[Any, ...]) -> Iterable[tuple[Component, ...]]:
    """Without DLQs, unless one is a stage's queue: the checks of what sends to a DLQ look at it."""
    if not kinds:
        return [()]
    if len(kinds) == 2:
        return [
            (source, target)
            for source, target in pipeline.edges
            if isinstance(source, kinds[0]) and isinstance(target, kinds[1]) and target != _dlq(source)
        ]
    dlqs = {_dlq(item) for item in pipeline.components} - {stage.queue for stage in pipeline.stages}
    return [(item,) for item in pipeline.components if isinstance(item, kinds[0]) and item not in dlqs]


def _dlq(component: Component) -> Queue | None:
    return component.dlq if isinstance(component, EventRule | Schedule | Queue) else None


def _stage_of(pipeline: Pipeline, component: Component) -> str | None:
    stages = (stage for stage in pipeline.stages if component in (stage.source, stage.queue, stage.consumer))
    return next((stage.name for stage in stages), None)


@dataclass
class Section:
    """A module's checks, in the order in which they run and are documented."""

    title: str
    checks: list[Check] = field(default_factory=list)

    def check(
        self, check_id: str, *kinds: Any, why: str, fix: str = DEPLOY, details: str = ""
    ) -> Callable[[Callable[..., Finding | None]], Callable[..., Finding | None]]:
        """Make the decorated function a check; `kinds` are one kind or two connected ones, unions allowed."""

        def add(look: Callable[..., Finding | None]) -> Callable[..., Finding | None]:
            self.checks.append(Check(check_id, kinds, why, fix, details, look))
            return look

        return add


def passed(seen: str) -> Finding:
    return Finding(Status.PASS, seen)


def failed(seen: str, fix: str | None = None) -> Finding:
    return Finding(Status.FAIL, seen, fix)


def warned(seen: str, fix: str | None = None) -> Finding:
    return Finding(Status.WARN, seen, fix)


def judged(verdict: Verdict, yes: str, no: str, unknown: str) -> Finding:
    """A warning if it is not known."""
    if verdict is None:
        return warned(unknown)
    return passed(yes) if verdict else failed(no)


def known(answer: Answer[Found]) -> Found:
    """What was found. Raises CannotTellError, which skips the check, for what does not exist or could not be read."""
    if answer.error is not None:
        raise CannotTellError(answer.error.message)
    return answer.value  # type: ignore[return-value]  # without an error it is what was found


def present(answer: Answer[Any], seen: str) -> Finding:
    """For the one check of each thing that reports whether it exists."""
    if answer.not_found:
        return failed(str(answer.error))
    known(answer)
    return passed(seen)
