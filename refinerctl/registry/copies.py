"""The request and the result of a copy of an image, the checks of both engines, and engine `registry`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from refinerctl.console import Progress
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError
from refinerctl.images import Build, BuiltBy, ImageReference, Platform, RunsOn, newest_first
from refinerctl.parallel import Background, concurrently
from refinerctl.registry.attachment_copies import copy_attachments
from refinerctl.registry.attachments import Attachment, LeftAttachment, attachments, attestations
from refinerctl.registry.blob_copies import copy_blob
from refinerctl.registry.client import PULL, PULL_AND_PUSH, Registry, Repository
from refinerctl.registry.manifests import Descriptor, Manifest, config_platform, unacceptable

SHOWN_TAGS = 10
LARGE_BLOBS_AT_ONCE = 4
# For small blobs, round trips matter rather than bandwidth: copy as many at once as have this size together, at most
# four times as many as others.
BYTES_AT_ONCE = 64 * 1024**2
QUESTIONS_AT_ONCE = 24
# How long a copy that is complete waits for what else the source has about the image.
ATTACHMENTS_SECONDS = 5.0


@dataclass(frozen=True)
class CopyRequest:
    """One image to copy. Both references have a registry, the target has a tag.

    `runs_on` None: copy the image whether a service runs it or not. `in_ecr`: a push to the target does not create its
    repository. `built_by`: copy it only if this workflow has verifiably built it.
    """

    name: str
    source: ImageReference
    target: ImageReference
    platform: Platform
    runs_on: RunsOn | None
    in_ecr: bool = False
    built_by: BuiltBy | None = None


@dataclass(frozen=True)
class ImageCopy:
    """The result for one image. `source` and `target` are references; counts are of blobs, the config included.

    In a dry run they say what the run would do. `attachments` is what the source has about the image and was copied,
    too, by its reference in the target; `not_copied` what was not; both None if unknown.
    `build` is the verified one, None if nothing was required.
    """

    name: str
    source: str
    target: str
    source_digest: str
    target_digest: str | None
    platform: str | None
    status: Literal["copied", "up-to-date", "would-copy"]
    bytes_copied: int = 0
    blobs_copied: int = 0
    blobs_mounted: int = 0
    blobs_skipped: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] | None = None
    not_copied: tuple[LeftAttachment, ...] | None = None
    build: Build | None = None


@dataclass(frozen=True)
class CheckedCopy:
    """A request that passed all checks. `outlook` is its result in a dry run; `missing` are the blobs to copy.

    `subjects` are the digests of the image and of the index that it was chosen from.
    """

    request: CopyRequest
    outlook: ImageCopy
    manifest: Manifest | None = None
    missing: tuple[Descriptor, ...] = ()
    lacks_repository: bool = False
    subjects: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        return self.outlook.status == "up-to-date"


def first_outlook(
    request: CopyRequest, digest: str, target_digest: str | None, is_index: bool, notes: tuple[str, ...] = ()
) -> ImageCopy:
    """As far as it is known from the digest of the source's image, and from what the target's tag has."""
    return ImageCopy(
        name=request.name,
        source=str(request.source),
        target=str(request.target),
        source_digest=digest,
        target_digest=target_digest,
        platform=str(request.platform) if is_index else None,
        status="up-to-date" if target_digest else "would-copy",
        notes=notes,
    )


def choose_platform(index: Manifest, request: CopyRequest) -> Descriptor:
    """The entry of an index for the request's platform. Raises RefusedError with the platforms that it has."""
    if entry := index.entry(request.platform):
        return entry
    raise no_platform(request, index.platforms())


def no_platform(request: CopyRequest, platforms: tuple[Platform, ...]) -> RefusedError:
    found = ", ".join(str(platform) for platform in platforms) or "none"
    return RefusedError(f"{request.source} has no image for {request.platform}", hint=f"Its platforms: {found}.")


def moved_tag(target: ImageReference, source_digest: str, target_digest: str) -> RefusedError:
    """The target's tag already exists, with another image than the source's."""
    return RefusedError(
        f"{target} already has another image: {target_digest}, not {source_digest}",
        hint="Release tags are immutable: publish a new tag, or check who pushed this one.",
    )


def pass_gate(request: CopyRequest, manifest: Manifest, config: bytes | None) -> None:
    """Raises RefusedError if the image's service cannot run it."""
    if request.runs_on is None:
        return
    if problems := unacceptable(manifest, config, request.runs_on, request.platform):
        raise not_runnable(request, "; ".join(problems))


def not_runnable(request: CopyRequest, problem: str) -> RefusedError:
    service = request.runs_on.label if request.runs_on else "no service"
    return RefusedError(
        f"{service} cannot run {request.source}: {problem}",
        hint=f"Build the image for {service}, or copy it as it is with --no-gate.",
    )


