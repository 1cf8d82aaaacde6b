"""Give every ruleset its image by digest, and see that Lambda will take it, before Terraform starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, UsageError
from refinerctl.images import ImageReference, Platform, RunsOn, newest_first
from refinerctl.parallel import concurrently
from refinerctl.registry.manifests import Descriptor, Manifest, unacceptable
from refinerctl.releases.model import Pins, Release, RulesetImage

_PLATFORMS = {"x86_64": Platform("linux", "amd64"), "arm64": Platform("linux", "arm64")}
_THREADS = 16
_TAGS_SHOWN = 5


class Images(Protocol):
    """The registry that functions take their images from."""

    def find(self, reference: ImageReference) -> Manifest | None:
        """The manifest of a tag or digest; None if it, or its repository, is not there."""

    def blob(self, reference: ImageReference, descriptor: Descriptor) -> bytes:
        """A small blob of the image's repository. Raises NotFoundError without it."""

    def tags(self, reference: ImageReference) -> list[str]:
        """The tags of its repository; none if that is not there."""


@dataclass(frozen=True)
class PinRequest:
    """Which release. `tag` None keeps that of `recorded`, or takes the environment's own (`default_tag`).

    `recorded` is the release that is in place, or the one to go back to from `in_place`. `by_record`: its digests win
    over what the environment's values say. `fallback` has the images of rulesets that `recorded` does not know. One of
    `local_repositories` may be missing, and stays unpinned: an environment on this machine runs it from its folder.
    `refusal` is what follows from an image that will not do.
    """

    tag: str | None = None
    default_tag: str | None = None
    recorded: Release | None = None
    in_place: Release | None = None
    by_record: bool = False
    fallback: Mapping[str, str] = field(default_factory=dict)
    local_repositories: frozenset[str] = frozenset()
    refusal: str = "the release cannot be deployed"

    @property
    def release_tag(self) -> str | None:
        return self.tag or (self.recorded.tag if self.recorded else None) or self.default_tag


def ruleset_images(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[RulesetImage, ...]:
    """The images in a stack's values; completion rulesets have none. Raises RefinerctlError for malformed values."""
    rulesets = values.get("rulesets", defaults.get("rulesets")) or {}
    try:
        return tuple(
            RulesetImage(name, ImageReference.parse(ruleset["image_uri"]), _platform(ruleset))
            for name, ruleset in sorted(rulesets.items())
            if ruleset.get("image_uri") is not None
        )
    except UsageError as error:
        raise RefinerctlError(f"a ruleset's image_uri: {error.message}", hint=error.hint) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"the stack's rulesets cannot be read: {error!r}") from error


def _platform(ruleset: Mapping[str, Any]) -> Platform:
    return _PLATFORMS[ruleset.get("architecture") or "x86_64"]


def pin_images(wanted: Sequence[RulesetImage], images: Images, request: PinRequest) -> Pins:
    """Resolve all images at the same time.

    Raises RefusedError with everything that is missing or that Lambda would not take, by ruleset; UsageError if an
    image needs a tag and nothing says which.
    """
    choices = [_told(_choose(image, request), request.tag) for image in wanted]
    if request.tag and choices and all(choice.ignores_tag for choice in choices):
        raise RefusedError(
            f"no ruleset would run release {request.tag}: every image_uri names a tag or a digest of its own",
            hint="Take it out of the environment's tfvars, or leave out --tag.",
        )
    results = concurrently([partial(_resolve, choice, images, request) for choice in choices], _THREADS)
    if problems := [f"{result.ruleset}: {problem}" for result in results for problem in result.problems]:
        is_missing = any(result.is_missing for result in results)
        hint = "`refinerctl sync --tag TAG` copies a release's images to ECR." if is_missing else None
        raise RefusedError(f"{request.refusal}: {'; '.join(problems)}", hint=hint)
    return Pins(
        tag=request.release_tag,
        images={result.ruleset: result.pinned for result in results if result.pinned},
        notes=tuple(note for result in results for note in result.notes),
        in_place=request.in_place,
    )


