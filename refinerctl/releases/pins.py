"""Pin the image of every stage to a digest, and check that its service accepts it, before Terraform starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.errors import NotFoundError, RefusedError, UsageError
from refinerctl.images import ImageReference, RunsOn, newest_first
from refinerctl.parallel import concurrently
from refinerctl.registry.manifests import Manifest, unacceptable
from refinerctl.releases.release import Release, deployed
from refinerctl.stacks.base import Function, Pipeline, StageImage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.releases.ecr_images import EcrImages

_SERVICES = {Function: RunsOn.LAMBDA}
_THREADS = 16
_TAGS_SHOWN = 5


@dataclass(frozen=True)
class Pins:
    """A release before it is deployed: image URIs by digest, by stage. `notes` say what is not pinned or not checked.

    `current` is the release that the ledger has as deployed.
    """

    tag: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    current: Release | None = None


@dataclass(frozen=True)
class PinRequest:
    """Which image each stage gets.

    `tag` is what the user asks for. Without it a stage keeps its image in `kept` (URIs by digest, by stage), and one
    without gets `default_tag`. `by_record`: what is kept wins over a tag, digest or repository in the environment's
    values. An image of `local_repositories` may be missing, and is then not pinned: an environment on this machine
    runs it from its folder.
    """

    tag: str | None = None
    default_tag: str | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    by_record: bool = False
    local_repositories: frozenset[str] = frozenset()

    @property
    def release_tag(self) -> str | None:
        return self.tag or self.default_tag


def pins_for(app: AppContext, tag: str | None) -> Pins:
    """The images of release `tag`; without it those of the current release, else those that the values name."""
    wanted = app.stack.images(app.values)
    if not wanted:
        if tag is not None:
            raise UsageError(f"stack {app.stack.name} has no images, and so no releases", hint="Omit --tag.")
        return Pins()
    current = deployed(app.ledger.read())
    request = PinRequest(
        tag,
        default_tag=(current.tag if current else None) or app.values.get("release_tag"),
        kept=current.images if current else {},
        local_repositories=app.settings.local_repositories if tag is None else frozenset(),
    )
    pins = pin_images(wanted, app.deployable_images, request, services_of(app.pipeline))
    return replace(pins, current=current)


def pins_of(app: AppContext, target: Release, current: Release) -> Pins:
    """The images of a recorded release by its digests; a stage that it did not have keeps its current one."""
    request = PinRequest(
        default_tag=target.tag or app.values.get("release_tag"),
        kept={**current.images, **target.images},
        by_record=True,
    )
    wanted = app.stack.images(app.values)
    pins = pin_images(wanted, app.deployable_images, request, services_of(app.pipeline))
    return replace(pins, current=current)


def services_of(pipeline: Pipeline) -> dict[str, RunsOn]:
    """The service that runs the image of each stage, by the kind of its consumer."""
    return {stage.name: _SERVICES[type(stage.consumer)] for stage in pipeline.stages if stage.consumer is not None}


def pin_images(
    wanted: Sequence[StageImage],
    images: EcrImages,
    request: PinRequest,
    services: Mapping[str, RunsOn] | None = None,
    refusal: str = "the release cannot be deployed",
) -> Pins:
    """Resolve all images at the same time. `services` run them, by stage; Lambda runs a stage that it does not have.

    Raises RefusedError, which begins with `refusal`, for every image that is missing or that its service would not
    accept; UsageError if an image needs a tag and none is set.
    """
    choices = [_explain_ignored_tag(_choose(image, request), request.tag) for image in wanted]
    if request.tag and choices and all(choice.ignores_tag for choice in choices):
        raise RefusedError(
            f"no stage would run release {request.tag}: the environment's values set a tag or digest for every image",
            hint="Remove it from the environment's tfvars, or omit --tag.",
        )
    services = services or {}
    results = concurrently(
        [
            partial(_resolve, choice, images, services.get(choice.image.stage, RunsOn.LAMBDA), request)
            for choice in choices
        ],
        _THREADS,
    )
    if problems := [f"{result.stage}: {problem}" for result in results for problem in result.problems]:
        is_missing = any(result.is_missing for result in results)
        hint = "Copy a release's images to ECR: refinerctl sync --tag TAG." if is_missing else None
        raise RefusedError(f"{refusal}: {'; '.join(problems)}", hint=hint)
    return Pins(
        tag=request.release_tag,
        images={result.stage: result.pinned for result in results if result.pinned},
        notes=tuple(f"{result.stage}: {note}" for result in results for note in result.notes),
    )


@dataclass(frozen=True)
class _Choice:
    """What to look up for a stage, and notes why; without `reference` its image is not in ECR."""

    image: StageImage
    reference: ImageReference | None
    notes: tuple[str, ...] = ()
    ignores_tag: bool = False


@dataclass(frozen=True)
class _Result:
    stage: str
    pinned: str | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_missing: bool = False


def _choose(image: StageImage, request: PinRequest) -> _Choice:
    own = image.reference
    kept = _kept(image, request)
    if own.digest and not (request.by_record and kept):
        return _Choice(image, own)
    if kept is not None:
        notes: tuple[str, ...] = ()
        if own.digest and own.digest != kept.digest:
            notes = ("the environment's values name another digest, which the next deployment uses again",)
        elif own.tag and not request.by_record:
            notes = (f"keeps its current digest; --tag resolves {own} again",)
        return _Choice(image, kept, notes)
    if own.registry and not own.ecr:
        return _Choice(image, None, (f"{own} is not in ECR, and is not pinned",))
    tag = own.tag or request.release_tag
    if tag is None:
        raise UsageError(f"no release is set for {image.stage}, which runs {own}", hint="Set it: --tag TAG.")
    return _Choice(image, ImageReference(own.repository, own.registry, tag=tag))


def _explain_ignored_tag(choice: _Choice, tag: str | None) -> _Choice:
    """With a note if the stage will not run the release that the user asks for."""
    own = choice.image.reference
    if tag is None or not (own.digest or own.tag not in (None, tag)):
        return choice
    named = "a digest" if own.digest else f"tag {own.tag}"
    note = f"the environment's values name {named}, which wins over --tag {tag}"
    return replace(choice, notes=(note, *choice.notes), ignores_tag=True)


def _kept(image: StageImage, request: PinRequest) -> ImageReference | None:
    """The image that the stage keeps; None if a tag was asked for, or the values name another repository now."""
    uri = request.kept.get(image.stage) if request.tag is None else None
    kept = ImageReference.parse(uri) if uri else None
    if kept is None or (kept.repository != image.reference.repository and not request.by_record):
        return None
    return kept


def _resolve(choice: _Choice, images: EcrImages, runs_on: RunsOn, request: PinRequest) -> _Result:
    stage, reference = choice.image.stage, choice.reference
    if reference is None:
        return _Result(stage, notes=choice.notes)
    manifest = images.find(reference)
    if manifest is None:
        if reference.repository in request.local_repositories and reference.digest is None:
            note = f"{reference} is not in the registry, and runs from the image's folder"
            return _Result(stage, notes=(*choice.notes, note))
        return _Result(stage, problems=(_missing(reference, images),), is_missing=True)
    config, notes = _config(reference, manifest, images)
    problems = unacceptable(manifest, config, runs_on, choice.image.platform)
    return _Result(
        stage,
        pinned=reference.at(manifest.digest),
        problems=tuple(f"{reference}: {problem}" for problem in problems),
        notes=(*choice.notes, *notes),
    )


def _config(reference: ImageReference, manifest: Manifest, images: EcrImages) -> tuple[bytes | None, tuple[str, ...]]:
    if manifest.config is None:
        return None, ()
    try:
        return images.blob(reference, manifest.config), ()
    except NotFoundError:
        return None, (f"the config of {reference} is not in the registry: its architecture is not checked",)


def _missing(reference: ImageReference, images: EcrImages) -> str:
    newest = newest_first(images.tags(reference))[:_TAGS_SHOWN]
    return f"{reference} is not in ECR" + (f" (newest tags: {', '.join(newest)})" if newest else "")
