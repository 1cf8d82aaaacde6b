"""Apply a plan, record the release, wait until it is in effect."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError, RefusedError, TimedOutError
from refinerctl.parallel import concurrently
from refinerctl.releases.ledger import Ledger
from refinerctl.releases.model import DeployedFunction, PlanRecord, Release, ReleaseAction, deployed
from refinerctl.terraform import ApplyProgress
from refinerctl.terraform.stack import Stack

_THREADS = 8
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 5.0


class Updates(Protocol):
    """Lambda, as far as an update's progress goes."""

    def function(self, name: str) -> str: ...
    def mapping(self, uuid: str) -> str: ...


@dataclass(frozen=True)
class Deployed:
    """What became of a deployment. `release` is the entry that was added to the ledger, if one was."""

    applied: bool
    release: Release | None


def check_credentials(expiry: datetime | None, least: timedelta) -> None:
    """Raises RefusedError if the credentials may run out during an apply, which leaves orphans and a held lock."""
    if expiry is None:
        return
    left = expiry - datetime.now(UTC)
    if left < least:
        minutes = max(0, int(left.total_seconds() // 60))
        raise RefusedError(
            f"the credentials in use expire in {minutes} min; an apply wants {least.total_seconds() / 60:g} min",
            hint="Renew them (aws sso login, or a new session or job token), or lower --min-credential-lifetime.",
        )


@dataclass(frozen=True)
class Deployment:
    """A plan to apply, and how to record it. `has_changes` False: only the ledger may need an entry."""

    stack: Stack
    file: Path
    record: PlanRecord
    has_changes: bool
    who: str
    action: ReleaseAction = ReleaseAction.DEPLOY


def deploy(deployment: Deployment, ledger: Ledger, progress: Progress) -> Deployed:
    """Apply the plan, if it changes anything, and record the release, if it is another than the last.

    It is recorded as soon as it is applied: from then on it is what is in place, whatever is waited for.
    """
    if deployment.has_changes:
        _apply(deployment, progress)
    release = Release(
        action=deployment.action,
        tag=deployment.record.tag,
        images=dict(deployment.record.images),
        commit=deployment.record.version,
        who=deployment.who,
        at=datetime.now(UTC),
    )
    if not deployment.has_changes and _is_recorded(release, deployed(ledger.read())):
        return Deployed(applied=False, release=None)
    try:
        ledger.append(release)
    except RefinerctlError as error:
        done = "applied, but not recorded" if deployment.has_changes else "not recorded"
        raise RefinerctlError(
            f"{done}: {error.message}", hint="The same command once more records it, and changes nothing else."
        ) from error
    return Deployed(applied=deployment.has_changes, release=release)


def _apply(deployment: Deployment, progress: Progress) -> None:
    stack = deployment.stack
    progress.step(f"terraform apply: stack {stack.name} of {stack.env}")

    def report(at: ApplyProgress) -> None:
        progress.update(f"stack {stack.name}: {at.done} of {at.total} resources  {at.address}")

    stack.apply(deployment.file, report)


def _is_recorded(release: Release, last: Release | None) -> bool:
    if last is None:
        return release.tag is None and not release.images
    return (release.tag, dict(release.images)) == (last.tag, dict(last.images))


def functions_of(stack: Stack) -> tuple[DeployedFunction, ...]:
    """The functions that the stack's outputs name; none in a stack without rulesets."""
    rulesets: Mapping[str, Any] = stack.terraform.outputs().get("rulesets", {}).get("value") or {}
    return tuple(
        DeployedFunction(name, ruleset["function_name"], ruleset.get("event_source_mapping_id"))
        for name, ruleset in sorted(rulesets.items())
        if ruleset.get("function_name")
    )


def wait_until_ready(
    functions: Sequence[DeployedFunction], updates: Updates, timeout_s: float, progress: Progress
) -> None:
    """Until every function has taken its update and its mapping is enabled.

    Raises TimedOutError that names those that are not, RefinerctlError with Lambda's reason for one that failed.
    """
    deadline = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_SECONDS
    pending = _pending(functions, updates)
    while pending and time.monotonic() < deadline:
        progress.update(f"waiting for {', '.join(pending)}")
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        pending = _pending(functions, updates)
    if pending:
        raise TimedOutError(
            f"applied, but not in effect after {timeout_s:g} s: {', '.join(pending)}",
            hint="Lambda goes on by itself; see the function's LastUpdateStatus, the mapping's State.",
        )


def _pending(functions: Sequence[DeployedFunction], updates: Updates) -> list[str]:
    asked = [(f"function {item.function}", partial(updates.function, item.function)) for item in functions]
    asked += [
        (f"the mapping of {item.function}", partial(updates.mapping, item.mapping))
        for item in functions
        if item.mapping
    ]
    found = concurrently([look for _, look in asked], _THREADS)
    return [what for (what, _), state in zip(asked, found, strict=True) if state != "ready"]
