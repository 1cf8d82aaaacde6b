"""`refinerctl drift`: how reality, state and configuration differ."""

from __future__ import annotations

import click

from refinerctl.app import app_context
from refinerctl.errors import DIFFERENCES
from refinerctl.options import examples, global_options
from refinerctl.releases.pins import pins_for
from refinerctl.releases.plan import change_json, change_text, heading, lock_timeout_option
from refinerctl.releases.planning import Plan, make_plan
from refinerctl.terraform.plan_json import Change


@click.command(epilog=examples("refinerctl drift --env production", "refinerctl drift --output json"))
@lock_timeout_option
@global_options
@click.pass_context
def drift(ctx: click.Context, lock_timeout: float) -> None:
    """Compare what is deployed with the current release, by resource. Exit with 5 if they differ."""
    app = app_context(ctx, changes=True)  # a plan of another account would be wrong
    root = app.root_module(lock_timeout)
    with root.folder() as folder, app.render.progress() as progress:
        plan = make_plan(root, pins_for(app, None), folder, progress)
    for note in plan.record.notes:
        app.render.note(f"note: {note}")
    changes = configuration_changes(plan)
    outputs = plan.outputs if changes else ()
    has_drift = bool(plan.drift or changes)
    if app.render.is_json:
        app.render.json(
            {
                "env": plan.record.env,
                "stack": plan.record.stack,
                "tag": plan.record.tag,
                "has_drift": has_drift,
                "outside": [change_json(change) for change in plan.drift],
                "configuration": [change_json(change) for change in changes],
                "outputs": list(outputs),
            }
        )
    else:
        app.render.line(heading(plan))
        titled = (("changed outside of Terraform", plan.drift), ("differs from the configuration", changes))
        for title, found in titled:
            if found:
                app.render.line(title)
                for change in found:
                    app.render.line(f"  {change_text(change, change.address)}")
        if outputs:
            app.render.line(f"outputs that differ: {', '.join(outputs)}")
        if not has_drift:
            app.render.line("no drift")
    if has_drift:
        ctx.exit(DIFFERENCES)


def configuration_changes(plan: Plan) -> tuple[Change, ...]:
    """What a deployment of the same release would change, except for what only reverts a change from outside."""
    reverted = {change.address for change in plan.drift}
    return tuple(change for change in plan.changes if change.address not in reverted)
