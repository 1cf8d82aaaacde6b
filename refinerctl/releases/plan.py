"""`refinerctl plan`, and a plan as text, as data, as a merge request note and as GitLab's report.

Attributes are shown by name only: values may be secret.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import printable
from refinerctl.errors import DIFFERENCES
from refinerctl.files import check_writable, write_text
from refinerctl.options import Decorated, Duration, ReleaseTag, examples, global_options
from refinerctl.releases.pins import pins_for
from refinerctl.releases.planning import Plan, make_plan, refuse_losses
from refinerctl.terraform.plan_file import save_plan
from refinerctl.terraform.plan_json import Action, Change, ImageChange

if TYPE_CHECKING:
    from refinerctl.terraform.root_module import RootModule

SIGNS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "-/+",
    Action.DESTROY: "-",
    Action.FORGET: "forget",
    Action.IMPORT: "import",
    Action.MOVE: "move",
}
_MANY_CREATED = 5
_DIGEST_LENGTH = 19

# https://spec.commonmark.org/0.31.2/#backslash-escapes; GitLab supports them for its references, too.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()|@#!~&$%^]")

_FILE = click.Path(dir_okay=False, path_type=Path)


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
@click.option("--tag", type=ReleaseTag(), help="Release to plan. [default: the current one]")
@click.option("--out", type=_FILE, metavar="FILE", help="File for the plan, for `deploy --plan FILE`; holds secrets.")
@click.option("--report", type=_FILE, metavar="FILE", help="File for GitLab's Terraform report (JSON).")
@click.option("--markdown", "note", type=_FILE, metavar="FILE", help="File for a summary, for a merge request note.")
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
    """Show what a deployment would change. Nothing is changed.

    The image of every stage is resolved to a digest in ECR first. Refused (4) if an image is missing or its service
    does not accept it, or if the plan would lose data that --allow-destroy does not name.
    """
    app = app_context(ctx, changes=True)  # a plan of another account would be wrong
    for path in filter(None, (out, report, note)):
        check_writable(path)
    root = app.root_module(lock_timeout)
    with root.folder() as folder:
        with app.render.progress() as progress:
            planned = make_plan(root, pins_for(app, tag), folder, progress, allow=allow)
        show_plan(app, root, planned)
        if report is not None:
            write_text(report, json.dumps(gitlab_report(planned)) + "\n")
        if note is not None:
            write_text(note, markdown(planned))
        if app.render.is_json:
            app.render.json(plan_json(planned))
        refuse_losses(planned)
        if out is not None:
            save_plan(planned.file, planned.record, out)
            app.render.note(f"saved to {out}; to apply it, run `{app.command('deploy', '--plan', str(out))}`")
    if detailed_exitcode and not planned.is_empty:
        ctx.exit(DIFFERENCES)


def show_plan(app: AppContext, root: RootModule, plan: Plan) -> None:
    """Print the summary: with --output json to stderr, because a user who confirms needs it, too."""
    write = app.render.note if app.render.is_json else app.render.line
    for line in plan_lines(plan):
        write(line)
    if app.settings.verbosity > 0:
        for line in root.terraform.show_text(plan.file).splitlines():
            app.render.detail(line)


def plan_lines(plan: Plan) -> Iterator[str]:
    """The summary of a plan, one screen for an ordinary one."""
    yield heading(plan)
    images = _changed_images(plan)
    if images:
        yield "images"
        yield from (f"  {image.stage:<24}  {_short(image.before)} → {_short(image.after)}" for image in images)
    for title, changes in _grouped(plan.changes):
        yield title
        yield from (f"  {line}" for line in _change_lines(changes))
    if plan.outputs:
        yield f"outputs that change: {', '.join(plan.outputs)}"
    if plan.drift:
        yield "changed outside of Terraform"
        yield from (f"  {change_text(change, change.address)}" for change in plan.drift)
    yield from (f"note: {note}" for note in plan.record.notes)
    yield totals(plan)


def heading(plan: Plan) -> str:
    """The account, region, environment, stack and release of the plan."""
    record = plan.record
    return f"{record.location or f'environment {record.env}'}, stack {record.stack}" + (
        f", release {record.tag}" if record.tag else ""
    )


def totals(plan: Plan) -> str:
    """The numbers of changes, in one line."""
    if plan.is_empty:
        return "no changes"
    parts = [
        f"{plan.count(Action.CREATE)} to create",
        f"{plan.count(Action.UPDATE)} to change",
        f"{plan.count(Action.REPLACE)} to replace",
        f"{plan.count(Action.DESTROY)} to destroy",
    ]
    rare = (Action.FORGET, Action.IMPORT, Action.MOVE)
    parts += [f"{count} to {action}" for action in rare if (count := plan.count(action))]
    return ", ".join(parts)


def _changed_images(plan: Plan) -> list[ImageChange]:
    return [image for image in plan.images if image.before != image.after]


def _grouped(changes: Iterable[Change]) -> list[tuple[str, list[Change]]]:
    """Changes by module instance, which is a stage, as a rule; all others last."""
    groups: dict[str | None, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.module, []).append(change)
    ordered = sorted(groups.items(), key=lambda item: (item[0] is None, item[0] or ""))
    return [(module or "all other resources", found) for module, found in ordered]


def _change_lines(changes: list[Change]) -> Iterator[str]:
    """A line per change; many creations only as counts of their types."""
    created = [change for change in changes if change.action is Action.CREATE]
    if len(created) > _MANY_CREATED:
        types = Counter(change.type for change in created)
        yield f"+ {', '.join(name if count == 1 else f'{name} x {count}' for name, count in sorted(types.items()))}"
        changes = [change for change in changes if change.action is not Action.CREATE]
    for change in changes:
        yield change_text(change, change.address.removeprefix(f"{change.module}."))


def change_text(change: Change, name: str) -> str:
    attributes = f"  ({', '.join(change.attributes)})" if change.attributes else ""
    lost = f": {', '.join(change.losses)}" if change.losses else ""
    return f"{SIGNS[change.action]} {name}{attributes}" + (f"  LOSES DATA{lost}" if change.loses_data else "")


def _short(uri: str | None) -> str:
    """The start of the digest; the tag of an image that is not pinned."""
    if uri is None:
        return "none"
    _, at, digest = uri.rpartition("@")
    return digest[:_DIGEST_LENGTH] if at else uri.rpartition("/")[2]


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as data."""
    return {
        "env": plan.record.env,
        "location": plan.record.location,
        "stack": plan.record.stack,
        "tag": plan.record.tag,
        "has_changes": not plan.is_empty,
        "totals": {action.value: plan.count(action) for action in Action},
        "images": [vars(image) for image in plan.images],
        "changes": [change_json(change) for change in plan.changes],
        "outputs": list(plan.outputs),
        "drift": [change_json(change) for change in plan.drift],
        "notes": list(plan.record.notes),
    }


