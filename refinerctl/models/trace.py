"""Where an input is, and why there: what its stations tell, and the verdict that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from refinerctl.models import Completion, CompletionStatus, Message, ObjectVersion
from refinerctl.models.status import QueueState, RulesetNames

# An event is at its queue well within this; before, nothing follows from its absence.
DELIVERY = timedelta(minutes=2)
# What a function is given beyond its timeout before its silence means anything: logs arrive late.
GRACE = timedelta(seconds=30)


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
    function logged as errors since, where it names no keys. `unread` says what could not be looked at.
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
        given = letter.message.attributes
        reason = ": ".join(filter(None, (given.get("ERROR_CODE"), given.get("ERROR_MESSAGE")))) or "no reason given"
        target = given.get("TARGET_ARN", "its target").rpartition(":")[2]
        text = f"EventBridge could not deliver its event to {target}: {reason}; {_in(letter, facts)}"
        return Verdict(Place.UNDELIVERED, Outcome.FAILED, text)
    if (letter := facts.dead) is None:
        return None
    return Verdict(
        Place.DEAD, Outcome.FAILED, f"{_failures(facts, letter.message.receive_count)}; {_in(letter, facts)}"
    )


def _in(letter: DeadLetter, facts: Facts) -> str:
    since = f" since {clock(letter.since, facts)}" if letter.since else f", sent {clock(letter.message.sent_at, facts)}"
    return f"in {letter.queue}{since}, expires {clock(letter.expires_at, facts)}"


def _failures(facts: Facts, receives: int = 0) -> str:
    """How often it failed, where, and why the last time."""
    name = facts.ruleset.name if facts.ruleset else "the function"
    failed = [attempt for attempt in facts.attempts if attempt.error]
    if not failed:
        said = f"; errors of the function since: {' | '.join(facts.errors)}" if facts.errors else ""
        return f"failed in {name}, whose log does not name it{said}"
    count = max(len(failed), *(attempt.receive_count or 0 for attempt in failed))
    times = "once" if count == 1 else f"{count} times"
    return f"failed {times} in {name}: {failed[-1].error}"


def _nowhere(facts: Facts) -> Verdict | None:
    """What never reached the pipeline."""
    if facts.ruleset is None:
        prefixes = ", ".join(ruleset.prefix for ruleset in facts.rulesets) or "none"
        gone = "" if facts.version else ", and S3 has no such object"
        text = f"never matched: no ruleset takes {facts.key}{gone} (prefixes: {prefixes})"
        return Verdict(Place.NEVER_MATCHED, Outcome.FAILED, text)
    if facts.version is None and not facts.attempts and facts.waiting is None:
        return Verdict(
            Place.NEVER_EXISTED, Outcome.FAILED, f"never existed: S3 has no version of {facts.key}, and no log names it"
        )
    return None


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
        gone = "a newer version has replaced its completion" if facts.later_completion else "its completion is gone"
        text = f"completed at {clock(last.ended, facts)} by {name}; {gone}"
        return Verdict(Place.COMPLETED, Outcome.COMPLETED, text)
    return _failing(facts, last)


def _running(facts: Facts, last: Attempt) -> Verdict:
    name = facts.ruleset.name if facts.ruleset else ""
    since = f"request {last.request_id} since {clock(last.started, facts)}"
    limit = timedelta(seconds=facts.timeout_s or 900) + GRACE
    if facts.now - last.started <= limit:
        return Verdict(Place.IN_FLIGHT, Outcome.UNDER_WAY, f"in flight: {name} works on it, {since}")
    return Verdict(Place.UNKNOWN, Outcome.FAILED, f"{name} began with it and has not said how that ended: {since}")


def _failing(facts: Facts, last: Attempt) -> Verdict:
    most = facts.queue.max_receive_count if facts.queue else None
    text = _failures(facts)
    hidden = timedelta(seconds=facts.queue.visibility_timeout_s if facts.queue else 0)
    again = last.started + hidden
    is_there = facts.waiting is not None or (facts.queue is not None and _holds_any(facts.queue))
    if not is_there and facts.now > again + GRACE:
        return Verdict(
            Place.UNKNOWN,
            Outcome.FAILED,
            f"{text}; its message is in no queue any more: redriven, purged or expired",
        )
    limit = f" of {most}" if most else ""
    count = last.receive_count or len(facts.attempts)
    return Verdict(
        Place.FAILING,
        Outcome.UNDER_WAY,
        f"{text}; attempt {count}{limit}, again about {clock(max(again, facts.now), facts)}",
    )


def _holds_any(queue: QueueState) -> bool:
    return bool(queue.depth.visible or queue.depth.in_flight or queue.depth.delayed)


def _queued(facts: Facts) -> Verdict | None:
    """What no function has told of."""
    if facts.ruleset is None or facts.queue is None:
        return None
    name, depth = facts.ruleset.queue, facts.queue.depth
    if not facts.ruleset.has_function:
        waiting = f"{depth.visible} messages wait there" if depth.visible else "nothing waits there"
        text = f"delivered to {name}, which no function of this stack reads; {waiting}"
        return Verdict(Place.DELIVERED, Outcome.COMPLETED, text)
    idle = f"; its event source mapping is {facts.mapping or 'missing'}" if facts.mapping != "Enabled" else ""
    if (message := facts.waiting) is not None:
        received = f", received {message.receive_count - 1} times before" if message.receive_count > 1 else ""
        text = f"waiting in {name} since {clock(message.sent_at, facts)}{received}{idle}"
        return Verdict(Place.WAITING, Outcome.UNDER_WAY, text)
    if depth.in_flight:
        text = f"in flight, most likely: {depth.in_flight} of {name} are with the function, or hidden after a failure"
        said = f"; errors of the function since: {' | '.join(facts.errors)}" if facts.errors else ""
        return Verdict(Place.IN_FLIGHT, Outcome.UNDER_WAY, text + said)
    if depth.visible + depth.delayed and not facts.looked:
        count = depth.visible + depth.delayed
        text = f"waiting, most likely: {count} messages wait in {name}, and were not looked through{idle}"
        return Verdict(Place.WAITING, Outcome.UNDER_WAY, text)
    return None


def _lost(facts: Facts) -> Verdict:
    name = facts.ruleset.name if facts.ruleset else ""
    if facts.version and facts.now - facts.version.last_modified < DELIVERY:
        text = f"on its way to {name}: it was written a moment ago, and is at no station yet"
        return Verdict(Place.UNKNOWN, Outcome.UNDER_WAY, text)
    if facts.unread:
        return Verdict(Place.UNKNOWN, Outcome.FAILED, f"not known: {'; '.join(facts.unread)}")
    text = (
        f"nothing is known of it after S3: {name} has not logged it, and no queue holds it. Its event was not "
        "delivered, or all this is longer ago than logs and queues keep"
    )
    return Verdict(Place.UNKNOWN, Outcome.FAILED, text)


def clock(at: datetime, facts: Facts) -> str:
    """A time as short as it is clear: with its date unless that is today's."""
    return f"{at:%H:%M:%SZ}" if at.date() == facts.now.date() else f"{at:%Y-%m-%d %H:%MZ}"
