"""State of the embedded environment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class LocalStatus:
    """The embedded environment: `state` is `down`, `starting`, `up` or `failed`."""

    state: str
    directory: Path
    endpoint_url: str | None = None
    engine: str | None = None
    supervisor_pid: int | None = None
    emulator_pid: int | None = None
    functions_url: str | None = None
    started_at: datetime | None = None
    stacks: tuple[str, ...] = ()
    detail: str | None = None
