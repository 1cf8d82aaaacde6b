"""`refinerctl image build`: the image that the release workflow would publish, built by a Docker engine."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Progress, size
from refinerctl.docker_engine import DockerEngine
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, UsageError
from refinerctl.git import git_commit, origin_page
from refinerctl.images import ImageReference, ImageSettings, Platform
from refinerctl.options import ReleaseTag, build_arg_option, examples, global_options
from refinerctl.shell import complete_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from refinerctl.registry.docker_copies import DockerCopies

# A step of a build may print nothing for this long, and a registry may need as long to store a layer.
CALL_SECONDS = 1800
# What a failed build printed last.
TAIL_LINES = 20
SHOWN_CHARACTERS = 120
LABELS = "org.opencontainers.image"
_FROM = re.compile(r"^FROM (?:--\S+ )*\$\{(\w+)\}", re.MULTILINE)
_ARGUMENT = re.compile(r"^ARG (\w+)=(\S+)", re.MULTILINE)
_STEP = re.compile(r"Step \d+/\d+ : ")
_OF_THE_ENGINE = ("---> ", "Removing intermediate container ", "Successfully built ", "Successfully tagged ")


@dataclass(frozen=True)
class ImageBuild:
    """An image to build. `bases` are the Dockerfile's base images by its arguments; `commit` None: outside of git.

    `given` are the arguments of --build-arg, which may be secrets; `arguments` are the others.
    """

    image: ImageSettings
    target: ImageReference
    platform: Platform
    bases: Mapping[str, str]
    commit: str | None
    is_dirty: bool
    arguments: Mapping[str, str]
    given: Mapping[str, str]
    labels: Mapping[str, str]


@click.command(
    "build",
    epilog=examples(
        "refinerctl image build refiner",
        "refinerctl image build worker --tag v1.2.3 --push",
        "refinerctl image build --all --dry-run --output json",
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_image)
@click.option("--all", "every", is_flag=True, help="All images of refinerctl.toml.")
@click.option("--tag", type=ReleaseTag(), metavar="TAG", help="Tag of the image. [default: the commit]")
@click.option("--platform", metavar="OS/ARCH", help="Platform to build for. [default: the image's]")
@click.option("--push", is_flag=True, help="Push the image to the repository that releases are published to.")
@build_arg_option("Argument of the build; repeatable. BASE replaces the base image.")
@click.option("--dry-run", is_flag=True, help="Show what would be built, and stop.")
@global_options
@click.pass_context
def build(
    ctx: click.Context,
    names: tuple[str, ...],
    every: bool,
    tag: str | None,
    platform: str | None,
    push: bool,
    build_arguments: dict[str, str],
    dry_run: bool,
) -> None:
    """Build images as the release workflow does, with a Docker engine.

    Context, Dockerfile and platform are those of [images.NAME] in refinerctl.toml. Exit code 4 if --push would replace
    a tag, or publish files that are not committed. A release also has an SBOM and a build provenance attestation.
    """
    app = app_context(ctx, changes=True)
    if names and every:
        raise UsageError("NAME and --all are mutually exclusive")
    if not names and not every:
        known = ", ".join(image.name for image in app.settings.images) or "none"
        raise UsageError("name the images to build, or pass --all", hint=f"Images of refinerctl.toml: {known}.")
    images = app.settings.images if every else tuple(dict.fromkeys(map(app.settings.image, names)))
    chosen = Platform.parse(platform) if platform else None
    builds = [planned(image, tag, chosen, build_arguments) for image in images]
    if push:
        check_publishable(builds)
    if dry_run:
        _show(app, [_as_json(app, item, "would-build") for item in builds])
        return
    results: list[dict[str, Any]] = []
    try:
        _run(app, builds, push, results)
    except BaseException:
        if results:
            _show(app, results)
        raise
    _show(app, results)


def planned(image: ImageSettings, tag: str | None, platform: Platform | None, given: Mapping[str, str]) -> ImageBuild:
    """What the command builds. Raises NotFoundError without the Dockerfile, UsageError for a platform of no release."""
    context, chosen = image.context, platform or image.platform
    try:
        dockerfile = context.dockerfile_path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(
            f"{context.dockerfile_path} cannot be read: {error.strerror}",
            hint=f"Check context and dockerfile of [images.{image.name}] in refinerctl.toml.",
        ) from error
    if chosen not in image.platforms:
        hint = f"Its platforms in refinerctl.toml: {', '.join(map(str, image.platforms))}."
        raise UsageError(f"image {image.name!r} is not published for {chosen}", hint=hint)
    commit, is_dirty = git_commit(context.folder)
    version = tag or (f"{commit}-dirty" if commit and is_dirty else commit) or "dev"
    own = {"VERSION": version, "REVISION": commit or "unknown"}
    labels = {"version": version, "revision": commit, "source": origin_page(context.folder)}
    return ImageBuild(
        image,
        replace(image.source or ImageReference(image.repository), tag=version, digest=None),
        chosen,
        base_images(dockerfile),
        commit,
        is_dirty,
        {name: value for name, value in own.items() if name not in given},
        given,
        {f"{LABELS}.{name}": value for name, value in labels.items() if value},
    )


def base_images(dockerfile: str) -> dict[str, str]:
    """The default base images of a Dockerfile, by the arguments that can replace them: `FROM ${BASE}`."""
    defaults = dict(_ARGUMENT.findall(dockerfile))
    return {name: defaults[name] for name in _FROM.findall(dockerfile) if name in defaults}


def check_publishable(builds: list[ImageBuild]) -> None:
    """Raises an error if an image must not be pushed: nobody could tell what it was built from, or where to push it."""
    for item in builds:
        name, folder = item.image.name, item.image.context.folder
        if item.image.source is None:
            raise UsageError(f"image {name!r} has no source in refinerctl.toml", hint=f"Add images.{name}.source.")
        if item.commit is None:
            hint = "Commit it: the image's tag and labels name the commit. Without --push, the image is only built."
            raise RefusedError(
                f"image {name!r} is not pushed: {folder} is not in a commit of a git repository", hint=hint
            )
        if item.is_dirty:
            hint = "Commit or remove them: `git status` lists them. Without --push, the build includes them."
            raise RefusedError(f"image {name!r} is not pushed: files in {folder} are not committed", hint=hint)


def _run(app: AppContext, builds: list[ImageBuild], push: bool, results: list[dict[str, Any]]) -> None:
    """Build all, then push; `results` gets what is done."""
    from refinerctl.registry.docker_copies import DockerCopies

    engine = DockerEngine(instead="the release workflow", call_seconds=CALL_SECONDS)
    copies = DockerCopies(engine, app.registries.login, app.registries.impatient_client)
    engine.client()
    if push:
        for item in builds:
            copies.check_new(item.target)
    with app.render.progress() as progress:
        for item in builds:
            built = _build(app, engine, copies, item, progress)
            results.append(_as_json(app, item, "built") | built)
        for item, result in zip(builds, results, strict=True) if push else ():
            progress.step(f"pushing {item.target}")
            digest = copies.publish(result["image_id"], item.target, item.image.runs_on, progress)
            result |= {"digest": digest, "status": "pushed"}
            others = ", ".join(str(platform) for platform in item.image.platforms if platform != item.platform)
            if others:
                app.render.note(f"{item.target} is for {item.platform} only; a release also has {others}")


def _build(
    app: AppContext, engine: DockerEngine, copies: DockerCopies, item: ImageBuild, progress: Progress
) -> dict[str, Any]:
    arguments = dict(item.arguments)
    for name, base in item.bases.items():
        if name not in item.given:
            arguments |= _pinned(app, copies, name, base)
    progress.step(f"building {item.target} for {item.platform}")
    with _told(app, progress) as on_line:
        image_id = engine.build(
            item.image.context,
            str(item.target),
            arguments | dict(item.given),
            on_line,
            labels=item.labels,
            platform=item.platform,
        )
    built = engine.client().images.get(image_id).attrs
    if (found := Platform(built["Os"], built["Architecture"])) != item.platform:
        raise RefinerctlError(
            f"{item.target} was built for {found}, not for {item.platform}",
            hint="Check the platform of the base image in the Docker engine.",
        )
    return {"image_id": image_id, "size": built["Size"], "arguments": arguments}


def _pinned(app: AppContext, copies: DockerCopies, name: str, base: str) -> dict[str, str]:
    """The arguments that name a base image by digest, as in a release."""
    reference = ImageReference.parse(base)
    try:
        digest = reference.digest or copies.digest(reference)
    except RefinerctlError as error:
        app.render.warning(f"the digest of base image {base} is unknown: {error.message}")
        return {}
    if digest is None:
        raise NotFoundError(f"base image {base} does not exist", hint=f"Use another one: --build-arg {name}=IMAGE.")
    pinned = {name: str(replace(reference, digest=digest))}
    return pinned | ({"BASE_DIGEST": digest} if name == "BASE" else {})


@contextmanager
def _told(app: AppContext, progress: Progress) -> Iterator[Any]:
    """What gets the lines of a build: shows its steps, with -v all lines, and after a failure the last ones."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def on_line(text: str) -> None:
        for line in text.splitlines():
            if _STEP.match(line):
                tail.clear()
                progress.step(" ".join(line.split()))
            elif not line.startswith(_OF_THE_ENGINE):
                tail.append(line)
                progress.update(line[:SHOWN_CHARACTERS])
                app.render.detail(f"  {line}")

    try:
        yield on_line
    except RefinerctlError as error:
        for line in tail:
            app.render.note(f"  {line}")
        raise RefinerctlError(error.message) from error