@dataclass(frozen=True)
class _Choice:
    """What to look up for a ruleset, and why."""

    image: RulesetImage
    reference: ImageReference
    notes: tuple[str, ...] = ()
    in_ecr: bool = True
    ignores_tag: bool = False


@dataclass(frozen=True)
class _Result:
    ruleset: str
    pinned: str | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_missing: bool = False


def _choose(image: RulesetImage, request: PinRequest) -> _Choice:
    own = image.reference
    kept = _kept(image, request)
    if own.digest and not (request.by_record and kept):
        return _Choice(image, own)
    if kept is not None:
        notes: tuple[str, ...] = ()
        if own.digest and own.digest != kept.digest:
            notes = (f"{image.ruleset}: the environment's image_uri names another digest, and wins the next time",)
        elif own.tag and not request.by_record:
            notes = (f"{image.ruleset}: stays at the digest in place; --tag reads {own} again",)
        return _Choice(image, kept, notes)
    if own.registry and not own.ecr:
        return _Choice(image, own, (f"{image.ruleset}: {own} is not in ECR, and not pinned",), in_ecr=False)
    tag = own.tag or request.release_tag
    if tag is None:
        raise UsageError(
            f"nothing says which release of {own} ruleset {image.ruleset} is to run", hint="Say it: --tag TAG."
        )
    return _Choice(image, ImageReference(own.repository, own.registry, tag=tag))


def _told(choice: _Choice, tag: str | None) -> _Choice:
    """Somebody who asks for a release has to learn which rulesets will not run it."""
    own = choice.image.reference
    if tag is None or not (own.digest or own.tag not in (None, tag)):
        return choice
    named = "a digest" if own.digest else f"tag {own.tag}"
    note = f"{choice.image.ruleset}: the environment's image_uri names {named}, which wins over --tag {tag}"
    return replace(choice, notes=(note, *choice.notes), ignores_tag=True)


def _kept(image: RulesetImage, request: PinRequest) -> ImageReference | None:
    """The digest that the ruleset keeps; none where a tag was asked for, or another repository took its place."""
    if request.tag is not None or request.recorded is None:
        return None
    uri = request.recorded.images.get(image.ruleset) or request.fallback.get(image.ruleset)
    kept = ImageReference.parse(uri) if uri else None
    if kept is None or (kept.repository != image.reference.repository and not request.by_record):
        return None
    return kept


def _resolve(choice: _Choice, images: Images, request: PinRequest) -> _Result:
    ruleset, reference = choice.image.ruleset, choice.reference
    if not choice.in_ecr:
        return _Result(ruleset, notes=choice.notes)
    manifest = images.find(reference)
    if manifest is None:
        if reference.repository in request.local_repositories and reference.digest is None:
            note = f"{ruleset}: {reference} is not in the registry, and runs from the image's folder"
            return _Result(ruleset, notes=(*choice.notes, note))
        return _Result(ruleset, problems=(_missing(reference, images),), is_missing=True)
    config, notes = _config(reference, manifest, images)
    problems = unacceptable(manifest, config, RunsOn.LAMBDA, choice.image.platform)
    return _Result(
        ruleset,
        pinned=reference.at(manifest.digest),
        problems=tuple(f"{reference}: {problem}" for problem in problems),
        notes=(*choice.notes, *(f"{ruleset}: {note}" for note in notes)),
    )


def _config(reference: ImageReference, manifest: Manifest, images: Images) -> tuple[bytes | None, tuple[str, ...]]:
    if manifest.config is None:
        return None, ()
    try:
        return images.blob(reference, manifest.config), ()
    except NotFoundError:
        return None, (f"the registry has no config of {reference}: its architecture is not checked",)


def _missing(reference: ImageReference, images: Images) -> str:
    there = newest_first(images.tags(reference))[:_TAGS_SHOWN]
    return f"{reference} is not in ECR" + (f" (newest there: {', '.join(there)})" if there else "")
