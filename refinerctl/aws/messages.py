"""Messages of a queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class QueueDepth:
    """Approximate message counts of a queue."""

    name: str
    visible: int
    in_flight: int
    delayed: int


@dataclass(frozen=True)
class Message:
    """A message that was looked at in a queue. `sent_at` is when it was sent first, whatever queue it is in now.

    `attributes` are those that its sender gave it: EventBridge says there why it could not deliver.
    """

    body: str
    sent_at: datetime
    receive_count: int
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueState:
    """A queue's approximate counts and the settings that say what becomes of its messages; times in seconds."""

    depth: QueueDepth
    retention_s: int
    visibility_timeout_s: int
    max_receive_count: int | None = None
