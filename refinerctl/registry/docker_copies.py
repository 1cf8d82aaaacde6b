"""Engine `docker`: an image pulled into a Docker engine and pushed from it.

What the engine does not tell, the registries are asked where they can be reached from here: media types of layers,
tags, and whether a push is allowed at all, which costs the engine 50 s of retries to find out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from refinerctl.console import BlobProgress, Silent
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError
from refinerctl.images import (
    INDEX_TYPES,
    LAMBDA_MAX_BYTES,
    CopyStatus,
    ImageCopy,
    ImageReference,
    Manifest,
    RunsOn,
)
from refinerctl.registry.client import PULL, PULL_AND_PUSH, Registry, Repository
from refinerctl.registry.copies import CheckedCopy, CopyRequest, choose_platform, pass_gate, refuse_moved_tag
from refinerctl.registry.docker_images import Distribution, DockerImages, EngineImage, Pushed
from refinerctl.registry.engine import no_repository, unknown_tag

Answer = TypeVar("Answer")


class DockerCopies:
    """`registry` gives the client of a host; it should give up early. `create_repository` makes one in ECR."""

    def __init__(
        self,
        images: DockerImages,
        registry: Callable[[str], Registry],
        create_repository: Callable[[str, str], None] | None = None,
    ) -> None:
        self._images = images
        self._registry = registry
        self._create_repository = create_repository
        self._out_of_reach: set[str] = set()

    def check(self, request: CopyRequest) -> CheckedCopy:
        """Nothing is pulled, unless the target's tag stands for another digest and only the engine can compare."""
        began = time.monotonic()
        found = self._images.find(request.source)
        if found is None:
            raise self._unknown(request.source)  # with the tags that there are, if they can be had
        there = self._images.find(request.target)
        manifest = self._manifest(request, found)
        outlook = ImageCopy(
            name=request.name,
            source=str(request.source),
            target=str(request.target),
            source_digest=manifest.digest if manifest else found.digest,
            target_digest=there.digest if there else None,
            platform=str(request.platform) if found.media_type in INDEX_TYPES else None,
            status=CopyStatus.UP_TO_DATE if there else CopyStatus.WOULD_COPY,
        )
        if there is not None:
            outlook = self._compared(request, outlook, there, manifest)
            return CheckedCopy(request, replace(outlook, seconds=time.monotonic() - began), manifest)
        if manifest is None:
            unseen = f"the media types of its layers were not checked: no way from here to {request.source.registry}"
            outlook = replace(outlook, notes=(unseen,))
        else:
            self._pass_gate(request, manifest)
            outlook = replace(outlook, bytes_copied=manifest.size, blobs_copied=len(manifest.blobs))
        lacks = request.needs_repository and self._lacks_repository(request)
        outlook = replace(outlook, seconds=time.monotonic() - began)
        return CheckedCopy(request, outlook, manifest, lacks_repository=lacks)

    def copy(self, checked: CheckedCopy, progress: BlobProgress) -> ImageCopy:
        """Pull by digest, look at what came, push, read back."""
        if checked.is_done:
            return checked.outlook
        began, request = time.monotonic(), checked.request
        if checked.lacks_repository and self._create_repository:
            self._create_repository(str(request.target.registry), request.target.repository)
        self._ask(request.target, Repository.may_push, PULL_AND_PUSH)  # raises AccessDeniedError, NotFoundError
        platform = request.platform if request.runs_on or checked.outlook.platform else None
        image = self._images.pull(_at(request.source, checked.outlook.source_digest), platform, progress)
        _look(request, image)
        pushed = self._images.push(image, request.target, progress)
        self._read_back(request, pushed)
        return replace(
            checked.outlook,
            target_digest=pushed.digest,
            platform=str(image.platform),
            status=CopyStatus.COPIED,
            bytes_copied=pushed.bytes_sent,
            blobs_copied=pushed.layers_sent,
            blobs_mounted=pushed.layers_mounted,
            blobs_skipped=pushed.layers_there,
            seconds=checked.outlook.seconds + time.monotonic() - began,
            notes=(*checked.outlook.notes, *_about_digests(checked.outlook.source_digest, pushed.digest)),
        )

    def _manifest(self, request: CopyRequest, found: Distribution) -> Manifest | None:
        """The image's own manifest, by the digest that the engine gave; None if it cannot be had from here."""
        manifest = self._ask(request.source, lambda source: source.find(found.digest))
        if manifest is not None and manifest.is_index:
            entry = choose_platform(manifest, request.platform, str(request.source))
            return self._ask(request.source, lambda source: source.find(entry.digest))
        if manifest is None and found.media_type in INDEX_TYPES and request.platform not in found.platforms:
            there = ", ".join(str(platform) for platform in found.platforms) or "none"
            raise RefusedError(f"{request.source} is not there for {request.platform}", hint=f"Its platforms: {there}.")
        return manifest

    def _compared(
        self, request: CopyRequest, outlook: ImageCopy, there: Distribution, manifest: Manifest | None
    ) -> ImageCopy:
        """The target's tag exists: it may be this image, as the engine has compressed it. Its config then is the same.

        Raises RefusedError if it is another one.
        """
        if there.digest == outlook.source_digest:
            return outlook
        known = self._ask(request.target, lambda target: target.find(there.digest)) if manifest else None
        if manifest and manifest.config and known and known.config:
            is_same = manifest.config.digest == known.config.digest
        else:
            references = (_at(request.source, outlook.source_digest), _at(request.target, there.digest))
            ours, theirs = (self._images.pull(item, request.platform, Silent()) for item in references)
            is_same = ours.id == theirs.id
        if not is_same:
            raise refuse_moved_tag(request.target, outlook.source_digest, there.digest)
        return replace(outlook, notes=_about_digests(outlook.source_digest, there.digest))

    def _pass_gate(self, request: CopyRequest, manifest: Manifest) -> None:
        wanted = manifest.config if request.runs_on is not None else None
        pass_gate(request, manifest, self._ask(request.source, lambda source: source.blob(wanted)) if wanted else None)

    def _lacks_repository(self, request: CopyRequest) -> bool:
        """Raises NotFoundError if it may not be created. One that cannot be asked for has to be there."""

        def ask(target: Repository) -> bool:
            lacks = not target.exists()
            if lacks and not request.create_repository:
                raise no_repository(target)
            return lacks

        return self._ask(request.target, ask) or False

    def _read_back(self, request: CopyRequest, pushed: Pushed) -> None:
        found = self._images.find(request.target)
        if found is None or found.digest != pushed.digest:
            seen = found.digest if found else "nothing"
            raise RefinerctlError(
                f"{request.target} reads back as {seen}, not as {pushed.digest}",
                hint="Somebody else may have pushed at the same time. Run it again.",
            )
        if request.runs_on is not None and found.media_type in INDEX_TYPES:  # with containerd's image store
            raise RefinerctlError(
                f"the Docker engine has pushed {request.target} as an index, which Lambda does not take",
                hint="Remove the tag, and use --engine registry.",
            )

    def _unknown(self, source: ImageReference) -> NotFoundError:
        told = self._ask(source, lambda repository: unknown_tag(repository, source))
        return told or NotFoundError(f"there is no {source}")

    def _ask(
        self, reference: ImageReference, question: Callable[[Repository], Answer], actions: str = PULL
    ) -> Answer | None:
        """The registry's own answer; None if there is no way to it from here. Its refusals are answers."""
        host = str(reference.registry)
        if host in self._out_of_reach:
            return None
        try:
            return question(self._registry(host).repository(reference.repository, actions))
        except (AccessDeniedError, NotFoundError, RefusedError):
            raise
        except RefinerctlError:
            self._out_of_reach.add(host)
            return None


def _at(reference: ImageReference, digest: str) -> ImageReference:
    return replace(reference, tag=None, digest=digest)


def _look(request: CopyRequest, image: EngineImage) -> None:
    """What only the pulled image tells. Raises RefusedError."""
    if request.runs_on is None:
        return
    if image.platform != request.platform:
        raise RefusedError(
            f"{request.source} is built for {image.platform}, not for {request.platform}",
            hint="Build it for that, or copy it as it is with --no-gate.",
        )
    if request.runs_on is RunsOn.LAMBDA and image.size > LAMBDA_MAX_BYTES:
        raise RefusedError(
            f"{request.source} has {image.size / 1e9:.1f} GB uncompressed; Lambda takes {LAMBDA_MAX_BYTES / 1e9:.1f}",
            hint="Make it smaller, or copy it as it is with --no-gate.",
        )


def _about_digests(source: str, target: str) -> tuple[str, ...]:
    return () if source == target else (f"docker has compressed the layers anew: {source} became {target}",)
