"""`refinerctl destroy`."""

from __future__ import annotations

from datetime import timedelta

import click

from refinerctl.cli.context import AppContext, app_context
from refinerctl.cli.deploy import check_credentials
from refinerctl.cli.options import global_options
from refinerctl.cli.plan_view import plan_json
from refinerctl.cli.planning import apply_options, check_consent, show_plan
from refinerctl.errors import RefusedError
from refinerctl.models.releases import Pins
from refinerctl.operations import destroy as operation
from refinerctl.operations.plan import Planned, make_plan


@click.command()
@click.option("--confirm", metavar="NAME", help="The environment's name, for when nobody is there to type it.")
@click.option("--empty-bucket", is_flag=True, help="Delete what the stack's bucket holds, every version, for good.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and stop.")
@apply_options
@global_options
@click.pass_context
def destroy(
    ctx: click.Context,
    confirm: str | None,
    empty_bucket: bool,
    dry_run: bool,
    min_credential_lifetime: float,
    lock_timeout: float,
) -> None:
    """Destroy everything of a stack in an environment.

    Refused (4) if a bucket of the stack holds anything and --empty-bucket is not given.
    """
    app = app_context(ctx)
    if not dry_run:
        check_consent(confirm is not None, "--confirm NAME")
    if confirm is not None:
        _check_name(app, confirm)
    stack = app.stack(lock_timeout)
    with stack.folder() as folder:
        with app.render.progress() as progress:
            planned = make_plan(stack, Pins(), folder, progress, destroy=True)
        show_plan(app, stack, planned)
        if planned.plan.is_empty:
            _tell(app, planned, deleted=0, applied=False)
            return
        full = operation.check_buckets(planned.buckets, app.bucket_versions, empty=empty_bucket)
        if dry_run:
            _tell(app, planned, deleted=0, applied=False)
            return
        if confirm is None:
            _check_name(app, click.prompt("Type the environment's name to destroy this", err=True))
        check_credentials(app, timedelta(seconds=min_credential_lifetime))
        with app.render.progress() as progress:
            deleted = operation.empty_buckets(full, app.bucket_versions, progress)
            operation.destroy(stack, planned.file, app.ledger, app.operator, progress)
    _tell(app, planned, deleted=deleted, applied=True)


def _check_name(app: AppContext, name: str) -> None:
    if name != app.settings.env:
        raise RefusedError(f"{name!r} is not the name of the environment, {app.settings.env!r}")


def _tell(app: AppContext, planned: Planned, *, deleted: int, applied: bool) -> None:
    if app.render.is_json:
        app.render.json({"applied": applied, "objects_deleted": deleted, "plan": plan_json(planned.plan)})
    elif applied:
        app.render.note(f"destroyed stack {planned.plan.stack} of {planned.plan.env}")