def _as_json(app: AppContext, item: ImageBuild, status: str) -> dict[str, Any]:
    """As the release workflow reads it; paths are relative to the project."""
    context, project = item.image.context, app.settings.project.resolve()
    paths = {"context": context.folder.resolve(), "dockerfile": context.dockerfile_path.resolve()}
    return {
        "name": item.image.name,
        "source": item.image.source and item.image.source.name,
        "target": str(item.target),
        "status": status,
        **{name: os.path.relpath(path, project) for name, path in paths.items()},
        "platform": str(item.platform),
        "platforms": [str(platform) for platform in item.image.platforms],
        "bases": dict(item.bases),
        "labels": dict(item.labels),
        "arguments": dict(item.arguments),
        "build_args": sorted(item.given),
        "digest": None,
    }


def _show(app: AppContext, images: list[dict[str, Any]]) -> None:
    if app.render.is_json:
        app.render.json({"images": images})
        return
    for image in images:
        app.render.line(f"{image['status']:<11}  {image['name']}  {image['target']}")
        app.render.line(f"             {image['platform']}, {image['dockerfile']} in {image['context']}")
        if image["digest"]:
            app.render.line(f"             {image['digest']}")
        elif "image_id" in image:
            app.render.line(f"             image id {image['image_id']}, {size(image['size'])}")
