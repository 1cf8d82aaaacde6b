"""`refinerctl images`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.inventory import EcrImage, ImageUsage, ImageUse, ListedImage, PrunePlan, PruneResult
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.options import Duration, global_options
from refinerctl.releases.releases_command import ledger_environments, read_ledger
from refinerctl.tables import size, table

if TYPE_CHECKING:
    from refinerctl.config import Settings
    from refinerctl.images import ImageReference

SHORT_DIGEST = 19  # sha256: and twelve digits
SHOWN_RELEASES = 20


@click.group()
@global_options
def images() -> None:
    """Look at the images in ECR, and remove what nothing uses."""


@images.command("list")
@global_options
@click.pass_context
def list_command(ctx: click.Context) -> None:
    """List the images of the stack's repositories, and who uses them.

    Users are function versions with their aliases, active ECS task definitions, and the releases in the ledgers.
    """
    from refinerctl.releases import image_usage, images_list

    app = app_context(ctx)
    repositories = _repositories(app)
    usage = image_usage.collect(_sources(app, repositories, SHOWN_RELEASES))
    found = images_list.list_images(app.ecr, repositories, usage)
    for repository in set(repositories) - set(found):
        app.render.warning(f"there is no ECR repository {repository!r}")
    for reason in usage.unknown:
        app.render.warning(f"not all uses are known: {reason}")
    if app.render.is_json:
        app.render.json(_list_json(found, usage))
    else:
        _show_list(app, found)


@images.command()
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Keep the newest N release tags, and the images of the last N releases.",
)
@click.option(
    "--min-age", type=Duration(), default="1d", show_default=True, help="Keep what was pushed less than this ago."
)
@click.option(
    "--ignore-environment",
    "ignored",
    multiple=True,
    metavar="NAME",
    help="Do not ask the ledger of this environment: it uses nothing of this ECR.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and stop.")
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
@global_options
@click.pass_context
def prune(ctx: click.Context, keep: int, min_age: float, ignored: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Remove images from ECR that nothing uses; a dry run unless --yes, or unless you agree at a terminal.

    What stays: what a function version of the account and region runs, what an ECS task, service or active task
    definition names, what the last N releases deployed, the newest N release tags, what was pushed recently, and all
    parts of these.
    Exit code 4 if it cannot be read who uses what, 1 if ECR refuses to delete an image.
    """
    from refinerctl.releases import image_usage, images_prune

    app = app_context(ctx)
    _check_ignored(app, ignored)
    repositories = _repositories(app)

    def look() -> PrunePlan:
        usage = image_usage.collect(_sources(app, repositories, keep, to_remove=True, ignored=ignored))
        request = images_prune.PruneRequest(keep, timedelta(seconds=min_age), datetime.now(UTC))
        return images_prune.plan(app.ecr, repositories, usage, request)

    app.render.note(f"looking at who uses the images of {', '.join(repositories)} in {app.ecr.host}")
    plan = look()
    if not app.render.is_json:
        _show_plan(app, plan)
    if not plan.remove or not _is_agreed(app, plan, dry_run, yes):
        if app.render.is_json:
            app.render.json(_prune_json(plan, None))
        return
    if not yes:  # whoever was asked may have been at lunch
        plan = _looked_at_again(app, plan, look())
    result = images_prune.remove(app.ecr, plan)
    if app.render.is_json:
        app.render.json(_prune_json(plan, result))
    _report(app, result)


def _check_ignored(app: AppContext, names: tuple[str, ...]) -> None:
    """A misspelt name, or that of the environment whose ECR it is, would not be what was meant."""
    others = [name for name in app.settings.environments if name != app.settings.env]
    for name in names:
        if name not in others:
            raise UsageError(
                f"there is no other environment {name!r}", hint=f"There is: {', '.join(others) or 'none'}."
            )


def _looked_at_again(app: AppContext, plan: PrunePlan, later: PrunePlan) -> PrunePlan:
    from refinerctl.releases.images_prune import still_unused

    left = still_unused(plan, later)
    for image in plan.remove:
        if image not in left.remove:
            app.render.warning(f"{_image_text(image)} stays: it is in use since, or gone, or has got another tag")
    return left


def _repositories(app: AppContext) -> list[str]:
    settings = app.settings
    found = sorted({image.repository for image in settings.images if image.stack == settings.stack})
    if not found:
        raise RefinerctlError(
            f"refinerctl.toml has no image of stack {settings.stack!r}",
            hint="Add it to [images.*], or choose another --stack.",
        )
    return found