def unknown_tag(source: Repository, reference: ImageReference) -> NotFoundError:
    """The error for a tag that does not exist. Raises NotFoundError itself if the repository does not either."""
    try:
        newest = newest_first(source.tags())[:SHOWN_TAGS]
    except AccessDeniedError:  # listing tags needs more permissions than reading an image
        return NotFoundError(f"{reference} does not exist")
    hint = f"Newest tags: {', '.join(newest)}." if newest else "The repository has no tags."
    return NotFoundError(f"{reference} does not exist", hint=hint)


def read_back_differs(target: ImageReference, found: str | None, pushed: str) -> RefinerctlError:
    return RefinerctlError(
        f"{target} reads back as {found or 'nothing'}, not as {pushed}",
        hint="Another process may have pushed at the same time. Run the command again.",
    )


Lookup = Background[tuple[tuple[Attachment, ...], RefinerctlError | None]]


def look_up_attachments(source: Repository, checked: CheckedCopy) -> Lookup:
    """Begin to look for what the source has about an image, at the same time as the copy."""
    lookup = Background(partial(attachments, source, checked.subjects))
    lookup.start()
    return lookup


def with_attachments(
    copy: ImageCopy, lookup: Lookup, patience_s: float = ATTACHMENTS_SECONDS, *, only_image: str = ""
) -> ImageCopy:
    """The result with what was found beside what is known already: what to copy, and what not.

    `only_image` is why nothing is copied but the image. A failure is a note: the image is complete.
    """
    problem: RefinerctlError | None
    try:
        found, problem = lookup.result(patience_s)
    except TimeoutError:
        found, problem = (), RefinerctlError(f"no answer within {patience_s:g} s")
    copies = tuple(item for item in found if item.subject == copy.source_digest and not only_image)
    reason = only_image or "it refers to the index, which is not copied"
    left = (*(copy.not_copied or ()), *(item.left(reason) for item in found if item not in copies))
    if problem is None:
        return replace(copy, attachments=copies, not_copied=left)
    note = f"the list of signatures and other artifacts of {copy.source} may be incomplete: {problem.message}"
    return replace(copy, attachments=copies or None, not_copied=left or None, notes=(*copy.notes, note))


