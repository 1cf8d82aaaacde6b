"""`refinerctl local`: the embedded environment."""

from __future__ import annotations

import shlex
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Renderer
from refinerctl.errors import RefinerctlError
from refinerctl.local import local_logs
from refinerctl.local.instance import MARKER
from refinerctl.local.launcher import Launch, ended_afterwards, stop
from refinerctl.local.local_logs import LogLine
from refinerctl.local.stacks import STACKS
from refinerctl.local.status import LocalStatus
from refinerctl.local.up import UpRequest
from refinerctl.local.up import up as bring_up
from refinerctl.options import global_options


@click.group()
@global_options
def local() -> None:
    """The embedded environment: the same pipelines on this machine, with no account."""


def _context(ctx: click.Context) -> AppContext:
    return app_context(ctx, env="local")


def _build_arguments(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    if wrong := [item for item in given if "=" not in item]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


@local.command()
@click.option("--detach", is_flag=True, help="Return once it is up, and leave it running.")
@click.option(
    "--engine",
    type=click.Choice(["process", "docker"]),
    default="process",
    show_default=True,
    help="Run functions from the images' sources, or as built images in containers.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="The emulator's port on 127.0.0.1. [default: a free one]")
@click.option(
    "--build-arg",
    "build_arguments",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_build_arguments,
    help="For the image builds of --engine docker; repeatable.",
)
@global_options
@click.pass_context
def up(ctx: click.Context, detach: bool, engine: str, port: int | None, build_arguments: dict[str, str]) -> None:
    """Start the embedded environment and apply the stacks to it.

    Without --detach it shows what the functions print and ends with Ctrl-C. What runs already is brought up to date and
    left running.
    """
    app = _context(ctx)
    with app.render.progress() as progress:
        request = UpRequest(Launch(engine, port, attached=not detach), build_arguments)
        result = bring_up(app.instance, app.settings, request, progress)
    if detach or not result.started:  # somebody else's is not ours to end
        _show_status(app.render, result.status)
        return
    with ended_afterwards(app.instance):
        _show_status(app.render, result.status, indent=None)
        app.render.note("up; Ctrl-C ends it")
        _follow_functions(app)


def _follow_functions(app: AppContext) -> None:
    for line in local_logs.follow(app.instance, "functions"):
        _show_line(app.render, line)
    if detail := app.instance.status().detail:
        raise RefinerctlError(f"the embedded environment has ended: {detail}")


@local.command()
@global_options
@click.pass_context
def status(ctx: click.Context) -> None:
    """Say whether it is up, and where."""
    app = _context(ctx)
    _show_status(app.render, app.instance.status())


@local.command()
@global_options
@click.pass_context
def down(ctx: click.Context) -> None:
    """End it. Everything that is in it goes away; its logs stay until the next start."""
    app = _context(ctx)
    ended = stop(app.instance)
    app.render.note("the embedded environment is down" if ended else "the embedded environment was not up")
    if app.render.is_json:
        app.render.json(status_json(app.instance.status()))


@local.command()
@click.option("--source", type=click.Choice(local_logs.SOURCES), default="functions", show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until it is down.")
@global_options
@click.pass_context
def logs(ctx: click.Context, source: str, follow: bool) -> None:
    """Print what the functions print, or another part's log."""
    app = _context(ctx)
    lines = local_logs.follow(app.instance, source) if follow else local_logs.read(app.instance, source)
    for line in lines:
        _show_line(app.render, line)


@local.command()
@click.option(
    "--terraform", "root_module", type=click.Choice(STACKS), help="Add what terraform needs in terraform/stacks/STACK."
)
@global_options
@click.pass_context
def env(ctx: click.Context, root_module: str | None) -> None:
    """Print variables that point other tools at it: eval "$(refinerctl local env)"."""
    from refinerctl.local.stacks import aws_environment, stack_terraform

    app = _context(ctx)
    state = app.instance.status()
    if state.endpoint_url is None:
        raise RefinerctlError("the embedded environment is down", hint="Start it: refinerctl local up --detach.")
    if root_module is None:
        variables = aws_environment(app.settings.embedded_region, state)
    else:
        variables = stack_terraform(app.instance, app.settings, state, root_module).variables()
        files = f"-var-file={app.settings.project}/terraform/environments/{app.settings.env}/{root_module}.tfvars"
        variables |= {f"TF_CLI_ARGS_{verb}": files for verb in ("plan", "apply")}
        del variables[MARKER]  # a shell that carried it would be taken for a part of the environment, and ended with it
    if app.render.is_json:
        app.render.json({name: value or None for name, value in variables.items()})
        return
    for name, value in sorted(variables.items()):
        # Set to nothing, AWS_PROFILE still names a profile for boto3.
        app.render.line(f"export {name}={shlex.quote(value)}" if value else f"unset {name}")


def _show_status(render: Renderer, state: LocalStatus, indent: int | None = 2) -> None:
    if render.is_json:
        render.json(status_json(state), indent=indent)
        return
    render.line(f"state      {state.state}")
    for name, value in (
        ("endpoint", state.endpoint_url),
        ("engine", state.engine),
        ("stacks", ", ".join(state.stacks)),
        ("since", state.started_at and f"{state.started_at:%Y-%m-%dT%H:%M:%SZ}"),
        ("pid", state.supervisor_pid),
        ("detail", state.detail),
    ):
        if value:
            render.line(f"{name:<9}  {value}")


def status_json(state: LocalStatus) -> dict[str, Any]:
    """The status in the contract's form."""
    return {
        "state": state.state,
        "endpoint_url": state.endpoint_url,
        "engine": state.engine,
        "stacks": list(state.stacks),
        "started_at": state.started_at,
        "supervisor_pid": state.supervisor_pid,
        "emulator_pid": state.emulator_pid,
        "detail": state.detail,
    }


def _show_line(render: Renderer, line: LogLine) -> None:
    if render.is_json:
        render.json({key: value for key, value in vars(line).items() if value is not None}, indent=None)
    elif line.timestamp:
        render.line(f"{line.timestamp}  {line.function}  {line.message}")
    else:
        render.line(line.message)
