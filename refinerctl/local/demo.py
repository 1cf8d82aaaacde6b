"""`refinerctl demo`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import RefusedError, UsageError
from refinerctl.local.launcher import Launch, stopped_afterwards
from refinerctl.local.up import bring_up, engine_option, show_next
from refinerctl.options import examples, global_options


class Story(Protocol):
    """The module of a stack's demo. `VARIABLES` of its root module take precedence over the environment's values."""

    VARIABLES: Mapping[str, Any]

    def run(self, app: AppContext) -> None:
        """Run the pipeline once, and print what happens."""


@click.command(epilog=examples("refinerctl demo", "refinerctl demo --stack rnr", "refinerctl demo --output json"))
@engine_option
@global_options
@click.pass_context
def demo(ctx: click.Context, engine: str) -> None:
    """Run the pipeline end to end once: start it, give it inputs, print what becomes of them, stop it.

    The demo starts its own local environment and does not touch the one that `local up` started.
    """
    # Inputs are created in the environment's folder, too, so that nothing is written elsewhere.
    app = app_context(ctx, instance_name="demo", env="local")
    flags = ctx.find_root().obj
    if flags is not None and (flags.endpoint_url or flags.bucket):
        raise UsageError("the demo has its own endpoint and bucket", hint="Omit --endpoint-url and --bucket.")
    if app.stack.demo is None:
        raise UsageError(f"stack {app.stack.name} has no demo", hint="Start it with `refinerctl local up`.")
    story = cast("Story", import_module(app.stack.demo))
    if app.instance.status().state != "down":
        raise RefusedError("another demo is running", hint="Wait until it ends.")
    began = time.monotonic()
    with app.render.progress() as progress:
        bring_up(app, Launch(engine, attached=True, variables=story.VARIABLES), progress)
    with stopped_afterwards(app.instance):
        story.run(app)
        app.render.note("stopping the local environment")
    app.render.note(f"done in {time.monotonic() - began:.0f} s")
    show_next(app, ("local", "up", "--detach"), ("upload", "FILE", "--wait"), ("local", "down"))
