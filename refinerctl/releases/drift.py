"""`refinerctl drift`: how reality, state and configuration differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import app_context
from refinerctl.errors import DIFFERENCES
from refinerctl.options import examples, global_options, notify_option
from refinerctl.releases.gitlab_notes import job_project, keep_drift_issue
from refinerctl.releases.pins import pins_for
from refinerctl.releases.plan import lock_timeout_option
from refinerctl.releases.plan_view import OUTSIDE, change_block, change_json, heading
from refinerctl.releases.planning import Plan, make_plan
from refinerctl.terraform.plan_json import Change

if TYPE_CHECKING:
    from refinerctl.terraform.root_module import RootModule


@dataclass(frozen=True)
class Drift:
    """What differs from the current release, by the plan that would restore it: outside of Terraform, and otherwise."""

    plan: Plan
    configuration: tuple[Change, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        return (*self.plan.drift, *self.configuration)

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.plan.outputs if self.configuration else ()

    @property
    def images_only(self) -> bool:
        """Whether only images differ: another release than the recorded one was deployed, not by refinerctl."""
        return bool(self.changes) and all(change.image_only for change in self.changes)


@click.command(
    epilog=examples(
        "refinerctl drift --env production",
        "refinerctl drift --output json",
        "refinerctl drift --env production --gitlab-issue",
    )
)
@click.option("--gitlab-issue", is_flag=True, help="Keep one GitLab issue up to date: open while there is drift.")
@lock_timeout_option
@notify_option
@global_options
@click.pass_context
def drift(ctx: click.Context, gitlab_issue: bool, lock_timeout: float) -> None:
    """Compare what is deployed with the current release, by resource. Exit with 5 if they differ.

    --gitlab-issue opens, updates and closes one issue per environment and stack. It opens none if only images differ,
    because another release was deployed without refinerctl.
    """
    app = app_context(ctx, changes=True)  # a plan of another account would be wrong
    project = job_project(app) if gitlab_issue else None
    root = app.root_module(lock_timeout)
    with root.folder() as folder, app.render.progress(title="Plan") as progress:
        plan = make_plan(root, pins_for(app, None), folder, progress)
    for note in plan.record.notes:
        app.render.note(f"note: {note}")
    found = Drift(plan, configuration_changes(plan))
    app.render.result(drift_json(found))
    if not app.render.is_json:
        for line in drift_lines(found, in_full=app.settings.verbosity > 0):
            app.render.line(line)
        if found.changes:
            app.render.line(
                f"to restore the configuration, run `{app.command('deploy')}`; to keep a change, add it to "
                f"{_sources(root)}"
            )
    if project is not None:
        keep_drift_issue(app, project, plan, found.configuration, bool(found.changes) and not found.images_only)
    if found.changes:
        ctx.exit(DIFFERENCES)


def _sources(root: RootModule) -> str:
    """The files with the configuration."""
    layout = root.layout
    places = [root.var_file, layout.root_module(root.name)]
    return " or ".join(str(place.relative_to(layout.root)) for place in places)


def configuration_changes(plan: Plan) -> tuple[Change, ...]:
    """What a deployment of the same release would change, except for what only reverts a change from outside."""
    reverted = {change.address for change in plan.drift}
    return tuple(change for change in plan.changes if change.address not in reverted)


def drift_json(drift: Drift) -> dict[str, Any]:
    """The drift as data."""
    return {
        "env": drift.plan.record.env,
        "stack": drift.plan.record.stack,
        "tag": drift.plan.record.tag,
        "has_drift": bool(drift.changes),
        "images_only": drift.images_only,
        "outside": [change_json(change) for change in drift.plan.drift],
        "configuration": [change_json(change) for change in drift.configuration],
        "outputs": list(drift.outputs),
    }


def drift_lines(drift: Drift, *, in_full: bool = False) -> Iterator[str]:
    """The drift as text; `in_full`: with long values as they are."""
    yield heading(drift.plan)
    titled = (
        (OUTSIDE, drift.plan.drift),
        ("differs from the configuration (now → configured)", drift.configuration),
    )
    for title, changes in titled:
        if changes:
            yield title
            yield from (f"  {line}" for change in changes for line in change_block(change, change.address, in_full))
    if drift.outputs:
        yield f"outputs that differ: {', '.join(drift.outputs)}"
    if drift.images_only:
        yield "only images differ: another release than the recorded one was deployed"
    if not drift.changes:
        yield "no drift"
