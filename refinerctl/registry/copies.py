"""What copying an image from registry to registry takes and gives, whichever engine does it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from refinerctl.console import BlobProgress
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import (
    CopyStatus,
    Descriptor,
    ImageCopy,
    ImageReference,
    Manifest,
    Platform,
    RunsOn,
    release_order,
    unacceptable,
)


@dataclass(frozen=True)
class CopyRequest:
    """One image to copy. Both references have a registry, the target has a tag.

    `runs_on` None copies whatever it is: no gate. `needs_repository`: the target's registry makes no repository on the
    first push (ECR); then `create_repository` says whether we do.
    """

    name: str
    source: ImageReference
    target: ImageReference
    platform: Platform
    runs_on: RunsOn | None
    needs_repository: bool = False
    create_repository: bool = False


@dataclass(frozen=True)
class CheckedCopy:
    """A request that nothing speaks against. `outlook` is what copying would report: up-to-date or would-copy."""

    request: CopyRequest
    outlook: ImageCopy
    manifest: Manifest | None = None
    missing: tuple[Descriptor, ...] = ()
    lacks_repository: bool = False

    @property
    def is_done(self) -> bool:
        return self.outlook.status is CopyStatus.UP_TO_DATE


class CopyEngine(Protocol):
    """Copies images: registry to registry, or through a Docker engine."""

    def check(self, request: CopyRequest) -> CheckedCopy:
        """All that can be known before a byte is copied; changes nothing in the target.

        Raises RefusedError if the target's tag stands for another image or the image is not acceptable, NotFoundError
        for what does not exist, AccessDeniedError.
        """

    def copy(self, checked: CheckedCopy, progress: BlobProgress) -> ImageCopy:
        """Copy what `check` found missing, then the manifest, then the tag; read back and compare."""


def choose_platform(index: Manifest, platform: Platform, name: str) -> Descriptor:
    """The entry of an index for `platform`. Raises RefusedError that says which there are."""
    if entry := index.entry(platform):
        return entry
    found = ", ".join(str(item) for item in index.platforms()) or "none"
    raise RefusedError(f"{name} is not there for {platform}", hint=f"Its platforms: {found}.")


def refuse_moved_tag(target: ImageReference, source_digest: str, target_digest: str) -> RefusedError:
    """The target's tag stands for another image than the source's."""
    return RefusedError(
        f"{target} is another image already: {target_digest}, not {source_digest}",
        hint="Release tags do not move: publish a new tag, or find out who pushed to this one.",
    )


def pass_gate(request: CopyRequest, manifest: Manifest, config: bytes | None) -> None:
    """Raises RefusedError if the service that the image is for would not run it."""
    if request.runs_on is None:
        return
    if problems := unacceptable(manifest, config, request.runs_on, request.platform):
        service = {RunsOn.LAMBDA: "Lambda", RunsOn.ECS: "ECS"}[request.runs_on]
        raise RefusedError(
            f"{service} would not run {request.source}: {'; '.join(problems)}",
            hint="Build it for that, or copy it as it is with --no-gate.",
        )


def tags_from(tags: Iterable[str], first: str) -> list[str]:
    """Release tags from `first` on, by version, oldest first. Raises UsageError if `first` is no release tag."""
    start = release_order(first)
    if start is None:
        raise UsageError(f"{first!r} is no release tag", hint="It is one like v1.2.3.")
    releases = [(order, tag) for tag in tags if (order := release_order(tag)) is not None and order >= start]
    return [tag for _, tag in sorted(releases)]


def dotenv(copies: Iterable[ImageCopy]) -> str:
    """`IMAGE_<NAME>=repository@sha256:…`, a line each. Raises RefinerctlError if two would get the same name."""
    lines: dict[str, str] = {}
    for item in copies:
        key = "IMAGE_" + re.sub(r"[^A-Z0-9]", "_", item.name.upper())
        value = ImageReference.parse(item.target).at(item.target_digest or item.source_digest)
        if lines.setdefault(key, value) != value:
            raise RefinerctlError(f"{key} would stand for two images", hint="Copy one tag at a time, or rename one.")
    return "".join(f"{key}={value}\n" for key, value in lines.items())
