"""The outputs that a completion lists: their sizes, read in part, or saved as files."""

from __future__ import annotations

import codecs
import mimetypes
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinerctl.errors import RefinerctlError
from refinerctl.waits import WAITS

if TYPE_CHECKING:
    from refinerctl.aws.s3 import S3Bucket

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ListedOutput:
    """An output that a completion lists. `content` has its first bytes, `path` is the saved file, if requested."""

    key: str
    size: int | None = None
    content: bytes | None = None
    truncated: bool = False
    path: Path | None = None
    error: str | None = None

    @property
    def binary_type(self) -> str | None:
        """The media type of binary content, from the output's name, or `binary`; None for text."""
        if self.content is None or is_text(self.content, truncated=self.truncated):
            return None
        found, encoding = mimetypes.guess_type(self.key)
        guessed = encoding or found or ""
        return "binary" if guessed.startswith("text/") else guessed or "binary"


def is_text(content: bytes, *, truncated: bool = False) -> bool:
    """Whether it is UTF-8 without NUL characters. `truncated`: it may end within a character."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content, final=not truncated)
    except UnicodeDecodeError:
        return False
    return "\0" not in text


ReadOutput = Callable[[str], ListedOutput]


def list_outputs(bucket: S3Bucket) -> ReadOutput:
    """Return a function that reads an output's size, not its content."""

    def look(key: str) -> ListedOutput:
        info = bucket.head(key)
        return _missing(key) if info is None else ListedOutput(key, info.size)

    return look


def read_outputs(bucket: S3Bucket, limit: int) -> ReadOutput:
    """Return a function that reads an output's first `limit` bytes."""

    def read(key: str) -> ListedOutput:
        found = bucket.read(key, limit + 1)
        if found is None:
            return _missing(key)
        info, content = found
        return ListedOutput(key, info.size, content[:limit], truncated=len(content) > limit)

    return read


def save_outputs(bucket: S3Bucket, folder: Path, cancelled: threading.Event | None = None) -> ReadOutput:
    """Return a function that saves an output below `folder` under its key.

    A key that would leave the folder is an error of that output. A download that is in progress when `cancelled` is set
    stops and leaves no file.
    """
    stop = cancelled or threading.Event()

    def save(key: str) -> ListedOutput:
        try:
            target = target_path(folder, key)
            opened = bucket.open(key)
            if opened is None:
                return _missing(key)
            info, body = opened
            with body, WAITS.waiting(f"output {key}"):
                _write_whole(target, body, stop)
        except (RefinerctlError, OSError) as error:
            return ListedOutput(key, error=f"cannot save {key}: {error}")
        return ListedOutput(key, info.size, path=target)

    return save


def target_path(folder: Path, key: str) -> Path:
    """The file below `folder` that `key` is saved as. Raises RefinerctlError for a key that is no path below it."""
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise RefinerctlError("the key is not a path below the folder")
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise RefinerctlError("the key is not UTF-8") from None
    target = folder.joinpath(*parts)
    # A symbolic link below the folder may lead out of it even though the key does not.
    if not target.resolve().is_relative_to(folder.resolve()):
        raise RefinerctlError("the path leaves the folder")
    return target


def _write_whole(target: Path, body: Any, stop: threading.Event) -> None:
    """Write under another name and rename: an incomplete file never has the final name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".refinerctl-{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            while chunk := body.read(CHUNK_BYTES):
                file.write(chunk)
                _raise_if(stop)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _raise_if(stop: threading.Event) -> None:
    if stop.is_set():
        raise RefinerctlError("interrupted")


def _missing(key: str) -> ListedOutput:
    return ListedOutput(key, error=f"listed output {key} does not exist")