def _sources(
    app: AppContext, repositories: list[str], last: int, *, to_remove: bool = False, ignored: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Who may use an image, by what they are."""
    sources: dict[str, Any] = {
        "functions": partial(app.functions.images, aliases=not to_remove, settled=to_remove),
        "ECS task definitions": app.task_definitions.images,
    }
    stacks = sorted({image.stack for image in app.settings.images if image.repository in repositories})
    for name, other in ledger_environments(app):
        if name not in ignored and may_share_registry(app.settings, other.settings):
            for stack in stacks:
                reader = app.in_environment(name, stack)
                sources[f"releases of {name}, stack {stack}"] = partial(_released, app.settings, reader, last)
    return sources


def _released(settings: Settings, other: AppContext, last: int) -> tuple[ImageUse, ...]:
    """What an environment's releases use of the ECR that `settings` are about."""
    from refinerctl.releases.image_usage import release_uses

    found = release_uses(other.settings.env, read_ledger(other), last)
    return tuple(use for use in found if may_be_held(use.image, settings, other.settings))


def may_share_registry(one: Settings, other: Settings) -> bool:
    """Whether two environments may have the same ECR: never one on this machine with another."""
    return one.env == other.env or not (one.embedded or other.embedded)


def may_be_held(image: ImageReference, here: Settings, user: Settings) -> bool:
    """Whether the ECR of `here` may hold an image that `user` runs: in another region only if the image says so."""
    same_region = here.region == user.region or None in (here.region, user.region)
    return same_region or image.ecr is None or image.ecr[1] == here.region


def _is_agreed(app: AppContext, plan: PrunePlan, dry_run: bool, yes: bool) -> bool:
    if dry_run:
        return False
    if yes:
        return True
    if sys.stdin.isatty() and sys.stderr.isatty() and not app.render.is_json:
        return click.confirm(f"Remove {_count(plan.remove)}?", err=True)
    app.render.note("this was a dry run: --yes removes them")
    return False


def _show_list(app: AppContext, found: Mapping[str, Iterable[ListedImage]]) -> None:
    rows = [
        [
            repository,
            item.image.digest[:SHORT_DIGEST],
            " ".join(item.image.tags),
            f"{item.image.pushed_at:%Y-%m-%dT%H:%M:%SZ}",
            size(item.image.size_bytes),
            ", ".join(_use_text(use) for use in item.used_by),
        ]
        for repository, items in found.items()
        for item in items
    ]
    for line in table(["REPOSITORY", "DIGEST", "TAGS", "PUSHED", "SIZE", "USED BY"], rows):
        app.render.line(line)


def _use_text(use: ImageUse) -> str:
    aliases = f" ({' '.join(use.aliases)})" if use.aliases else ""
    return f"{use.kind} {use.name}{aliases}"


def _list_json(found: Mapping[str, Iterable[ListedImage]], usage: ImageUsage) -> dict[str, Any]:
    return {
        "repositories": [
            {
                "name": repository,
                "images": [
                    {**_image_json(item.image), "used_by": [_use_json(use) for use in item.used_by]} for item in items
                ],
            }
            for repository, items in found.items()
        ],
        "unknown": usage.unknown,
    }


def _use_json(use: ImageUse) -> dict[str, Any]:
    return {"kind": use.kind, "name": use.name, "aliases": use.aliases}


def _image_json(image: EcrImage) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "tags": image.tags,
        "pushed_at": image.pushed_at,
        "size_bytes": image.size_bytes,
        "media_type": image.media_type,
        "last_pull": image.last_pull,
    }


def _show_plan(app: AppContext, plan: PrunePlan) -> None:
    for kept in plan.keep:
        app.render.detail(f"keeping {_image_text(kept.image)}: {'; '.join(kept.reasons)}")
    for image in plan.remove:
        pushed = f"pushed {image.pushed_at:%Y-%m-%d}"
        app.render.line(f"remove  {_image_text(image)}  {pushed}  {size(image.size_bytes)}")
    app.render.note(f"{_count(plan.remove)} to remove, {len(plan.keep)} kept")


def _image_text(image: EcrImage) -> str:
    return " ".join([f"{image.repository}@{image.digest}", *image.tags])


def _count(images: tuple[EcrImage, ...]) -> str:
    """Layers that kept images share are counted, too: only ECR knows them."""
    total = size(sum(image.size_bytes for image in images))
    return f"{len(images)} image{'' if len(images) == 1 else 's'} ({total})"


def _prune_json(plan: PrunePlan, result: PruneResult | None) -> dict[str, Any]:
    """`result` None: nothing was removed."""
    failures = {(failure.repository, failure.digest): failure for failure in result.failures} if result else {}

    def status(image: EcrImage) -> dict[str, Any]:
        failure = failures.get((image.repository, image.digest))
        if failure:
            return {"status": "failed", "error": f"{failure.code}: {failure.reason}"}
        return {"status": "removed" if result else "would-remove", "error": None}

    gone = result.removed if result else ()
    return {
        "images": [
            *(
                {"repository": image.repository, **_image_json(image), **status(image), "reasons": []}
                for image in plan.remove
            ),
            *(
                {
                    "repository": kept.image.repository,
                    **_image_json(kept.image),
                    "status": "kept",
                    "error": None,
                    "reasons": kept.reasons,
                }
                for kept in plan.keep
            ),
        ],
        "bytes_freed": sum(image.size_bytes for image in gone),
    }


def _report(app: AppContext, result: PruneResult) -> None:
    app.render.note(f"removed {_count(result.removed)}; layers that other images share stay")
    for failure in result.failures:
        app.render.warning(f"{failure.repository}@{failure.digest} was not removed: {failure.code}: {failure.reason}")
    if result.failures:
        raise RefinerctlError(f"ECR did not remove {len(result.failures)} of the images")
