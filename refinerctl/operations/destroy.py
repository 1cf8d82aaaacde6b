"""Destroy a stack: never with what its buckets hold, unless told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from refinerctl.clients.ledger import Ledger
from refinerctl.clients.terraform import ApplyProgress
from refinerctl.clients.terraform.stack import Stack
from refinerctl.errors import RefusedError
from refinerctl.models import Progress
from refinerctl.models.releases import Release, ReleaseAction


class Versions(Protocol):
    """What buckets hold."""

    def any_in(self, bucket: str) -> bool: ...
    def delete_all(self, bucket: str, on_deleted: Callable[[int], None]) -> int: ...


def check_buckets(buckets: Sequence[str], versions: Versions, *, empty: bool) -> tuple[str, ...]:
    """The buckets that hold something and are to be emptied. Raises RefusedError if they are not to be.

    That Terraform's state has force_destroy set does not count: it may be there for another reason.
    """
    full = tuple(bucket for bucket in buckets if versions.any_in(bucket))
    if full and not empty:
        raise RefusedError(
            f"{', '.join(full)} holds objects, or versions of deleted ones",
            hint="--empty-bucket deletes them for good, every version.",
        )
    return full


def empty_buckets(buckets: Sequence[str], versions: Versions, progress: Progress) -> int:
    """Delete every version in `buckets`; how many there were."""
    total = 0
    for bucket in buckets:
        progress.step(f"emptying bucket {bucket}")
        total += versions.delete_all(bucket, lambda count, name=bucket: progress.update(f"{name}: {count} deleted"))  # type: ignore[misc]
    return total


def destroy(stack: Stack, plan: Path, ledger: Ledger, who: str, progress: Progress) -> Release:
    """Apply a plan that destroys everything, and record it."""
    progress.step(f"terraform destroy: stack {stack.name} of {stack.env}")

    def report(at: ApplyProgress) -> None:
        progress.update(f"stack {stack.name}: {at.done} of {at.total} resources  {at.address}")

    stack.apply(plan, report)
    release = Release(ReleaseAction.DESTROY, tag=None, commit=stack.commit()[0], who=who, at=datetime.now(UTC))
    ledger.append(release)
    return release
