"""Would an input get through, and could one be lost? Checks over what AWS tells, without changing anything."""

from __future__ import annotations

from collections.abc import Collection

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.insight.verify import delivery, functions, permissions, queues, topology
from refinerctl.insight.verify.types import CheckResult, Snapshot, Status

CHECKS = (*delivery.CHECKS, *queues.CHECKS, *functions.CHECKS, *permissions.CHECKS, *topology.CHECKS)


def check_ids(given: Collection[str]) -> None:
    """Raises UsageError for an id that no check has."""
    known = {check.id for check in CHECKS}
    if unknown := sorted(set(given) - known):
        raise UsageError(f"there is no check {', '.join(unknown)}", hint=f"There are: {', '.join(sorted(known))}.")


def verify(snapshot: Snapshot, only: Collection[str] = (), skip: Collection[str] = ()) -> tuple[CheckResult, ...]:
    """The results of all checks, of those in `only`, without those in `skip`.

    Raises RefinerctlError if all were to run and not a single one could look at anything.
    """
    chosen = [check for check in CHECKS if (not only or check.id in only) and check.id not in skip]
    results = tuple(result for check in chosen for result in check.run(snapshot))
    if not only and all(result.status is Status.SKIP for result in results):
        raise RefinerctlError(f"nothing could be checked: {results[0].seen}")
    return results
