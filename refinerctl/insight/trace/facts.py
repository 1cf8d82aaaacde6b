"""Where an input is, and why there: what its stations tell, and the verdict that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from refinerctl.aws.messages import Message, QueueState
from refinerctl.aws.objects import ObjectVersion
from refinerctl.inputs.completions import Completion
from refinerctl.stacks.base import CompletionStatus
from refinerctl.stacks.names import RulesetNames

# An event is at its queue well within this; before, nothing follows from its absence.
DELIVERY = timedelta(minutes=2)
# What a function is given beyond its timeout before its silence means anything: logs arrive late.
GRACE = timedelta(seconds=30)
# SQS's counts are right a minute after the last change at the latest, as a rule.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
COUNTS_SETTLE = timedelta(seconds=90)


class Outcome(StrEnum):
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


@dataclass(frozen=True)
class Written:
    """An output, as the function logged it."""

    key: str
    at: datetime


@dataclass(frozen=True)
class Attempt:
    """One time that a function was given the input. `ended` None: nothing says that it has; durations in ms.

    `names_version`: its log says which version it was about.
    """

    request_id: str
    stream: str
    started: datetime
    names_version: bool = False
    receive_count: int | None = None
    sent_at: datetime | None = None
    event_at: datetime | None = None
    ended: datetime | None = None
    duration_ms: float | None = None
    error: str | None = None
    ignored: str | None = None
    outputs: tuple[Written, ...] = ()
    completion_key: str | None = None

    @property
    def has_succeeded(self) -> bool:
        return self.ended is not None and self.error is None


@dataclass(frozen=True)
class DeadLetter:
    """The input's message in a dead-letter queue. `since` is known by the last attempt only; times in UTC."""

    queue: str
    message: Message
    since: datetime | None
    expires_at: datetime


@dataclass(frozen=True)
class Facts:
    """What the stations told. `version` None: S3 has no version of it; `looked`: messages of the queue were looked at.

    `completion` is one about this version; `later_completion`: there is one of another version. `errors` are what the
    function logged as errors since, where it names no keys. `unread` says what was not looked at, or in part only.
    `mapping` None: it is not known.
    """

    key: str
    now: datetime
    rulesets: tuple[RulesetNames, ...]
    ruleset: RulesetNames | None = None
    version: ObjectVersion | None = None
    deleted_at: datetime | None = None
    completion: Completion | None = None
    later_completion: bool = False
    missing_outputs: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    queue: QueueState | None = None
    waiting: Message | None = None
    looked: bool = False
    mapping: str | None = None
    timeout_s: int | None = None
    dead: DeadLetter | None = None
    undelivered: DeadLetter | None = None
    errors: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    place: Place
    outcome: Outcome
    text: str


def verdict(facts: Facts) -> Verdict:
    """Where the input is, in a sentence. What is certain goes before what is likely."""
    found = _completed(facts) or _dead(facts) or _nowhere(facts) or _tried(facts) or _queued(facts) or _lost(facts)
    if facts.deleted_at is None:
        return found
    return Verdict(
        found.place, found.outcome, f"{found.text}; the object was deleted at {clock(facts.deleted_at, facts)}"
    )


def _completed(facts: Facts) -> Verdict | None:
    if facts.completion is None:
        return None
    document, info = facts.completion.document, facts.completion.info
    at = clock(info.last_modified, facts)
    if document.status is not CompletionStatus.COMPLETED:
        return Verdict(Place.REFUSED, Outcome.FAILED, f"{document.status} at {at}: {document.error}; see {info.key}")
    if facts.missing_outputs:
        missing = ", ".join(facts.missing_outputs)
        return Verdict(Place.REFUSED, Outcome.FAILED, f"completed at {at}, but outputs are gone: {missing}")
    count = len(document.output_keys)
    outputs = f"{count} output" + ("" if count == 1 else "s")
    return Verdict(Place.COMPLETED, Outcome.COMPLETED, f"completed at {at}: {outputs}, {info.key}")


def _dead(facts: Facts) -> Verdict | None:
    if (letter := facts.undelivered) is not None:
        given = letter.message.texts
        reason = ": ".join(filter(None, (given.get("ERROR_CODE"), given.get("ERROR_MESSAGE")))) or "no reason given"
        target = given.get("TARGET_ARN", "its target").rpartition(":")[2]
        text = f"EventBridge could not deliver its event to {target}: {reason}; {_in(letter, facts)}"
        return Verdict(Place.UNDELIVERED, Outcome.FAILED, text)
    if (letter := facts.dead) is None:
        return None
    return Verdict(Place.DEAD, Outcome.FAILED, f"{_failures(facts)}; {_in(letter, facts)}")


