"""`refinerctl sync`: copy images from registry to registry. All are checked before the first byte is copied."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Renderer, seconds
from refinerctl.errors import NotFoundError, RefinerctlError, TimedOutError, UsageError
from refinerctl.files import check_writable, write_text
from refinerctl.images import BuiltBy, ImageReference, Platform, RunsOn
from refinerctl.options import Duration, PathParam, examples, global_options, notify_option
from refinerctl.parallel import attempt, concurrently, time_limit
from refinerctl.releases.sync_requests import one_image, stack_images, with_tags
from refinerctl.shell import complete_image, complete_published_tag

if TYPE_CHECKING:
    from refinerctl.registry.copies import CheckedCopy, CopyRequest, ImageCopy, RegistryCopies
    from refinerctl.registry.docker_copies import DockerCopies
    from refinerctl.releases.provenance import ProvenanceVerifier

    CopyEngine = RegistryCopies | DockerCopies

IMAGES_AT_ONCE = 4
# A registry may need this long to store an image from the Docker engine, which reports nothing during that time.
DOCKER_CALL_SECONDS = 600


@click.command(
    epilog=examples(
        "refinerctl sync --tag v1.2.3 --env production",
        "refinerctl sync --all-tags-since v1.0.0 --dry-run",
        "refinerctl sync ghcr.io/org/app:v1 registry.example.com/x",
    )
)
@click.argument("source", required=False)
@click.argument("target", required=False)
@click.option("--tag", metavar="TAG", shell_complete=complete_published_tag, help="Release tag to copy.")
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
    shell_complete=complete_image,
    help="Image of refinerctl.toml; repeatable. [default: the stack's]",
)
@click.option(
    "--engine", type=click.Choice(("registry", "docker")), default="registry", show_default=True, help="Copy engine."
)
@click.option(
    "--platform", metavar="OS/ARCH", help="Platform to copy from an index. [default: the image's, else linux/amd64]"
)
@click.option(
    "--runs-on",
    type=click.Choice([service.value for service in RunsOn]),
    help="Service that runs the image. [default: the image's, else lambda]",
)
@click.option("--no-gate", is_flag=True, help="Copy an image even if the service cannot run it.")
@click.option("--create-repository", is_flag=True, help="Create a missing repository in ECR.")
@click.option(
    "--require-provenance",
    "required",
    metavar="OWNER/REPO[@WORKFLOW]",
    help="GitHub workflow that must have built the images. [default: the image's require_provenance]",
)
@click.option(
    "--provenance-bundle",
    "bundle_files",
    multiple=True,
    type=PathParam(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Sigstore bundles to verify, instead of the registry's; repeatable.",
)
@click.option(
    "--trusted-root",
    type=PathParam(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Trusted root of Sigstore, instead of downloading it.",
)
@click.option(
    "--dotenv", "dotenv_file", type=PathParam(path_type=Path), help="File to write IMAGE_<NAME>=... to, for CI jobs."
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
@notify_option
@global_options
@click.pass_context
def sync(
    ctx: click.Context,
    source: str | None,
    target: str | None,
    tag: str | None,
    since: str | None,
    names: tuple[str, ...],
    engine: str,
    platform: str | None,
    runs_on: str | None,
    no_gate: bool,
    create_repository: bool,
    required: str | None,
    bundle_files: tuple[Path, ...],
    trusted_root: Path | None,
    dotenv_file: Path | None,
    jobs: int,
    timeout: float,
    dry_run: bool,
) -> None:
    """Copy the images of a release to ECR, byte for byte, so that they can be deployed by digest.

    Or copy one image from SOURCE to TARGET, in any registries. A TARGET without a registry is in the environment's ECR.

    Everything is checked before the first byte is copied. Exit code 4 if a tag already has another image in the target,
    if the service cannot run the image, or if it cannot be verified that the required workflow built it.
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
        for image in [one_image(source, target, names)] if source or target else stack_images(app, names):
            wanted = replace(
                image,
                platform=chosen or image.platform,
                runs_on=None if no_gate else RunsOn(runs_on) if runs_on else image.runs_on,
                # An empty one, as of a variable that is not set, must not switch the verification off.
                built_by=_required(app, image.target) if required is None else BuiltBy.parse(required),
            )
            requests += with_tags(app, wanted, tag, since, create_repository)
        if not requests:
            app.render.note("no release tags to copy")
        verifier = _verifier(requests, bundle_files, trusted_root)
        copies = _copy(app, _engine(app, engine, jobs, dry_run), requests, verifier, create_repository, dry_run)
        for item in () if dry_run else copies:
            _keep(app, item)
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


def _required(app: AppContext, target: ImageReference) -> BuiltBy | None:
    """What refinerctl.toml requires of every image that gets to a repository."""
    images = [image for image in app.settings.images if image.repository == target.repository]
    return next((image.built_by for image in images if image.built_by), None)


def _verifier(
    requests: Iterable[CopyRequest], bundle_files: tuple[Path, ...], trusted_root: Path | None
) -> ProvenanceVerifier | None:
    """None if no image requires provenance. Raises UsageError if the options for it would have no effect."""
    if any(request.built_by for request in requests):
        from refinerctl.releases.provenance import provenance_verifier

        return provenance_verifier(bundle_files, trusted_root)
    if bundle_files or trusted_root:
        raise UsageError("nothing would be verified", hint="Pass --require-provenance OWNER/REPO[@WORKFLOW].")
    return None


def _copy(
    app: AppContext,
    engine: CopyEngine,
    requests: list[CopyRequest],
    verifier: ProvenanceVerifier | None,
    create_repository: bool,
    dry_run: bool,
) -> list[ImageCopy]:
    """Check all, copy one after the other, show the results: after an error those of the images before it."""
    checked = concurrently([partial(engine.check, request) for request in requests], IMAGES_AT_ONCE)
    if verifier is not None:
        checked = concurrently([partial(_verified, app, item, verifier) for item in checked], IMAGES_AT_ONCE)
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
        with app.render.progress(sum(item.outlook.bytes_copied for item in checked), title="Copy images") as progress:
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


def _verified(app: AppContext, checked: CheckedCopy, verifier: ProvenanceVerifier) -> CheckedCopy:
    """The same with its build. Raises RefusedError if it is not the required one."""
    request = checked.request
    if request.built_by is None:
        return checked
    source = app.registries.client(str(request.source.registry)).repository(request.source.repository)
    build = verifier.verify(str(request.source), request.built_by, request.source.tag, source, checked.subjects)
    return replace(checked, outlook=replace(checked.outlook, build=build))


def _keep(app: AppContext, copy: ImageCopy) -> None:
    """Keep a verified build for the deployment; a failure is a warning, because the image is copied."""
    if copy.build is None:
        return
    from refinerctl.releases.builds import keep_build

    kept = partial(keep_build, app.settings.layout.provenance, copy.target_digest or copy.source_digest, copy.build)
    if problem := attempt(kept).error:
        app.render.warning(f"the ledger will not record who built {copy.name}: {problem.message}")


def _show(render: Renderer, copies: list[ImageCopy]) -> None:
    render.result({"images": [{**vars(item), "seconds": round(item.seconds, 3)} for item in copies]})
    if render.is_json:
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
        if item.build:
            render.line(f"            built by {item.build}")
            render.line(f"            {item.build.run_url}")
        for attached in item.attachments or ():
            verb = "also copied" if item.status == "copied" else "would also copy"
            render.line(f"            {verb}: {attached.label}")
        for attachment in item.not_copied or ():
            render.line(f"            not copied: {attachment.label}: {attachment.reason}")
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
