"""Remove from ECR what nothing uses. Whatever is not known to be unused stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from refinerctl.aws.inventory import DeleteFailure, EcrImage, ImageUsage, KeptImage, PrunePlan, PruneResult
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError
from refinerctl.images import INDEX_TYPES, MANIFEST_TYPES, newest_first, parse_manifest, release_order
from refinerctl.parallel import concurrently

THREADS = 8


class Registry(Protocol):
    def images(self, repository: str) -> Iterable[EcrImage]: ...
    def manifests(self, repository: str, digests: Sequence[str]) -> Mapping[str, bytes]: ...
    def delete(self, repository: str, digests: Sequence[str]) -> tuple[DeleteFailure, ...]: ...


@dataclass(frozen=True)
class PruneRequest:
    """Keep the newest `keep` release tags, and what was pushed within `min_age` before `now`."""

    keep: int
    min_age: timedelta
    now: datetime


def plan(registry: Registry, repositories: Sequence[str], usage: ImageUsage, request: PruneRequest) -> PrunePlan:
    """Decide what to remove.

    Raises RefusedError if it is not known who uses what, NotFoundError if ECR has none of the repositories.
    """
    if usage.unknown:
        raise RefusedError(
            f"what is in use is not known: {'; '.join(usage.unknown)}",
            hint="Nothing was removed. Give the identity in use the permission to read it, and run again.",
        )
    answers = concurrently([partial(_plan_one, registry, name, usage, request) for name in repositories], THREADS)
    plans = [answer for answer in answers if isinstance(answer, PrunePlan)]
    missing = [answer for answer in answers if isinstance(answer, NotFoundError)]
    if not plans:
        raise missing[0]
    return PrunePlan(
        tuple(image for one in plans for image in one.remove), tuple(kept for one in plans for kept in one.keep)
    )


def _plan_one(
    registry: Registry, repository: str, usage: ImageUsage, request: PruneRequest
) -> PrunePlan | NotFoundError:
    try:
        images = {image.digest: image for image in registry.images(repository)}
    except NotFoundError as error:
        return error
    reasons = _direct_reasons(images.values(), usage, request)
    parts = _parts(registry, repository, images.values())
    if None in parts.values():
        _keep_untagged(images.values(), reasons)
    _spread(images, parts, reasons)
    remove = [image for digest, image in images.items() if digest not in reasons]
    return PrunePlan(
        tuple(sorted(remove, key=lambda image: (not image.is_index, image.pushed_at))),
        tuple(KeptImage(image, tuple(reasons[digest])) for digest, image in images.items() if digest in reasons),
    )


def _direct_reasons(images: Iterable[EcrImage], usage: ImageUsage, request: PruneRequest) -> dict[str, list[str]]:
    images = list(images)
    tags = [tag for image in images for tag in image.tags if release_order(tag)]
    newest = set(newest_first(tags)[: request.keep])
    reasons: dict[str, list[str]] = {}
    for image in images:
        found = [f"{use.kind} {use.name}" for use in usage.of(image)]
        found += [f"one of the newest {request.keep} release tags: {tag}" for tag in image.tags if tag in newest]
        if request.now - image.pushed_at < request.min_age:
            found.append("pushed just now")
        if image.media_type not in (*INDEX_TYPES, *MANIFEST_TYPES):
            found.append(f"media type {image.media_type or 'unknown'} is not an image's")
        if found:
            reasons[image.digest] = found
    return reasons


def _parts(registry: Registry, repository: str, images: Iterable[EcrImage]) -> dict[str, tuple[str, ...] | None]:
    """The digests that each index refers to; None for what cannot be read and may refer to anything."""
    parts: dict[str, tuple[str, ...] | None] = {}
    indexes = []
    for image in images:
        if image.is_index:
            indexes.append(image)
        elif image.media_type not in MANIFEST_TYPES:
            parts[image.digest] = None
    manifests = registry.manifests(repository, [image.digest for image in indexes])
    for image in indexes:
        parts[image.digest] = _children(manifests.get(image.digest), image.media_type)
    return parts


def _children(raw: bytes | None, media_type: str) -> tuple[str, ...] | None:
    if raw is None:
        return None
    try:
        return tuple(entry.digest for entry in parse_manifest(raw, media_type).manifests)
    except RefinerctlError:
        return None


def _keep_untagged(images: Iterable[EcrImage], reasons: dict[str, list[str]]) -> None:
    for image in images:
        if not image.tags and image.digest not in reasons:
            reasons[image.digest] = ["it may be part of one that cannot be read"]


def _spread(
    images: Mapping[str, EcrImage], parts: Mapping[str, tuple[str, ...] | None], reasons: dict[str, list[str]]
) -> None:
    """Keep what belongs to a kept image: parts of an index, and what is attached to an image."""
    attached: dict[str, list[str]] = {}
    for image in images.values():
        for subject in image.subjects:
            attached.setdefault(subject, []).append(image.digest)
    waiting = list(reasons)
    while waiting:
        digest = waiting.pop()
        belonging = [(part, "part of") for part in parts.get(digest) or ()]
        belonging += [(item, "attached to") for item in attached.get(digest, ())]
        for other, how in belonging:
            if other in images and other not in reasons:
                reasons[other] = [f"{how} {digest}"]
                waiting.append(other)


def still_unused(plan: PrunePlan, later: PrunePlan) -> PrunePlan:
    """What of `plan` is to be removed by a `later` one, too: somebody has taken time to agree to it."""
    again = {(image.repository, image.digest, image.tags) for image in later.remove}
    unused = tuple(image for image in plan.remove if (image.repository, image.digest, image.tags) in again)
    return PrunePlan(unused, later.keep)


def remove(registry: Registry, plan: PrunePlan) -> PruneResult:
    """Remove what `plan` says, by digest. A repository where it fails does not keep the others from trying."""
    rounds = (
        [image for image in plan.remove if image.is_index],
        [image for image in plan.remove if not image.is_index],
    )
    failures: list[DeleteFailure] = []
    for images in rounds:
        by_repository: dict[str, list[str]] = {}
        for image in images:
            by_repository.setdefault(image.repository, []).append(image.digest)
        tasks = [partial(registry.delete, name, digests) for name, digests in by_repository.items()]
        failures += (failure for found in concurrently(tasks, THREADS) for failure in found)
    failed = {(failure.repository, failure.digest) for failure in failures}
    removed = tuple(image for image in plan.remove if (image.repository, image.digest) not in failed)
    return PruneResult(removed, tuple(failures))