def _in(letter: DeadLetter, facts: Facts) -> str:
    since = f" since {clock(letter.since, facts)}" if letter.since else f", sent {clock(letter.message.sent_at, facts)}"
    return f"in {letter.queue}{since}, expires {clock(letter.expires_at, facts)}"


def _failures(facts: Facts) -> str:
    """How often it failed, where, and why the last time.

    It may have been received more often than the log tells: looked at by somebody, or by a function that never began.
    """
    name = facts.ruleset.name if facts.ruleset else "the function"
    failed = [attempt for attempt in facts.attempts if attempt.error]
    if not failed:
        said = f"; errors of the function since: {' | '.join(facts.errors)}" if facts.errors else ""
        return f"failed in {name}, whose log does not name it{said}"
    times = "once" if len(failed) == 1 else f"{len(failed)} times"
    receives = max(attempt.receive_count or 0 for attempt in facts.attempts)
    received = f" ({receives} receives)" if receives > len(facts.attempts) else ""
    return f"failed {times}{received} in {name}: {failed[-1].error}"


def _nowhere(facts: Facts) -> Verdict | None:
    """What never reached the pipeline."""
    if facts.ruleset is None:
        prefixes = ", ".join(ruleset.prefix for ruleset in facts.rulesets) or "none"
        gone = "" if facts.version else ", and S3 has no such object"
        text = f"never matched: no ruleset takes {facts.key}{gone} (prefixes: {prefixes})"
        return Verdict(Place.NEVER_MATCHED, Outcome.FAILED, text)
    if facts.version is not None or facts.attempts or facts.waiting is not None:
        return None
    text = f"S3 has no version of {facts.key}"
    if facts.unread:
        return Verdict(Place.UNKNOWN, Outcome.FAILED, f"not known: {'; '.join((text, *facts.unread))}")
    if facts.deleted_at is not None:
        return Verdict(Place.UNKNOWN, Outcome.FAILED, f"nothing is left of it: {text} any more, and no log names it")
    return Verdict(Place.NEVER_EXISTED, Outcome.FAILED, f"never existed: {text}, and no log names it")


def _tried(facts: Facts) -> Verdict | None:
    """What a function was given."""
    if not facts.attempts or facts.ruleset is None:
        return None
    last, name = facts.attempts[-1], facts.ruleset.name
    if last.ignored is not None:
        return Verdict(Place.COMPLETED, Outcome.COMPLETED, f"ignored by {name}: {last.ignored}")
    if last.ended is None:
        return _running(facts, last)
    if last.error is None:
        gone = _completion_gone(facts)
        text = f"completed at {clock(last.ended, facts)} by {name}; {gone}"
        return Verdict(Place.COMPLETED, Outcome.COMPLETED, text)
    return _failing(facts, last)


def _completion_gone(facts: Facts) -> str:
    """Rulesets share the completion prefix: inputs of one name have one completion."""
    if not facts.later_completion:
        return "its completion is gone"
    shared = sum(ruleset.has_function for ruleset in facts.rulesets) > 1
    other = ", or another ruleset's input of this name," if shared else ""
    return f"a newer version{other} has replaced its completion"


def _running(facts: Facts, last: Attempt) -> Verdict:
    name = facts.ruleset.name if facts.ruleset else ""
    since = f"request {last.request_id} since {clock(last.started, facts)}"
    limit = timedelta(seconds=facts.timeout_s or 900) + GRACE
    if facts.now - last.started <= limit:
        return Verdict(Place.IN_FLIGHT, Outcome.UNDER_WAY, f"in flight: {name} works on it, {since}")
    text = f"{name} began with it and has not said how that ended: {since}"
    hidden = timedelta(seconds=facts.queue.visibility_timeout_s if facts.queue else 0)
    again = last.started + hidden
    if _may_be_there(facts, again, hidden):
        text = f"{text}; its message comes back about {clock(max(again, facts.now), facts)}"
        return Verdict(Place.FAILING, Outcome.UNDER_WAY, text)
    return Verdict(Place.UNKNOWN, Outcome.FAILED, text)


