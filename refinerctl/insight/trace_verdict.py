"""Where an input is: the facts about it, and the verdict that follows from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from refinerctl.console import counted
from refinerctl.insight.attempts import Attempt
from refinerctl.insight.service_verdict import by_service
from refinerctl.insight.trace_facts import DlqMessage, Facts, Place, Verdict, failures, other_errors
from refinerctl.stacks.base import CompletionStatus

if TYPE_CHECKING:
    pass

# Maximum time until an event is delivered; before that, its absence proves nothing.
DELIVERY = timedelta(minutes=2)
# Time after its timeout until a missing log line of a function is significant: lines arrive late.
GRACE = timedelta(seconds=30)
# SQS's counts are usually consistent a minute after the last change.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
COUNTS_SETTLE = timedelta(seconds=90)


def verdict(facts: Facts) -> Verdict:
    """Where the input is, in one sentence: by the first rule that applies, the certain before the likely."""
    rules = (_by_completion, _by_dlqs, _by_stage, _by_absence, by_service, _by_last_attempt, _by_queue, _by_time)
    found = next(found for rule in rules if (found := rule(facts)) is not None)
    if facts.deleted_at is None:
        return found
    return replace(found, text=f"{found.text}; the object was deleted at {facts.clock(facts.deleted_at)}")


def is_lost(facts: Facts, found: Verdict) -> bool:
    """Whether nothing will process the input any more, although it exists and a stage receives it."""
    exists = facts.version is not None and facts.deleted_at is None
    is_sure = found.place is Place.UNKNOWN and not found.is_recent and not facts.unread
    return is_sure and exists and facts.stage_queue is not None


def _by_completion(facts: Facts) -> Verdict | None:
    """Its completion exists: that says whether it succeeded."""
    if facts.completion is None:
        return None
    document, info = facts.completion.document, facts.completion.info
    at = facts.clock(info.last_modified)
    if document.status is not CompletionStatus.COMPLETED:
        return Verdict(Place.REFUSED, f"{document.status} at {at}: {document.error}; see {info.key}")
    if facts.missing_outputs:
        missing = ", ".join(facts.missing_outputs)
        return Verdict(Place.REFUSED, f"completed at {at}, but these outputs do not exist any more: {missing}")
    outputs = counted(len(document.output_keys), "output")
    return Verdict(Place.COMPLETED, f"completed at {at}: {outputs}, {info.key}{_merged(facts)}")


def _merged(facts: Facts) -> str:
    """Where the outputs were merged, in a stack that merges them."""
    if facts.service is None or not facts.service.merges:
        return ""
    if not facts.service.merged:
        return "; not merged yet"
    return f"; merged in {facts.service.merged[-1].manifest}"


def _by_dlqs(facts: Facts) -> Verdict | None:
    """Its message is in a DLQ: of its rule, which could not deliver it, or of its queue, whose consumer failed."""
    if (found := facts.undelivered_message) is not None:
        given = found.message.texts
        reason = ": ".join(filter(None, (given.get("ERROR_CODE"), given.get("ERROR_MESSAGE")))) or "no reason given"
        target = given.get("TARGET_ARN", "its target").rpartition(":")[2]
        text = f"EventBridge could not deliver its event to {target}: {reason}; {_in_dlq(facts, found)}"
        return Verdict(Place.UNDELIVERED, text)
    if (found := facts.dlq_message) is not None:
        return Verdict(Place.DEAD, f"{failures(facts)}; {_in_dlq(facts, found)}")
    return None


def _in_dlq(facts: Facts, found: DlqMessage) -> str:
    since = f" since {facts.clock(found.since)}" if found.since else f", sent {facts.clock(found.message.sent_at)}"
    return f"in {found.queue}{since}, expires {facts.clock(found.expires_at)}"


def _by_stage(facts: Facts) -> Verdict | None:
    """No stage receives it."""
    if facts.stage is not None:
        return None
    prefixes = ", ".join(stage.prefix for stage in facts.stages if stage.prefix is not None) or "none"
    absent = "" if facts.version else ", and the object does not exist"
    text = f"never matched: no stage receives {facts.key}{absent} (prefixes: {prefixes})"
    return Verdict(Place.NEVER_MATCHED, text)


def _by_absence(facts: Facts) -> Verdict | None:
    """It is neither in S3 nor in the log nor in a queue."""
    published = facts.service is not None and facts.service.publications
    if facts.version is not None or facts.attempts or facts.queued_message is not None or published:
        return None
    text = f"S3 has no version of {facts.key}"
    if facts.unread:
        return Verdict(Place.UNKNOWN, f"unknown: {'; '.join((text, *facts.unread))}")
    if facts.deleted_at is not None:
        return Verdict(Place.UNKNOWN, f"unknown: {text} except its delete marker, and no log names it")
    return Verdict(Place.NEVER_EXISTED, f"never existed: {text}, and no log names it")


def _by_last_attempt(facts: Facts) -> Verdict | None:
    """A function was given it: how the last attempt ended decides."""
    if not facts.attempts:
        return None
    last = facts.attempts[-1]
    if last.ignored is not None:
        return Verdict(Place.COMPLETED, f"ignored by {facts.stage_name}: {last.ignored}")
    if last.ended is None:
        return _running(facts, last)
    if last.error is None:
        text = f"completed at {facts.clock(last.ended)} by {facts.stage_name}; {_why_no_completion(facts)}"
        return Verdict(Place.COMPLETED, text)
    return _failing(facts, last)


def _why_no_completion(facts: Facts) -> str:
    """Stages share the completion prefix: inputs of one name have one completion."""
    if not facts.has_other_completion:
        return "it has no completion now"
    is_shared = sum(stage.consumer is not None for stage in facts.stages) > 1
    other = ", or an input of the same name of another stage," if is_shared else ""
    return f"a newer version{other} has replaced its completion"


def _running(facts: Facts, last: Attempt) -> Verdict:
    request = f"request {last.request_id} since {facts.clock(last.started)}"
    if facts.now - last.started <= timedelta(seconds=facts.timeout_s or 900) + GRACE:
        return Verdict(Place.IN_FLIGHT, f"in flight: {facts.stage_name} processes it, {request}")
    text = f"{facts.stage_name} started to process it, and no log line says how that ended: {request}"
    visible_at = last.started + facts.hidden
    if not _may_be_queued(facts, visible_at):
        return Verdict(Place.UNKNOWN, text)
    at = facts.clock(max(visible_at, facts.now))
    return Verdict(Place.FAILING, f"{text}; its message becomes visible again about {at}")


def _failing(facts: Facts, last: Attempt) -> Verdict:
    text = failures(facts)
    visible_at = last.started + facts.hidden
    if not _may_be_queued(facts, visible_at):
        where = "its message is in no queue any more: redriven, purged or expired"
        if facts.unread:
            where = f"where its message is now is unknown: {'; '.join(facts.unread)}"
        return Verdict(Place.UNKNOWN, f"{text}; {where}")
    most = facts.queue.max_receive_count if facts.queue else None
    count = last.receive_count or len(facts.attempts)
    attempt = f"attempt {count} of {most}" if most else f"attempt {count}"
    then = "moves to the DLQ" if most and count >= most else "again"
    return Verdict(Place.FAILING, f"{text}; {attempt}, {then} about {facts.clock(max(visible_at, facts.now))}")


def _may_be_queued(facts: Facts, visible_at: datetime) -> bool:
    """Whether its message can be in the queue. A message that has been hidden for longer is another's."""
    if facts.queued_message is not None or facts.now <= visible_at + COUNTS_SETTLE:
        return True
    if facts.queue is None:
        return False
    depth = facts.queue
    may_be_hidden = facts.now <= visible_at + facts.hidden + COUNTS_SETTLE
    return bool(depth.visible or depth.delayed or (depth.in_flight and may_be_hidden))


