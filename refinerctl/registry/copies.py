"""The request and the result of a copy of an image, and the checks of both engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError
from refinerctl.images import ImageReference, Platform, RunsOn, newest_first
from refinerctl.registry.client import Repository
from refinerctl.registry.manifests import Descriptor, Manifest, unacceptable

SHOWN_TAGS = 10


@dataclass(frozen=True)
class CopyRequest:
    """One image to copy. Both references have a registry, the target has a tag.

    `runs_on` None: copy the image whether a service runs it or not. `in_ecr`: a push to the target does not create its
    repository.
    """

    name: str
    source: ImageReference
    target: ImageReference
    platform: Platform
    runs_on: RunsOn | None
    in_ecr: bool = False


@dataclass(frozen=True)
class ImageCopy:
    """The result for one image. `source` and `target` are references; counts are of blobs, the config included.

    In a dry run they say what the run would do.
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


@dataclass(frozen=True)
class CheckedCopy:
    """A request that passed all checks. `outlook` is its result in a dry run; `missing` are the blobs to copy."""

    request: CopyRequest
    outlook: ImageCopy
    manifest: Manifest | None = None
    missing: tuple[Descriptor, ...] = ()
    lacks_repository: bool = False

    @property
    def is_done(self) -> bool:
        return self.outlook.status == "up-to-date"


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


def no_repository(target: Repository) -> NotFoundError:
    return NotFoundError(
        f"repository {target.name} does not exist",
        hint="Create it with `refinerctl deploy --stack registry`, or with the option --create-repository.",
    )


def read_back_differs(target: ImageReference, found: str | None, pushed: str) -> RefinerctlError:
    return RefinerctlError(
        f"{target} reads back as {found or 'nothing'}, not as {pushed}",
        hint="Another process may have pushed at the same time. Run the command again.",
    )
