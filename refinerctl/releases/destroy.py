"""Destroy a stack: never with what its buckets and repositories hold, unless told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from refinerctl.aws.ecr import DeleteFailure, EcrImage
from refinerctl.aws.messages import QueueDepth
from refinerctl.console import Progress
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, TimedOutError
from refinerctl.releases.ledger import Ledger
from refinerctl.releases.model import PlanRecord, Release, ReleaseAction, deployed
from refinerctl.terraform import ApplyProgress
from refinerctl.terraform.stack import Stack


class Versions(Protocol):
    """What buckets hold."""

    def any_in(self, bucket: str) -> bool: ...
    def delete_all(self, bucket: str, on_deleted: Callable[[int], None]) -> int: ...


class Images(Protocol):
    """What ECR repositories hold."""

    def images(self, repository: str) -> Iterator[EcrImage]: ...
    def delete(self, repository: str, digests: Sequence[str]) -> Sequence[DeleteFailure]: ...


class Depths(Protocol):
    """How many messages wait in a queue."""

    def depth(self, name: str) -> QueueDepth: ...


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


def check_repositories(repositories: Sequence[str], images: Images, *, empty: bool) -> tuple[str, ...]:
    """The ECR repositories that hold images and are to be emptied. Raises RefusedError if they are not to be.

    Here, too, force_delete in the state does not count: other environments may run these images.
    """
    full = tuple(repository for repository in repositories if _digests(repository, images))
    if full and not empty:
        raise RefusedError(
            f"{', '.join(full)} holds images",
            hint="--empty-repositories deletes them for good; `refinerctl images list` says who uses them.",
        )
    return full


def waiting_messages(queues: Sequence[str], depths: Depths) -> tuple[str, ...]:
    """A sentence about each queue that still holds messages, or that cannot be looked at."""
    found = []
    for queue in queues:
        try:
            depth = depths.depth(queue)
        except NotFoundError:
            continue
        except RefinerctlError as error:
            found.append(f"whether queue {queue} holds messages is not known: {error.message}")
            continue
        if count := depth.visible + depth.in_flight + depth.delayed:
            found.append(f"queue {queue} holds about {count} messages, which will be lost")
    return tuple(found)


def check_still(stack: Stack, record: PlanRecord) -> None:
    """Before anything is deleted. Raises what would keep Terraform from applying the plan, as far as can be told."""
    stack.check_state(record.state)
    if stack.terraform.find_lock()[0]:
        raise TimedOutError("another run holds the state's lock; nothing was deleted")


def empty_buckets(buckets: Sequence[str], versions: Versions, progress: Progress) -> int:
    """Delete every version in `buckets`; how many there were."""
    total = 0
    for bucket in buckets:
        progress.step(f"emptying bucket {bucket}")
        total += versions.delete_all(bucket, lambda count, name=bucket: progress.update(f"{name}: {count} deleted"))  # type: ignore[misc]
    return total


def empty_repositories(repositories: Sequence[str], images: Images, progress: Progress) -> int:
    """Delete every image in `repositories`; how many there were. Raises RefinerctlError with what ECR keeps.

    Several rounds: ECR takes an index before the images that it refers to.
    """
    total = 0
    for repository in repositories:
        progress.step(f"emptying ECR repository {repository}")
        while digests := _digests(repository, images):
            failures = images.delete(repository, digests)
            if len(failures) >= len(digests):
                first = failures[0]
                raise RefinerctlError(
                    f"ECR did not delete {first.digest} of {repository}: {first.code}: {first.reason}"
                )
            total += len(digests) - len(failures)
    return total


def _digests(repository: str, images: Images) -> list[str]:
    """None in a repository that is gone."""
    try:
        return list(dict.fromkeys(image.digest for image in images.images(repository)))
    except NotFoundError:
        return []


def destroy(stack: Stack, plan: Path, record: PlanRecord, ledger: Ledger, who: str, progress: Progress) -> Release:
    """Apply a plan that destroys everything, and record it."""
    progress.step(f"terraform destroy: stack {stack.name} of {stack.env}")

    def report(at: ApplyProgress) -> None:
        progress.update(f"stack {stack.name}: {at.done} of {at.total} resources  {at.address}")

    try:
        stack.apply(plan, report)
    except RefusedError as error:  # by then buckets may have been emptied: no refusal that changed nothing
        raise RefinerctlError(error.message, hint=error.hint) from error
    return _record(record, ledger, who)


def record_destroyed(record: PlanRecord, ledger: Ledger, who: str) -> Release | None:
    """Where nothing is left: record that, if the run that destroyed it was killed before it could."""
    return _record(record, ledger, who) if deployed(ledger.read()) else None


def _record(record: PlanRecord, ledger: Ledger, who: str) -> Release:
    release = Release(ReleaseAction.DESTROY, tag=None, commit=record.version, who=who, at=datetime.now(UTC))
    try:
        ledger.append(release)
    except RefinerctlError as error:
        raise RefinerctlError(
            f"destroyed, but not recorded: {error.message}", hint="The same command once more records it."
        ) from error
    return release
