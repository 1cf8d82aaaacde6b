"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from refinerctl.errors import RefinerctlError

_PUBLIC = 0o666


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """A new empty file beside `path`, which takes its place at the end; after an error nothing has changed.

    `private`: for the user's eyes only, from its first byte on. Raises RefinerctlError if the folder cannot be
    written to.
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
        temporary.replace(path)
    except OSError as error:
        raise RefinerctlError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Before long work: raises RefinerctlError if a file could not be written there."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise RefinerctlError(f"cannot write {path}: {path.parent} is no folder that can be written to")


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
