"""`refinerctl releases`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.inventory import ReleaseOverview, TagStatus
from refinerctl.config import ImageSettings
from refinerctl.errors import UsageError
from refinerctl.images import ImageReference
from refinerctl.options import global_options
from refinerctl.releases.release import Release
from refinerctl.tables import table

DIFFERENCES = 5
DEFAULT_LIMIT = 20
SHORT_DIGEST = 19  # sha256: and twelve digits


@click.command()
@click.option("--new", is_flag=True, help="Only tags that are not in ECR yet; exit code 5 if there are any.")
@click.option("--all", "every_tag", is_flag=True, help="Other tags than releases (v1.2.3), too.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Look at the newest N tags only. [default: {DEFAULT_LIMIT}; with --new: all]",
)
@global_options
@click.pass_context
def releases(ctx: click.Context, new: bool, every_tag: bool, limit: int | None) -> None:
    """Show which releases are published, which of them are in ECR, and which are deployed where.

    With --new one tag per line, newest first, for a scheduled job that copies them: `refinerctl sync --tag TAG`.
    """
    from refinerctl.releases import published as operation

    app = app_context(ctx)
    images = published_images(app)
    app.render.detail(f"environment {app.settings.env}, stack {app.settings.stack}, {len(images)} images")
    overview = operation.releases(
        images,
        partial(_tags, app),
        app.ecr,
        {} if new else {name: partial(read_ledger, other) for name, other in ledger_environments(app)},
        operation.ReleasesRequest(limit=limit or (None if new else DEFAULT_LIMIT), every_tag=every_tag),
    )
    for repository in overview.missing:
        app.render.warning(
            f"ECR has no repository {repository!r} yet: `refinerctl deploy --stack registry` makes it, "
            "or `refinerctl sync --create-repository`"
        )
    if new:
        found = [status for status in overview.tags if status.is_new]
        _show_new(app, found)
        ctx.exit(DIFFERENCES if found else 0)
    _show(app, overview)


def published_images(app: AppContext) -> list[ImageSettings]:
    """The stack's images that are published somewhere."""
    settings = app.settings
    found = [image for image in settings.images if image.stack == settings.stack and image.source]
    if not found:
        raise UsageError(
            f"refinerctl.toml has no image of stack {settings.stack!r} with a source",
            hint="Add `source` to its [images.*], or choose another --stack.",
        )
    return found


def ledger_environments(app: AppContext) -> Iterable[tuple[str, AppContext]]:
    """All environments, each with a context of its own; one on this machine only while it is up."""
    for name in app.settings.environments:
        other = app.in_environment(name)
        is_elsewhere = other.settings.endpoint_url or not other.settings.embedded
        if not is_elsewhere and other.instance.status().endpoint_url is None:
            app.render.detail(f"environment {name} is down: left out")
        else:
            yield name, other


def read_ledger(app: AppContext) -> tuple[Release, ...]:
    """What was released in the context's environment and stack."""
    return app.ledger.read()


def _tags(app: AppContext, source: ImageReference) -> list[str]:
    return app.registries.client(source.registry or "docker.io").repository(source.repository).tags()


def _show_new(app: AppContext, found: list[TagStatus]) -> None:
    if app.render.is_json:
        app.render.json({"releases": [{"tag": status.tag, "images": status.images} for status in found]})
    else:
        for status in found:
            app.render.line(status.tag)
    if not found:
        app.render.note("every release is in ECR")


def _show(app: AppContext, overview: ReleaseOverview) -> None:
    if app.render.is_json:
        app.render.json({"releases": overview.tags, "environments": overview.environments})
    else:
        _show_table(app, overview)
    shown = {status.tag for status in overview.tags}
    for environment in overview.environments:
        if environment.error:
            app.render.warning(f"what is deployed in {environment.name} is not known: {environment.error}")
        elif environment.is_deployed and environment.tag not in shown:
            app.render.note(f"{environment.name} has {environment.tag or 'a release without a tag'}, not shown here")
    if overview.left_out:
        app.render.note(f"{overview.left_out} older tags are not shown; --limit N shows more")


def _show_table(app: AppContext, overview: ReleaseOverview) -> None:
    names = [image.name for image in published_images(app)]
    header = ["TAG", *(f"IN ECR: {name}" if len(names) > 1 else "IN ECR" for name in names), "DEPLOYED"]
    unknown = [f"{environment.name}?" for environment in overview.environments if environment.error]
    rows = [
        [status.tag, *(_in_ecr(status, name) for name in names), " ".join([*status.deployed, *unknown])]
        for status in overview.tags
    ]
    for line in table(header, rows):
        app.render.line(line)


def _in_ecr(status: TagStatus, name: str) -> str:
    image = next((image for image in status.images if image.name == name), None)
    if image is None:
        return "not published"
    return (image.digest or "")[:SHORT_DIGEST] if image.in_ecr else "no"
