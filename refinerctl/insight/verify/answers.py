"""What a snapshot holds of a thing: what it is, that it does not exist, or why it could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

Known = TypeVar("Known")


@dataclass(frozen=True)
class Absent:
    """It does not exist; `reason` is a sentence that says so."""

    reason: str


@dataclass(frozen=True)
class Unread:
    """It may exist and could not be read: denied, most likely."""

    reason: str


Answer: TypeAlias = Known | Absent | Unread
