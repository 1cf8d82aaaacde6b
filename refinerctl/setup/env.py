"""`refinerctl env list`: the environments of this project, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.config import config_path
from refinerctl.console import Renderer
from refinerctl.errors import DIFFERENCES, NotFoundError
from refinerctl.options import examples, global_options
from refinerctl.setup import render_without_settings

if TYPE_CHECKING:
    from refinerctl.setup.environments import EnvironmentSummary

_COLUMNS = {"ENVIRONMENT": 0, "ACCOUNT": 1, "REGION": 2, "STATE": 4, "STACKS": 3}


@click.command("list", epilog=examples("refinerctl env list", "refinerctl env list --output json"))
@global_options
@click.pass_context
def list_environments(ctx: click.Context) -> None:
    """List the environments of this project: account, region, state, and the stacks that they have tfvars for.

    A star marks the default environment. The problems follow, each with file, key and fix; exit code 5 if one is an
    error. Connects to no server.
    """
    from refinerctl.setup.environments import environments

    render = render_without_settings(ctx)  # the environment of an option or a variable may not exist
    found = environments(project_config())
    if render.is_json:
        render.json({"environments": found})
    else:
        _show(render, found)
    if any(environment.is_wrong for environment in found):
        ctx.exit(DIFFERENCES)


def project_config() -> Path:
    """The refinerctl.toml of this project. Raises NotFoundError outside of a project."""
    path = config_path(os.environ, Path.cwd())
    if path is None:
        raise NotFoundError(
            "no refinerctl.toml in this folder or its parent folders",
            hint="Run this in a project. `refinerctl init DIR` creates one.",
        )
    return path.resolve()


def _show(render: Renderer, found: Sequence[EnvironmentSummary]) -> None:
    render.table(
        _COLUMNS,
        [
            (
                f"{environment.name} *" if environment.default else environment.name,
                "this machine" if environment.embedded else environment.account or "not set",
                environment.region or "not set",
                environment.state or "unknown",
                ",".join(environment.stacks) or "none",
            )
            for environment in found
        ],
    )
    for environment in found:
        if environment.problems:
            render.line()
            render.line(f"environment {environment.name}:")
        for problem in environment.problems:
            style = "red" if problem.severity == "error" else "yellow"
            render.wrapped([("  ", ""), (problem.severity, style), ("  ", "")], str(problem))
            render.wrapped([("         ", "")], problem.fix)
