"""Checks: functions over a snapshot and the components that they check, each with its texts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from refinerctl.aws.event_pattern import Verdict
from refinerctl.errors import RefinerctlError, UsageError, known_names
from refinerctl.insight.findings import Finding, Status, failed, passed, skipped, warned
from refinerctl.insight.verify.snapshot import Snapshot
from refinerctl.parallel import Answer
from refinerctl.stacks.base import Component, EventRule, Function, Pipeline, Queue, Schedule, Stack

Found = TypeVar("Found")

CANARY = "canary"  # the id of the result of `--canary`
DEPLOY = "`refinerctl deploy` restores the released configuration."
# Modules of the checks that every stack gets.
GENERAL = tuple(
    f"refinerctl.insight.verify.{name}"
    for name in ("delivery", "processing", "services", "servers", "permissions", "alarms")
)


Look: TypeAlias = Callable[..., Finding | None]


@dataclass(frozen=True)
class CheckResult:
    """A finding with the check's words, as JSON has it. `stage` None: it is about what all stages share."""

    id: str
    status: Status
    seen: str
    why: str
    fix: str
    stage: str | None = None


@dataclass(frozen=True)
class Check:
    """A check of each component of one kind, of each pair of kinds that are connected, or of the whole pipeline.

    `look` gets the snapshot and the components; None: the check does not apply to them. It is skipped if `look` raises
    RefinerctlError: what it needs could not be read, or does not exist, which another check reports. `details` is for
    the docs.
    """

    id: str
    kinds: tuple[Any, ...]
    why: str
    fix: str
    details: str
    look: Look

    def run(self, snapshot: Snapshot) -> Iterator[CheckResult]:
        for subject in _subjects(snapshot.pipeline, self.kinds):
            try:
                found = self.look(snapshot, *subject)
            except RefinerctlError as error:
                found = skipped(error.message)
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
            if isinstance(source, kinds[0]) and isinstance(target, kinds[1]) and target != dlq_of(source)
        ]
    dlqs = {dlq_of(item) for item in pipeline.components} - {stage.queue for stage in pipeline.stages}
    return [(item,) for item in pipeline.components if isinstance(item, kinds[0]) and item not in dlqs]


def dlq_of(component: Component) -> Queue | None:
    """The DLQ of what sends to it or has it."""
    return component.dlq if isinstance(component, EventRule | Schedule | Queue | Function) else None


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
    ) -> Callable[[Look], Look]:
        """Make the decorated function a check; `kinds` are one kind or two connected ones, unions allowed."""

        def add(look: Look) -> Look:
            self.checks.append(Check(check_id, kinds, why, fix, details, look))
            return look

        return add


def sections_of(stack: Stack) -> tuple[Section, ...]:
    """The checks that every stack gets, and the stack's own: SECTION of their modules."""
    return tuple(importlib.import_module(name).SECTION for name in (*GENERAL, *stack.checks))


def choose(stack: Stack, only: Collection[str] = (), skip: Collection[str] = ()) -> tuple[Check, ...]:
    """All checks of a stack, or those in `only`, without those in `skip`. Raises UsageError for an unknown id."""
    checks = {check.id: check for section in sections_of(stack) for check in section.checks}
    if unknown := sorted({*only, *skip} - checks.keys()):
        hint = known_names(unknown[0], sorted(checks), "Checks")
        raise UsageError(f"unknown check {', '.join(unknown)}", hint=hint)
    return tuple(check for name, check in checks.items() if (not only or name in only) and name not in skip)


def run_checks(
    snapshot: Snapshot, stack: Stack, only: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[CheckResult, ...]:
    """The results of the chosen checks. Raises RefinerctlError if all should run and none could see anything."""
    results = tuple(result for check in choose(stack, only, skip) for result in check.run(snapshot))
    if results and not only and all(result.status is Status.SKIP for result in results):
        raise RefinerctlError(f"nothing could be checked: {results[0].seen}")
    return results


def judged(verdict: Verdict, yes: str, no: str, unknown: str) -> Finding:
    """A warning if it is not known."""
    if verdict is None:
        return warned(unknown)
    return passed(yes) if verdict else failed(no)


def known(answer: Answer[Found]) -> Found:
    """What was found. Raises the error, which skips the check, if there is one."""
    if answer.error is not None:
        raise answer.error
    return answer.value  # type: ignore[return-value]  # without an error it is what was found


def present(answer: Answer[Any], seen: str) -> Finding:
    """For the one check of each thing that reports whether it exists."""
    if answer.not_found:
        return failed(str(answer.error))
    known(answer)
    return passed(seen)
