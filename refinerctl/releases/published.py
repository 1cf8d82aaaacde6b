"""Releases where they are published, beside what is in ECR and what the environments have deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from refinerctl.aws.inventory import EcrImage, EnvironmentRelease, ReleaseOverview, TagImage, TagStatus
from refinerctl.config import ImageSettings
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference, newest_first, release_order
from refinerctl.parallel import concurrently
from refinerctl.releases.release import Release, deployed

THREADS = 16

Published = Callable[[ImageReference], Iterable[str]]
Ledgers = Mapping[str, Callable[[], tuple[Release, ...]]]


class Registry(Protocol):
    """ECR."""

    def images(self, repository: str) -> Iterable[EcrImage]: ...


@dataclass(frozen=True)
class ReleasesRequest:
    """`limit`: look at so many tags, the newest; `every_tag`: also at those that are no release."""

    limit: int | None = None
    every_tag: bool = False


def releases(
    images: Sequence[ImageSettings],
    published: Published,
    registry: Registry,
    ledgers: Ledgers,
    request: ReleasesRequest,
) -> ReleaseOverview:
    """Look at everything at the same time.

    `images` are those that have a `source`, whose tags `published` tells; `ledgers` are by environment. One that cannot
    be read is told as such; whatever else cannot be read raises RefinerctlError.
    """
    repositories = sorted({image.repository for image in images})
    looks: list[Callable[[], Any]] = [
        *(partial(_tags, published, image) for image in images),
        *(partial(_by_tag, registry, repository) for repository in repositories),
        *(partial(_read, read) for read in ledgers.values()),
    ]
    answers: list[Any] = concurrently(looks, THREADS)
    tags: list[frozenset[str]] = answers[: len(images)]
    in_ecr: dict[str, dict[str, str] | None] = dict(zip(repositories, answers[len(images) :], strict=False))
    entries: list[tuple[Release, ...] | str] = answers[len(images) + len(repositories) :]

    every = {tag for found in tags for tag in found if request.every_tag or release_order(tag)}
    chosen = newest_first(list(every))
    newest = chosen[: request.limit]
    held = [(image, found, in_ecr[image.repository] or {}) for image, found in zip(images, tags, strict=True)]
    by_tag = {tag: _images_of(tag, held) for tag in newest}
    environments = tuple(_environment(name, found, by_tag) for name, found in zip(ledgers, entries, strict=True))
    return ReleaseOverview(
        tags=tuple(
            TagStatus(tag, of_tag, tuple(item.name for item in environments if item.tag == tag))
            for tag, of_tag in by_tag.items()
        ),
        environments=environments,
        missing=tuple(repository for repository in repositories if in_ecr[repository] is None),
        left_out=len(chosen) - len(newest),
    )


def _tags(published: Published, image: ImageSettings) -> frozenset[str]:
    assert image.source is not None  # noqa: S101 - for the type checker; the caller has chosen them by it
    return frozenset(published(image.source))


def _by_tag(registry: Registry, repository: str) -> dict[str, str] | None:
    """Digests by tag; None if ECR has no such repository, which is where everything starts."""
    try:
        return {tag: image.digest for image in registry.images(repository) for tag in image.tags}
    except NotFoundError:
        return None


def _images_of(
    tag: str, held: Iterable[tuple[ImageSettings, frozenset[str], Mapping[str, str]]]
) -> tuple[TagImage, ...]:
    return tuple(
        TagImage(image.name, f"{image.source.name}:{tag}" if image.source else "", tag in digests, digests.get(tag))
        for image, tags, digests in held
        if tag in tags
    )


def _read(read: Callable[[], tuple[Release, ...]]) -> tuple[Release, ...] | str:
    """A ledger's entries, or why they cannot be read."""
    try:
        return read()
    except RefinerctlError as error:
        return error.message


def _environment(
    name: str, entries: tuple[Release, ...] | str, by_tag: Mapping[str, tuple[TagImage, ...]]
) -> EnvironmentRelease:
    if isinstance(entries, str):
        return EnvironmentRelease(name, is_deployed=None, error=entries)
    release = deployed(entries)
    if release is None:
        return EnvironmentRelease(name)
    return EnvironmentRelease(name, is_deployed=True, tag=release.tag or _tag_of_digests(release, by_tag))


def _tag_of_digests(release: Release, by_tag: Mapping[str, tuple[TagImage, ...]]) -> str | None:
    """The newest tag whose images in ECR are those of a release that was deployed without one."""
    digests = {ImageReference.parse(uri).digest for uri in release.images.values()}
    same = (tag for tag, images in by_tag.items() if digests == {image.digest for image in images})
    return None if None in digests else next(same, None)
