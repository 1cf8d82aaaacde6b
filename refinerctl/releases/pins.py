"""Pin the image of every stage to a digest, and check that Lambda or ECS accepts it, before Terraform starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.errors import NotFoundError, RefusedError, UsageError
from refinerctl.images import Build, ImageReference, newest_first
from refinerctl.ledger.entries import Release, deployed
from refinerctl.parallel import concurrently
from refinerctl.registry.manifests import config_base, unacceptable
from refinerctl.releases.builds import builds_of
from refinerctl.stacks.base import StageImage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.registry.registries import Registries

_THREADS = 16
_TAGS_SHOWN = 5


@dataclass(frozen=True)
class Pins:
    """A release before it is deployed: image URIs by digest, by stage. `notes` say what is not pinned or not checked.

    `bases` are the images that they were built on, by stage, if their labels say so; `builds` their verified builds.
    `current` is the release that the ledger has as deployed. `asked_tag` is the tag that was requested, None if this
    follows from the ledger and the values.
    """

    tag: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    current: Release | None = None
    bases: Mapping[str, str] = field(default_factory=dict)
    asked_tag: str | None = None
    builds: Mapping[str, Build] = field(default_factory=dict)


@dataclass(frozen=True)
class _Resolved:
    """The URI by digest, None without one; notes; why its service cannot run it; what it was built on."""

    uri: str | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    base: str | None = None


def pins_for(app: AppContext, tag: str | None) -> Pins:
    """The images of release `tag`; without it those of the current release, else those that the values name."""
    images = app.stack.images(app.values)
    if not images:
        if tag is not None:
            raise UsageError(f"stack {app.stack.name} has no images, and so no releases", hint="Omit --tag.")
        return Pins()
    current = deployed(app.ledger.read())
    pins = pin_images(
        images,
        app.registries,
        tag,
        default_tag=(current.tag if current else None) or app.values.get("release_tag"),
        kept=current.images if current else {},
        local_repositories=app.settings.local_repositories if tag is None else frozenset(),
    )
    builds = builds_of(app.settings.layout.provenance, pins.images, current)
    return replace(pins, current=current, builds=builds)


def pins_of(app: AppContext, target: Release, current: Release) -> Pins:
    """The images of a recorded release by its digests; a stage that it did not have keeps its current one."""
    pins = pin_images(
        app.stack.images(app.values),
        app.registries,
        default_tag=target.tag or app.values.get("release_tag"),
        kept={**current.images, **target.images},
        by_record=True,
    )
    builds = builds_of(app.settings.layout.provenance, pins.images, target, current)
    return replace(pins, current=current, builds=builds)


def pin_images(
    wanted: Sequence[StageImage],
    registries: Registries,
    tag: str | None = None,
    *,
    default_tag: str | None = None,
    kept: Mapping[str, str] | None = None,
    by_record: bool = False,
    local_repositories: frozenset[str] = frozenset(),
    refusal: str = "the release cannot be deployed",
) -> Pins:
    """Resolve all images at the same time.

    `tag` is the requested release. Without it a stage keeps its image in `kept` (URIs by digest, by stage), and one
    without gets `default_tag`. `by_record`: what is kept takes precedence over a tag, digest or repository in the
    environment's values. An image of `local_repositories` may be missing, and is then not pinned: a local environment
    runs it from its folder.

    Raises RefusedError, which begins with `refusal`, for every image that is missing or that its service does not
    accept; UsageError if an image needs a tag and none is set.
    """
    if tag and wanted and all(_ignores(image.reference, tag) for image in wanted):
        raise RefusedError(
            f"no stage would run release {tag}: the environment's values set a tag or digest for every image",
            hint="Remove it from the environment's tfvars, or omit --tag.",
        )
    uris = kept if kept is not None and tag is None else {}
    chosen = [_choose(image, tag, tag or default_tag, uris.get(image.stage), by_record=by_record) for image in wanted]
    tasks = [
        partial(_resolve, reference, registries, image, local_repositories)
        for image, (reference, _) in zip(wanted, chosen, strict=True)
    ]
    resolved = concurrently(tasks, _THREADS)
    images: dict[str, str] = {}
    bases: dict[str, str] = {}
    all_notes, all_problems, is_missing = [], [], False
    for image, (_, notes), found in zip(wanted, chosen, resolved, strict=True):
        all_notes += [f"{image.stage}: {note}" for note in (*notes, *found.notes)]
        all_problems += [f"{image.stage}: {problem}" for problem in found.problems]
        if found.uri is not None:
            images[image.stage] = found.uri
        if found.base is not None:
            bases[image.stage] = found.base
        is_missing = is_missing or bool(found.problems and found.uri is None)
    if all_problems:
        hint = "Copy a release's images to ECR: `refinerctl sync --tag TAG`." if is_missing else None
        raise RefusedError(f"{refusal}: {'; '.join(all_problems)}", hint=hint)
    return Pins(tag or default_tag, images, tuple(all_notes), bases=bases, asked_tag=tag)


def _ignores(own: ImageReference, tag: str) -> bool:
    """Whether a stage whose image is `own` in the values will not run release `tag`."""
    return bool(own.digest or own.tag not in (None, tag))


def _choose(
    image: StageImage, asked: str | None, tag: str | None, kept_uri: str | None, *, by_record: bool
) -> tuple[ImageReference | None, list[str]]:
    """What to look up, None for an image that is not in ECR; and notes."""
    own, notes = image.reference, []
    kept = ImageReference.parse(kept_uri) if kept_uri else None
    if kept and kept.repository != own.repository and not by_record:
        kept = None  # the values name another repository now
    if asked and _ignores(own, asked):
        named = "a digest" if own.digest else f"tag {own.tag}"
        notes.append(f"the environment's values name {named}, which takes precedence over --tag {asked}")
    if own.digest and not (by_record and kept):
        return own, notes
    if kept is not None:
        if own.digest and own.digest != kept.digest:
            notes.append("the environment's values name another digest, which the next deployment uses again")
        elif own.tag and not by_record:
            notes.append(f"keeps its current digest; --tag resolves {own} again")
        return kept, notes
    if own.registry and not own.ecr:
        return None, [*notes, f"{own} is not in ECR, and is not pinned"]
    if not (own.tag or tag):
        raise UsageError(f"no release is set for {image.stage}, which runs {own}", hint="Set it: --tag TAG.")
    return ImageReference(own.repository, own.registry, tag=own.tag or tag), notes


def _resolve(
    reference: ImageReference | None, registries: Registries, image: StageImage, local_repositories: frozenset[str]
) -> _Resolved:
    if reference is None:
        return _Resolved()
    manifest = registries.find(reference)
    if manifest is None:
        if reference.repository in local_repositories and reference.digest is None:
            return _Resolved(notes=(f"{reference} is not in the registry, and runs from the image's folder",))
        newest = newest_first(registries.tags(reference))[:_TAGS_SHOWN]
        known = f" (newest tags: {', '.join(newest)})" if newest else ""
        return _Resolved(problems=(f"{reference} is not in ECR{known}",))
    config: bytes | None = None
    notes: tuple[str, ...] = ()
    if manifest.config is not None:
        try:
            config = registries.blob(reference, manifest.config)
        except NotFoundError:
            notes = (f"the config of {reference} is not in the registry: its architecture is not checked",)
    problems = unacceptable(manifest, config, image.runs_on, image.platform)
    return _Resolved(
        reference.at(manifest.digest),
        notes,
        tuple(f"{reference}: {problem}" for problem in problems),
        base=config_base(config) if config else None,
    )
