"""`refinerctl images prune`: delete the images in ECR that nothing uses. An image that may be in use is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import can_ask, size
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import INDEX_TYPES, MANIFEST_TYPES, ImageUse, newest_first, release_order
from refinerctl.options import Duration, confirmed, examples, global_options
from refinerctl.parallel import concurrently
from refinerctl.releases.images import (
    image_json,
    newest_images,
    read_uses,
    stack_repositories,
    use_sources,
    uses_of,
)

if TYPE_CHECKING:
    from refinerctl.aws.ecr import EcrImage, EcrRegistry

THREADS = 8

Reasons = Mapping[str, tuple[str, ...]]
# What ECR did not delete, by repository and digest, with ECR's reasons.
Failures = dict[tuple[str, str], str]


@dataclass(frozen=True)
class PrunePlan:
    """What to remove, and what to keep, with reasons. Indexes come before their images, as ECR wants."""

    remove: tuple[EcrImage, ...]
    keep: tuple[tuple[EcrImage, tuple[str, ...]], ...]


@click.command(
    epilog=examples(
        "refinerctl images prune --env production --dry-run",
        "refinerctl images prune --env production --keep 20 --min-age 7d --yes",
    )
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Number of release tags to keep, and of releases in each ledger whose images are kept.",
)
@click.option(
    "--min-age",
    type=Duration(),
    default="1d",
    show_default=True,
    help="Minimum age of an image to remove, since its push.",
)
@click.option(
    "--ignore-environment",
    "ignored",
    multiple=True,
    metavar="NAME",
    help="Environment whose ledger is not read, because it uses nothing of this ECR.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and stop.")
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
@global_options
@click.pass_context
def prune(ctx: click.Context, keep: int, min_age: float, ignored: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Remove the images in ECR that nothing uses; a dry run unless --yes is given or you confirm at a terminal.

    Kept are the images that a function version of the account and region runs, that an ECS task, service or active
    task definition names, or that the last N releases deployed; the newest N release tags; images pushed recently; and
    all parts of these. Exit code 4 if it is unknown what uses the images, 1 if ECR refuses to delete an image.
    """
    app = app_context(ctx, changes=True)
    others = [name for name in app.settings.environments if name != app.settings.env]
    if unknown := [name for name in ignored if name not in others]:
        raise UsageError(
            f"--ignore-environment: {unknown[0]!r} is not another environment",
            hint=f"Other environments: {', '.join(others) or 'no others'}.",
        )
    repositories = stack_repositories(app)

    def look() -> PrunePlan:
        uses, unknown = read_uses(use_sources(app, repositories, keep, to_delete=True, ignored=ignored))
        if unknown:
            raise RefusedError(
                f"it is unknown which images are in use: {'; '.join(unknown)}",
                hint="Nothing was removed. Give the identity in use the permission to read this, and run again.",
            )
        return make_plan(app.ecr, repositories, uses, keep, datetime.now(UTC) - timedelta(seconds=min_age))

    app.render.note(f"reading what uses the images of {', '.join(repositories)} in {app.ecr.host}")
    plan = look()
    if not app.render.is_json:
        _show_plan(app, plan)
    if not plan.remove or not _is_confirmed(app, plan, dry_run, yes):
        if app.render.is_json:
            app.render.json(_as_json(plan, None))
        return
    if not yes:  # the user may have answered late
        plan, used = still_unused(plan, look())
        for image in used:
            app.render.warning(f"{_image_text(image)} is now used, deleted or retagged; kept")
    failures = remove(app.ecr, plan)
    if app.render.is_json:
        app.render.json(_as_json(plan, failures))
    _report(app, plan, failures)


def make_plan(
    ecr: EcrRegistry, repositories: Sequence[str], uses: Sequence[ImageUse], keep: int, before: datetime
) -> PrunePlan:
    """Decide what to remove: neither the newest `keep` release tags, nor what was pushed after `before`.

    `uses` are all that there are. Raises NotFoundError if ECR has none of the repositories.
    """

    def plan(repository: str, images: list[EcrImage]) -> PrunePlan:
        direct = _direct_reasons(images, uses, keep, before)
        reasons = _all_reasons(images, _parts(ecr, repository, images), direct)
        removed = [image for image in images if image.digest not in reasons]
        return PrunePlan(
            tuple(sorted(removed, key=lambda image: (not image.is_index, image.pushed_at))),
            tuple((image, reasons[image.digest]) for image in images if image.digest in reasons),
        )

    found = newest_images(ecr, repositories)
    plans = concurrently([partial(plan, repository, images) for repository, images in found.items()], THREADS)
    return PrunePlan(
        tuple(image for one in plans for image in one.remove), tuple(kept for one in plans for kept in one.keep)
    )


def _direct_reasons(images: list[EcrImage], uses: Sequence[ImageUse], keep: int, before: datetime) -> Reasons:
    """Why images are kept for reasons of their own, by digest."""
    tags = [tag for image in images for tag in image.tags if release_order(tag)]
    newest = set(newest_first(tags)[:keep])
    reasons: dict[str, tuple[str, ...]] = {}
    for image in images:
        found = [f"{use.kind} {use.name}" for use in uses_of(image, uses)]
        found += [f"one of the newest {keep} release tags: {tag}" for tag in image.tags if tag in newest]
        if image.pushed_at > before:
            found.append("pushed recently")
        if image.media_type not in (*INDEX_TYPES, *MANIFEST_TYPES):
            found.append(f"media type {image.media_type or 'unknown'} is not an image's")
        if found:
            reasons[image.digest] = tuple(found)
    return reasons


