"""Which checks a stack gets, and their results."""

from __future__ import annotations

import importlib
from collections.abc import Collection

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.insight.verify import delivery, permissions, processing
from refinerctl.insight.verify.checks import Check, CheckResult, Section, Status
from refinerctl.insight.verify.snapshot import Snapshot
from refinerctl.stacks.base import Stack

GENERAL = tuple(module.SECTION for module in (delivery, processing, permissions))


def sections_of(stack: Stack) -> tuple[Section, ...]:
    """The checks that every stack gets, and the stack's own."""
    return (*GENERAL, *(importlib.import_module(name).SECTION for name in stack.checks))


def checks_of(stack: Stack) -> tuple[Check, ...]:
    return tuple(check for section in sections_of(stack) for check in section.checks)


def choose(checks: Collection[Check], only: Collection[str] = (), skip: Collection[str] = ()) -> tuple[Check, ...]:
    """All checks, or those in `only`, without those in `skip`. Raises UsageError for an unknown id."""
    known_ids = {check.id for check in checks}
    if unknown := sorted({*only, *skip} - known_ids):
        raise UsageError(f"unknown check {', '.join(unknown)}", hint=f"Checks: {', '.join(sorted(known_ids))}.")
    return tuple(check for check in checks if (not only or check.id in only) and check.id not in skip)


def run_checks(
    snapshot: Snapshot, checks: Collection[Check], only: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[CheckResult, ...]:
    """The results of the chosen checks. Raises RefinerctlError if all should run and none could see anything."""
    results = tuple(result for check in choose(checks, only, skip) for result in check.run(snapshot))
    if results and not only and all(result.status is Status.SKIP for result in results):
        raise RefinerctlError(f"nothing could be checked: {results[0].seen}")
    return results
