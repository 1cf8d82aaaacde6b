"""`refinerctl rollback`."""

from __future__ import annotations

import click

from refinerctl.app import app_context
from refinerctl.options import ReleaseTag, global_options
from refinerctl.releases.deploy_command import ApplyOptions, apply_planned, timeout_option
from refinerctl.releases.model import ReleaseAction
from refinerctl.releases.plan import make_plan
from refinerctl.releases.planning import allow_destroy_option, apply_options, pins_of, yes_option
from refinerctl.releases.rollback import check_in_place, choose


@click.command()
@click.option("--to", type=ReleaseTag(), help="The release to go back to. [default: the one before]")
@yes_option
@click.option("--dry-run", is_flag=True, help="Plan, and stop.")
@allow_destroy_option
@timeout_option
@apply_options
@global_options
@click.pass_context
def rollback(
    ctx: click.Context,
    to: str | None,
    yes: bool,
    dry_run: bool,
    allow: tuple[str, ...],
    timeout: float,
    min_credential_lifetime: float,
    lock_timeout: float,
) -> None:
    """Deploy an earlier release by the digests that were recorded, even if its tag has moved since.

    Only images go back: the configuration is that of this checkout.
    """
    app = app_context(ctx)
    options = ApplyOptions(yes, dry_run, timeout, min_credential_lifetime, ReleaseAction.ROLLBACK)
    options.check_consent()
    stack = app.root_module(lock_timeout)
    chosen = choose(app.ledger.read(), to)
    target = chosen.target
    app.render.note(f"rolling back to {target.tag or 'the release'} of {target.at:%Y-%m-%d %H:%MZ}, by {target.who}")
    with stack.folder() as folder:
        with app.render.progress() as progress:
            pins = pins_of(app, stack, target, chosen.current)
            planned = make_plan(stack, pins, folder, progress, allow=allow)
        if to is None:
            check_in_place(chosen.current, planned.plan.images)
        apply_planned(app, stack, planned, options)
