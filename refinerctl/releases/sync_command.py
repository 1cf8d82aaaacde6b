"""`refinerctl sync`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.config import ImageSettings
from refinerctl.console import Renderer
from refinerctl.errors import UsageError
from refinerctl.files import check_writable, write_text
from refinerctl.images import (
    DEFAULT_PLATFORM,
    CopyStatus,
    ImageCopy,
    ImageReference,
    Platform,
    RunsOn,
    check_tag,
    release_order,
)
from refinerctl.options import Moment, global_options
from refinerctl.registry.copies import CopyEngine, CopyRequest, dotenv
from refinerctl.releases import sync as operation

ENGINES = ("registry", "docker")
# A registry may need this long to store what the Docker engine has sent; the engine says nothing meanwhile.
DOCKER_CALL_SECONDS = 600
DOCKER_HUB = "docker.io"


@dataclass(frozen=True)
class _Pair:
    """Where an image comes from and where it goes, before its tags are known."""

    name: str
    source: ImageReference
    target: ImageReference
    platform: Platform
    runs_on: RunsOn


@click.command()
@click.option("--tag", metavar="TAG", help="The release tag to copy.")
@click.option("--all-tags-since", "since", metavar="WHEN", help="All releases from a tag on, or built since a time.")
@click.option("--image", "names", multiple=True, metavar="NAME", help="Only this image. [default: the stack's images]")
@click.option("--source", metavar="REF", help="One image from any registry, with --target.")
@click.option("--target", metavar="REF", help="Where to; without a registry: the environment's ECR.")
@click.option("--engine", type=click.Choice(ENGINES), default="registry", show_default=True, help="Who copies.")
@click.option("--platform", metavar="OS/ARCH", help="Which of an index to take. [default: the image's, or linux/amd64]")
@click.option(
    "--runs-on",
    type=click.Choice([service.value for service in RunsOn]),
    help="What has to take it. [default: the image's, or lambda]",
)
@click.option("--no-gate", is_flag=True, help="Copy whatever it is, runnable or not.")
@click.option("--create-repository", is_flag=True, help="Create a missing repository in ECR.")
@click.option("--dotenv", "dotenv_file", type=click.Path(path_type=Path), help="Write IMAGE_<NAME>=... for CI jobs.")
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Large layers at once.")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be copied, and stop.")
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
    dry_run: bool,
) -> None:
    """Copy released images to ECR, byte by byte, ready to be deployed by digest.

    Everything is checked before the first byte is copied. Exit code 4 if a tag is another image in the target already,
    or if the service would not run the image.
    """
    app = app_context(ctx)
    if dotenv_file and since:
        raise UsageError("--dotenv is about one tag, --all-tags-since about many")
    if dotenv_file:
        check_writable(dotenv_file)
    pairs = _pairs(app, names, source, target, platform, runs_on)
    requests = _requests(app, pairs, tag, since, gate=not no_gate, create_repository=create_repository)
    if not requests:
        app.render.note("there are no such release tags")
    copier = _engine(app, engine, jobs, dry_run)
    copies = _run(app, copier, requests, dry_run)
    if dotenv_file and not dry_run:
        write_text(dotenv_file, dotenv(copies))


def _engine(app: AppContext, name: str, jobs: int, dry_run: bool) -> CopyEngine:
    """The engine of ENGINES called `name`."""
    from refinerctl.registry.engine import RegistryEngine

    registries = app.registries
    if name == "docker":
        from refinerctl.docker_engine import DockerEngine
        from refinerctl.registry.docker_copies import DockerCopies
        from refinerctl.registry.docker_images import DockerImages

        docker = DockerEngine(instead="--engine registry", call_seconds=DOCKER_CALL_SECONDS)
        docker.check()
        images = DockerImages(docker, registries.credentials)
        return DockerCopies(images, registries.impatient_client, registries.create_repository)
    return RegistryEngine(registries.client, registries.create_repository, blobs_at_once=jobs, dry_run=dry_run)


def _pairs(
    app: AppContext,
    names: tuple[str, ...],
    source: str | None,
    target: str | None,
    platform: str | None,
    runs_on: str | None,
) -> list[_Pair]:
    chosen = Platform.parse(platform) if platform else None
    service = RunsOn(runs_on) if runs_on else None
    if source or target:
        if not source or not target or names:
            raise UsageError("--source and --target go together, and without --image")
        wanted = ImageReference.parse(target)
        pairs = [(wanted.repository, ImageReference.parse(source), wanted, DEFAULT_PLATFORM, RunsOn.LAMBDA)]
    else:
        pairs = [
            (image.name, image.source, ImageReference(image.repository), image.platform, image.runs_on)
            for image in _images(app, names)
            if image.source
        ]
    return [
        _Pair(name, _from_hub(here), there, chosen or default, service or runs)
        for name, here, there, default, runs in pairs
    ]


def _images(app: AppContext, names: tuple[str, ...]) -> list[ImageSettings]:
    """The images of refinerctl.toml that are asked for. Raises UsageError if one is not there to be copied."""
    known = {image.name: image for image in app.settings.images}
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no image {name!r} in refinerctl.toml", hint=f"It has: {', '.join(known) or 'none'}."
            )
        if known[name].source is None:
            raise UsageError(f"refinerctl.toml does not say where image {name!r} is published", hint="Add its source.")
    stack = app.settings.stack
    chosen = [known[name] for name in names] or [
        image for image in known.values() if image.stack == stack and image.source
    ]
    if not chosen:
        raise UsageError(
            f"refinerctl.toml has no image with a source for stack {stack!r}",
            hint="Add images.<name>.source, or name --source and --target.",
        )
    return chosen


def _from_hub(source: ImageReference) -> ImageReference:
    """Without a registry it is Docker Hub's, as for docker."""
    return source if source.registry else ImageReference.parse(f"{DOCKER_HUB}/{source}")


