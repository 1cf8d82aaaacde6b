"""Messages in somebody's editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.dlq.records import read_records
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.files import replacing

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.messages import Message, QueueAddress
    from refinerctl.console import Renderer
    from refinerctl.dlq.redrive.command_options import RedriveOptions
    from refinerctl.dlq.redrive.command_station import Station
    from refinerctl.dlq.redrive.edits import Edits

# More is nothing to read in an editor; --limit says otherwise.
MAX_EDITED = 1000
FOLDER = "edits"
STDERR = 2


def editor_command(environ: Mapping[str, str], *, on_terminal: bool) -> list[str]:
    """$VISUAL, else $EDITOR, else vi. Raises UsageError if there is none for nobody at a terminal."""
    given = environ.get("VISUAL") or environ.get("EDITOR") or ("vi" if on_terminal else "")
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise UsageError(f"VISUAL or EDITOR is no command: {error}") from error
    if not words:
        raise UsageError("there is no editor", hint="Set VISUAL or EDITOR.")
    return words


def edit_messages(app: AppContext, station: Station, options: RedriveOptions) -> Path | None:
    """The file of the messages that were edited, and nothing else; None if none was.

    They are given back before the editor opens, and received again when they are sent: none is held meanwhile.
    """
    from refinerctl.dlq.redrive.command_station import look_into
    from refinerctl.dlq.redrive.edits import diff, write_lines

    editor_command(os.environ, on_terminal=_on_terminal())  # before anybody waits for the messages
    looked = look_into(app, station, options.filter, options.limit or MAX_EDITED)
    letters, queue = looked.letters, station.origin.queue
    if not letters:
        app.render.note("no message matches: there is nothing to edit")
        return None
    if options.limit is None and not looked.is_whole:
        app.render.note(f"these are the first {len(letters)}: --limit N takes more")
    edits, path = edit_letters(app.render, letters, queue, app.settings.work_folder)
    kept = f"{len(edits.unchanged)} unchanged and {len(edits.removed)} removed stay in {queue.name}"
    if not edits.edited:
        path.unlink()
        app.render.note(f"nothing was edited: {kept}")
        return None
    write = app.render.note if app.render.is_json else app.render.line
    for line in diff(edits, letters, queue):
        write(line)
    app.render.note(f"{len(edits.edited)} edited, to be sent; {kept}")
    app.render.note(f"until they are sent, the edited ones are in {path}")
    with replacing(path, private=True) as temporary:
        temporary.write_text(write_lines(list(edits.edited.values()), queue), encoding="utf-8")
    return path


def read_edited(path: Path) -> dict[str, Message]:
    """What edit_messages() wrote, by id. Raises RefinerctlError if it is gone."""
    try:
        with path.open("rb") as file:
            return {record.message.id: record.message for record in read_records(file)}
    except OSError as error:
        raise RefinerctlError(
            f"cannot read the edited messages in {path}: {error.strerror}", hint="--force begins a new run."
        ) from error


def edit_letters(
    render: Renderer, letters: Sequence[Message], queue: QueueAddress, work_folder: Path
) -> tuple[Edits, Path]:
    """What came out of the editor, and the file: it stays, whatever happens, until the caller removes it.

    On a terminal a file that makes no sense can be opened again. Raises UsageError if it is not, RefinerctlError if
    the editor fails or the file is empty.
    """
    from refinerctl.dlq.redrive.edits import read_edits, write_lines

    command = editor_command(os.environ, on_terminal=_on_terminal())
    path = _new_file(work_folder, queue.name, write_lines(letters, queue))
    while True:
        _open(command, path)
        content = path.read_bytes()
        if not content.strip():
            path.unlink()
            raise RefinerctlError("the edited file is empty: nothing is sent")
        try:
            return read_edits(content, letters), path
        except UsageError as error:
            render.warning(f"{error.message}{f': {error.hint}' if error.hint else ''}")
            if not _on_terminal() or not click.confirm("Open it again?", default=True, err=True):
                raise UsageError(f"{path}: {error.message}", hint="The file is still there.") from error


def _new_file(work_folder: Path, name: str, text: str) -> Path:
    """For the user's eyes only: messages may hold anything."""
    folder = work_folder / FOLDER
    path = folder / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RefinerctlError(f"cannot write {path}: {error.strerror}") from error
    return path


def _open(command: Sequence[str], path: Path) -> None:
    # Standard output is data: what the editor shows or says goes where a person is.
    output = None if sys.stdout.isatty() else STDERR
    try:
        done = subprocess.run([*command, str(path)], stdout=output, check=False)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RefinerctlError(
            f"the editor {command[0]} cannot be started: {error.strerror}", hint="Set VISUAL or EDITOR."
        ) from error
    if done.returncode != 0:
        raise RefinerctlError(
            f"{command[0]} ended with exit code {done.returncode}: nothing is sent", hint=f"The file is {path}."
        )


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
