"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refinerctl.errors import RefinerctlError

# macOS has no fdatasync.
_sync = getattr(os, "fdatasync", os.fsync)


class Disk:
    """How files get to the disk so that they survive a power failure; a test's disk may be full, or lose power."""

    def write(self, descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """The file's content."""
        _sync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """The names of its files."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class DeferredDisk(Disk):
    """For many files: they are synchronized by `sync_all`, which is several times faster than each by itself."""

    def __init__(self) -> None:
        self._folders: set[Path] = set()

    def sync(self, descriptor: int) -> None:
        """Later."""

    def sync_folder(self, folder: Path) -> None:
        self._folders.add(folder)

    def sync_all(self) -> None:
        """Everything in the folders in which files were written."""
        for folder in sorted(self._folders):
            for path in folder.iterdir():
                if path.is_file():
                    with path.open("rb") as file:
                        super().sync(file.fileno())
            super().sync_folder(folder)


DISK = Disk()
_PUBLIC = 0o666
_MAY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False, disk: Disk = DISK) -> Iterator[Path]:
    """A new empty file beside `path`, which replaces it at the end; after an error nothing has changed.

    Whenever the power fails, the old or the new file is there, whole. `private`: readable by the user only, from its
    first byte on. Raises RefinerctlError if the folder is not writable.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise RefinerctlError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if not private:
            temporary.chmod(_PUBLIC & ~_umask())
        with temporary.open("rb") as written:
            disk.sync(written.fileno())
        temporary.replace(path)
        disk.sync_folder(path.parent)
    except OSError as error:
        raise RefinerctlError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Before long work: raises RefinerctlError if a file cannot be written at `path`."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise RefinerctlError(f"cannot write {path}: {path.parent} is not a writable folder")


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


@dataclass(frozen=True)
class FileEdit:
    """New content for a file. `before` is None if the file does not exist yet."""

    path: Path
    before: bytes | None
    after: bytes

    def diff(self, name: str) -> str:
        """A unified diff that `patch -p1` accepts."""
        return unified_diff(name, self.before, self.after)

    def write(self, disk: Disk = DISK) -> None:
        """Put the new content in place, whole or not at all, with the old file's mode; through symbolic links.

        Raises RefinerctlError if the file is another by now than the one that was read, or is read-only.
        """
        self._replace(self.before, self.after, disk)

    def undo(self) -> None:
        """Restore the old content, unless the file was changed after `write`."""
        if self.before is not None:
            self._replace(self.after, self.before, DISK)
        elif read_file(self.path) == self.after:
            self.path.unlink()

    def _replace(self, old: bytes | None, new: bytes, disk: Disk) -> None:
        target = self.path.resolve()
        if read_file(target) != old:
            raise RefinerctlError(
                f"{self.path} was changed by another process; nothing was written", hint="Run the command again."
            )
        if old is not None and not stat.S_IMODE(target.stat().st_mode) & _MAY_WRITE:
            # The file could be replaced nevertheless, but read-only means that it must not change.
            raise RefinerctlError(f"{self.path} is read-only; nothing was written")
        with replacing(target, private=old is not None, disk=disk) as temporary:
            temporary.write_bytes(new)
            if old is not None:
                as_it_was = target.stat()
                with contextlib.suppress(PermissionError):  # only root may change the owner
                    os.chown(temporary, as_it_was.st_uid, as_it_was.st_gid)
                temporary.chmod(stat.S_IMODE(as_it_was.st_mode))


def read_file(path: Path) -> bytes | None:
    """The file's content; None if there is none. Raises RefinerctlError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RefinerctlError(f"cannot read {path}: {error.strerror}") from error


def unified_diff(name: str, before: bytes | None, after: bytes | None) -> str:
    """A unified diff of two contents of a file that `patch -p1` accepts; None: the file does not exist."""
    source = "/dev/null" if before is None else f"a/{name}"
    target = "/dev/null" if after is None else f"b/{name}"
    return "".join(_with_ends(difflib.unified_diff(_lines(before or b""), _lines(after or b""), source, target)))


def _lines(content: bytes) -> list[str]:
    """Lines with their ends; characters that only Python treats as line ends do not end a line."""
    *whole, rest = content.decode(errors="replace").split("\n")
    return [*(f"{line}\n" for line in whole), *([rest] if rest else [])]


def _with_ends(diff: Iterator[str]) -> Iterator[str]:
    return (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in diff)
