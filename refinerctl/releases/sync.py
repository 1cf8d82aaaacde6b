"""Copy images from registry to registry: all are checked before the first byte of any is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.console import BlobProgress
from refinerctl.images import ImageCopy, Platform, config_created, newest_first, release_order
from refinerctl.parallel import concurrently
from refinerctl.registry.copies import CheckedCopy, CopyEngine, CopyRequest, tags_from

if TYPE_CHECKING:
    from refinerctl.registry.client import Repository

IMAGES_AT_ONCE = 4


def check(engine: CopyEngine, requests: Sequence[CopyRequest]) -> list[CheckedCopy]:
    """Check all, several at once; raises what speaks against the first of them that something speaks against."""
    return concurrently([partial(engine.check, request) for request in requests], IMAGES_AT_ONCE)


def copy(engine: CopyEngine, checked: Sequence[CheckedCopy], progress: BlobProgress) -> Iterator[ImageCopy]:
    """Copy one after the other; each comes as soon as it is done, so that an error loses none before it."""
    for item in checked:
        if not item.is_done:
            progress.step(f"copying {item.request.source} to {item.request.target}")
        yield engine.copy(item, progress)


@dataclass(frozen=True)
class TagsSince:
    """Release tags, oldest first; `undated` are those of images that do not say when they were built."""

    tags: list[str]
    undated: list[str] = field(default_factory=list)


def tags_since(source: Repository, since: str | datetime, platform: Platform) -> TagsSince:
    """Release tags of `source`: from release `since` on, or built after that moment.

    When an image was built is what its config says (`created`).
    """
    tags = source.tags()
    if isinstance(since, str):
        return TagsSince(tags_from(tags, since))
    releases = [tag for tag in reversed(newest_first(tags)) if release_order(tag)]
    looks: list[Callable[[], datetime | None]] = [partial(_created, source, tag, platform) for tag in releases]
    created = concurrently(looks, 4 * IMAGES_AT_ONCE)
    dated = dict(zip(releases, created, strict=True))
    return TagsSince(
        [tag for tag, at in dated.items() if at is not None and at > since],
        [tag for tag, at in dated.items() if at is None],
    )


def _created(source: Repository, tag: str, platform: Platform) -> datetime | None:
    manifest = source.find(tag)
    if manifest is not None and manifest.is_index:
        entry = manifest.entry(platform)
        manifest = source.find(entry.digest) if entry else None
    return config_created(source.blob(manifest.config)) if manifest and manifest.config else None
