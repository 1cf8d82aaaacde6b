"""What a check is: a function over a snapshot and the components that it is about, with its words beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from refinerctl.aws.event_pattern import Verdict
from refinerctl.insight.verify.snapshot import Snapshot
from refinerctl.parallel import Answer
from refinerctl.stacks.base import Bucket, Component, EventBus, EventRule, Function, Pipeline, Queue, Schedule

Found = TypeVar("Found")

CANARY = "canary"  # the id of the result of `--canary`
_KINDS = {
    Bucket: "bucket",
    EventBus: "event bus",
    EventRule: "event rule",
    Queue: "queue",
    Schedule: "schedule",
    Function: "function",
}


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
    """What the check needs does not exist or could not be read. Other checks report that; this one is skipped."""


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

    @property
    def scope(self) -> str:
        """What it runs for, in words."""
        if not self.kinds:
            return "once"
        first, *others = (" or ".join(_KINDS[kind] for kind in _members(kinds)) for kinds in self.kinds)
        return " that sends to ".join([f"for each {first}", *(f"{_article(other)} {other}" for other in others)])

    def run(self, snapshot: Snapshot) -> Iterator[CheckResult]:
        for subject in _subjects(snapshot.pipeline, self.kinds):
            try:
                found = self.look(snapshot, *subject)
            except CannotTellError as error:
                found = Finding(Status.SKIP, str(error))
            if found is not None:
                stage = _stage_of(snapshot.pipeline, subject[0]) if subject else None
                yield CheckResult(self.id, found.status, found.seen, self.why, found.fix or self.fix, stage)


def _members(kinds: Any) -> tuple[type, ...]:
    return getattr(kinds, "__args__", (kinds,))  # of a union


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _subjects(pipeline: Pipeline, kinds: tuple[Any, ...]) -> Iterable[tuple[Component, ...]]:
    """Without DLQs: the checks of what sends to a DLQ look at it."""
    if not kinds:
        return [()]
    dlqs = {item.dlq for item in pipeline.components if isinstance(item, EventRule | Schedule | Queue) and item.dlq}
    if len(kinds) == 1:
        return [(item,) for item in pipeline.components if isinstance(item, kinds[0]) and item not in dlqs]
    return [
        (source, target)
        for source, target in pipeline.edges
        if isinstance(source, kinds[0]) and isinstance(target, kinds[1]) and target not in dlqs
    ]


def _stage_of(pipeline: Pipeline, component: Component) -> str | None:
    return next((stage.name for stage in pipeline.stages if component in stage.components), None)


@dataclass
class Section:
    """A module's checks, in the order in which they run and are documented."""

    title: str
    checks: list[Check] = field(default_factory=list)

    def check(
        self, check_id: str, *kinds: Any, why: str, fix: str, details: str = ""
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
