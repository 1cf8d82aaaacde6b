"""`refinerctl rollback`: deploy an earlier release again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.errors import NotFoundError, RefusedError, known_names
from refinerctl.ledger.entries import Release, ReleaseAction, deployed, last_deploy, previous
from refinerctl.options import ReleaseTag, examples, global_options
from refinerctl.releases.deploy import ApplyOptions, deploy_options, deploy_plan
from refinerctl.releases.pins import pins_of
from refinerctl.releases.planning import make_plan, unfinished
from refinerctl.shell import complete_deployed_tag
from refinerctl.terraform.plan_json import ImageChange

_TAGS_SHOWN = 10


@click.command(epilog=examples("refinerctl rollback", "refinerctl rollback --to v1.3.0 --yes --env production"))
@click.option(
    "--to",
    type=ReleaseTag(),
    shell_complete=complete_deployed_tag,
    help="Release to deploy again. [default: the previous one]",
)
@deploy_options
@global_options
@click.pass_context
def rollback(ctx: click.Context, /, to: str | None, allow: tuple[str, ...], lock_timeout: float, **given: Any) -> None:
    """Deploy an earlier release again, by its recorded digests, even if its tag has moved since.

    Only images are rolled back: the configuration is that of this checkout.
    """
    options = ApplyOptions(**given, action=ReleaseAction.ROLLBACK)
    app = app_context(ctx, changes=True)
    root = app.root_module(lock_timeout)
    current, target = choose(app.ledger.read(), to)
    app.render.note(f"rolling back to {target.tag or 'the release'} of {target.at:%Y-%m-%d %H:%MZ}, by {target.who}")
    with root.folder() as folder:
        with app.render.progress(title="Plan") as progress:
            plan = make_plan(root, pins_of(app, target, current), folder, progress, allow=allow)
        if to is None:
            check_finished(current, plan.images, app.command("deploy"))
        deploy_plan(app, root, plan, options)


def choose(releases: Sequence[Release], to: str | None) -> tuple[Release, Release]:
    """The current release, and the one to deploy: the last entry of tag `to`, or the previous one with other images.

    A release that was rolled back is never chosen by default. Raises RefusedError without a release to roll back to,
    NotFoundError for a tag that was never deployed.
    """
    current = deployed(releases)
    if current is None:
        raise RefusedError("no release is recorded as deployed here, so there is nothing to roll back")
    target = last_deploy(releases, to) if to else previous(releases)
    if target is None and to is None:
        raise RefusedError(
            f"no release with other images was deployed before {current.tag or 'the current one'}",
            hint="Releases that were rolled back do not count; --to TAG accepts any that was ever deployed here.",
        )
    if target is None:
        tags = list(dict.fromkeys(release.tag for release in reversed(releases) if release.tag))[:_TAGS_SHOWN]
        raise NotFoundError(f"{to} was never deployed here", hint=known_names(to or "", tags, "Recorded releases"))
    return current, target


def check_finished(current: Release, images: Sequence[ImageChange], deploy: str) -> None:
    """Raises RefusedError if stages run other images than the recorded ones: an apply was interrupted.

    The release before the recorded one is then not the one before what runs now. `deploy` is the command that deploys
    the recorded one.
    """
    if stages := unfinished(current, images):
        name = current.tag or "the recorded release"
        raise RefusedError(
            f"{', '.join(stages)} does not run the image of {name}: a later deployment was interrupted",
            hint=f"`{deploy}` deploys the recorded release again; --to TAG deploys the one that you name.",
        )
