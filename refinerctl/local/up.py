"""`refinerctl local up`: start the local environment and apply the stacks to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.config import check_root_module
from refinerctl.console import Progress
from refinerctl.embedded import STATE_BUCKET, LocalStatus
from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.ledger.entries import deployed
from refinerctl.local.launcher import Launch, check_packages, launch, stopped_afterwards, stopped_on_failure
from refinerctl.local.logs import follow_lines, show_line
from refinerctl.local.status import show_status
from refinerctl.options import build_arg_option, examples, global_options
from refinerctl.stacks.base import Broker, Cache
from refinerctl.terraform.unknown_names import refuse_unknown_names

if TYPE_CHECKING:
    from refinerctl.ledger.entries import Ledger


engine_option = click.option(
    "--engine",
    type=click.Choice(["process", "docker"]),
    default="process",
    show_default=True,
    help="How to run functions: the code in the images' folders, or containers of the built images.",
)


@click.command(epilog=examples("refinerctl local up --detach", "refinerctl local up --engine docker"))
@click.option("--detach", is_flag=True, help="Return when the environment is up, and leave it running.")
@engine_option
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the emulator on 127.0.0.1. [default: a free one]")
@build_arg_option("Argument of the image builds with --engine docker; repeatable.")
@global_options
@click.pass_context
def up(ctx: click.Context, detach: bool, engine: str, port: int | None, build_arguments: dict[str, str]) -> None:
    """Start the local environment and apply the stacks to it.

    Applies the stack of --stack and those that it needs. Without --detach it prints the functions' log and stops the
    environment on Ctrl-C. If it is already up, changes are applied and it keeps running.
    """
    app = app_context(ctx, env="local")
    with app.render.progress() as progress:
        started = bring_up(app, Launch(engine, port, build_arguments, attached=not detach), progress)
    if detach or not started:  # this command must not stop an environment that another command started
        show_status(app.render, app.instance.status())
        show_next(app, *_first_use(app), ("local", "down"))
        return
    with stopped_afterwards(app.instance):
        show_status(app.render, app.instance.status(), indent=None)
        app.render.note("the local environment is up; press Ctrl-C to stop it")
        show_next(app, *_first_use(app), ("trace", "FILE") if app.stack.storage else ("logs",))
        for line in follow_lines(app.instance, "functions"):
            show_line(app.render, line)
        if detail := app.instance.status().detail:
            raise RefinerctlError(f"the local environment stopped: {detail}")


def _first_use(app: AppContext) -> Iterator[tuple[str, ...]]:
    yield ("upload", "FILE", "--wait") if app.stack.storage else ("verify",)
    yield ("status",)


def show_next(app: AppContext, *commands: tuple[str, ...]) -> None:
    """Print commands to continue with."""
    app.render.note("next:")
    for command in commands:
        app.render.note(f"  {app.command(*command)}")


def bring_up(app: AppContext, wanted: Launch, progress: Progress) -> bool:
    """Start the environment unless it is up, and apply the stacks; return whether it was started here.

    An environment that was started here is stopped again after a failure. Raises RefusedError if it is up with another
    engine or port, or if another command is starting it; RefinerctlError with what failed otherwise.
    """
    status = app.instance.status()
    if status.state != "down":
        _refuse_other(status, wanted)
        _check_servers(app)
        progress.step(f"the local environment is up at {status.endpoint_url}; applying changes")
        _prepare_images(app, wanted, status.stacks, progress)
        _apply_stacks(app, status, wanted, progress, disposable=False)
        return False
    check_packages()
    progress.update("reading the settings of the stack")
    layout = app.settings.layout
    for name in _stack_names(app):  # before the image builds, which may take minutes
        check_root_module(layout.root_module(name))
        refuse_unknown_names(layout.values_file(app.settings.env, name), layout.root_module(name))
    _check_servers(app)
    _prepare_images(app, wanted, (), progress)
    progress.step(f"starting the local environment (engine {wanted.engine})")
    status = launch(app.instance, app.settings, wanted)
    with stopped_on_failure(app.instance):
        progress.step(f"AWS emulator at {status.endpoint_url}")
        _apply_stacks(app, status, wanted, progress, disposable=True)
    return True


def _check_servers(app: AppContext) -> None:
    """Raises NotFoundError if the stack has a broker or a cache, and this machine no server for it."""
    if app.stack.pipeline is None:
        return
    from refinerctl.local.rabbitmq import find_rabbitmq
    from refinerctl.local.redis import find_redis

    if any(app.pipeline.by_kind(Broker)):
        find_rabbitmq()
    if any(app.pipeline.by_kind(Cache)):
        find_redis()


def _stack_names(app: AppContext) -> tuple[str, ...]:
    """The stacks to apply, in this order: those that this run's stack needs, and itself."""
    return (*app.stack.needs, app.stack.name)