def change_json(change: Change) -> dict[str, Any]:
    return {**vars(change), "stage": change.stage, "loses_data": change.loses_data}


def gitlab_report(plan: Plan) -> Mapping[str, int]:
    """https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsterraform"""
    return {
        "create": plan.count(Action.CREATE, Action.REPLACE),
        "update": plan.count(Action.UPDATE),
        "delete": plan.count(Action.DESTROY, Action.REPLACE),
    }


def markdown(plan: Plan) -> str:
    """A note for a merge request; a long list is folded."""
    record = plan.record
    head = f"Terraform plan: {_escaped(record.stack)} in {_escaped(record.env)}"
    head += f", release {_escaped(record.tag)}" if record.tag else ""
    lines = [f"### {head}", "", _escaped(record.location), "", f"**{totals(plan)}**", ""]
    if images := _changed_images(plan):
        lines += ["| stage | image before | image after |", "| --- | --- | --- |"]
        lines += [
            f"| {_escaped(image.stage)} | `{_short(image.before)}` | `{_short(image.after)}` |" for image in images
        ]
        lines.append("")
    if plan.changes:
        lines += ["<details><summary>Changes</summary>", "", "```diff"]
        for title, changes in _grouped(plan.changes):
            lines += [printable(line) for line in (f"# {title}", *map(_diff, _change_lines(changes)))]
        lines += ["```", "", "</details>", ""]
    if plan.drift:
        lines += ["Changed outside of Terraform:", ""]
        lines += [f"- {_escaped(change_text(change, change.address))}" for change in plan.drift] + [""]
    lines += [f"- {_escaped(note)}" for note in record.notes]
    return "\n".join(lines).rstrip() + "\n"


def _escaped(text: str) -> str:
    """Names come from the author of a merge request: without markup, mentions and line breaks."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


def _diff(line: str) -> str:
    """GitLab colours a line by its first character."""
    return f"! {line[2:]}" if line.startswith("~ ") else line
