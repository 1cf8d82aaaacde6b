"""`refinerctl drift`."""

from __future__ import annotations

from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.console import Renderer
from refinerctl.options import global_options
from refinerctl.releases.drift import Drift, find_drift
from refinerctl.releases.plan import make_plan
from refinerctl.releases.plan_command import DIFFERENCES
from refinerctl.releases.plan_view import change_json, change_text
from refinerctl.releases.planning import lock_timeout_option, pins_for


@click.command()
@lock_timeout_option
@global_options
@click.pass_context
def drift(ctx: click.Context, lock_timeout: float) -> None:
    """Compare reality with the release in place: exit code 5, and a report by resource, if they differ."""
    app = app_context(ctx)
    stack = app.root_module(lock_timeout)
    with stack.folder() as folder, app.render.progress() as progress:
        plan = make_plan(stack, pins_for(app, stack, None), folder, progress).plan
    found = find_drift(plan)
    for note in plan.notes:
        app.render.note(f"note: {note}")
    _show(app.render, found)
    if not found.is_empty:
        ctx.exit(DIFFERENCES)


def _show(render: Renderer, found: Drift) -> None:
    if render.is_json:
        render.json(_json(found))
        return
    render.line(f"environment {found.env}, stack {found.stack}" + (f", release {found.tag}" if found.tag else ""))
    for title, changes in (
        ("changed outside of Terraform", found.outside),
        ("differs from the configuration", found.configuration),
    ):
        if changes:
            render.line(title)
            for change in changes:
                render.line(f"  {change_text(change, change.address)}")
    if found.outputs:
        render.line(f"outputs that differ: {', '.join(found.outputs)}")
    if found.is_empty:
        render.line("no drift")


def _json(found: Drift) -> dict[str, Any]:
    return {
        "env": found.env,
        "stack": found.stack,
        "tag": found.tag,
        "has_drift": not found.is_empty,
        "outside": [change_json(change) for change in found.outside],
        "configuration": [change_json(change) for change in found.configuration],
        "outputs": list(found.outputs),
    }
