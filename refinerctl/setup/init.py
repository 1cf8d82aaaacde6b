"""`refinerctl init`: write the files of a project, and show what a newer version changes in them."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import click

from refinerctl import __version__
from refinerctl.console import Renderer, counted
from refinerctl.errors import DIFFERENCES, NotFoundError, RefinerctlError, RefusedError, UsageError
from refinerctl.images import release_order
from refinerctl.options import PathParam, examples, global_options
from refinerctl.setup import render_without_settings
from refinerctl.setup.bundle import project_files
from refinerctl.setup.origin import NEW_SUFFIX, FileChange, ProjectOrigin, find_changes, read_origin, write_project

MAX_NAMED = 3


@click.command(epilog=examples("refinerctl init my-pipeline", "refinerctl init . --diff", "refinerctl init . --update"))
@click.argument("folder", metavar="DIR", type=PathParam(path_type=Path, file_okay=False))
@click.option(
    "--diff", "only_diff", is_flag=True, help="Print what this version would change; exit code 5 if there are changes."
)
@click.option("--update", is_flag=True, help="Write what this version changes, except in files that you have changed.")
@global_options
@click.pass_context
def init(ctx: click.Context, folder: Path, only_diff: bool, update: bool) -> None:
    """Create a project in DIR: Terraform, image sources, settings and GitLab jobs of this version of refinerctl.

    Overwrites no file: if one exists with other content, the command is refused (4). With --update, a file that you
    have changed is kept, and the new version is written beside it, as FILE.new. After an error, run it again.
    """
    if only_diff and update:
        raise UsageError("--diff and --update are mutually exclusive")
    render = render_without_settings(ctx)
    files = project_files()
    if not files:
        raise RefinerctlError(
            "this installation of refinerctl has no project files", hint="Install refinerctl from its wheel."
        )
    origin = read_origin(folder)
    changes = find_changes(folder, origin or ProjectOrigin("", {}), files)
    if origin is None:
        _check_new(folder, changes, is_new=not (only_diff or update))
    else:
        _check_existing(folder, origin, changes, update=update, only_diff=only_diff)
    if not only_diff and (update or origin is None):
        write_project(folder, changes, __version__, files)
    _show(render, folder, origin, changes, only_diff=only_diff)
    if only_diff and changes:
        ctx.exit(DIFFERENCES)


def _check_new(folder: Path, changes: list[FileChange], *, is_new: bool) -> None:
    if not is_new:
        hint = f"Run `refinerctl init {shlex.quote(str(folder))}`."
        raise NotFoundError(f"{folder} was not created by `init`", hint=hint)
    in_the_way = [change.path for change in changes if change.status == "changed"]
    if in_the_way:
        more = len(in_the_way) - MAX_NAMED
        raise RefusedError(
            f"{folder} already has files with other content: {', '.join(in_the_way[:MAX_NAMED])}"
            f"{f' and {more} more' if more > 0 else ''}; nothing was written",
            hint="Move them away, or choose another folder.",
        )


def _check_existing(
    folder: Path, origin: ProjectOrigin, changes: list[FileChange], *, update: bool, only_diff: bool
) -> None:
    if update and (release_order(origin.version) or ()) > (release_order(__version__) or ()):
        raise RefusedError(
            f"{folder} is a project of refinerctl {origin.version}, newer than {__version__}; nothing was written",
            hint="Update refinerctl.",
        )
    if changes and not update and not only_diff:
        raise RefusedError(
            f"{folder} is already a project of refinerctl {origin.version}; nothing was written",
            hint=f"See what this version would change: `refinerctl init {shlex.quote(str(folder))} --diff`.",
        )


def _show(
    render: Renderer, folder: Path, origin: ProjectOrigin | None, changes: list[FileChange], *, only_diff: bool
) -> None:
    # First those that can be applied.
    ordered = sorted(changes, key=lambda change: change.status == "changed")
    if render.is_json:
        document = {
            "project": folder,
            "version": __version__,
            "previous_version": origin.version if origin else None,
            "files": [{"path": change.path, "status": change.status} for change in changes],
        }
        render.json(document | {"diff": "".join(change.diff for change in ordered)} if only_diff else document)
    elif only_diff:
        for change in ordered:
            if change.status == "changed":
                render.line(f"# You have also changed {change.path}: --update keeps your file.")
            render.content(change.diff.encode())
    elif origin is not None:
        for change in ordered:
            suffix = f" (new version: {change.path}{NEW_SUFFIX})" if change.status == "changed" else ""
            render.line(f"{change.status:<7}  {change.path}{suffix}")
    render.note(_summary(folder, origin, changes))
    if origin is None:
        enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
        render.note(f"next: `{enter}refinerctl demo`")


def _summary(folder: Path, origin: ProjectOrigin | None, changes: list[FileChange]) -> str:
    if origin is None:
        return f"{folder} is a project of refinerctl {__version__}: {counted(len(changes), 'file')} written"
    if not changes:
        return f"refinerctl {__version__} changes nothing in {folder}, a project of {origin.version}"
    counts = Counter(change.status for change in changes)
    kinds = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"refinerctl {__version__} changes {counted(len(changes), 'file')} of {origin.version}: {kinds}"
