"""Engine `registry`: an image from registry to registry, no Docker engine in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from refinerctl.console import BlobProgress
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError
from refinerctl.images import (
    CopyStatus,
    Descriptor,
    ImageCopy,
    ImageReference,
    Manifest,
    Platform,
    config_platform,
    newest_first,
)
from refinerctl.parallel import both, concurrently
from refinerctl.registry.client import PULL, PULL_AND_PUSH, Registry, Repository
from refinerctl.registry.copies import CheckedCopy, CopyRequest, choose_platform, pass_gate, refuse_moved_tag
from refinerctl.registry.transfer import Moved, copy_blob

LARGE_BLOBS_AT_ONCE = 4
# Small blobs cost round trips rather than bandwidth: as many at once as this holds, up to four times the others.
BYTES_AT_ONCE = 64 * 1024**2
QUESTIONS_AT_ONCE = 24
TAGS_TO_SHOW = 10


class RegistryEngine:
    """`registry` gives the client of a host, the same for the same host.

    `create_repository(host, name)` makes a repository where a push does not. In a `dry_run` no right to push is needed.
    """

    def __init__(
        self,
        registry: Callable[[str], Registry],
        create_repository: Callable[[str, str], None] | None = None,
        *,
        blobs_at_once: int = LARGE_BLOBS_AT_ONCE,
        dry_run: bool = False,
    ) -> None:
        self._registry = registry
        self._create_repository = create_repository
        self._blobs_at_once = blobs_at_once
        self._target_actions = PULL if dry_run else PULL_AND_PUSH
        # Images checked together may share layers: the first to be copied brings them for all.
        self._brought: set[tuple[str, str]] = set()

    def check(self, request: CopyRequest) -> CheckedCopy:
        """Asks both registries at once; three round trips at most if there is nothing to do."""
        began = time.monotonic()
        source, target = self._source(request), self._target(request)
        found, there = both(
            lambda: source.find(_reference(request.source)), lambda: target.find(_reference(request.target))
        )
        if found is None:
            raise unknown_tag(source, request.source)
        digest = found.digest
        if found.is_index:
            digest = choose_platform(found, request.platform, str(request.source)).digest
        outlook = ImageCopy(
            name=request.name,
            source=str(request.source),
            target=str(request.target),
            source_digest=digest,
            target_digest=there.digest if there else None,
            platform=str(request.platform) if found.is_index else None,
            status=CopyStatus.WOULD_COPY if there is None else CopyStatus.UP_TO_DATE,
            notes=_left_behind(found, request.platform) if found.is_index else (),
        )
        if there is not None:
            if there.digest != digest:
                raise refuse_moved_tag(request.target, digest, there.digest)
            return CheckedCopy(request, replace(outlook, seconds=time.monotonic() - began))
        manifest = source.manifest(digest) if found.is_index else found
        if manifest.is_index:
            raise RefusedError(f"{request.source} holds an index for {request.platform}, where an image should be")
        return self._look(request, manifest, replace(outlook, seconds=time.monotonic() - began))

    def _look(self, request: CopyRequest, manifest: Manifest, outlook: ImageCopy) -> CheckedCopy:
        """Pass the gate, and see what the target lacks."""
        began = time.monotonic()
        source, target = self._source(request), self._target(request)
        blobs = [blob for blob in manifest.blobs if not blob.urls]  # a foreign layer is in no registry
        questions: list[Callable[[], bool]] = [partial(target.has_blob, blob.digest) for blob in blobs]
        if request.needs_repository:
            questions.append(target.exists)
        answers, config = both(
            lambda: concurrently(questions, QUESTIONS_AT_ONCE), lambda: _config(source, manifest, request)
        )
        exists = answers.pop() if request.needs_repository else True
        pass_gate(request, manifest, config)
        if not exists and not request.create_repository:
            raise no_repository(target)
        missing = tuple(blob for blob, there in zip(blobs, answers, strict=True) if not there)
        outlook = replace(
            outlook,
            platform=outlook.platform or _platform(config),
            bytes_copied=sum(blob.size for blob in missing),
            blobs_copied=len(missing),
            blobs_skipped=len(manifest.blobs) - len(missing),
            seconds=outlook.seconds + time.monotonic() - began,
        )
        return CheckedCopy(request, outlook, manifest, missing, lacks_repository=not exists)

    def copy(self, checked: CheckedCopy, progress: BlobProgress) -> ImageCopy:
        """Blobs, then the manifest by digest, then the tag: no tag ever stands for something incomplete."""
        manifest = checked.manifest
        if checked.is_done or manifest is None:
            return checked.outlook
        began = time.monotonic()
        source, target = self._source(checked.request), self._target(checked.request)
        if checked.lacks_repository and self._create_repository:
            self._create_repository(target.registry.host, target.path)
        missing = [blob for blob in checked.missing if (target.name, blob.digest) not in self._brought]
        moved = self._copy_blobs(source, target, missing, progress)
        self._brought.update((target.name, blob.digest) for blob in missing)
        _publish(target, manifest, checked.request)
        copied = [blob for blob, how in zip(missing, moved, strict=True) if how is Moved.COPIED]
        return replace(
            checked.outlook,
            target_digest=manifest.digest,
            status=CopyStatus.COPIED,
            bytes_copied=sum(blob.size for blob in copied),
            blobs_copied=len(copied),
            blobs_mounted=len(missing) - len(copied),
            blobs_skipped=len(manifest.blobs) - len(missing),
            seconds=checked.outlook.seconds + time.monotonic() - began,
        )

    def _copy_blobs(
        self, source: Repository, target: Repository, blobs: Sequence[Descriptor], progress: BlobProgress
    ) -> list[Moved]:
        """In the order given, though the largest begin first."""
        if not blobs:
            return []
        mean = max(1, sum(blob.size for blob in blobs) // len(blobs))
        threads = min(4 * self._blobs_at_once, max(self._blobs_at_once, BYTES_AT_ONCE // mean))
        cancelled = threading.Event()
        largest_first = sorted(blobs, key=lambda blob: -blob.size)
        tasks = [partial(copy_blob, source, target, blob, progress, cancelled) for blob in largest_first]
        try:
            moved = dict(zip([blob.digest for blob in largest_first], concurrently(tasks, threads), strict=True))
        finally:
            cancelled.set()
        return [moved[blob.digest] for blob in blobs]

    def _source(self, request: CopyRequest) -> Repository:
        return self._registry(request.source.registry or "").repository(request.source.repository)

    def _target(self, request: CopyRequest) -> Repository:
        registry = self._registry(request.target.registry or "")
        return registry.repository(request.target.repository, self._target_actions)


def _publish(target: Repository, manifest: Manifest, request: CopyRequest) -> None:
    """The manifest by digest first: whoever sees the tag finds all of it. Then both as the registry gives them."""
    tag = request.target.tag or ""
    # Copying may have taken long: somebody else may have pushed the tag meanwhile.
    known, there = both(partial(target.digest, manifest.digest), partial(target.digest, tag))
    if there not in (None, manifest.digest):
        raise refuse_moved_tag(request.target, manifest.digest, there or "")
    if known is None:
        target.push_manifest(manifest, manifest.digest)
    try:
        target.push_manifest(manifest, tag)
    except RefinerctlError:
        # An immutable tag that somebody else, or an attempt whose answer got lost, has pushed meanwhile.
        there = target.digest(tag)
        if there is None:
            raise
        if there != manifest.digest:
            raise refuse_moved_tag(request.target, manifest.digest, there) from None
    for found in concurrently([partial(target.find, tag), partial(target.find, manifest.digest)], 2):
        if found is None or found.digest != manifest.digest:
            seen = found.digest if found else "nothing"
            raise RefinerctlError(
                f"{request.target} reads back as {seen}, not as {manifest.digest}",
                hint="Somebody else may have pushed at the same time. Run it again.",
            )


def _config(source: Repository, manifest: Manifest, request: CopyRequest) -> bytes | None:
    """The config, where the gate wants to see it. A foreign artefact's is none of ours."""
    return source.blob(manifest.config) if request.runs_on and manifest.config else None


def _platform(config: bytes | None) -> str | None:
    platform: Platform | None = config_platform(config) if config else None
    return str(platform) if platform else None


def _reference(reference: ImageReference) -> str:
    return reference.digest or reference.tag or "latest"


def _left_behind(index: Manifest, platform: Platform) -> tuple[str, ...]:
    others = [str(item) for item in index.platforms() if item != platform]
    return (f"the source is an index: {platform} is copied" + (f", not {', '.join(others)}" if others else ""),)


def unknown_tag(source: Repository, reference: ImageReference) -> NotFoundError:
    """Raises NotFoundError itself if not even the repository is there."""
    try:
        newest = newest_first(source.tags())[:TAGS_TO_SHOW]
    except AccessDeniedError:  # reading an image takes less than listing them
        return NotFoundError(f"there is no {reference}")
    return NotFoundError(
        f"there is no {reference}", hint=f"Newest tags: {', '.join(newest)}." if newest else "It has no tags."
    )


def no_repository(target: Repository) -> NotFoundError:
    return NotFoundError(
        f"there is no repository {target.name}",
        hint="Create it: refinerctl deploy --stack registry; or let this command do it with --create-repository.",
    )
