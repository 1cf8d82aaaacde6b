"""`refinerctl destroy`: never with the data in its buckets and repositories, unless an option says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Progress
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, TimedOutError
from refinerctl.ledger.entries import Release, ReleaseAction, deployed
from refinerctl.options import check_consent, examples, global_options, notify_option, typed_answer
from refinerctl.parallel import attempt
from refinerctl.releases.deploy import add_to_ledger, apply_options, ready_to_apply
from refinerctl.releases.pins import Pins
from refinerctl.releases.plan import show_plan
from refinerctl.releases.plan_view import plan_json
from refinerctl.releases.planning import Plan, make_plan

if TYPE_CHECKING:
    from refinerctl.aws.bucket_versions import BucketVersions
    from refinerctl.aws.ecr import EcrRegistry
    from refinerctl.aws.sqs import QueueState
    from refinerctl.ledger.entries import Ledger
    from refinerctl.terraform.plan_file import PlanRecord
    from refinerctl.terraform.root_module import RootModule


@click.command(
    epilog=examples(
        "refinerctl destroy --env staging --dry-run",
        "refinerctl destroy --env staging --confirm staging --empty-bucket",
    )
)
@click.option("--confirm", metavar="NAME", help="Name of the environment, instead of typing it when asked.")
@click.option("--empty-bucket", is_flag=True, help="Delete all objects in the stack's bucket first, every version.")
@click.option("--empty-repositories", is_flag=True, help="Delete all images in the stack's ECR repositories first.")
@click.option("--dry-run", is_flag=True, help="Show the plan, and stop.")
@apply_options
@notify_option
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
    """Destroy a stack of an environment.

    Refused (4) if a bucket or an ECR repository of the stack is not empty, unless an option empties it.
    """
    app = app_context(ctx, changes=True)
    if not dry_run:
        check_consent(confirm is not None, "--confirm NAME")
    if confirm is not None:
        _check_name(app, confirm)
    root = app.root_module(lock_timeout)
    with root.folder() as folder:
        with app.render.progress(title="Plan") as progress:
            plan = make_plan(root, Pins(), folder, progress, destroy=True)
        show_plan(app, root, plan)
        if plan.is_empty:
            if not dry_run:
                record_if_deployed(plan.record, app.ledger, app.operator, app.command("destroy"))
            _report(app, plan, applied=False)
            return
        for sentence in waiting_messages(plan.removed("aws_sqs_queue"), app.queues.state):
            app.render.warning(sentence)
        # force_destroy and force_delete in the state do not count: they may be set for another reason, and other
        # environments may run the images.
        buckets = [bucket for bucket in plan.removed("aws_s3_bucket") if app.bucket_versions.any_in(bucket)]
        if buckets and not empty_bucket:
            hint = "--empty-bucket deletes them permanently, every version."
            raise RefusedError(f"{', '.join(buckets)} holds objects, or versions of deleted ones", hint=hint)
        repositories = [name for name in plan.removed("aws_ecr_repository") if digests_in(name, app.ecr)]
        if repositories and not empty_repositories:
            hint = "--empty-repositories deletes them permanently; `refinerctl images list` shows what uses them."
            raise RefusedError(f"{', '.join(repositories)} holds images", hint=hint)
        if dry_run:
            _report(app, plan, applied=False)
            return
        options = [
            flag
            for flag, is_set in (("--empty-bucket", empty_bucket), ("--empty-repositories", empty_repositories))
            if is_set
        ]
        resume = app.command("destroy", *options)
        root = ready_to_apply(app, root, min_credential_lifetime, lambda: _ask_name(app, confirm))
        with app.render.progress(title="Destroy") as progress:
            if buckets or repositories:
                check_unchanged(root, plan)
            objects = empty_buckets(buckets, app.bucket_versions, progress)
            images = delete_images(repositories, app.ecr, progress)
            apply_destruction(root, plan, app.ledger, app.operator, progress, resume)
    _report(app, plan, objects, images, applied=True)


def _ask_name(app: AppContext, confirm: str | None) -> None:
    if confirm is None:
        _check_name(app, typed_answer(f"Type the environment's name to destroy this in {app.location}"))


def _check_name(app: AppContext, name: str) -> None:
    if name != app.settings.env:
        raise RefusedError(f"{name!r} is not the name of the environment, {app.settings.env!r}")


def _report(app: AppContext, plan: Plan, objects: int = 0, images: int = 0, *, applied: bool) -> None:
    counts = {"objects_deleted": objects, "images_deleted": images}
    app.render.result({"applied": applied, **counts, "plan": plan_json(plan)})
    if applied and not app.render.is_json:
        app.render.note(f"destroyed stack {plan.record.stack} of {plan.record.env}")


def waiting_messages(queues: Sequence[str], depth_of: Callable[[str], QueueState]) -> tuple[str, ...]:
    """A sentence for each queue that holds messages, or whose depth cannot be read."""
    found = []
    for queue in queues:
        answer = attempt(lambda name=queue: depth_of(name))  # type: ignore[misc]
        if answer.not_found:
            continue
        if answer.value is None:
            found.append(f"it is unknown whether queue {queue} holds messages: {answer.error}")
        elif count := answer.value.total:
            found.append(f"queue {queue} holds about {count} messages, which will be lost")
    return tuple(found)


def check_unchanged(root: RootModule, plan: Plan) -> None:
    """Before data is deleted: raise errors that would prevent Terraform from applying the plan, if detectable."""
    root.check_state(plan.record.state)
    if root.terraform.find_lock():
        raise TimedOutError("another run holds the state's lock; nothing was deleted")


def empty_buckets(buckets: Sequence[str], versions: BucketVersions, progress: Progress) -> int:
    """Delete every version in `buckets`. Returns how many there were."""
    total = 0
    for bucket in buckets:
        progress.step(f"emptying bucket {bucket}")
        total += versions.delete_all(bucket, lambda count, name=bucket: progress.update(f"{name}: {count} deleted"))  # type: ignore[misc]
    return total


def delete_images(repositories: Sequence[str], ecr: EcrRegistry, progress: Progress) -> int:
    """Delete every image in `repositories`. Returns how many there were. Raises RefinerctlError for what ECR keeps.

    In several rounds: ECR deletes an index before the images that it refers to.
    """
    total = 0
    for repository in repositories:
        progress.step(f"emptying ECR repository {repository}")
        while digests := digests_in(repository, ecr):
            failures = ecr.delete(repository, digests)
            if len(failures) >= len(digests):
                digest, reason = next(iter(failures.items()))
                raise RefinerctlError(f"ECR did not delete {digest} of {repository}: {reason}")
            total += len(digests) - len(failures)
    return total


def digests_in(repository: str, ecr: EcrRegistry) -> list[str]:
    """Of all images; none in a repository that does not exist any more."""
    try:
        return list(dict.fromkeys(image.digest for image in ecr.images(repository)))
    except NotFoundError:
        return []


def apply_destruction(root: RootModule, plan: Plan, ledger: Ledger, who: str, progress: Progress, resume: str) -> None:
    """Apply a plan that destroys everything, and record it."""
    progress.step(f"terraform destroy: stack {root.name} of {root.env}")
    try:
        root.apply(plan.file, progress, resume)
    except RefusedError as error:  # buckets may have been emptied: exit code 4 would say that nothing was changed
        raise RefinerctlError(error.message, hint=error.hint) from error
    _record(plan.record, ledger, who, resume)


def record_if_deployed(record: PlanRecord, ledger: Ledger, who: str, resume: str) -> None:
    """Record a destruction whose run was killed before it could record it."""
    if deployed(ledger.read()):
        _record(record, ledger, who, resume)


def _record(record: PlanRecord, ledger: Ledger, who: str, resume: str) -> None:
    release = Release(ReleaseAction.DESTROY, tag=None, commit=record.version, who=who, at=datetime.now(UTC))
    add_to_ledger(ledger, release, "destroyed, but not recorded", resume)
