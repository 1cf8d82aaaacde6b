"""`refinerctl plan`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from refinerctl.app import app_context
from refinerctl.files import check_writable
from refinerctl.options import ReleaseTag, global_options
from refinerctl.releases.plan import make_plan, refuse_losses, save
from refinerctl.releases.plan_view import plan_json
from refinerctl.releases.planning import allow_destroy_option, lock_timeout_option, pins_for, show_plan, write_reports

DIFFERENCES = 5

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--tag", type=ReleaseTag(), help="The release to plan. [default: the one in place]")
@click.option("--out", type=_FILE, metavar="FILE", help="Save the plan for `deploy --plan FILE`. It may hold secrets.")
@click.option("--report", type=_FILE, metavar="FILE", help="Write GitLab's Terraform report (JSON).")
@click.option("--markdown", "note", type=_FILE, metavar="FILE", help="Write a summary for a merge request note.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 5 if there are changes.")
@allow_destroy_option
@lock_timeout_option
@global_options
@click.pass_context
def plan(
    ctx: click.Context,
    tag: str | None,
    out: Path | None,
    report: Path | None,
    note: Path | None,
    detailed_exitcode: bool,
    allow: tuple[str, ...],
    lock_timeout: float,
) -> None:
    """Say what a deployment would change; nothing is changed.

    Every ruleset's image is resolved to a digest in ECR first. Refused (4) if one is missing or not acceptable to
    Lambda, or if the plan would lose data that is not named with --allow-destroy.
    """
    app = app_context(ctx)
    for path in filter(None, (out, report, note)):
        check_writable(path)
    stack = app.root_module(lock_timeout)
    with stack.folder() as folder:
        with app.render.progress() as progress:
            planned = make_plan(stack, pins_for(app, stack, tag), folder, progress, allow=allow)
        show_plan(app, stack, planned)
        write_reports(planned, report, note)
        if app.render.is_json:
            app.render.json(plan_json(planned.plan))
        refuse_losses(planned)
        if out is not None:
            save(planned, out)
            app.render.note(f"saved to {out}; apply it: refinerctl deploy --plan {shlex.quote(str(out))}")
    if detailed_exitcode and not planned.plan.is_empty:
        ctx.exit(DIFFERENCES)
