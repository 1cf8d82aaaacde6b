"""`refinerctl deploy`, and what it shares with `rollback`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.options import Duration, ReleaseTag, global_options
from refinerctl.releases import deploy as operation
from refinerctl.releases.model import Release, ReleaseAction
from refinerctl.releases.plan import Planned, check_target, load, make_plan, refuse_losses
from refinerctl.releases.plan_view import plan_json
from refinerctl.releases.planning import (
    allow_destroy_option,
    apply_options,
    ask,
    check_consent,
    pins_for,
    ready_to_apply,
    show_plan,
    yes_option,
)
from refinerctl.terraform.stack import Stack


@dataclass(frozen=True)
class ApplyOptions:
    """How to apply. Seconds."""

    yes: bool
    dry_run: bool
    timeout_s: float
    min_credential_lifetime_s: float
    action: ReleaseAction = ReleaseAction.DEPLOY

    def check_consent(self) -> None:
        check_consent(self.yes or self.dry_run)


def timeout_option(command: Any) -> Any:
    return click.option(
        "--timeout",
        type=Duration(),
        default="5m",
        show_default=True,
        help="How long to wait until functions are updated and their mappings enabled.",
    )(command)


@click.command()
@click.option("--tag", type=ReleaseTag(), help="The release to deploy. [default: the one in place]")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Apply exactly this saved plan.",
)
@yes_option
@click.option("--dry-run", is_flag=True, help="Plan, and stop.")
@allow_destroy_option
@timeout_option
@apply_options
@global_options
@click.pass_context
def deploy(
    ctx: click.Context,
    tag: str | None,
    plan_file: Path | None,
    yes: bool,
    dry_run: bool,
    allow: tuple[str, ...],
    timeout: float,
    min_credential_lifetime: float,
    lock_timeout: float,
) -> None:
    """Bring a release, or a saved plan, into place: plan, show, ask, apply, wait, record.

    A saved plan is refused (4) if it is for another environment, stack, release or configuration, or if the state has
    moved on since it was made.
    """
    app = app_context(ctx)
    options = ApplyOptions(yes, dry_run, timeout, min_credential_lifetime)
    options.check_consent()
    if plan_file is not None:  # before anything is asked of an environment that may be the wrong one
        check_target(plan_file, app.settings.env, app.settings.stack, tag)
    stack = app.root_module(lock_timeout)
    with stack.folder() as folder:
        with app.render.progress() as progress:
            if plan_file is not None:
                planned = load(stack, plan_file, folder, progress, tag=tag, allow=allow)
            else:
                planned = make_plan(stack, pins_for(app, stack, tag), folder, progress, allow=allow)
        apply_planned(app, stack, planned, options)


def apply_planned(app: AppContext, stack: Stack, planned: Planned, options: ApplyOptions) -> None:
    """Show, ask, apply, record, wait."""
    if options.dry_run:
        show_plan(app, stack, planned)
        if app.render.is_json:
            app.render.json(plan_json(planned.plan))
        refuse_losses(planned)
        return
    ready = agree(app, stack, planned, options)
    tell(app, planned, carry_out(app, ready, planned, options))


def agree(app: AppContext, stack: Stack, planned: Planned, options: ApplyOptions) -> Stack:
    """Show and ask: nothing is changed yet. The stack with credentials for the apply.

    Raises RefusedError for losses, RefinerctlError for a no.
    """
    show_plan(app, stack, planned)
    refuse_losses(planned)
    if planned.plan.is_empty:
        return stack
    question = f"Apply this to {planned.plan.env}?"
    return ready_to_apply(app, stack, options.min_credential_lifetime_s, lambda: ask(question, options.yes))


def carry_out(app: AppContext, stack: Stack, planned: Planned, options: ApplyOptions) -> operation.Deployed:
    """Apply, record, wait."""
    has_changes = not planned.plan.is_empty
    deployment = operation.Deployment(
        stack, planned.file, planned.record, has_changes=has_changes, who=app.operator, action=options.action
    )
    with app.render.progress() as progress:
        done = operation.deploy(deployment, app.ledger, progress)
        if done.applied:
            functions = operation.functions_of(stack)
            operation.wait_until_ready(functions, app.function_updates, options.timeout_s, progress)
    return done


def deployed_json(planned: Planned, done: operation.Deployed) -> dict[str, Any]:
    """What became of a deployment, as data."""
    release = release_json(done.release) if done.release else None
    return {"applied": done.applied, "release": release, "plan": plan_json(planned.plan)}


def tell(app: AppContext, planned: Planned, done: operation.Deployed) -> None:
    """Say what became of it: data if that is to be JSON."""
    if app.render.is_json:
        app.render.json(deployed_json(planned, done))
    elif done.applied:
        app.render.note(f"deployed{_what(done.release)} to {planned.plan.env}")
    elif done.release:
        app.render.note(f"nothing to change; recorded{_what(done.release)}")
    else:
        app.render.note("nothing to change: this is what is in place")


def _what(release: Release | None) -> str:
    return f" {release.tag}" if release and release.tag else ""


def release_json(release: Release) -> dict[str, Any]:
    """An entry of the ledger as data."""
    return {**vars(release), "images": dict(release.images)}
