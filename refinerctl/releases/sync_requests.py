"""Which images `refinerctl sync` copies: from the command line, or from refinerctl.toml, with their tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.app import AppContext
from refinerctl.errors import UsageError
from refinerctl.images import (
    DEFAULT_PLATFORM,
    ImageReference,
    ImageSettings,
    Platform,
    RunsOn,
    check_tag,
    newest_first,
    release_order,
)
from refinerctl.options import Moment
from refinerctl.parallel import concurrently

if TYPE_CHECKING:
    from refinerctl.registry.client import Repository
    from refinerctl.registry.copies import CopyRequest

CONFIGS_AT_ONCE = 16
DOCKER_HUB = "docker.io"


def one_image(source: str | None, target: str | None, names: tuple[str, ...]) -> CopyRequest:
    """The image of SOURCE and TARGET; a tag may be missing."""
    from refinerctl.registry.copies import CopyRequest

    if not source or not target:
        raise UsageError(
            "TARGET is missing", hint="Run `refinerctl sync SOURCE TARGET`, or `refinerctl sync --tag TAG`."
        )
    if names:
        raise UsageError("SOURCE and --image are mutually exclusive")
    there, here = ImageReference.parse(target), _with_registry(ImageReference.parse(source))
    return CopyRequest(there.repository, here, there, DEFAULT_PLATFORM, RunsOn.LAMBDA)


def stack_images(app: AppContext, names: tuple[str, ...]) -> list[CopyRequest]:
    """The images `names` of refinerctl.toml, or the stack's, without tags. Raises UsageError if one has no source."""
    from refinerctl.registry.copies import CopyRequest

    chosen = [app.settings.image(name) for name in names] or published_images(app)
    for image in chosen:
        if image.source is None:
            hint = f"Add images.{image.name}.source."
            raise UsageError(f"image {image.name!r} has no source in refinerctl.toml", hint=hint)
    return [
        CopyRequest(
            image.name,
            _with_registry(image.source),
            ImageReference(image.repository),
            image.platform,
            image.runs_on,
        )
        for image in chosen
        if image.source
    ]


def published_images(app: AppContext) -> list[ImageSettings]:
    """The stack's images that have a source. Raises UsageError if there are none."""
    settings = app.settings
    found = [image for image in settings.images if image.stack == settings.stack and image.source]
    if not found:
        settings.layout.check_project()
        raise UsageError(
            f"refinerctl.toml has no image with a source for stack {settings.stack!r}",
            hint="Add images.<name>.source to it, or choose another stack with --stack.",
        )
    return found


def _with_registry(source: ImageReference) -> ImageReference:
    """Without a registry it is in Docker Hub, as for docker."""
    return source if source.registry else ImageReference.parse(f"{DOCKER_HUB}/{source}")


def with_tags(
    app: AppContext, image: CopyRequest, tag: str | None, since: str | None, create_repository: bool
) -> Iterator[CopyRequest]:
    """A request for each tag to copy, with the registry that the target is in."""
    if tag and since:
        raise UsageError("--tag and --all-tags-since are mutually exclusive")
    if tag and image.source.tag not in (None, tag):
        raise UsageError(
            f"--tag is {tag}, but the source is {image.source}",
            hint="Give the tag once; TARGET may have another one.",
        )
    ecr_host = app.registries.ecr_host(image.target)
    if create_repository and not ecr_host:
        raise UsageError(f"{image.target} is not in ECR: --create-repository works only there")
    for source_tag in _tags(app, image, tag, since):
        target_tag = (image.target.tag if not since else None) or source_tag
        if not target_tag:
            raise UsageError(f"{image.target} has no tag", hint="Give one with --tag, or in TARGET.")
        yield replace(
            image,
            source=replace(image.source, tag=source_tag, digest=None if since else image.source.digest),
            target=replace(image.target, registry=ecr_host or image.target.registry, tag=target_tag, digest=None),
            in_ecr=bool(ecr_host),
        )


def _tags(app: AppContext, image: CopyRequest, tag: str | None, since: str | None) -> list[str] | list[None]:
    """The source's tags to copy; [None] if a digest says what to copy."""
    if since:
        repository = app.registries.client(str(image.source.registry)).repository(image.source.repository)
        if release_order(since):
            return tags_from(repository.tags(), since)
        dated, undated = _tags_built_after(repository, Moment().convert(since, None, None), image.platform)
        if undated:
            tags = ", ".join(undated)
            app.render.warning(f"{image.source.name}: skipped, because their configs have no build time: {tags}")
        return dated
    if tag or image.source.tag:
        return [check_tag(tag or image.source.tag or "")]
    if image.source.digest:
        return [None]
    raise UsageError("no tag to copy", hint="Pass --tag TAG, or --all-tags-since WHEN.")


def tags_from(tags: Iterable[str], first: str) -> list[str]:
    """Release tags from `first` on, oldest first. Raises UsageError if `first` is not a release tag."""
    start = release_order(first)
    if start is None:
        raise UsageError(f"{first!r} is not a release tag", hint="Use one such as v1.2.3.")
    releases = [(order, tag) for tag in tags if (order := release_order(tag)) is not None and order >= start]
    return [tag for _, tag in sorted(releases)]


def _tags_built_after(source: Repository, since: datetime, platform: Platform) -> tuple[list[str], list[str]]:
    """Release tags, oldest first, whose image was built after `since` by its config; and those without a build time."""
    releases = [tag for tag in reversed(newest_first(source.tags())) if release_order(tag)]
    created = concurrently([partial(_created, source, tag, platform) for tag in releases], CONFIGS_AT_ONCE)
    dated = list(zip(releases, created, strict=True))
    return [tag for tag, at in dated if at is not None and at > since], [tag for tag, at in dated if at is None]


def _created(source: Repository, tag: str, platform: Platform) -> datetime | None:
    from refinerctl.registry.manifests import config_created

    manifest = source.find(tag)
    if manifest is not None and manifest.is_index:
        entry = manifest.entry(platform)
        manifest = source.find(entry.digest) if entry else None
    return config_created(source.blob(manifest.config)) if manifest and manifest.config else None
