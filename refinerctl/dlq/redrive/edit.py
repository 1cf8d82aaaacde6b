"""Editing messages in $VISUAL or $EDITOR before they are sent."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.console import Renderer, can_ask
from refinerctl.dlq.records import read_records, to_line, to_record
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.files import replacing

FOLDER = "edits"
STDERR = 2
# What is sent with a message, or decides where it goes; other system attributes are set by SQS.
_EDITABLE_SYSTEM = ("MessageGroupId", "MessageDeduplicationId", "AWSTraceHeader")


@dataclass(frozen=True)
class Edits:
    """`edited` messages by id are sent; `unchanged` and `removed` (ids) stay where they are."""

    edited: Mapping[str, Message]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


def editor_command(environ: Mapping[str, str], *, on_terminal: bool) -> list[str]:
    """$VISUAL, else $EDITOR, else vi. Raises UsageError without any and without a terminal."""
    given = environ.get("VISUAL") or environ.get("EDITOR") or ("vi" if on_terminal else "")
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise UsageError(f"VISUAL or EDITOR is not a command: {error}") from error
    if not words:
        raise UsageError("no editor found", hint="Set VISUAL or EDITOR.")
    return words


def check_editor() -> list[str]:
    """The editor's command. Raises UsageError without one."""
    return editor_command(os.environ, on_terminal=can_ask())


def edit_messages(render: Renderer, messages: Sequence[Message], queue: QueueAddress, work_folder: Path) -> Path | None:
    """Let the user edit messages; returns a file that holds those that were edited, None if none was.

    At a terminal an invalid file can be opened again. Raises UsageError if it stays invalid, RefinerctlError if the
    editor fails or the file is empty. After an error the file is still there.
    """
    command = check_editor()
    path = _new_file(work_folder, queue.name, write_lines(messages, queue))
    while True:
        _open(command, path)
        content = path.read_bytes()
        if not content.strip():
            path.unlink()
            raise RefinerctlError("the edited file is empty: nothing is sent")
        try:
            edits = read_edits(content, messages)
            break
        except UsageError as error:
            render.warning(f"{error.message}{f': {error.hint}' if error.hint else ''}")
            if not can_ask() or not click.confirm("Open the file again?", default=True, err=True):
                raise UsageError(f"{path}: {error.message}", hint="The file was kept.") from error
    kept = f"{len(edits.unchanged)} unchanged and {len(edits.removed)} removed messages stay in {queue.name}"
    if not edits.edited:
        path.unlink()
        render.note(f"no message was edited: {kept}")
        return None
    write = render.note if render.is_json else render.line
    for line in diff(edits, messages, queue):
        write(line)
    render.note(f"{len(edits.edited)} edited messages will be sent; {kept}")
    render.note(f"until they are sent, the edited messages are in {path}")
    with replacing(path, private=True) as temporary:
        temporary.write_text(write_lines(list(edits.edited.values()), queue), encoding="utf-8")
    return path


def read_edited(path: Path) -> dict[str, Message]:
    """The messages in a file that edit_messages() returned, by id. Raises RefinerctlError without it."""
    try:
        with path.open("rb") as file:
            return {record.message.id: record.message for record in read_records(file)}
    except OSError as error:
        raise RefinerctlError(
            f"cannot read the edited messages in {path}: {error.strerror}", hint="Pass --force to begin a new run."
        ) from error


def write_lines(messages: Sequence[Message], queue: QueueAddress) -> str:
    """Messages as JSON Lines."""
    return "".join(f"{to_line(message, queue)}\n" for message in messages)


def read_edits(content: bytes, messages: Sequence[Message]) -> Edits:
    """Compare an edited file with the messages that were written to it.

    Raises UsageError for an invalid line, an id that is unknown or there twice, and a change of what only SQS sets.
    """
    originals = {message.id: message for message in messages}
    seen: dict[str, Message] = {}
    for record in read_records(content.splitlines()):
        message = record.message
        if message.id not in originals:
            raise UsageError(f"message {message.id!r} was not in the file before", hint="Do not change ids.")
        if message.id in seen:
            raise UsageError(f"message {message.id} is in the file twice", hint="Remove one of the lines.")
        _check_kept(message, originals[message.id])
        seen[message.id] = replace(message, receipt=originals[message.id].receipt)  # which the file does not have
    edited = {id_: message for id_, message in seen.items() if message != originals[id_]}
    unchanged = tuple(id_ for id_ in seen if id_ not in edited)
    return Edits(edited, unchanged, tuple(id_ for id_ in originals if id_ not in seen))


def _check_kept(message: Message, original: Message) -> None:
    if not message.body:
        raise UsageError(f"message {message.id} has an empty body", hint="SQS does not accept empty messages.")
    changed = [
        name
        for name in message.system.keys() | original.system.keys()
        if name not in _EDITABLE_SYSTEM and message.system.get(name) != original.system.get(name)
    ]
    if message.receive_count != original.receive_count:
        changed.append("receive_count")
    if message.sent_at != original.sent_at:
        changed.append("sent")
    if changed:
        raise UsageError(f"message {message.id}: {min(changed)} cannot be edited", hint="Only SQS can set it.")


def diff(edits: Edits, messages: Sequence[Message], queue: QueueAddress) -> Iterator[str]:
    """A unified diff of each edited message; JSON bodies are laid out, unless only their layout differs."""
    for message in messages:
        if message.id in edits.edited:
            both = (message, edits.edited[message.id])
            before, after = (_lines(item, queue, lay_out=True) for item in both)
            if before == after:
                before, after = (_lines(item, queue, lay_out=False) for item in both)
            name = f"message {message.id}"
            yield from difflib.unified_diff(before, after, name, f"{name}, edited", lineterm="")


def _lines(message: Message, queue: QueueAddress, *, lay_out: bool) -> list[str]:
    record = to_record(message, queue)
    if lay_out:
        with contextlib.suppress(ValueError, RecursionError):
            record["body"] = json.loads(message.body)
    return json.dumps(record, indent=2, ensure_ascii=False).splitlines()


def _new_file(work_folder: Path, name: str, text: str) -> Path:
    """Readable by its owner only, as messages may hold personal data."""
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
    # Standard output is data: an editor that prints must not write to a pipe.
    output = None if sys.stdout.isatty() else STDERR
    try:
        done = subprocess.run([*command, str(path)], stdout=output, check=False)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RefinerctlError(
            f"cannot start the editor {command[0]}: {error.strerror}", hint="Set VISUAL or EDITOR."
        ) from error
    if done.returncode != 0:
        raise RefinerctlError(
            f"{command[0]} ended with exit code {done.returncode}: nothing is sent", hint=f"The file is {path}."
        )
