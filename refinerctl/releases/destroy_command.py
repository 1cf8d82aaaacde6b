"""`refinerctl destroy`."""

from __future__ import annotations

from dataclasses import dataclass

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import RefusedError
from refinerctl.options import global_options
from refinerctl.releases import destroy as operation
from refinerctl.releases.model import Pins
from refinerctl.releases.plan import Planned, make_plan
from refinerctl.releases.plan_view import plan_json
from refinerctl.releases.planning import apply_options, check_consent, ready_to_apply, show_plan


@click.command()
@click.option("--confirm", metavar="NAME", help="The environment's name, for when nobody is there to type it.")
@click.option("--empty-bucket", is_flag=True, help="Delete what the stack's bucket holds, every version, for good.")
@click.option("--empty-repositories", is_flag=True, help="Delete the images in the stack's ECR repositories, for good.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and stop.")
@apply_options
@global_options
@click.pass_context
def destroy(
    ctx: click.Context,
    confirm: str | None,
    empty_bucket: bool,
    empty_repositories: bool,
    dry_run: bool,
    min_credential_lifetime: float,
    lock_timeout: float,
) -> None:
    """Destroy everything of a stack in an environment.

    Refused (4) if a bucket or an ECR repository of the stack holds anything, without the option that empties it.
    """
    app = app_context(ctx)
    if not dry_run:
        check_consent(confirm is not None, "--confirm NAME")
    if confirm is not None:
        _check_name(app, confirm)
    stack = app.root_module(lock_timeout)
    with stack.folder() as folder:
        with app.render.progress() as progress:
            planned = make_plan(stack, Pins(), folder, progress, destroy=True)
        show_plan(app, stack, planned)
        if planned.plan.is_empty:
            if not dry_run:
                operation.record_destroyed(planned.record, app.ledger, app.operator)
            _tell(app, planned, Deleted(), applied=False)
            return
        holdings = planned.holdings
        for sentence in operation.waiting_messages(holdings.queues, app.queues):
            app.render.warning(sentence)
        buckets = operation.check_buckets(holdings.buckets, app.bucket_versions, empty=empty_bucket)
        repositories = operation.check_repositories(holdings.repositories, app.ecr, empty=empty_repositories)
        if dry_run:
            _tell(app, planned, Deleted(), applied=False)
            return
        stack = ready_to_apply(app, stack, min_credential_lifetime, lambda: _ask_name(app, confirm))
        with app.render.progress() as progress:
            if buckets or repositories:
                operation.check_still(stack, planned.record)
            deleted = Deleted(
                objects=operation.empty_buckets(buckets, app.bucket_versions, progress),
                images=operation.empty_repositories(repositories, app.ecr, progress),
            )
            operation.destroy(stack, planned.file, planned.record, app.ledger, app.operator, progress)
    _tell(app, planned, deleted, applied=True)


@dataclass(frozen=True)
class Deleted:
    """How much was deleted before Terraform could destroy what held it."""

    objects: int = 0
    images: int = 0


def _ask_name(app: AppContext, confirm: str | None) -> None:
    if confirm is None:
        _check_name(app, click.prompt("Type the environment's name to destroy this", err=True))


def _check_name(app: AppContext, name: str) -> None:
    if name != app.settings.env:
        raise RefusedError(f"{name!r} is not the name of the environment, {app.settings.env!r}")


def _tell(app: AppContext, planned: Planned, deleted: Deleted, *, applied: bool) -> None:
    if app.render.is_json:
        counts = {"objects_deleted": deleted.objects, "images_deleted": deleted.images}
        app.render.json({"applied": applied, **counts, "plan": plan_json(planned.plan)})
    elif applied:
        app.render.note(f"destroyed stack {planned.plan.stack} of {planned.plan.env}")
