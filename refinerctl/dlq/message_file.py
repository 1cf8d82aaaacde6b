"""Files of dead letters: private, as bodies may hold personal data, and whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from types import TracebackType

from refinerctl.errors import RefinerctlError, UsageError


class MessageFile:
    """A new file that grows, and is on disk whenever `append` has returned. Left without a line, it is removed.

    Raises UsageError if it is there already, and RefinerctlError if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Without a buffer: what could not be written must not be tried again when the file is closed.
        self._file: FileIO = _new(path)
        self._size = 0

    def append(self, lines: Iterable[str]) -> None:
        """Lines without their ends. If they cannot be written, the file is what it was before."""
        data = memoryview("".join(f"{line}\n" for line in lines).encode())
        size = self._size + len(data)
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
            if not self._size:
                _sync_folder(self.path.parent)
        except BaseException as error:  # Ctrl-C, too: no line is there in half
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise _unwritable(self.path, error) if isinstance(error, OSError) else error from error
        self._size = size

    def __enter__(self) -> MessageFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()
        if not self._size:
            self.path.unlink(missing_ok=True)


def check_new(path: Path) -> None:
    """Raises UsageError if something is there."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already", hint="Name another file, or --force replaces it.")


def _new(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600), "w")
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint="Name another file.") from None
    except OSError as error:
        raise _unwritable(path, error) from error


def _sync_folder(folder: Path) -> None:
    """The file's name is on disk as well."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> RefinerctlError:
    return RefinerctlError(f"cannot write {path}: {error.strerror}")