def _failing(facts: Facts, last: Attempt) -> Verdict:
    most = facts.queue.max_receive_count if facts.queue else None
    text = _failures(facts)
    hidden = timedelta(seconds=facts.queue.visibility_timeout_s if facts.queue else 0)
    again = last.started + hidden
    if not _may_be_there(facts, again, hidden):
        gone = f"where its message is now is not known: {'; '.join(facts.unread)}"
        if not facts.unread:
            gone = "its message is in no queue any more: redriven, purged or expired"
        return Verdict(Place.UNKNOWN, Outcome.FAILED, f"{text}; {gone}")
    limit = f" of {most}" if most else ""
    count = last.receive_count or len(facts.attempts)
    then = "dead" if most and count >= most else "again"
    return Verdict(
        Place.FAILING,
        Outcome.UNDER_WAY,
        f"{text}; attempt {count}{limit}, {then} about {clock(max(again, facts.now), facts)}",
    )


def _may_be_there(facts: Facts, again: datetime, hidden: timedelta) -> bool:
    """Whether its message can be in the queue: what is hidden for longer than that is another's."""
    if facts.waiting is not None or facts.now <= again + COUNTS_SETTLE:
        return True
    if facts.queue is None:
        return False
    depth = facts.queue.depth
    return bool(depth.visible or depth.delayed or (depth.in_flight and facts.now <= again + hidden + COUNTS_SETTLE))


def _queued(facts: Facts) -> Verdict | None:
    """What no function has told of."""
    if facts.ruleset is None or facts.queue is None:
        return None
    name, depth = facts.ruleset.queue, facts.queue.depth
    if not facts.ruleset.has_function:
        waits = "1 message waits" if depth.visible == 1 else f"{depth.visible} messages wait"
        waiting = f"{waits} there" if depth.visible else "nothing waits there"
        text = f"for {name}, which no function of this stack reads; {waiting}, and it is not among the dead letters"
        return Verdict(Place.DELIVERED, Outcome.COMPLETED, text)
    idle = f"; its event source mapping is {facts.mapping}" if facts.mapping not in (None, "Enabled") else ""
    if (message := facts.waiting) is not None:
        received = f", received {message.receive_count - 1} times before" if message.receive_count > 1 else ""
        text = f"waiting in {name} since {clock(message.sent_at, facts)}{received}{idle}"
        return Verdict(Place.WAITING, Outcome.UNDER_WAY, text)
    if _is_too_old(facts, facts.queue):
        return None
    said = f"; errors of the function since: {' | '.join(facts.errors)}" if facts.errors else ""
    if (count := depth.visible + depth.delayed) and not facts.looked:
        others = f", {depth.in_flight} more are in flight" if depth.in_flight else ""
        text = f"waiting, most likely: {count} in {name} wait, and were not looked through{others}{idle}"
        return Verdict(Place.WAITING, Outcome.UNDER_WAY, text + said)
    if depth.in_flight:
        text = f"in flight, most likely: {depth.in_flight} of {name} are with the function, or hidden after a failure"
        return Verdict(Place.IN_FLIGHT, Outcome.UNDER_WAY, text + said)
    return None


def _is_too_old(facts: Facts, queue: QueueState) -> bool:
    """Longer ago than the queue keeps messages: what is in it now is of others."""
    version = facts.version
    return version is not None and facts.now - version.last_modified > timedelta(seconds=queue.retention_s)


def _lost(facts: Facts) -> Verdict:
    name = facts.ruleset.name if facts.ruleset else ""
    if facts.version and facts.now - facts.version.last_modified < DELIVERY:
        text = f"on its way to {name}: it was written a moment ago, and is at no station yet"
        return Verdict(Place.UNKNOWN, Outcome.UNDER_WAY, text)
    if facts.unread:
        return Verdict(Place.UNKNOWN, Outcome.FAILED, f"not known: {'; '.join(facts.unread)}")
    said = f"; errors of the function since: {' | '.join(facts.errors)}" if facts.errors else ""
    text = (
        f"nothing is known of it after S3: {name} has not logged it, and no queue holds it. Its event was not "
        f"delivered, or all this is longer ago than logs and queues keep{said}"
    )
    return Verdict(Place.UNKNOWN, Outcome.FAILED, text)


def clock(at: datetime, facts: Facts) -> str:
    """A time as short as it is clear: with its date unless that is today's."""
    return f"{at:%H:%M:%SZ}" if at.date() == facts.now.date() else f"{at:%Y-%m-%d %H:%MZ}"
