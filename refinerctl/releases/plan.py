"""`refinerctl plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import DIFFERENCES
from refinerctl.files import check_writable, write_text
from refinerctl.options import Decorated, Duration, PathParam, ReleaseTag, examples, global_options, notify_option
from refinerctl.parallel import attempt
from refinerctl.releases.gitlab_notes import job_merge_request, write_plan_note
from refinerctl.releases.markdown import plan_markdown
from refinerctl.releases.pins import pins_for
from refinerctl.releases.plan_view import gitlab_report, plan_json, plan_lines
from refinerctl.releases.planning import Plan, make_plan, refuse_losses
from refinerctl.shell import complete_ecr_tag
from refinerctl.terraform.plan_file import save_plan

if TYPE_CHECKING:
    from refinerctl.terraform.root_module import RootModule

_FILE = PathParam(dir_okay=False, path_type=Path)


def lock_timeout_option(command: Decorated) -> Decorated:
    return click.option(
        "--lock-timeout",
        type=Duration(),
        default="2m",
        show_default=True,
        help="Maximum wait for another run that holds the state's lock.",
    )(command)


def allow_destroy_option(command: Decorated) -> Decorated:
    return click.option(
        "--allow-destroy",
        "allow",
        multiple=True,
        metavar="ADDRESS",
        help="Resource whose data may be lost; repeatable.",
    )(command)


@click.command(
    epilog=examples("refinerctl plan --tag v1.4.0 --out release.tfplan", "refinerctl plan --detailed-exitcode")
)
@click.option(
    "--tag",
    type=ReleaseTag(),
    shell_complete=complete_ecr_tag,
    help="Release to plan. [default: the current one]",
)
@click.option("--out", type=_FILE, metavar="FILE", help="File for the plan, for `deploy --plan FILE`; holds secrets.")
@click.option("--report", type=_FILE, metavar="FILE", help="File for GitLab's Terraform report (JSON).")
@click.option("--markdown", "note", type=_FILE, metavar="FILE", help="File for a summary, for a merge request note.")
@click.option("--gitlab-note", is_flag=True, help="Keep one note with a summary up to date in GitLab's merge request.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 5 if there are changes.")
@allow_destroy_option
@lock_timeout_option
@notify_option
@global_options
@click.pass_context
def plan(
    ctx: click.Context,
    tag: str | None,
    out: Path | None,
    report: Path | None,
    note: Path | None,
    gitlab_note: bool,
    detailed_exitcode: bool,
    allow: tuple[str, ...],
    lock_timeout: float,
) -> None:
    """Show what a deployment would change. Nothing is changed.

    The image of every stage is resolved to a digest in ECR first. Refused (4) if an image is missing or its service
    does not accept it, or if the plan would lose data that --allow-destroy does not name.
    """
    app = app_context(ctx, changes=True)  # a plan of another account would be wrong
    for path in filter(None, (out, report, note)):
        check_writable(path)
    merge_request = job_merge_request(app) if gitlab_note else None
    root = app.root_module(lock_timeout)
    with root.folder() as folder:
        with app.render.progress(title="Plan") as progress:
            planned = make_plan(root, pins_for(app, tag), folder, progress, allow=allow)
        show_plan(app, root, planned)
        if report is not None:
            write_text(report, json.dumps(gitlab_report(planned)) + "\n")
        if note is not None:
            write_text(note, plan_markdown(planned))
        app.render.result(plan_json(planned))
        noted = attempt(lambda: write_plan_note(app, merge_request, planned))
        refuse_losses(planned)
        if out is not None:
            save_plan(planned.file, planned.record, out)
            app.render.note(f"saved to {out}; to apply it, run `{app.command('deploy', '--plan', str(out))}`")
    if noted.error:
        raise noted.error
    if detailed_exitcode and not planned.is_empty:
        ctx.exit(DIFFERENCES)


def show_plan(app: AppContext, root: RootModule, plan: Plan) -> None:
    """Print the summary: with --output json to stderr, because a user who confirms needs it, too."""
    write = app.render.note if app.render.is_json else app.render.line
    for line in plan_lines(plan, in_full=app.settings.verbosity > 0):
        write(line)
    if app.settings.verbosity > 0:
        with app.render.section("Terraform's plan", collapsed=True):
            for line in root.terraform.show_text(plan.file).splitlines():
                app.render.detail(line)