class RegistryCopies:
    """Copies from registry to registry. `registry` gives the client of a host, the same for the same host.

    A `dry_run` needs no permission to push. A complete copy waits up to `attachments_s` for what else the source has
    about the image.
    """

    def __init__(
        self,
        registry: Callable[[str], Registry],
        *,
        blobs_at_once: int = LARGE_BLOBS_AT_ONCE,
        dry_run: bool = False,
        attachments_s: float = ATTACHMENTS_SECONDS,
    ) -> None:
        self._registry = registry
        self._blobs_at_once = blobs_at_once
        self._dry_run = dry_run
        self._attachments_s = attachments_s
        # Images that were checked together may share layers: the first copy brings them for all.
        self._brought: set[tuple[str, str]] = set()

    def check(self, request: CopyRequest) -> CheckedCopy:
        """Make all checks that are possible before a byte is copied; change nothing. At most 3 round trips.

        Raises RefusedError if the target's tag has another image or the image's service cannot run it,
        NotFoundError, AccessDeniedError.
        """
        began = time.monotonic()
        source, target = self._repositories(request)
        found, there = concurrently(
            [partial(source.find, request.source.version), partial(target.find, request.target.version)], 2
        )
        if found is None:
            raise unknown_tag(source, request.source)
        entry = choose_platform(found, request) if found.is_index else None
        notes = _left_out(found, request.platform) if entry else ()
        outlook = first_outlook(
            request, (entry or found).digest, there.digest if there else None, entry is not None, notes
        )
        subjects = tuple({outlook.source_digest: None, found.digest: None})
        if there is not None:
            if there.digest != outlook.source_digest:
                raise moved_tag(request.target, outlook.source_digest, there.digest)
            return CheckedCopy(request, replace(outlook, seconds=time.monotonic() - began), subjects=subjects)
        manifest = source.manifest(entry.digest) if entry else found
        if manifest.is_index:
            raise RefusedError(f"{request.source} has an index for {request.platform} instead of an image")
        blobs = [blob for blob in manifest.blobs if not blob.urls]  # a foreign layer is in no registry
        questions: list[Callable[[], Any]] = [partial(target.has_blob, blob.digest) for blob in blobs]
        questions.append(partial(_config, source, manifest, request))
        if request.in_ecr:
            questions.append(target.exists)
        answers = concurrently(questions, QUESTIONS_AT_ONCE)
        lacks_repository = request.in_ecr and not answers.pop()
        config = answers.pop()
        pass_gate(request, manifest, config)
        missing = tuple(blob for blob, has_blob in zip(blobs, answers, strict=True) if not has_blob)
        outlook = replace(
            outlook,
            platform=outlook.platform or (str(config_platform(config)) if config else None),
            bytes_copied=sum(blob.size for blob in missing),
            blobs_copied=len(missing),
            blobs_skipped=len(manifest.blobs) - len(missing),
            seconds=time.monotonic() - began,
            not_copied=attestations(source, found, manifest.digest),
        )
        checked = CheckedCopy(request, outlook, manifest, missing, lacks_repository, subjects)
        if self._dry_run:
            lookup = look_up_attachments(source, checked)
            return replace(checked, outlook=with_attachments(outlook, lookup, self._attachments_s))
        return checked

    def copy(self, checked: CheckedCopy, progress: Progress) -> ImageCopy:
        """Copy the missing blobs, then the manifest by digest, then the tag: a tag never has an incomplete image."""
        manifest = checked.manifest
        if checked.is_done or manifest is None:
            return checked.outlook
        began = time.monotonic()
        source, target = self._repositories(checked.request)
        lookup = look_up_attachments(source, checked)
        missing = [blob for blob in checked.missing if (target.name, blob.digest) not in self._brought]
        cancelled = threading.Event()
        largest_first = sorted(missing, key=lambda blob: -blob.size)
        tasks = [partial(copy_blob, source, target, blob, progress, cancelled) for blob in largest_first]
        try:
            sizes = [size for size in concurrently(tasks, self._threads(missing)) if size is not None]
        finally:
            cancelled.set()
        self._brought.update((target.name, blob.digest) for blob in missing)
        _push_image(target, manifest, checked.request)
        outlook = with_attachments(checked.outlook, lookup, self._attachments_s)
        # Before the tag: if this is interrupted, the next run does not take the image for complete.
        copies, left = copy_attachments(source, target, outlook.attachments or (), manifest.digest)
        _push_tag(target, manifest, checked.request)
        return replace(
            outlook,
            target_digest=manifest.digest,
            status="copied",
            bytes_copied=sum(sizes),
            blobs_copied=len(sizes),
            blobs_mounted=len(missing) - len(sizes),
            blobs_skipped=len(manifest.blobs) - len(missing),
            seconds=outlook.seconds + time.monotonic() - began,
            attachments=copies if outlook.attachments is not None else None,
            not_copied=(*(outlook.not_copied or ()), *left) if left else outlook.not_copied,
        )

    def _threads(self, blobs: list[Descriptor]) -> int:
        mean = max(1, sum(blob.size for blob in blobs) // max(1, len(blobs)))
        return min(4 * self._blobs_at_once, max(self._blobs_at_once, BYTES_AT_ONCE // mean))

    def _repositories(self, request: CopyRequest) -> tuple[Repository, Repository]:
        source, target = self._registry(str(request.source.registry)), self._registry(str(request.target.registry))
        return (
            source.repository(request.source.repository),
            target.repository(request.target.repository, PULL if self._dry_run else PULL_AND_PUSH),
        )


def _push_image(target: Repository, manifest: Manifest, request: CopyRequest) -> None:
    """Push the manifest by digest. Raises RefusedError if another process has pushed the tag meanwhile."""
    known, there = concurrently(
        [partial(target.find, manifest.digest), partial(target.find, request.target.version)], 2
    )
    if there and there.digest != manifest.digest:
        raise moved_tag(request.target, manifest.digest, there.digest)
    if known is None:
        target.push_manifest(manifest, manifest.digest)


def _push_tag(target: Repository, manifest: Manifest, request: CopyRequest) -> None:
    """Push the manifest under the tag, and read both back."""
    tag = request.target.tag or ""
    try:
        target.push_manifest(manifest, tag)
    except RefinerctlError:
        # An immutable tag that another process has pushed, or an attempt whose response was lost.
        there = target.find(tag)
        if there is None:
            raise
        if there.digest != manifest.digest:
            raise moved_tag(request.target, manifest.digest, there.digest) from None
    for found in concurrently([partial(target.find, tag), partial(target.find, manifest.digest)], 2):
        if found is None or found.digest != manifest.digest:
            raise read_back_differs(request.target, found.digest if found else None, manifest.digest)


def _config(source: Repository, manifest: Manifest, request: CopyRequest) -> bytes | None:
    """The config, if the gate needs it: without the gate it may be of any type."""
    return source.blob(manifest.config) if request.runs_on and manifest.config else None


def _left_out(index: Manifest, platform: Platform) -> tuple[str, ...]:
    others = [str(item) for item in index.platforms() if item != platform]
    return (f"the source is an index: {platform} is copied" + (f", not {', '.join(others)}" if others else ""),)
