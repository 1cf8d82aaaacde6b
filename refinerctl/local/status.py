"""`refinerctl local status`, `down` and `env`: the status, the end, and the variables of the local environment."""

from __future__ import annotations

import shlex
from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.console import Renderer
from refinerctl.embedded import MARKER, LocalStatus, embedded_terraform
from refinerctl.errors import RefinerctlError
from refinerctl.options import examples, global_options


@click.command(epilog=examples("refinerctl local status", "refinerctl local status --output json | jq .endpoint_url"))
@global_options
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show whether the local environment is up, and its endpoint."""
    app = app_context(ctx, env="local")
    show_status(app.render, app.instance.status())


@click.command(epilog=examples("refinerctl local down"))
@global_options
@click.pass_context
def down(ctx: click.Context) -> None:
    """Stop the local environment and delete its data. Its logs are kept until the next start."""
    from refinerctl.local.launcher import stop

    app = app_context(ctx, env="local")
    ended = stop(app.instance)
    app.render.note("the local environment is down" if ended else "the local environment was already down")
    if app.render.is_json:
        app.render.json(status_json(app.instance.status()))


@click.command(epilog=examples('eval "$(refinerctl local env)"', 'eval "$(refinerctl local env --terraform refiner)"'))
@click.option(
    "--terraform", "root_module", metavar="STACK", help="Stack whose variables for terraform are printed, too."
)
@global_options
@click.pass_context
def env(ctx: click.Context, root_module: str | None) -> None:
    """Print variables that point other tools at the local environment."""
    from refinerctl.aws.session import embedded_environment
    from refinerctl.stacks import find_stack

    app = app_context(ctx, env="local")
    settings, status = app.settings, app.instance.status()
    endpoint_url = status.endpoint_url
    if endpoint_url is None:
        raise RefinerctlError("the local environment is down", hint=f"Run `{app.command('local', 'up', '--detach')}`.")
    if root_module is None:
        variables = embedded_environment(settings.embedded_region, endpoint_url, status.endpoints)
    else:
        stack = find_stack(root_module).name
        variables = embedded_terraform(app.instance, settings, stack).variables()
        files = f"-var-file={settings.layout.values_file(settings.env, stack)}"
        variables |= {f"TF_CLI_ARGS_{verb}": files for verb in ("plan", "apply")}
        # A shell with this variable would be taken for a process of the environment, and killed with it.
        del variables[MARKER]
    if app.render.is_json:
        app.render.json({name: value or None for name, value in variables.items()})
        return
    for name, value in sorted(variables.items()):
        # boto3 takes an empty AWS_PROFILE for a profile's name.
        app.render.line(f"export {name}={shlex.quote(value)}" if value else f"unset {name}")


def show_status(render: Renderer, state: LocalStatus, indent: int | None = 2) -> None:
    """Print a status, as text or as JSON."""
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
        *(("server", f"{server.name}  {server.address}  pid {server.pid}") for server in state.servers),
        ("detail", state.detail),
    ):
        if value:
            render.line(f"{name:<9}  {value}")


def status_json(state: LocalStatus) -> dict[str, Any]:
    """The status in the contract's form."""
    internal = ("directory", "functions_url")
    document = {name: value for name, value in vars(state).items() if name not in internal}
    return {**document, "servers": [vars(server) for server in state.servers]}
