"""`refinerctl tools`: the programs that refinerctl runs."""

from __future__ import annotations

import click

from refinerctl.app import app_context
from refinerctl.options import global_options


@click.group()
def tools() -> None:
    """The programs that refinerctl runs."""


@tools.command()
@click.option("--version", metavar="VERSION", help="Another release than the pinned one.")
@click.option("--force", is_flag=True, help="Fetch it even if it is there.")
@global_options
@click.pass_context
def install(ctx: click.Context, version: str | None, force: bool) -> None:
    """Fetch Terraform into your cache.

    It is used where no terraform is on PATH. Its SHA-256 is checked against the published one.
    """
    from refinerctl.terraform.tools_install import install as operation

    app = app_context(ctx)
    with app.render.progress() as progress:
        done = operation(app.settings.tools, version, progress, force=force)
    if app.render.is_json:
        app.render.json(
            {
                "tool": "terraform",
                "version": done.version,
                "path": done.path,
                "status": "already-there" if done.was_there else "installed",
                "sha256": done.sha256,
            }
        )
        return
    app.render.note(f"Terraform {done.version} {'is there already' if done.was_there else 'is installed'}")
    app.render.line(str(done.path))
