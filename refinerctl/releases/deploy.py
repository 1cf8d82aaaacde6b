"""`refinerctl deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.options import ReleaseTag, examples, global_options
from refinerctl.releases.deployment import ApplyOptions, deploy_options, deploy_plan
from refinerctl.releases.pins import pins_for
from refinerctl.releases.plan import check_target, load_plan, make_plan


@click.command(
    epilog=examples("refinerctl deploy --tag v1.4.0", "refinerctl deploy --plan release.tfplan --yes --env production")
)
@click.option("--tag", type=ReleaseTag(), help="Release to deploy. [default: the current one]")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Saved plan to apply exactly.",
)
@deploy_options
@global_options
@click.pass_context
def deploy(
    ctx: click.Context,
    /,
    tag: str | None,
    plan_file: Path | None,
    allow: tuple[str, ...],
    lock_timeout: float,
    **given: Any,
) -> None:
    """Deploy a release or a saved plan: plan, show, confirm, apply, record, wait.

    A saved plan is refused (4) if it was made for another environment, stack, release or configuration, or if the
    state has changed since.
    """
    options = ApplyOptions(**given)
    app = app_context(ctx)
    if plan_file is not None:  # before any request to what may be the wrong environment
        check_target(plan_file, app.settings.env, app.settings.stack, tag)
    root = app.root_module(lock_timeout)
    with root.folder() as folder:
        with app.render.progress() as progress:
            if plan_file is not None:
                plan = load_plan(root, plan_file, folder, progress, tag=tag, allow=allow)
            else:
                plan = make_plan(root, pins_for(app, tag), folder, progress, allow=allow)
        deploy_plan(app, root, plan, options)
