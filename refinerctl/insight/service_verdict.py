"""The verdict about an input whose stage is a service that consumes a queue on a broker."""

from __future__ import annotations

from datetime import timedelta

from refinerctl.console import counted
from refinerctl.insight.attempts import Attempt
from refinerctl.insight.trace_facts import Facts, Place, Verdict, failures
from refinerctl.insight.trace_service import ServiceFacts
from refinerctl.stacks.records import RecordEvent

# A producer runs every few minutes, and may find an input only in its second run.
POLLED = timedelta(minutes=12)
# Metrics are published every minute.
COUNTS_SETTLE = timedelta(minutes=3)


def by_service(facts: Facts) -> Verdict | None:
    """By the last attempt of a task; without one by the publication of its message. None for another kind of stage."""
    if facts.service is None or facts.stage_queue is None:
        return None
    if facts.attempts:
        return _by_attempt(facts, facts.service, facts.attempts[-1])
    return _by_publication(facts, facts.service)


def _by_attempt(facts: Facts, service: ServiceFacts, last: Attempt) -> Verdict | None:
    if last.ended is None:
        task = f"task {last.request_id} since {facts.clock(last.started)}"
        if service.running is None or last.request_id in service.running:
            return Verdict(Place.IN_FLIGHT, f"in flight: {facts.stage_name} processes it, {task}")
        text = f"{facts.stage_name} started to process it, and the task has stopped: {task}"
        return Verdict(Place.FAILING, f"{text}; its message is delivered again")
    if last.error is None:  # completed or ignored
        return None
    text, queue = failures(facts), facts.stage_queue
    assert queue is not None  # noqa: S101 - by_service has checked it
    count, limit = last.receive_count or len(facts.attempts), queue.delivery_limit
    if not last.is_final and (limit is None or count <= limit):
        most = f" of {limit + 1}" if limit is not None else ""
        return Verdict(Place.FAILING, f"{text}; attempt {count}{most}, its message is delivered again")
    dlq = queue.dlq.name if queue.dlq else "its DLQ"
    if service.counts and service.counts.dlq_messages == 0 and service.counts.at > last.ended + COUNTS_SETTLE:
        return Verdict(Place.UNKNOWN, f"{text}; its message is not in {dlq} any more: redriven or purged")
    return Verdict(Place.DEAD, f"{text}; its message is in {dlq}: `refinerctl dlq inspect {dlq}` shows it")


def _by_publication(facts: Facts, service: ServiceFacts) -> Verdict | None:
    """Whether its message waits; a message that was published and is not in the queue was processed or removed."""
    name = facts.stage_queue.name if facts.stage_queue else ""
    if not service.publications:
        if facts.version and facts.now - facts.version.last_modified < POLLED:
            text = f"not seen downstream yet: no producer of {name} has claimed it since it was written"
            return Verdict(Place.UNKNOWN, text, is_recent=True)
        return None
    last, counts = service.publications[-1], service.counts
    at = facts.clock(last.at)
    if last.event is not RecordEvent.PUBLISHED:
        why = f": {last.error}" if last.error else ", and not published yet"
        text = f"claimed by {last.function} at {at}{why}; the next run claims it again when the claim expires"
        return Verdict(Place.WAITING, text)
    if counts is None or counts.ready is None:
        return Verdict(Place.WAITING, f"published to {name} at {at}; how many messages wait there is unknown")
    if counts.ready + (counts.unacknowledged or 0) == 0 and counts.at > last.at + COUNTS_SETTLE:
        text = f"unknown after {name}: published at {at}, no task has logged it, and the queue is empty"
        return Verdict(Place.UNKNOWN, text)
    consumers = "" if counts.consumers is None else f", {counted(counts.consumers, 'consumer')}"
    waiting = counted(counts.ready, "message")
    return Verdict(Place.WAITING, f"waiting in {name} since {at}: {waiting} waiting there{consumers}")
