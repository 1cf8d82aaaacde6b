"""What a project was made of by `refinerctl init`, and what another version of refinerctl would change in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.files import DeferredDisk, FileEdit, read_file, unified_diff, write_text
from refinerctl.layout import Layout

# `changed`: both this version and the user have changed the file.
Status = Literal["new", "updated", "removed", "changed"]
NEW_SUFFIX = ".new"


class ProjectOrigin(msgspec.Struct):
    """The version of refinerctl that wrote a project, and the SHA-256 of each file as it wrote it, by path."""

    version: str
    files: dict[str, str]


@dataclass(frozen=True)
class FileChange:
    """What this version changes in a file of the project, compared with the version that wrote it.

    `before` is the content now, `after` this version's; None: there is no file.
    """

    path: str
    status: Status
    before: bytes | None
    after: bytes | None

    @property
    def diff(self) -> str:
        return unified_diff(self.path, self.before, self.after)


def read_origin(folder: Path) -> ProjectOrigin | None:
    """None if `refinerctl init` has not completed a project there. Raises RefinerctlError if its file is damaged."""
    path = Layout(folder).origin_file
    content = read_file(path)
    if content is None:
        return None
    try:
        origin = msgspec.json.decode(content, type=ProjectOrigin)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    for name in origin.files:
        if name.startswith("/") or ".." in name.split("/"):
            raise _damaged(path, f"{name} is not a path in the project")
    return origin


def _damaged(path: Path, reason: str) -> RefinerctlError:
    hint = "Restore it from git: it is one of the project's files."
    return RefinerctlError(f"{path} is damaged: {reason}", hint=hint)


def find_changes(folder: Path, origin: ProjectOrigin, files: Mapping[str, bytes]) -> list[FileChange]:
    """What `files`, those of this version, change in the project; files that it changes as the user did are left out.

    Raises RefusedError if a folder or a symbolic link has the name of a file.
    """
    found = []
    for path in sorted({*origin.files, *files}):
        recorded, after = origin.files.get(path), files.get(path)
        if after is not None and recorded == _digest(after):
            continue
        before = _read(folder, path)
        if before != after and (status := _status(recorded, before, after)):
            found.append(FileChange(path, status, before, after))
    return found


def _status(recorded: str | None, before: bytes | None, after: bytes | None) -> Status | None:
    """None: the file is the user's alone, who has deleted it, or changed one that this version has no more."""
    if before is None:
        return "new" if recorded is None else None
    is_unchanged = recorded == _digest(before)
    if after is None:
        return "removed" if is_unchanged else None
    return "updated" if is_unchanged else "changed"


def _read(folder: Path, name: str) -> bytes | None:
    path = folder / name
    for place in (path, *path.parents[: len(Path(name).parts) - 1]):
        if place.is_symlink():
            raise RefusedError(f"{place} is a symbolic link; nothing was written", hint="Remove it or move it away.")
    for parent in path.parents[: len(Path(name).parts) - 1]:
        if parent.exists() and not parent.is_dir():
            raise RefusedError(f"{parent} is not a folder; nothing was written", hint="Move it away.")
    if path.is_dir():
        raise RefusedError(f"{path} is a folder; nothing was written", hint="Move it away.")
    return read_file(path)


def write_project(folder: Path, changes: Sequence[FileChange], version: str, files: Mapping[str, bytes]) -> None:
    """Write `changes`, and at the end what the project is made of now. After an error, call it again.

    A file that the user has changed stays as it is; this version's is written beside it.
    """
    disk = DeferredDisk()
    for change in changes:
        path = folder / change.path
        if change.status == "removed":
            path.unlink(missing_ok=True)
        elif change.after is not None:
            _make_folder(path.parent)
            before = change.before
            if change.status == "changed":
                path = path.with_name(path.name + NEW_SUFFIX)
                before = read_file(path)
            FileEdit(path, before, change.after).write(disk)
    try:
        disk.sync_all()
    except OSError as error:
        raise RefinerctlError(f"cannot write {folder}: {error.strerror}") from error
    origin = {"version": version, "files": {name: _digest(content) for name, content in files.items()}}
    write_text(Layout(folder).origin_file, json.dumps(origin, indent=2) + "\n")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefinerctlError(f"cannot create folder {folder}: {error.strerror}") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
