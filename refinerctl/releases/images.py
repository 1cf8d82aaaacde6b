"""`refinerctl images list`: the images in ECR and what uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.config import Settings
from refinerctl.console import size
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference, ImageUse
from refinerctl.ledger.entries import Release
from refinerctl.options import examples, global_options
from refinerctl.parallel import attempt, concurrently
from refinerctl.releases.releases import SHORT_DIGEST, ledger_environments, read_ledger

if TYPE_CHECKING:
    from refinerctl.aws.ecr import EcrImage, EcrRegistry

THREADS = 8
SHOWN_RELEASES = 20

COLUMNS = {"REPOSITORY": 0, "DIGEST": 1, "TAGS": 0, "PUSHED": 3, "SIZE": 4, "USED BY": 2}

UseSources = Mapping[str, Callable[[], Sequence[ImageUse]]]


@click.command("list", epilog=examples("refinerctl images list --env production"))
@global_options
@click.pass_context
def list_command(ctx: click.Context) -> None:
    """List the images of the stack's repositories, and what uses them.

    Users are function versions with their aliases, active ECS task definitions, and the releases in the ledgers.
    """
    app = app_context(ctx)
    repositories = stack_repositories(app)
    uses, unknown = read_uses(use_sources(app, repositories, SHOWN_RELEASES))
    found = newest_images(app.ecr, repositories)
    for repository in set(repositories) - set(found):
        app.render.warning(f"ECR repository {repository!r} does not exist")
    for reason in unknown:
        app.render.warning(f"some uses are unknown: {reason}")
    if app.render.is_json:
        repositories_json = [
            {"name": name, "images": [{**image_json(image), "used_by": _used_by(image, uses)} for image in images]}
            for name, images in found.items()
        ]
        app.render.json({"repositories": repositories_json, "unknown": unknown})
        return
    rows = [
        [
            repository,
            image.digest[:SHORT_DIGEST],
            " ".join(image.tags) or "untagged",
            f"{image.pushed_at:%Y-%m-%dT%H:%M:%SZ}",
            size(image.size_bytes),
            ", ".join(_use_text(use) for use in uses_of(image, uses)) or ("unknown" if unknown else "nothing"),
        ]
        for repository, images in found.items()
        for image in images
    ]
    app.render.table(COLUMNS, rows)


def stack_repositories(app: AppContext) -> list[str]:
    """The ECR repositories of the stack's images. Raises RefinerctlError if it has no images."""
    settings = app.settings
    found = sorted({image.repository for image in settings.images if image.stack == settings.stack})
    if not found:
        raise RefinerctlError(
            f"refinerctl.toml has no image of stack {settings.stack!r}",
            hint="Add it to [images.*], or choose another stack with --stack.",
        )
    return found


def newest_images(ecr: EcrRegistry, repositories: Sequence[str]) -> dict[str, list[EcrImage]]:
    """The images of each repository that ECR has, newest first. Raises NotFoundError if it has none of them."""

    def read(repository: str) -> list[EcrImage]:
        return sorted(ecr.images(repository), key=lambda image: image.pushed_at, reverse=True)

    answers = concurrently([partial(attempt, partial(read, repository)) for repository in repositories], THREADS)
    errors = [answer.error for answer in answers if answer.error is not None]
    fatal = next((error for error in errors if not isinstance(error, NotFoundError)), None)
    if fatal or len(errors) == len(repositories):
        raise fatal or errors[0]
    return {
        repository: answer.value
        for repository, answer in zip(repositories, answers, strict=True)
        if answer.value is not None
    }


def use_sources(
    app: AppContext, repositories: list[str], last: int, *, to_delete: bool = False, ignored: tuple[str, ...] = ()
) -> UseSources:
    """What may use an image of the environment's ECR, by name. Of each ledger the `last` releases count."""
    from refinerctl.aws.ecs import task_images

    sources: dict[str, Callable[[], Sequence[ImageUse]]] = {
        "functions": partial(app.functions.images, aliases=not to_delete, settled=to_delete),
        "ECS task definitions": partial(task_images, app.session),
    }
    stacks = sorted({image.stack for image in app.settings.images if image.repository in repositories})
    for name, other in ledger_environments(app):
        if name not in ignored and may_share_registry(app.settings, other.settings):
            for stack in stacks:
                reader = app.in_environment(name, stack)
                sources[f"releases of {name}, stack {stack}"] = partial(_released, app.settings, reader, last)
    return sources


def read_uses(sources: UseSources) -> tuple[list[ImageUse], list[str]]:
    """Ask all `sources` at the same time: the uses, and a line for each source that cannot be read."""
    answers = concurrently([partial(attempt, source) for source in sources.values()], len(sources))
    named = zip(sources, answers, strict=True)
    return (
        [use for answer in answers for use in answer.value or ()],
        [f"{name}: {answer.error.message}" for name, answer in named if answer.error],
    )


def uses_of(image: EcrImage, uses: Iterable[ImageUse]) -> list[ImageUse]:
    return [use for use in uses if use.is_of(image.repository, image.digest, image.tags)]


def _released(here: Settings, other: AppContext, last: int) -> tuple[ImageUse, ...]:
    """The images in the ECR of `here` that an environment's releases use."""
    found = release_uses(other.settings.env, read_ledger(other), last)
    return tuple(use for use in found if may_contain(use.image, here, other.settings))


def release_uses(environment: str, releases: Sequence[Release], last: int | None = None) -> tuple[ImageUse, ...]:
    """The images of a ledger's newest `last` releases; one that was deployed several times counts once."""
    newest: dict[frozenset[str], Release] = {}
    for release in reversed(releases):  # use the order in the ledger, not the clocks of its writers
        if release.images:
            newest.setdefault(frozenset(release.images.values()), release)
    found = [
        ImageUse(
            "release",
            f"{environment}:{release.tag or release.at.strftime('%Y-%m-%dT%H:%M:%SZ')}",
            ImageReference.parse(uri),
        )
        for release in list(newest.values())[:last]
        for uri in release.images.values()
    ]
    return tuple(dict.fromkeys(found))


def may_share_registry(one: Settings, other: Settings) -> bool:
    """Whether two environments may have the same ECR: never for a local environment."""
    return one.env == other.env or not (one.embedded or other.embedded)


def may_contain(image: ImageReference, here: Settings, user: Settings) -> bool:
    """Whether the ECR of `here` may have an image that `user` runs: in another region only if the image says so."""
    same_region = here.region == user.region or None in (here.region, user.region)
    return same_region or image.ecr is None or image.ecr[1] == here.region


def _use_text(use: ImageUse) -> str:
    aliases = f" ({' '.join(use.aliases)})" if use.aliases else ""
    return f"{use.kind} {use.name}{aliases}"


def _used_by(image: EcrImage, uses: Iterable[ImageUse]) -> list[dict[str, Any]]:
    return [{"kind": use.kind, "name": use.name, "aliases": use.aliases} for use in uses_of(image, uses)]


def image_json(image: EcrImage) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "tags": image.tags,
        "pushed_at": image.pushed_at,
        "size_bytes": image.size_bytes,
        "media_type": image.media_type,
        "last_pull": image.last_pull,
    }