def _parts(ecr: EcrRegistry, repository: str, images: list[EcrImage]) -> dict[str, tuple[str, ...] | None]:
    """The digests that an index refers to; None for an image that cannot be read and may refer to any."""
    indexes = {image.digest: image.media_type for image in images if image.is_index}
    unknown = [image.digest for image in images if image.media_type not in (*INDEX_TYPES, *MANIFEST_TYPES)]
    manifests = ecr.manifests(repository, list(indexes))
    return {
        **{digest: _children(manifests.get(digest), media_type) for digest, media_type in indexes.items()},
        **dict.fromkeys(unknown),
    }


def _children(raw: bytes | None, media_type: str) -> tuple[str, ...] | None:
    from refinerctl.registry.manifests import parse_manifest

    if raw is None:
        return None
    try:
        return tuple(entry.digest for entry in parse_manifest(raw, media_type).manifests)
    except RefinerctlError:
        return None


def _all_reasons(images: list[EcrImage], parts: Mapping[str, tuple[str, ...] | None], direct: Reasons) -> Reasons:
    """Also keep what belongs to a kept image: the parts of an index, and what is attached to an image."""
    reasons = dict(direct)
    if None in parts.values():
        untagged = (image.digest for image in images if not image.tags and image.digest not in reasons)
        reasons.update(dict.fromkeys(untagged, ("may be part of an index that cannot be read",)))
    known = {image.digest for image in images}
    belonging: dict[str, list[tuple[str, str]]] = {}
    for image in images:
        belonging.setdefault(image.digest, []).extend((part, "part of") for part in parts.get(image.digest) or ())
        for subject in image.subjects:
            belonging.setdefault(subject, []).append((image.digest, "attached to"))
    waiting = list(reasons)
    while waiting:
        digest = waiting.pop()
        for other, relation in belonging.get(digest, ()):
            if other in known and other not in reasons:
                reasons[other] = (f"{relation} {digest}",)
                waiting.append(other)
    return reasons


def still_unused(plan: PrunePlan, later: PrunePlan) -> tuple[PrunePlan, list[EcrImage]]:
    """What both plans remove, and what only the first one does: an image may have come into use between them."""
    again = {(image.repository, image.digest, image.tags) for image in later.remove}
    unused = tuple(image for image in plan.remove if (image.repository, image.digest, image.tags) in again)
    return PrunePlan(unused, later.keep), [image for image in plan.remove if image not in unused]


def remove(ecr: EcrRegistry, plan: PrunePlan) -> Failures:
    """Delete what `plan` says, by digest; returns what ECR kept. A failure in a repository does not stop the others."""
    failures: Failures = {}
    for is_index in (True, False):
        by_repository: dict[str, list[str]] = {}
        for image in plan.remove:
            if image.is_index is is_index:
                by_repository.setdefault(image.repository, []).append(image.digest)
        tasks = [partial(ecr.delete, name, digests) for name, digests in by_repository.items()]
        for name, kept in zip(by_repository, concurrently(tasks, THREADS), strict=True):
            failures |= {(name, digest): reason for digest, reason in kept.items()}
    return failures


def _key(image: EcrImage) -> tuple[str, str]:
    return image.repository, image.digest


def _is_confirmed(app: AppContext, plan: PrunePlan, dry_run: bool, yes: bool) -> bool:
    if dry_run or yes:
        return not dry_run
    if can_ask() and not app.render.is_json:
        return confirmed(f"Remove {_count(plan.remove)} in {app.location}?")
    app.render.note("this was a dry run; pass --yes to remove them")
    return False


def _show_plan(app: AppContext, plan: PrunePlan) -> None:
    for image, reasons in plan.keep:
        app.render.detail(f"keeping {_image_text(image)}: {'; '.join(reasons)}")
    for image in plan.remove:
        pushed = f"pushed {image.pushed_at:%Y-%m-%d}"
        app.render.line(f"remove  {_image_text(image)}  {pushed}  {size(image.size_bytes)}")
    app.render.note(f"{_count(plan.remove)} to remove, {len(plan.keep)} kept")


def _image_text(image: EcrImage) -> str:
    return " ".join([f"{image.repository}@{image.digest}", *image.tags])


def _count(images: Sequence[EcrImage]) -> str:
    """With their size: layers that kept images share are included, because only ECR knows them."""
    total = size(sum(image.size_bytes for image in images))
    return f"{len(images)} image{'' if len(images) == 1 else 's'} ({total})"


def _as_json(plan: PrunePlan, failures: Failures | None) -> dict[str, Any]:
    """`failures` None: nothing was to be removed."""

    def entry(image: EcrImage, status: str, reasons: tuple[str, ...] = (), error: str | None = None) -> dict[str, Any]:
        result = {"status": "failed" if error else status, "error": error, "reasons": reasons}
        return {"repository": image.repository, **image_json(image), **result}

    status, errors = "would-remove" if failures is None else "removed", failures or {}
    freed = [image.size_bytes for image in plan.remove if failures is not None and _key(image) not in failures]
    return {
        "images": [
            *(entry(image, status, error=errors.get(_key(image))) for image in plan.remove),
            *(entry(image, "kept", reasons) for image, reasons in plan.keep),
        ],
        "bytes_freed": sum(freed),
    }


def _report(app: AppContext, plan: PrunePlan, failures: Failures) -> None:
    removed = [image for image in plan.remove if _key(image) not in failures]
    app.render.note(f"removed {_count(removed)}; layers that other images share stay")
    for (repository, digest), reason in failures.items():
        app.render.warning(f"{repository}@{digest} was not removed: {reason}")
    if failures:
        raise RefinerctlError(f"ECR did not remove {len(failures)} of the images")
