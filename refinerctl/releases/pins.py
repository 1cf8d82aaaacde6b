"""Pin the image of every stage to a digest, and check that its service accepts it, before Terraform starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.errors import NotFoundError, RefusedError, UsageError
from refinerctl.images import ImageReference, RunsOn, newest_first
from refinerctl.ledger.entries import Release, deployed
from refinerctl.parallel import concurrently
from refinerctl.registry.manifests import unacceptable
from refinerctl.stacks.base import Function, Pipeline, StageImage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.registry.registries import Registries

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
    if not app.stack.images(app.values):
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
    return replace(_pin_all(app, request), current=current)


def pins_of(app: AppContext, target: Release, current: Release) -> Pins:
    """The images of a recorded release by its digests; a stage that it did not have keeps its current one."""
    request = PinRequest(
        default_tag=target.tag or app.values.get("release_tag"),
        kept={**current.images, **target.images},
        by_record=True,
    )
    return replace(_pin_all(app, request), current=current)


def _pin_all(app: AppContext, request: PinRequest) -> Pins:
    return pin_images(app.stack.images(app.values), app.registries, request, services_of(app.pipeline))


def services_of(pipeline: Pipeline) -> dict[str, RunsOn]:
    """The service that runs the image of each stage, by the kind of its consumer."""
    return {stage.name: _SERVICES[type(stage.consumer)] for stage in pipeline.stages if stage.consumer is not None}


def pin_images(
    wanted: Sequence[StageImage],
    images: Registries,
    request: PinRequest,
    services: Mapping[str, RunsOn] | None = None,
    refusal: str = "the release cannot be deployed",
) -> Pins:
    """Resolve all images at the same time. `services` run them, by stage; Lambda runs a stage that it does not have.

    Raises RefusedError, which begins with `refusal`, for every image that is missing or that its service would not
    accept; UsageError if an image needs a tag and none is set.
    """
    chosen = [_explain_ignored_tag(_choose(image, request), request.tag) for image in wanted]
    if request.tag and chosen and all(pin.ignores_tag for pin in chosen):
        raise RefusedError(
            f"no stage would run release {request.tag}: the environment's values set a tag or digest for every image",
            hint="Remove it from the environment's tfvars, or omit --tag.",
        )
    services = services or {}
    tasks = [partial(_resolve, pin, images, services.get(pin.stage, RunsOn.LAMBDA), request) for pin in chosen]
    pins = concurrently(tasks, _THREADS)
    if problems := [f"{pin.stage}: {problem}" for pin in pins for problem in pin.problems]:
        is_missing = any(pin.is_missing for pin in pins)
        hint = "Copy a release's images to ECR: refinerctl sync --tag TAG." if is_missing else None
        raise RefusedError(f"{refusal}: {'; '.join(problems)}", hint=hint)
    return Pins(
        tag=request.release_tag,
        images={pin.stage: pin.uri for pin in pins if pin.uri},
        notes=tuple(f"{pin.stage}: {note}" for pin in pins for note in pin.notes),
    )


@dataclass(frozen=True)
class _Pin:
    """An image on its way to a digest: `reference` is what to look up, None if it is not in ECR; `uri` the result."""

    image: StageImage
    reference: ImageReference | None
    notes: tuple[str, ...] = ()
    ignores_tag: bool = False
    uri: str | None = None
    problems: tuple[str, ...] = ()
    is_missing: bool = False

    @property
    def stage(self) -> str:
        return self.image.stage


def _choose(image: StageImage, request: PinRequest) -> _Pin:
    own = image.reference
    kept = _kept(image, request)
    if own.digest and not (request.by_record and kept):
        return _Pin(image, own)
    if kept is not None:
        notes: tuple[str, ...] = ()
        if own.digest and own.digest != kept.digest:
            notes = ("the environment's values name another digest, which the next deployment uses again",)
        elif own.tag and not request.by_record:
            notes = (f"keeps its current digest; --tag resolves {own} again",)
        return _Pin(image, kept, notes)
    if own.registry and not own.ecr:
        return _Pin(image, None, (f"{own} is not in ECR, and is not pinned",))
    tag = own.tag or request.release_tag
    if tag is None:
        raise UsageError(f"no release is set for {image.stage}, which runs {own}", hint="Set it: --tag TAG.")
    return _Pin(image, ImageReference(own.repository, own.registry, tag=tag))


def _explain_ignored_tag(pin: _Pin, tag: str | None) -> _Pin:
    """With a note if the stage will not run the release that the user asks for."""
    own = pin.image.reference
    if tag is None or not (own.digest or own.tag not in (None, tag)):
        return pin
    named = "a digest" if own.digest else f"tag {own.tag}"
    note = f"the environment's values name {named}, which takes precedence over --tag {tag}"
    return replace(pin, notes=(note, *pin.notes), ignores_tag=True)


def _kept(image: StageImage, request: PinRequest) -> ImageReference | None:
    """The image that the stage keeps; None if a tag was asked for, or the values name another repository now."""
    uri = request.kept.get(image.stage) if request.tag is None else None
    kept = ImageReference.parse(uri) if uri else None
    if kept is None or (kept.repository != image.reference.repository and not request.by_record):
        return None
    return kept


def _resolve(pin: _Pin, images: Registries, runs_on: RunsOn, request: PinRequest) -> _Pin:
    reference = pin.reference
    if reference is None:
        return pin
    manifest = images.find(reference)
    if manifest is None:
        if reference.repository in request.local_repositories and reference.digest is None:
            note = f"{reference} is not in the registry, and runs from the image's folder"
            return replace(pin, notes=(*pin.notes, note))
        newest = newest_first(images.tags(reference))[:_TAGS_SHOWN]
        problem = f"{reference} is not in ECR" + (f" (newest tags: {', '.join(newest)})" if newest else "")
        return replace(pin, problems=(problem,), is_missing=True)
    config, notes = None, pin.notes
    if manifest.config is not None:
        try:
            config = images.blob(reference, manifest.config)
        except NotFoundError:
            notes = (*notes, f"the config of {reference} is not in the registry: its architecture is not checked")
    problems = unacceptable(manifest, config, runs_on, pin.image.platform)
    return replace(
        pin,
        uri=reference.at(manifest.digest),
        problems=tuple(f"{reference}: {problem}" for problem in problems),
        notes=notes,
    )