def _requests(
    app: AppContext, pairs: list[_Pair], tag: str | None, since: str | None, *, gate: bool, create_repository: bool
) -> list[CopyRequest]:
    if tag and since:
        raise UsageError("--tag and --all-tags-since do not go together")
    if other := next((pair.source for pair in pairs if tag and pair.source.tag not in (None, tag)), None):
        raise UsageError(f"--tag is {tag}, but the source is {other}", hint="Name it once; --target may have its own.")
    requests = []
    for pair in pairs:
        ecr_host = app.registries.ecr_host(pair.target)
        if create_repository and not ecr_host:
            raise UsageError(f"{pair.target} is not in ECR: only there --create-repository makes repositories")
        registry = ecr_host or pair.target.registry
        for source_tag in _tags(app, pair, tag, since):
            target_tag = (pair.target.tag if not since else None) or source_tag
            if not target_tag:
                raise UsageError(f"there is no tag for {pair.target}", hint="Give one with --tag, or in --target.")
            digest = None if since else pair.source.digest
            requests.append(
                CopyRequest(
                    name=pair.name,
                    source=ImageReference(pair.source.repository, pair.source.registry, source_tag, digest),
                    target=ImageReference(pair.target.repository, registry, target_tag),
                    platform=pair.platform,
                    runs_on=pair.runs_on if gate else None,
                    needs_repository=bool(ecr_host),
                    create_repository=create_repository,
                )
            )
    return requests


def _tags(app: AppContext, pair: _Pair, tag: str | None, since: str | None) -> list[str] | list[None]:
    """The source's tags to copy; [None] where a digest says what to copy."""
    if since:
        start: str | datetime = since if release_order(since) else Moment().convert(since, None, None)
        repository = app.registries.client(pair.source.registry or "").repository(pair.source.repository)
        found = operation.tags_since(repository, start, pair.platform)
        if found.undated:
            tags = ", ".join(found.undated)
            app.render.warning(f"{pair.source.name}: left out, as they do not say when they were built: {tags}")
        return found.tags
    if tag or pair.source.tag:
        return [check_tag(tag or pair.source.tag or "")]
    if pair.source.digest:
        return [None]
    raise UsageError("which tag?", hint="Give --tag TAG, or --all-tags-since WHEN.")


def _run(app: AppContext, engine: CopyEngine, requests: list[CopyRequest], dry_run: bool) -> list[ImageCopy]:
    checked = operation.check(engine, requests)
    for lacking in dict.fromkeys(item.request.target.name for item in checked if item.lacks_repository):
        app.render.note(f"repository {lacking} is not there and {'would be' if dry_run else 'will be'} created")
    copies: list[ImageCopy] = []
    try:
        if dry_run or all(item.is_done for item in checked):
            copies += [item.outlook for item in checked]
        else:
            with app.render.blobs(sum(item.outlook.bytes_copied for item in checked)) as progress:
                for item in operation.copy(engine, checked, progress):
                    copies.append(item)
    except BaseException:  # what has been copied has been copied
        if copies:
            _show(app.render, copies)
        raise
    _show(app.render, copies)
    return copies


def _show(render: Renderer, copies: list[ImageCopy]) -> None:
    if render.is_json:
        render.json({"images": [copy_json(item) for item in copies]})
        return
    for item in copies:
        render.line(f"{item.status:<10}  {item.name}  {item.source} -> {item.target}")
        render.line(f"            {item.source_digest}  {item.platform or 'platform not looked at'}")
        if item.status is not CopyStatus.UP_TO_DATE:
            render.line(
                f"            {item.bytes_copied / 1e6:.1f} MB in {_count(item.blobs_copied)}, "
                f"{item.blobs_mounted} mounted, {item.blobs_skipped} there already, {item.seconds:.1f} s"
            )
        for note in item.notes:
            render.note(f"{item.name}: {note}")


def _count(blobs: int) -> str:
    return f"{blobs} blob" + ("" if blobs == 1 else "s")


def copy_json(item: ImageCopy) -> dict[str, Any]:
    """A copy in the contract's form."""
    return {
        "name": item.name,
        "source": item.source,
        "target": item.target,
        "source_digest": item.source_digest,
        "target_digest": item.target_digest,
        "platform": item.platform,
        "status": item.status,
        "bytes_copied": item.bytes_copied,
        "blobs_copied": item.blobs_copied,
        "blobs_mounted": item.blobs_mounted,
        "blobs_skipped": item.blobs_skipped,
        "seconds": round(item.seconds, 3),
        "notes": list(item.notes),
    }
