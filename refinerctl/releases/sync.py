"""`refinerctl sync`: copy images from registry to registry. All are checked before the first byte is copied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Renderer, seconds
from refinerctl.errors import NotFoundError, RefinerctlError, TimedOutError, UsageError
from refinerctl.files import check_writable, write_text
from refinerctl.images import (
    DEFAULT_PLATFORM,
    ImageReference,
    Platform,
    RunsOn,
    check_tag,
    newest_first,
    release_order,
)
from refinerctl.options import Duration, Moment, examples, global_options
from refinerctl.parallel import concurrently, time_limit
from refinerctl.releases.releases import published_images

if TYPE_CHECKING:
    from refinerctl.registry.client import Repository
    from refinerctl.registry.copies import CopyRequest, ImageCopy, RegistryCopies
    from refinerctl.registry.docker_copies import DockerCopies

    CopyEngine = RegistryCopies | DockerCopies

IMAGES_AT_ONCE = 4
CONFIGS_AT_ONCE = 16
# A registry may need this long to store an image from the Docker engine, which reports nothing during that time.
DOCKER_CALL_SECONDS = 600
DOCKER_HUB = "docker.io"


@click.command(
    epilog=examples(
        "refinerctl sync --tag v1.2.3 --env production",
        "refinerctl sync --all-tags-since v1.0.0 --dry-run",
        "refinerctl sync --source ghcr.io/org/app:v1 --target registry.example.com/app",
    )
)
@click.option("--tag", metavar="TAG", help="Release tag to copy.")
@click.option(
    "--all-tags-since",
    "since",
    metavar="WHEN",
    help="First release tag to copy, or time that the images were built after; instead of --tag.",
)
@click.option(
    "--image",
    "names",
    multiple=True,
    metavar="NAME",
    help="Image of refinerctl.toml; repeatable. [default: the stack's]",
)
@click.option("--source", metavar="REF", help="Image in any registry; needs --target.")
@click.option("--target", metavar="REF", help="Target of --source; without a registry: the environment's ECR.")
@click.option(
    "--engine", type=click.Choice(("registry", "docker")), default="registry", show_default=True, help="Copy engine."
)
@click.option(
    "--platform", metavar="OS/ARCH", help="Platform to copy from an index. [default: the image's, else linux/amd64]"
)
@click.option(
    "--runs-on",
    type=click.Choice([service.value for service in RunsOn]),
    help="Service that has to run the image. [default: the image's, else lambda]",
)
@click.option("--no-gate", is_flag=True, help="Copy an image even if the service cannot run it.")
@click.option("--create-repository", is_flag=True, help="Create a missing repository in ECR.")
@click.option(
    "--dotenv", "dotenv_file", type=click.Path(path_type=Path), help="File to write IMAGE_<NAME>=... to, for CI jobs."
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    help="Number of large layers to copy at the same time.",
)
@click.option(
    "--timeout",
    type=Duration(shortest=1),
    default="1h",
    show_default=True,
    help="Maximum time for all images together.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, show what would be copied, and stop.")
@global_options
@click.pass_context
def sync(
    ctx: click.Context,
    tag: str | None,
    since: str | None,
    names: tuple[str, ...],
    source: str | None,
    target: str | None,
    engine: str,
    platform: str | None,
    runs_on: str | None,
    no_gate: bool,
    create_repository: bool,
    dotenv_file: Path | None,
    jobs: int,
    timeout: float,
    dry_run: bool,
) -> None:
    """Copy the images of a release to ECR, byte for byte, so that they can be deployed by digest.

    Everything is checked before the first byte is copied. Exit code 4 if a tag already has another image in the target,
    or if the service cannot run the image.
    """
    app = app_context(ctx, changes=True)
    if dotenv_file and since:
        raise UsageError("--dotenv and --all-tags-since are mutually exclusive", hint="--dotenv needs one tag.")
    if dotenv_file:
        check_writable(dotenv_file)
    late = TimedOutError(
        f"sync timed out after {seconds(timeout)}",
        hint="Run the command again: it copies only what is missing. --timeout sets another limit.",
    )
    with time_limit(timeout, late):
        chosen = Platform.parse(platform) if platform else None
        requests: list[CopyRequest] = []
        for image in [_one_image(source, target, names)] if source or target else _stack_images(app, names):
            service = RunsOn(runs_on) if runs_on else image.runs_on
            wanted = replace(image, platform=chosen or image.platform, runs_on=None if no_gate else service)
            requests += _with_tags(app, wanted, tag, since, create_repository)
        if not requests:
            app.render.note("no release tags to copy")
        copies = _copy(app, _engine(app, engine, jobs, dry_run), requests, create_repository, dry_run)
        if dotenv_file and not dry_run:
            write_text(dotenv_file, dotenv(copies))


def _engine(app: AppContext, name: str, jobs: int, dry_run: bool) -> CopyEngine:
    registries = app.registries
    if name == "registry":
        from refinerctl.registry.copies import RegistryCopies

        return RegistryCopies(registries.client, blobs_at_once=jobs, dry_run=dry_run)
    from refinerctl.docker_engine import DockerEngine
    from refinerctl.registry.docker_copies import DockerCopies

    docker = DockerEngine(instead="--engine registry", call_seconds=DOCKER_CALL_SECONDS)
    docker.client()
    return DockerCopies(docker, registries.login, registries.impatient_client)


def _one_image(source: str | None, target: str | None, names: tuple[str, ...]) -> CopyRequest:
    """The image of --source and --target; a tag may be missing."""
    from refinerctl.registry.copies import CopyRequest

    if not source or not target or names:
        raise UsageError("--source and --target go together, without --image")
    there, here = ImageReference.parse(target), _with_registry(ImageReference.parse(source))
    return CopyRequest(there.repository, here, there, DEFAULT_PLATFORM, RunsOn.LAMBDA)


def _stack_images(app: AppContext, names: tuple[str, ...]) -> list[CopyRequest]:
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


def _with_registry(source: ImageReference) -> ImageReference:
    """Without a registry it is in Docker Hub, as for docker."""
    return source if source.registry else ImageReference.parse(f"{DOCKER_HUB}/{source}")


def _with_tags(
    app: AppContext, image: CopyRequest, tag: str | None, since: str | None, create_repository: bool
) -> Iterator[CopyRequest]:
    """A request for each tag to copy, with the registry that the target is in."""
    if tag and since:
        raise UsageError("--tag and --all-tags-since are mutually exclusive")
    if tag and image.source.tag not in (None, tag):
        raise UsageError(
            f"--tag is {tag}, but the source is {image.source}",
            hint="Give the tag once; --target may have another one.",
        )
    ecr_host = app.registries.ecr_host(image.target)
    if create_repository and not ecr_host:
        raise UsageError(f"{image.target} is not in ECR: --create-repository works only there")
    for source_tag in _tags(app, image, tag, since):
        target_tag = (image.target.tag if not since else None) or source_tag
        if not target_tag:
            raise UsageError(f"{image.target} has no tag", hint="Give one with --tag, or in --target.")
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


def _copy(
    app: AppContext, engine: CopyEngine, requests: list[CopyRequest], create_repository: bool, dry_run: bool
) -> list[ImageCopy]:
    """Check all, copy one after the other, show the results: after an error those of the images before it."""
    checked = concurrently([partial(engine.check, request) for request in requests], IMAGES_AT_ONCE)
    lacking = {item.request.target.name: item.request.target for item in checked if item.lacks_repository}
    for name in lacking:
        if not create_repository:
            raise NotFoundError(
                f"repository {name} does not exist",
                hint="Create it with `refinerctl deploy --stack registry`, or with the option --create-repository.",
            )
        app.render.note(f"repository {name} does not exist and {'would' if dry_run else 'will'} be created")
    if dry_run or all(item.is_done for item in checked):
        copies = [item.outlook for item in checked]
        _show(app.render, copies)
        return copies
    for target in lacking.values():
        app.registries.create_repository(str(target.registry), target.repository)
    copies = []
    try:
        with app.render.progress(sum(item.outlook.bytes_copied for item in checked)) as progress:
            for item in checked:
                if not item.is_done:
                    progress.step(f"copying {item.request.source} to {item.request.target}")
                copies.append(engine.copy(item, progress))
    except BaseException:
        if copies:
            _show(app.render, copies)
        raise
    _show(app.render, copies)
    return copies


def _show(render: Renderer, copies: list[ImageCopy]) -> None:
    if render.is_json:
        render.json({"images": [{**vars(item), "seconds": round(item.seconds, 3)} for item in copies]})
        return
    for item in copies:
        render.line(f"{item.status:<10}  {item.name}  {item.source} -> {item.target}")
        render.line(f"            {item.source_digest}  {item.platform or 'platform not checked'}")
        if item.status != "up-to-date":
            blobs = f"{item.blobs_copied} blob" + ("" if item.blobs_copied == 1 else "s")
            render.line(
                f"            {item.bytes_copied / 1e6:.1f} MB in {blobs}, {item.blobs_mounted} mounted, "
                f"{item.blobs_skipped} already there, {item.seconds:.1f} s"
            )
        for attachment in item.not_copied or ():
            render.line(f"            not copied: {attachment.kind} {attachment.reference}")
        for note in item.notes:
            render.note(f"{item.name}: {note}")


def dotenv(copies: Iterable[ImageCopy]) -> str:
    """`IMAGE_<NAME>=repository@sha256:…`, a line each. Raises RefinerctlError if two images have the same name."""
    lines: dict[str, str] = {}
    for item in copies:
        key = "IMAGE_" + re.sub(r"[^A-Z0-9]", "_", item.name.upper())
        value = ImageReference.parse(item.target).at(item.target_digest or item.source_digest)
        if lines.setdefault(key, value) != value:
            raise RefinerctlError(f"{key} would name two images", hint="Copy one tag at a time, or rename an image.")
    return "".join(f"{key}={value}\n" for key, value in lines.items())
