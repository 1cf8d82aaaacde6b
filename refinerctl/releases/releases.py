"""`refinerctl releases`: the published releases, which of them are in ECR, and which are deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import DIFFERENCES, NotFoundError
from refinerctl.images import Build, ImageReference, ImageSettings, newest_first, release_order
from refinerctl.ledger.entries import Release, deployed
from refinerctl.options import examples, global_options
from refinerctl.parallel import Answer, attempt, concurrently
from refinerctl.releases.sync_requests import published_images

if TYPE_CHECKING:
    from refinerctl.aws.ecr import EcrImage, EcrRegistry

THREADS = 16
DEFAULT_LIMIT = 20
SHORT_DIGEST = 19  # sha256: and twelve digits
_ENVIRONMENT_COLUMNS = {"ENVIRONMENT": 0, "RELEASE": 0, "DEPLOYED AT": 2, "BY": 1}


@dataclass(frozen=True)
class TagImage:
    """An image of a tag: `source` is the reference where releases are published, `digest` the one in ECR.

    `pushed_at` is when it was copied to ECR.
    """

    name: str
    source: str
    in_ecr: bool
    digest: str | None = None
    pushed_at: datetime | None = None


@dataclass(frozen=True)
class TagStatus:
    """A published tag, its images, and the environments that it is deployed in."""

    tag: str
    images: tuple[TagImage, ...]
    deployed: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether at least one image is not in ECR."""
        return not all(image.in_ecr for image in self.images)


@dataclass(frozen=True)
class EnvironmentRelease:
    """What an environment has deployed, when and by whom; `is_deployed` is None if that is unknown, because of `error`.

    `bases` are the images that the deployed ones were built on, by stage, and `builds` the verified workflow runs that
    built them, as the ledger has them.
    """

    name: str
    is_deployed: bool | None = False
    tag: str | None = None
    error: str | None = None
    at: datetime | None = None
    who: str | None = None
    bases: Mapping[str, str] = field(default_factory=dict)
    builds: Mapping[str, Build] = field(default_factory=dict)


@dataclass(frozen=True)
class ReleaseOverview:
    """Tags, newest first; `skipped` counts older ones, `missing` are repositories that ECR does not have."""

    tags: tuple[TagStatus, ...]
    environments: tuple[EnvironmentRelease, ...] = ()
    missing: tuple[str, ...] = ()
    skipped: int = 0


@click.command(epilog=examples("refinerctl releases", "refinerctl releases --new --limit 5"))
@click.option("--new", is_flag=True, help="Only tags that are not in ECR; exit code 5 if there are any.")
@click.option("--all", "every_tag", is_flag=True, help="All tags, not only releases (v1.2.3).")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Number of tags, the newest. [default: {DEFAULT_LIMIT}; with --new: all]",
)
@global_options
@click.pass_context
def releases(ctx: click.Context, new: bool, every_tag: bool, limit: int | None) -> None:
    """List the published releases: when they were copied to ECR, and where, when and by whom they were deployed.

    With --new one tag per line, newest first, for a scheduled job that copies them: `refinerctl sync --tag TAG`.
    """
    app = app_context(ctx)
    images = published_images(app)
    app.render.detail(f"environment {app.settings.env}, stack {app.settings.stack}, {len(images)} images")
    ledgers = {} if new else {name: partial(read_ledger, other) for name, other in ledger_environments(app)}
    limit = limit or (None if new else DEFAULT_LIMIT)
    overview = release_overview(images, partial(_tags, app), app.ecr, ledgers, limit=limit, every_tag=every_tag)
    for repository in overview.missing:
        app.render.warning(
            f"ECR repository {repository!r} does not exist: create it with `refinerctl deploy --stack registry` "
            "or `refinerctl sync --tag TAG --create-repository`"
        )
    if new:
        found = [status for status in overview.tags if status.is_new]
        _show_new(app, found)
        ctx.exit(DIFFERENCES if found else 0)
    _show(app, overview, [image.name for image in images])


def ledger_environments(app: AppContext) -> Iterable[tuple[str, AppContext]]:
    """All environments, each with its own context; one on this machine only if it is up."""
    for name in app.settings.environments:
        other = app.in_environment(name)
        if other.is_down:
            app.render.detail(f"environment {name} is down: skipped")
        else:
            yield name, other


def read_ledger(app: AppContext) -> tuple[Release, ...]:
    """The releases of the context's environment and stack."""
    return app.ledger.read()


def _tags(app: AppContext, source: ImageReference) -> list[str]:
    return app.registries.client(source.registry or "docker.io").repository(source.repository).tags()


