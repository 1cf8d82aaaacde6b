"""The facts about one input, and where it may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from refinerctl.insight.attempts import Attempt
from refinerctl.insight.trace_service import ServiceFacts
from refinerctl.stacks.base import Function, Queue, Stage

if TYPE_CHECKING:
    from refinerctl.aws.messages import Message
    from refinerctl.aws.s3 import ObjectVersion
    from refinerctl.aws.sqs import QueueState
    from refinerctl.inputs.completions import Completion


class TraceOutcome(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    UNDER_WAY = "under-way"


class Place(StrEnum):
    """Where the input is."""

    COMPLETED = "completed"
    DELIVERED = "delivered"
    REFUSED = "refused"
    WAITING = "waiting"
    IN_FLIGHT = "in-flight"
    FAILING = "failing"
    DEAD = "dead"
    UNDELIVERED = "undelivered"
    NEVER_MATCHED = "never-matched"
    NEVER_EXISTED = "never-existed"
    UNKNOWN = "unknown"


_OUTCOMES = {
    **dict.fromkeys((Place.COMPLETED, Place.DELIVERED), TraceOutcome.COMPLETED),
    **dict.fromkeys((Place.WAITING, Place.IN_FLIGHT, Place.FAILING), TraceOutcome.UNDER_WAY),
}


@dataclass(frozen=True)
class Verdict:
    place: Place
    text: str
    is_recent: bool = False

    @property
    def outcome(self) -> TraceOutcome:
        return TraceOutcome.UNDER_WAY if self.is_recent else _OUTCOMES.get(self.place, TraceOutcome.FAILED)


@dataclass(frozen=True)
class DlqMessage:
    """The input's message in a dead-letter queue. `since` follows from the last attempt, None without one."""

    queue: str
    message: Message
    expires_at: datetime
    since: datetime | None = None


@dataclass
class Facts:
    """What was found so far. Times in UTC; None and empty mean that nothing was found.

    `completion` is about this version; `has_other_completion`: there is one of another version. `function_errors` are
    errors that the function logged since the input was written, if its log does not name it. `unread` says what could
    not be read, or only in part. `mapping` is the state of the event source mapping.
    """

    key: str
    now: datetime
    stages: tuple[Stage, ...]
    stage: Stage | None = None
    version: ObjectVersion | None = None
    deleted_at: datetime | None = None
    completion: Completion | None = None
    has_other_completion: bool = False
    missing_outputs: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    function_errors: tuple[str, ...] = ()
    queue: QueueState | None = None
    queued_message: Message | None = None
    all_queued_were_seen: bool = False
    mapping: str | None = None
    timeout_s: int | None = None
    dlq_message: DlqMessage | None = None
    undelivered_message: DlqMessage | None = None
    service: ServiceFacts | None = None
    unread: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def stage_name(self) -> str:
        return self.stage.name if self.stage else "the function"

    @property
    def stage_queue(self) -> Queue | None:
        return self.stage.queue if self.stage else None

    @property
    def function(self) -> Function | None:
        return self.stage.function if self.stage else None

    @property
    def hidden(self) -> timedelta:
        """How long the queue hides a message from its other consumers after a receive."""
        return timedelta(seconds=self.queue.visibility_timeout_s if self.queue else 0)

    def clock(self, at: datetime) -> str:
        """A time, with its date unless that is today's."""
        return f"{at:%H:%M:%SZ}" if at.date() == self.now.date() else f"{at:%Y-%m-%d %H:%MZ}"


def failures(facts: Facts) -> str:
    """How often the input failed, where, and the last error.

    It may have been received more often than it failed: by a look into the queue, or by a function that did not start.
    """
    failed = [attempt for attempt in facts.attempts if attempt.error]
    if not failed:
        return f"failed in {facts.stage_name}, whose log does not name it{other_errors(facts)}"
    times = "once" if len(failed) == 1 else f"{len(failed)} times"
    receives = max(attempt.receive_count or 0 for attempt in facts.attempts)
    received = f" ({receives} receives)" if receives > len(facts.attempts) else ""
    return f"failed {times}{received} in {facts.stage_name}: {failed[-1].error}"


def other_errors(facts: Facts) -> str:
    """Errors that the function has logged without naming the input."""
    if not facts.function_errors:
        return ""
    return f"; errors of the function since then: {' | '.join(facts.function_errors)}"