def _prepare_images(app: AppContext, wanted: Launch, applied: Sequence[str], progress: Progress) -> None:
    """Install npm packages and create virtual environments, or build images for engine docker.

    The images of stacks that are `applied` already were built by the `up` that applied them.
    """
    images = [image for image in app.settings.images if image.stack in _stack_names(app)]
    if wanted.engine == "process":
        from refinerctl.local.node_packages import install_node_packages
        from refinerctl.local.venvs import create_venvs

        wanted_contexts = [image.context for image in images]
        install_node_packages(app.settings.work_folder.resolve(), wanted_contexts, progress)
        known = [image.context for image in app.settings.images]
        create_venvs(app.settings.layout.venvs.resolve(), wanted_contexts, known, progress)
        return
    contexts = [(image.repository, image.context) for image in images if image.stack not in applied]
    if contexts:
        from refinerctl.local.engines import build_images

        progress.step("building the images")
        build_images(contexts, wanted.build_arguments, progress.update)


def _refuse_other(status: LocalStatus, wanted: Launch) -> None:
    if status.endpoint_url is None:
        raise RefusedError(
            "another command is starting this environment", hint="Wait until `refinerctl local status` shows `up`."
        )
    port = int(status.endpoint_url.rpartition(":")[2])
    for what, current, asked in (("engine", status.engine, wanted.engine), ("port", port, wanted.port or port)):
        if current != asked:
            raise RefusedError(
                f"the local environment is up with {what} {current}, not {asked}",
                hint="Run `refinerctl local down` first.",
            )


def _apply_stacks(
    app: AppContext, status: LocalStatus, wanted: Launch, progress: Progress, *, disposable: bool
) -> None:
    """`disposable`: an interrupt stops the environment anyway."""
    region = app.settings.embedded_region
    # Not the app's own session, which refuses to work on an environment that is still starting.
    session = AwsSession(
        region, profile=None, endpoint_url=status.endpoint_url, embedded=True, endpoints=status.endpoints
    )
    S3Bucket(session, STATE_BUCKET).create()
    for name in _stack_names(app):
        of_stack = app.in_environment(app.settings.env, name)
        of_stack.session = session
        progress.step(f"terraform apply: stack {name}{of_stack.stack.apply_hint}")
        variables = wanted.variables if name == app.stack.name else {}
        _apply(of_stack, variables, progress, disposable=disposable)
    app.instance.write_applied(_stack_names(app))
    status = app.instance.status()
    if status.state != "up":
        raise RefinerctlError(f"the local environment stopped while the stacks were being applied: {status.detail}")


def _apply(app: AppContext, variables: Mapping[str, Any], progress: Progress, *, disposable: bool) -> None:
    from refinerctl.terraform.runner import LOCK_TIMEOUT_SECONDS

    def report(done: int, total: int, address: str) -> None:
        if not app.instance.is_supervised():  # the emulator may run for some time after its supervisor was killed
            detail = app.instance.status().detail
            raise RefinerctlError(f"the local environment stopped while the stacks were being applied: {detail}")
        if total:
            progress.update(f"stack {app.stack.name}: {done} of {total} resources  {address}")

    root = app.root_module(LOCK_TIMEOUT_SECONDS)
    root = replace(root, terraform=replace(root.terraform, disposable=disposable))
    root.check_values()
    root.init()
    with root.folder() as folder:
        root.terraform.apply(root.var_files(folder, {**_deployed_images(app.ledger, progress), **variables}), report)


def _deployed_images(ledger: Ledger, progress: Progress) -> dict[str, Any]:
    """The images of the release that was deployed to this environment; none: run the images' folders."""
    release = deployed(ledger.read())
    if release is None or not release.images:
        return {}
    progress.step(f"release {release.tag or 'without a tag'} remains deployed")
    return {"pinned_images": dict(release.images)} | ({"release_tag": release.tag} if release.tag else {})
