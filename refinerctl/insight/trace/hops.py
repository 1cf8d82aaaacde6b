"""The way of an input, station by station."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from refinerctl.aws.objects import ObjectInfo
from refinerctl.insight.trace.facts import Attempt, Facts, Verdict, clock


@dataclass(frozen=True)
class TraceHop:
    """A station on the way; `elapsed_s` since the first one. None where nothing tells the time."""

    station: str
    detail: str
    at: datetime | None = None
    elapsed_s: float | None = None


@dataclass(frozen=True)
class Trace:
    """The way of one input, and where it is now."""

    facts: Facts
    verdict: Verdict
    hops: tuple[TraceHop, ...] = ()
    notes: tuple[str, ...] = ()


def hops_of(facts: Facts) -> tuple[TraceHop, ...]:
    """The stations in the order of the way; S3 tells whole seconds, so its time may seem to be before the last."""
    hops = list(_hops(facts))
    if (deleted := facts.deleted_at) is not None:
        later = (number for number, hop in enumerate(hops) if hop.at and hop.at > deleted)
        hops.insert(next(later, len(hops)), TraceHop("S3", "deleted", deleted))
    start = next((hop.at for hop in hops if hop.at), None)
    return tuple(
        TraceHop(
            hop.station,
            hop.detail,
            hop.at,
            max(0.0, (hop.at - start).total_seconds()) if hop.at and start else None,
        )
        for hop in hops
    )


def _hops(facts: Facts) -> Iterator[TraceHop]:
    if (version := facts.version) is not None:
        size = "1 byte" if version.size == 1 else f"{version.size} bytes"
        yield TraceHop("S3", f"version {version.version_id or '(none)'}, {size}", version.last_modified)
    if facts.ruleset is not None and (first := _sent(facts)) is not None:
        yield TraceHop("EventBridge", f"rule {facts.ruleset.base} (prefix {facts.ruleset.prefix})", first[0])
        yield TraceHop("SQS", facts.ruleset.queue, first[1])
    for number, attempt in enumerate(facts.attempts, 1):
        yield from _attempt_hops(number, attempt)
    for letter in (facts.dead, facts.undelivered):
        if letter is not None:
            yield TraceHop("DLQ", f"{letter.queue}, expires {clock(letter.expires_at, facts)}", letter.since)
    if facts.completion is not None:
        info = facts.completion.info
        yield TraceHop("S3", f"completion {info.key}: {facts.completion.document.status}", _written(info, facts))


def _written(completion: ObjectInfo, facts: Facts) -> datetime:
    """S3 tells whole seconds; who wrote it logs when it was done, in the same one."""
    at = completion.last_modified
    done = (attempt.ended for attempt in facts.attempts if attempt.completion_key == completion.key and attempt.ended)
    return max((end for end in done if at <= end < at + timedelta(seconds=1)), default=at)


def _sent(facts: Facts) -> tuple[datetime | None, datetime] | None:
    """When the event was made, and when it was put into the queue."""
    for attempt in facts.attempts:
        if attempt.sent_at is not None:
            return attempt.event_at, attempt.sent_at
    message = facts.waiting or (facts.dead.message if facts.dead else None)
    return (None, message.sent_at) if message else None


def _attempt_hops(number: int, attempt: Attempt) -> Iterator[TraceHop]:
    count = attempt.receive_count or number
    yield TraceHop("Lambda", f"attempt {count}, request {attempt.request_id}", attempt.started)
    for output in attempt.outputs:
        yield TraceHop("S3", f"output {output.key}", output.at)
    took = f" after {attempt.duration_ms:.0f} ms" if attempt.duration_ms is not None else ""
    if attempt.error:
        yield TraceHop("Lambda", f"failed{took}: {attempt.error}", attempt.ended)
    elif attempt.ignored:
        yield TraceHop("Lambda", f"ignored: {attempt.ignored}", attempt.ended)
    elif attempt.ended:
        yield TraceHop("Lambda", f"done{took}", attempt.ended)
