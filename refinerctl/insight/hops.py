"""The hops of an input through the pipeline: what each component recorded, with its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from refinerctl.insight.attempts import Attempt
from refinerctl.stacks.base import EventRule, Stage
from refinerctl.tables import seconds, table

if TYPE_CHECKING:
    from refinerctl.inputs.completions import Completion
    from refinerctl.insight.trace_verdict import Facts


@dataclass(frozen=True)
class Hop:
    """A step of an input through the pipeline; `elapsed_s` since the first. None: the time was not recorded."""

    component: str
    detail: str
    at: datetime | None = None
    elapsed_s: float | None = None


def hops_of(facts: Facts) -> tuple[Hop, ...]:
    """In the order of the pipeline."""
    hops = list(_hops(facts))
    if (deleted := facts.deleted_at) is not None:
        later = (number for number, hop in enumerate(hops) if hop.at and hop.at > deleted)
        hops.insert(next(later, len(hops)), Hop("S3", "deleted", deleted))
    return tuple(with_elapsed(hops))


def with_elapsed(hops: Sequence[Hop]) -> list[Hop]:
    """S3 and EventBridge record whole seconds: a hop that seems to be before the first one is at the same time."""
    start = next((hop.at for hop in hops if hop.at), None)
    return [
        replace(hop, elapsed_s=max(0.0, (hop.at - start).total_seconds())) if hop.at and start else hop for hop in hops
    ]


def hop_table(hops: Sequence[Hop]) -> Iterator[str]:
    """The lines of a table of hops."""
    rows = [
        [
            f"{hop.at:%Y-%m-%dT%H:%M:%S}.{hop.at.microsecond // 1000:03}Z" if hop.at else "",
            "" if hop.elapsed_s is None else f"+{_elapsed(hop.elapsed_s)}",
            hop.component,
            hop.detail,
        ]
        for hop in hops
    ]
    return table(("AT", "ELAPSED", "HOP", ""), rows)


def _elapsed(value: float) -> str:
    return f"{value:.3f}s" if value < 60 else seconds(value)


def _hops(facts: Facts) -> Iterator[Hop]:
    stage = facts.stage
    if (version := facts.version) is not None:
        size = "1 byte" if version.size == 1 else f"{version.size} bytes"
        yield Hop("S3", f"version {version.version_id or '(none)'}, {size}", version.last_modified)
    messages = [item for item in (facts.queued_message, facts.dlq_message and facts.dlq_message.message) if item]
    times = [(item.event_at, item.sent_at) for item in facts.attempts if item.sent_at]
    times += [(None, message.sent_at) for message in messages]
    if stage is not None and times:
        yield from delivery_hops(stage, *times[0])
    for number, item in enumerate(facts.attempts, 1):
        yield from attempt_hops(item, number)
    for found in (facts.dlq_message, facts.undelivered_message):
        if found is not None:
            yield Hop("DLQ", f"{found.queue}, expires {facts.clock(found.expires_at)}", found.since)
    if facts.completion is not None:
        info = facts.completion.info
        yield Hop(
            "S3", f"completion {info.key}: {facts.completion.document.status}", _written_at(facts.completion, facts)
        )


def _written_at(completion: Completion, facts: Facts) -> datetime:
    """S3 tells the second; the log of the attempt that wrote it tells when it ended in that second."""
    at, key = completion.info.last_modified, completion.info.key
    ends = (item.ended for item in facts.attempts if item.completion_key == key and item.ended)
    return max((end for end in ends if at <= end < at + timedelta(seconds=1)), default=at)


def delivery_hops(stage: Stage, event_at: datetime | None, sent_at: datetime | None) -> Iterator[Hop]:
    """From the event's source to the consumer."""
    if isinstance(stage.source, EventRule):
        yield Hop("EventBridge", f"rule {stage.source.name} (prefix {stage.source.prefix})", event_at)
    if stage.queue is not None:
        yield Hop("SQS", stage.queue.name, sent_at)


def attempt_hops(item: Attempt, number: int) -> Iterator[Hop]:
    """One attempt; `number` counts if it does not know how often its message was received."""
    yield Hop("Lambda", f"attempt {item.receive_count or number}, request {item.request_id}", item.started)
    for output in item.outputs:
        yield Hop("S3", f"output {output.key}", output.at)
    took = f" after {item.duration_ms:.0f} ms" if item.duration_ms is not None else ""
    if item.error:
        yield Hop("Lambda", f"failed{took}: {item.error}", item.ended)
    elif item.ignored:
        yield Hop("Lambda", f"ignored: {item.ignored}", item.ended)
    elif item.ended:
        yield Hop("Lambda", f"done{took}", item.ended)