def release_overview(
    images: Sequence[ImageSettings],
    tags_of: Callable[[ImageReference], Iterable[str]],
    ecr: EcrRegistry,
    ledgers: Mapping[str, Callable[[], tuple[Release, ...]]],
    *,
    limit: int | None = None,
    every_tag: bool = False,
) -> ReleaseOverview:
    """Read registries, ECR and ledgers at the same time; the newest `limit` tags, releases only unless `every_tag`.

    `images` all have a source. A ledger that cannot be read is reported in the result, anything else raises
    RefinerctlError.
    """
    repositories = sorted({image.repository for image in images})
    reads: list[Callable[[], Any]] = [
        *(partial(tags_of, image.source) for image in images if image.source),
        *(partial(_images_by_tag, ecr, repository) for repository in repositories),
        *(partial(attempt, read) for read in ledgers.values()),
    ]
    answers = iter(concurrently(reads, THREADS))
    tags = {image.name: frozenset(next(answers)) for image in images}
    in_ecr: dict[str, dict[str, EcrImage] | None] = {repository: next(answers) for repository in repositories}
    chosen = newest_first(list({tag for found in tags.values() for tag in found if every_tag or release_order(tag)}))
    by_tag = {
        tag: tuple(
            _tag_image(image, tag, in_ecr[image.repository] or {}) for image in images if tag in tags[image.name]
        )
        for tag in chosen[:limit]
    }
    environments = tuple(_environment(name, next(answers), by_tag) for name in ledgers)
    return ReleaseOverview(
        tags=tuple(
            TagStatus(tag, of_tag, tuple(item.name for item in environments if item.tag == tag))
            for tag, of_tag in by_tag.items()
        ),
        environments=environments,
        missing=tuple(repository for repository in repositories if in_ecr[repository] is None),
        skipped=len(chosen) - len(by_tag),
    )


def _images_by_tag(ecr: EcrRegistry, repository: str) -> dict[str, EcrImage] | None:
    """None if ECR has no such repository, as before the first copy."""
    try:
        return {tag: image for image in ecr.images(repository) for tag in image.tags}
    except NotFoundError:
        return None


def _tag_image(image: ImageSettings, tag: str, in_ecr: Mapping[str, EcrImage]) -> TagImage:
    source, found = f"{image.source.name}:{tag}" if image.source else "", in_ecr.get(tag)
    if found is None:
        return TagImage(image.name, source, in_ecr=False)
    return TagImage(image.name, source, in_ecr=True, digest=found.digest, pushed_at=found.pushed_at)


def _environment(
    name: str, entries: Answer[tuple[Release, ...]], by_tag: Mapping[str, tuple[TagImage, ...]]
) -> EnvironmentRelease:
    if entries.error:
        return EnvironmentRelease(name, is_deployed=None, error=entries.error.message)
    release = deployed(entries.value or ())
    if release is None:
        return EnvironmentRelease(name)
    tag = release.tag or _tag_of_digests(release, by_tag)
    return EnvironmentRelease(
        name,
        is_deployed=True,
        tag=tag,
        at=release.at,
        who=release.who or None,
        bases=release.bases,
        builds=release.builds,
    )


def _tag_of_digests(release: Release, by_tag: Mapping[str, tuple[TagImage, ...]]) -> str | None:
    """For a release that was deployed without a tag: the newest tag that has the same images in ECR."""
    digests = {ImageReference.parse(uri).digest for uri in release.images.values()}
    same = (tag for tag, images in by_tag.items() if digests == {image.digest for image in images})
    return None if None in digests else next(same, None)


def _show_new(app: AppContext, found: list[TagStatus]) -> None:
    if app.render.is_json:
        app.render.json({"releases": [{"tag": status.tag, "images": status.images} for status in found]})
    else:
        for status in found:
            app.render.line(status.tag)
    if not found:
        app.render.note("every release is in ECR")


def _show(app: AppContext, overview: ReleaseOverview, names: list[str]) -> None:
    if app.render.is_json:
        app.render.json({"releases": overview.tags, "environments": overview.environments})
    else:
        digests = {f"IN ECR: {name}" if len(names) > 1 else "IN ECR": 3 + n for n, name in enumerate(names)}
        rows = [
            [status.tag, *(_in_ecr(status, name) for name in names), _copied(status), " ".join(status.deployed)]
            for status in overview.tags
        ]
        app.render.table({"TAG": 0, **digests, "COPIED": 2, "DEPLOYED": 1}, rows)
        if overview.environments:
            app.render.line()
            app.render.table(_ENVIRONMENT_COLUMNS, [_deployment(item) for item in overview.environments])
    for environment in overview.environments:
        if environment.error:
            app.render.warning(f"the release deployed in {environment.name} is unknown: {environment.error}")
        for stage, build in environment.builds.items():
            app.render.note(f"{environment.name}: {stage} was built by {build}: {build.run_url}")
    if overview.skipped:
        app.render.note(f"{overview.skipped} older tags are not shown; --limit N shows more")


def _copied(status: TagStatus) -> str:
    """When the last of its images was copied to ECR; a dash before that."""
    times = [image.pushed_at for image in status.images if image.pushed_at]
    return "-" if status.is_new or not times else f"{max(times):%Y-%m-%d}"


def _deployment(environment: EnvironmentRelease) -> list[str]:
    if environment.is_deployed is None:
        return [environment.name, "unknown", "unknown", "unknown"]
    if not environment.is_deployed:
        return [environment.name, "none", "-", "-"]
    at = f"{environment.at:%Y-%m-%d %H:%MZ}" if environment.at else "unknown"
    return [environment.name, environment.tag or "without a tag", at, environment.who or "unknown"]


def _in_ecr(status: TagStatus, name: str) -> str:
    image = next((image for image in status.images if image.name == name), None)
    if image is None:
        return "not published"
    return (image.digest or "")[:SHORT_DIGEST] if image.in_ecr else "no"
