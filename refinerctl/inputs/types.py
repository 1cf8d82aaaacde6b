"""Uploads and polled completions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from refinerctl.stacks.base import CompletionStatus


class UploadStatus(StrEnum):
    UPLOADED = "uploaded"
    COMPLETED = "completed"
    FAILED = "failed"
    PENDING = "pending"


@dataclass(frozen=True)
class Output:
    """An output that a completion lists. Either `content` (its first bytes) or `path` (where it was saved) is set."""

    key: str
    size: int | None = None
    content: bytes | None = None
    truncated: bool = False
    path: Path | None = None
    error: str | None = None


@dataclass(frozen=True)
class PolledCompletion:
    """A completion with the outputs that it lists; `error` says why it counts as failed."""

    key: str
    status: CompletionStatus
    last_modified: datetime
    outputs: tuple[Output, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class UploadSource:
    """What to upload to which key. `path` None is standard input, whose size is not known before its end."""

    key: str
    path: Path | None
    size: int | None


@dataclass(frozen=True)
class Upload:
    """One upload and, where it was waited for, what became of it. `uploaded_at` is when it began."""

    key: str
    size: int
    version_id: str | None
    status: UploadStatus
    uploaded_at: datetime
    completion_key: str | None = None
    outputs: tuple[str, ...] = ()
    error: str | None = None
