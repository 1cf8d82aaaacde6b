"""`refinerctl deploy`, and the flow of everything that applies: show, confirm, apply, record, wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.ledger.entries import Release, ReleaseAction, deployed
from refinerctl.options import (
    Decorated,
    Duration,
    PathParam,
    ReleaseTag,
    ask,
    check_consent,
    examples,
    global_options,
    notify_option,
    yes_option,
)
from refinerctl.parallel import attempt
from refinerctl.releases.pins import pins_for
from refinerctl.releases.plan import allow_destroy_option, lock_timeout_option, show_plan
from refinerctl.releases.plan_view import plan_json
from refinerctl.releases.planning import Plan, check_target, load_plan, make_plan, refuse_losses
from refinerctl.releases.readiness import readiness_checks, wait_until_ready
from refinerctl.shell import complete_ecr_tag
from refinerctl.terraform.plan_json import Action

if TYPE_CHECKING:
    from refinerctl.ledger.entries import Ledger
    from refinerctl.terraform.root_module import RootModule


def apply_options(command: Decorated) -> Decorated:
    """The options of everything that applies."""
    lifetime = click.option(
        "--min-credential-lifetime",
        type=Duration(),
        default="15m",
        show_default=True,
        help="Minimum lifetime of the credentials; refuse to apply with less.",
    )
    return lifetime(lock_timeout_option(command))


def deploy_options(command: Decorated) -> Decorated:
    """The options of a deployment: fields of ApplyOptions, `allow` and `lock_timeout`."""
    timeout = click.option(
        "--timeout",
        type=Duration(),
        default="5m",
        show_default=True,
        help="Maximum wait until functions are updated, event source mappings enabled and services deployed.",
    )
    dry_run = click.option("--dry-run", is_flag=True, help="Show the plan, and stop.")
    for option in (apply_options, timeout, allow_destroy_option, dry_run, yes_option, notify_option):
        command = option(command)
    return command


@click.command(
    epilog=examples("refinerctl deploy --tag v1.4.0", "refinerctl deploy --plan release.tfplan --yes --env production")
)
@click.option(
    "--tag",
    type=ReleaseTag(),
    shell_complete=complete_ecr_tag,
    help="Release to deploy. [default: the current one]",
)
@click.option(
    "--plan",
    "plan_file",
    type=PathParam(dir_okay=False, path_type=Path),
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
    app = app_context(ctx, changes=True)
    if plan_file is not None:  # before any request to what may be the wrong environment
        check_target(plan_file, app.settings.env, app.settings.stack, tag)
    root = app.root_module(lock_timeout)
    with root.folder() as folder:
        with app.render.progress(title="Plan") as progress:
            if plan_file is not None:
                plan = load_plan(root, plan_file, folder, progress, tag=tag, allow=allow)
            else:
                plan = make_plan(root, pins_for(app, tag), folder, progress, allow=allow)
        deploy_plan(app, root, plan, options)


@dataclass(frozen=True)
class ApplyOptions:
    """How to apply. `timeout` and `min_credential_lifetime` in seconds. Raises UsageError if nobody can confirm."""

    yes: bool
    dry_run: bool
    timeout: float
    min_credential_lifetime: float
    action: ReleaseAction = ReleaseAction.DEPLOY

    def __post_init__(self) -> None:
        check_consent(self.yes or self.dry_run)


def deploy_plan(app: AppContext, root: RootModule, plan: Plan, options: ApplyOptions) -> None:
    """Show the plan, confirm it, apply it, record the release, wait, and report; with --dry-run only show it."""
    if options.dry_run:
        show_plan(app, root, plan)
        app.render.result(plan_json(plan))
        refuse_losses(plan)
        return
    app.render.result(apply_and_record(app, confirm(app, root, plan, options), plan, options))


def confirm(app: AppContext, root: RootModule, plan: Plan, options: ApplyOptions) -> RootModule:
    """Show the plan and ask; nothing is changed yet. Returns the root module with credentials for the apply.

    Raises RefusedError for losses of data, RefinerctlError for a no.
    """
    show_plan(app, root, plan)
    refuse_losses(plan)
    if plan.is_empty:
        return root
    question = f"Apply this in {root.location}?"
    return ready_to_apply(app, root, options.min_credential_lifetime, lambda: ask(question, options.yes))


def ready_to_apply(app: AppContext, root: RootModule, least_s: float, consent: Callable[[], None]) -> RootModule:
    """Ask for consent. Returns the root module with credentials that last for at least `least_s` seconds.

    Raises RefusedError if they do not: before the question, and after it, because the user may answer an hour later.
    """
    expiry, is_known = app.session.credential_lifetime()
    check_credentials(expiry, least_s)
    if not is_known:
        app.render.warning("the credentials are temporary, and their expiry is unknown")
    consent()
    if not app.settings.embedded:
        root = replace(root, terraform=replace(root.terraform, environment=app.terraform_environment()))
    check_credentials(app.session.credential_lifetime()[0], least_s)
    return root


def check_credentials(expiry: datetime | None, least_s: float) -> None:
    """Raises RefusedError if the credentials may expire during an apply, which leaves orphans and a held lock."""
    if expiry is None:
        return
    left = expiry - datetime.now(UTC)
    if left < timedelta(seconds=least_s):
        minutes = max(0, int(left.total_seconds() // 60))
        raise RefusedError(
            f"the credentials in use expire in {minutes} min; an apply needs {least_s / 60:g} min",
            hint="Renew them (aws sso login, or a new session or job token), or lower --min-credential-lifetime.",
        )


def apply_and_record(app: AppContext, root: RootModule, plan: Plan, options: ApplyOptions) -> dict[str, Any]:
    """Apply the plan, record the release, wait until it is in effect, and tell the user. Returns the result as data."""
    resume = app.command(*resume_arguments(plan, options.action))
    with app.render.progress(title="Apply") as progress:
        applied, release = apply_plan(root, plan, app.ledger, app.operator, progress, resume, options.action)
        if applied:
            tell_of_events(app, plan)
            checks = attempt(
                lambda: readiness_checks(app.stack, root.terraform.outputs()[0], app.functions, app.services)
            )
            if checks.error:
                app.render.warning(f"applied, but cannot wait until it is in effect: {checks.error.message}")
            wait_until_ready(checks.value or {}, options.timeout, progress)
    if not app.render.is_json:
        what = f" {release.tag}" if release and release.tag else ""
        if applied:
            app.render.note(f"deployed{what} to {plan.record.env}")
        elif release:
            app.render.note(f"no changes; recorded release{what}")
        else:
            app.render.note("no changes: this release is deployed already")
    return {"applied": applied, "release": release, "plan": plan_json(plan)}


def tell_of_events(app: AppContext, plan: Plan) -> None:
    """Warn about inputs that get lost until EventBridge delivers; in a local environment it does so at once.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html
    """
    for bucket in () if app.settings.embedded else plan.event_buckets:
        app.render.warning(
            f"EventBridge was enabled for bucket {bucket}. It takes about five minutes to have effect; inputs that are "
            f"uploaded before may raise no event. After that, run `{app.command('verify', '--canary')}` to check it, "
            f"and `{app.command('inputs', '--incomplete')}` to find inputs that were not processed"
        )


def resume_arguments(plan: Plan, action: ReleaseAction) -> list[str]:
    """The command that continues the apply of a plan: a saved plan is not valid any more once it was begun.

    Without a requested tag it has none: it would be resolved again, or refused for an image that runs from its folder.
    """
    record = plan.record
    if action is ReleaseAction.ROLLBACK:
        verb = ["rollback", *(["--to", record.tag] if record.tag else [])]
    else:
        verb = ["deploy", *(["--tag", record.asked_tag] if record.asked_tag else [])]
    return [*verb, *(word for address in record.allow_destroy for word in ("--allow-destroy", address))]


def apply_plan(
    root: RootModule,
    plan: Plan,
    ledger: Ledger,
    who: str,
    progress: Progress,
    resume: str,
    action: ReleaseAction = ReleaseAction.DEPLOY,
) -> tuple[bool, Release | None]:
    """Apply the plan if it changes anything, and record the release if it is another than the last one.

    It is recorded as soon as it is applied: from then on it is deployed, even if the wait for its effect fails.
    `resume` is the command that continues after a failure. Returns whether anything was applied, and the entry that
    was added to the ledger.
    """
    has_changes = not plan.is_empty
    if has_changes:
        progress.step(f"terraform apply: stack {root.name} of {root.env}")
        created = [change.address for change in plan.changes if change.action is Action.CREATE]
        root.apply(plan.file, progress, resume, created)
    record = plan.record
    release = Release(
        action,
        record.tag,
        dict(record.images),
        record.version,
        who,
        datetime.now(UTC),
        dict(record.bases),
        dict(record.builds),
    )
    if not has_changes and _is_recorded(release, deployed(ledger.read())):
        return False, None
    add_to_ledger(ledger, release, "applied, but not recorded" if has_changes else "not recorded", resume)
    return has_changes, release


def add_to_ledger(ledger: Ledger, release: Release, failure: str, resume: str) -> None:
    """Record a release. Raises RefinerctlError that begins with `failure`."""
    try:
        ledger.append(release)
    except RefinerctlError as error:
        raise RefinerctlError(
            f"{failure}: {error.message}", hint=f"Run `{resume}`: it records this, and changes nothing else."
        ) from error


def _is_recorded(release: Release, last: Release | None) -> bool:
    if last is None:
        return release.tag is None and not release.images
    return (release.tag, dict(release.images)) == (last.tag, dict(last.images))