def _by_queue(facts: Facts) -> Verdict | None:
    """No function was given it: it may be in the queue."""
    if facts.queue is None or facts.stage_queue is None:
        return None
    name, depth = facts.stage_queue.name, facts.queue
    if facts.function is None:
        waiting = f"{counted(depth.visible, 'message')} waiting there" if depth.visible else "nothing waits there"
        text = f"delivered to {name}, which no function of this stack consumes; {waiting}, and its DLQ does not hold it"
        return Verdict(Place.DELIVERED, text)
    idle = f"; its event source mapping is {facts.mapping}" if facts.mapping not in (None, "Enabled") else ""
    if (message := facts.queued_message) is not None:
        before = message.receive_count - 1
        received = f", received {counted(before, 'time')} before" if before > 0 else ""
        return Verdict(Place.WAITING, f"waiting in {name} since {facts.clock(message.sent_at)}{received}{idle}")
    if facts.version and facts.now - facts.version.last_modified > timedelta(seconds=facts.queue.retention_s):
        return None  # all messages in the queue are newer
    if (count := depth.visible + depth.delayed) and not facts.all_queued_were_seen:
        others = f", {depth.in_flight} more in flight" if depth.in_flight else ""
        text = f"probably waiting: {counted(count, 'message')} in {name}, which were not received{others}{idle}"
        return Verdict(Place.WAITING, text + other_errors(facts))
    if depth.in_flight:
        count = depth.in_flight
        text = f"probably in flight: {name} has {counted(count, 'message')} in process, or invisible after a failure"
        return Verdict(Place.IN_FLIGHT, text + other_errors(facts))
    return None


def _by_time(facts: Facts) -> Verdict:
    """It was not found in any source."""
    name = facts.stage_name
    if facts.version and facts.now - facts.version.last_modified < DELIVERY:
        text = f"not seen downstream yet: it was written a moment ago, and its event has not reached {name}"
        return Verdict(Place.UNKNOWN, text, is_recent=True)
    if facts.unread:
        return Verdict(Place.UNKNOWN, f"unknown: {'; '.join(facts.unread)}")
    text = (
        f"unknown after S3: {name} has not logged it, and no queue has it. Its event was not delivered, or is older "
        f"than the logs and messages that are kept{other_errors(facts)}"
    )
    return Verdict(Place.UNKNOWN, text)
