"""The common part of `add-prefix` and `remove-prefix`: show the edit, write it, deploy it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext
from refinerctl.config import check_root_module
from refinerctl.errors import RefinerctlError
from refinerctl.files import FileEdit
from refinerctl.options import Decorated, Duration, yes_option
from refinerctl.releases.deploy import ApplyOptions, apply_and_record, apply_options, confirm
from refinerctl.releases.pins import pins_for
from refinerctl.releases.plan import allow_destroy_option
from refinerctl.releases.planning import make_plan
from refinerctl.rulesets.hcl_edit import add_entry, remove_entry
from refinerctl.rulesets.model import VARIABLE, RulesetValues

if TYPE_CHECKING:
    from refinerctl.terraform.root_module import RootModule


def values_file(app: AppContext) -> Path:
    """The environment's tfvars file; need not exist."""
    return app.settings.layout.values_file(app.settings.env, app.stack.name)


def add_ruleset(app: AppContext, name: str, entry: Mapping[str, Any]) -> FileEdit:
    edit = add_entry(values_file(app), VARIABLE, name, entry, _defaults(app))
    return kept_formatted(edit, app.settings.terraform_binary)


def remove_ruleset(app: AppContext, name: str) -> FileEdit:
    edit = remove_entry(values_file(app), VARIABLE, name, _defaults(app))
    return kept_formatted(edit, app.settings.terraform_binary)


def kept_formatted(edit: FileEdit, terraform: str) -> FileEdit:
    """The edit as `terraform fmt` formats it, if the file was formatted before: it aligns the lines around a new line.

    Without Terraform, or if it cannot read the file, the edit stays as it is.
    """
    from refinerctl.terraform.installation import formatted

    after, before = formatted(terraform, edit.after), edit.before or b""
    if after is None or after == edit.after or formatted(terraform, before) != before:
        return edit
    return replace(edit, after=after)


def _defaults(app: AppContext) -> Mapping[str, Any]:
    from refinerctl.terraform.hcl import variable_defaults

    defaults: Mapping[str, Any] = variable_defaults(app.settings.layout.root_module(app.stack.name))[VARIABLE]
    return defaults


def edit_options(command: Decorated) -> Decorated:
    """The options of `carry_out_edit`, and those of everything that applies."""
    deploy = click.option("--deploy", is_flag=True, help="Plan and apply it at once, as `refinerctl deploy` does.")
    dry_run = click.option("--dry-run", is_flag=True, help="Show the change of the file, and stop.")
    wait = click.option(
        "--wait-timeout",
        type=Duration(),
        default="5m",
        show_default=True,
        help="With --deploy: how long to wait until functions are updated and their mappings enabled.",
    )
    for option in (apply_options, allow_destroy_option, wait, yes_option, deploy, dry_run):
        command = option(command)
    return command


def read_options(given: dict[str, Any]) -> ApplyOptions | None:
    """How to deploy the edit; None if it is only shown or written. Raises UsageError if nobody can confirm."""
    if not given["deploy"] or given["dry_run"]:
        return None
    return ApplyOptions(given["yes"], False, given["wait_timeout"], given["min_credential_lifetime"])


def ruleset_values(app: AppContext) -> RulesetValues:
    """What the environment's values say about rulesets. Raises NotFoundError outside of a project."""
    check_root_module(app.settings.layout.root_module(app.settings.stack))
    return RulesetValues.of(app.values)


def carry_out_edit(
    app: AppContext,
    edit: FileEdit | None,
    given: dict[str, Any],
    document: dict[str, Any],
    gives_up: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Show the edit, write it, deploy it, as the options say; `document` is the JSON result.

    `edit` None: the file needs no change. `gives_up` names a ruleset whose data a deployment may destroy. `check` is
    called after the confirmation, and raises an error if the edit must not be applied any more.
    """
    name = _relative(app, edit.path) if edit else None
    diff = edit.diff(name) if edit and name else ""
    if diff and not app.render.is_json:
        app.render.content(diff.encode())
    document |= {"file": name, "diff": diff}
    if options := read_options(given):
        root = app.root_module(given["lock_timeout"])
        document["deployment"] = _deployed(app, root, edit, options, given["allow"], gives_up, check)
    elif edit is not None and not given["dry_run"]:
        edit.write()
        app.render.note(f"written to {name}; to apply it, run `{app.command('deploy')}`")
    if app.render.is_json:
        app.render.json(document)


def _relative(app: AppContext, path: Path) -> str:
    return path.relative_to(app.settings.project).as_posix()


def _deployed(
    app: AppContext,
    root: RootModule,
    edit: FileEdit | None,
    options: ApplyOptions,
    allow: tuple[str, ...],
    gives_up: str | None,
    check: Callable[[], None],
) -> dict[str, Any]:
    with root.folder() as folder:
        with _written(app, edit):
            with app.render.progress() as progress:
                plan = make_plan(root, pins_for(app, None), folder, progress, allow=allow)
            given_up = [change.address for change in plan.losses if gives_up and change.stage == gives_up]
            plan = replace(plan, record=replace(plan.record, allow_destroy=(*allow, *given_up)))
            root = confirm(app, root, plan, options)
            check()
        return apply_and_record(app, root, plan, options)


@contextlib.contextmanager
def _written(app: AppContext, edit: FileEdit | None) -> Iterator[None]:
    """Write the edit; restore the file if the plan fails or is not confirmed."""
    if edit is None:
        yield
        return
    edit.write()
    app.forget_values()
    try:
        yield
    except BaseException:
        try:
            edit.undo()
            app.render.note(f"{_relative(app, edit.path)} was restored")
        except RefinerctlError:
            app.render.warning(f"{_relative(app, edit.path)} was not restored: it was edited after the change")
        raise
