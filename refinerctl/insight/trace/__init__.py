"""Where one input is, and why there: S3, queues, the function's log, dead letters and completions say so together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.log_events import LogSource
from refinerctl.aws.messages import Message, QueueState
from refinerctl.aws.objects import ObjectInfo, ObjectVersion, object_event
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.inputs.completions import Completion
from refinerctl.insight.trace.facts import Attempt, DeadLetter, Facts, verdict
from refinerctl.insight.trace.function_log import LogWindow, attempts, function_errors, with_platform
from refinerctl.insight.trace.hops import Trace, hops_of
from refinerctl.parallel import concurrently
from refinerctl.stacks.base import CompletionStatus
from refinerctl.stacks.names import RulesetNames
from refinerctl.stacks.settings import Pipeline

THREADS = 16
CLOCK_SKEW = timedelta(minutes=1)
# S3 and SQS agree on the time; S3 tells whole seconds.
EVENT_SKEW = timedelta(seconds=2)
# How many messages a look into a queue takes, and how many invocations Lambda's own lines are looked up of.
MAX_MESSAGES = 200
MAX_DETAILED = 10
# A look costs a message one of its receives: it must have some left to be processed with.
MIN_RECEIVES = 3

Found = TypeVar("Found")


class Bucket(Protocol):
    name: str

    def versions(self, key: str) -> list[ObjectVersion]: ...
    def head(self, key: str) -> ObjectInfo | None: ...


class Completions(Protocol):
    def get(self, key: str) -> Completion | None: ...


class Queues(Protocol):
    def state(self, name: str) -> QueueState: ...
    def peek(self, name: str, limit: int) -> list[Message]: ...


class Functions(Protocol):
    def get(self, name: str) -> FunctionConfiguration: ...
    def mapping_state(self, name: str) -> str | None: ...


@dataclass(frozen=True)
class Stations:
    """What an input passes."""

    bucket: Bucket
    completions: Completions
    queues: Queues
    functions: Functions
    logs: LogSource


@dataclass(frozen=True)
class TraceRequest:
    """`version_id` None is the newest. `since`: logs are not searched before then. `forward` are the queues of events
    that did not reach the pipeline's own bus. `look`: into the ruleset's queue, too, which costs each message there
    one of its receives.
    """

    key: str
    since: datetime
    now: datetime
    version_id: str | None = None
    forward: tuple[str, ...] = ()
    look: bool = False


def trace(request: TraceRequest, rulesets: Sequence[RulesetNames], pipeline: Pipeline, stations: Stations) -> Trace:
    """Follow an input through all stations. Receives messages of dead-letter queues, of others only if asked to.

    Raises NotFoundError without the bucket, or for a version that the object does not have.
    """
    search = _Search(request, pipeline, stations, Facts(request.key, request.now, tuple(rulesets)))
    search.look()
    unread = tuple(dict.fromkeys(search.unread))
    facts = replace(search.facts, unread=unread)
    return Trace(facts, verdict(facts), hops_of(facts), (*search.notes, *unread))


@dataclass
class _Search:
    """The facts so far. What may not be looked at is noted, and the rest tells what it can."""

    request: TraceRequest
    pipeline: Pipeline
    stations: Stations
    facts: Facts
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    states: dict[str, QueueState] = field(default_factory=dict)
    replaced_at: datetime | None = None

    def look(self) -> None:
        key = self.request.key
        matching = [ruleset for ruleset in self.facts.rulesets if key.startswith(ruleset.prefix)]
        ruleset = max(matching, key=lambda item: len(item.prefix), default=None)
        self.facts = replace(self.facts, ruleset=ruleset)
        self._first_round()
        if ruleset is not None:
            others = [other.name for other in matching if other != ruleset]
            self.notes += [f"{name} takes it, too: it is traced through {ruleset.name} only" for name in others]
            self._second_round(ruleset)
            self._into_the_queue(ruleset)

    def _first_round(self) -> None:
        """The object, its completion, and how many messages are where."""
        ruleset, stations = self.facts.ruleset, self.stations
        queues = (ruleset.queue, ruleset.dlq, ruleset.delivery_dlq) if ruleset else ()
        names = (*queues, *self.request.forward)
        looks: dict[str, Callable[[], Any]] = {name: partial(stations.queues.state, name) for name in names}
        if ruleset is not None and ruleset.has_function:
            looks["function"] = partial(self._try, partial(stations.functions.get, ruleset.base), self.notes)
            looks["mapping"] = partial(self._try, partial(self._mapping, ruleset.base), self.notes)
            keys = self.pipeline.completion_keys(self.request.key, ruleset.prefix)
            looks |= {f"completion {key}": partial(stations.completions.get, key) for key in keys}
        # Without the object's bucket, or any credentials, there is nothing to tell: that alone is an error.
        tasks: list[Callable[[], Any]] = [self._versions, *(partial(self._try, look) for look in looks.values())]
        versions, *answers = concurrently(tasks, THREADS)
        found = dict(zip(looks, answers, strict=True))
        self.states = {name: state for name, state in found.items() if isinstance(state, QueueState)}
        function: FunctionConfiguration | None = found.get("function")
        self.facts = replace(
            self.facts,
            queue=self.states.get(ruleset.queue) if ruleset else None,
            mapping=found.get("mapping"),
            timeout_s=function.timeout_s if function else None,
        )
        self._choose_version(versions)
        self._choose_completion([item for name, item in found.items() if name.startswith("completion ") and item])

    def _mapping(self, function: str) -> str:
        return self.stations.functions.mapping_state(function) or "missing"

    def _versions(self) -> list[ObjectVersion]:
        try:
            return self.stations.bucket.versions(self.request.key)
        except AccessDeniedError as error:  # who may not see versions may still see the newest
            self.notes.append(error.message)
            info = self.stations.bucket.head(self.request.key)
            return [ObjectVersion(info.key, info.version_id, info.last_modified, info.size)] if info else []

    def _choose_version(self, versions: Sequence[ObjectVersion]) -> None:
        wanted = self.request.version_id
        real = [version for version in versions if not version.is_delete_marker]
        chosen = next((version for version in real if wanted in (None, version.version_id)), None)
        if wanted is not None and chosen is None:
            raise NotFoundError(
                f"{self.request.key} has no version {wanted}",
                hint=f"It has {len(real)}; the newest without --version-id.",
            )
        newest = versions[0] if versions else None
        deleted = newest.last_modified if newest and newest.is_delete_marker else None
        self.facts = replace(self.facts, version=chosen, deleted_at=deleted)
        newer = [version.last_modified for version in real if chosen and version.last_modified > chosen.last_modified]
        if newer:
            self.replaced_at = min(newer)
            self.notes.append(f"a newer version of it was written at {self.replaced_at:%Y-%m-%d %H:%M:%SZ}")

    def _choose_completion(self, found: Sequence[Completion]) -> None:
        about = [completion for completion in found if self._is_about(completion)]
        outputs = about[0].document.output_keys if about else ()
        completed = bool(about) and about[0].document.status is CompletionStatus.COMPLETED
        heads = concurrently([partial(self._try, partial(self.stations.bucket.head, key)) for key in outputs], THREADS)
        missing = tuple(key for key, head in zip(outputs, heads, strict=True) if head is None and completed)
        self.facts = replace(
            self.facts,
            completion=about[0] if about else None,
            later_completion=bool(found) and not about,
            missing_outputs=missing,
        )

    def _is_about(self, completion: Completion) -> bool:
        """The image records the version that it was told of and the one it read; of others only the time tells."""
        version = self.facts.version
        versions = completion.source_versions
        if version is None or not versions or version.version_id is None:
            return version is None or completion.info.last_modified >= version.last_modified
        return version.version_id in versions

    def _second_round(self, ruleset: RulesetNames) -> None:
        """The log, and the dead letters where there are any: dead-letter queues have no redrive policy of their own."""
        dead_letters = (ruleset.dlq, ruleset.delivery_dlq, *self.request.forward)
        dead = [name for name in dead_letters if self._visible(name)]
        self.unread += [text for name in dead_letters if (text := self._hidden(name))]
        looks: list[Callable[[], Any]] = [partial(self._peek, name) for name in dead]
        if ruleset.has_function:
            looks.append(partial(self._attempts, ruleset))
        found = concurrently([partial(self._try, look) for look in looks], THREADS)
        tried = found.pop() if ruleset.has_function else ()
        self.facts = replace(self.facts, attempts=tried or ())
        letters = {name: letter for name, letter in zip(dead, found, strict=True) if letter is not None}
        self.facts = replace(
            self.facts,
            dead=letters.pop(ruleset.dlq, None),
            undelivered=next(iter(letters.values()), None),
        )
        if ruleset.has_function and not self.facts.attempts and self.facts.completion is None:
            errors = self._try(partial(function_errors, self._window(ruleset)))
            self.facts = replace(self.facts, errors=errors or ())
            version, since = self.facts.version, self.request.since
            if version is not None and version.last_modified < since:
                self.unread.append(f"logs before {since:%Y-%m-%d %H:%MZ} were not searched, see --since")

    def _window(self, ruleset: RulesetNames) -> LogWindow:
        version = self.facts.version
        since = max(version.last_modified - CLOCK_SKEW, self.request.since) if version else self.request.since
        timeout = self.facts.timeout_s or 900
        return LogWindow(self.stations.logs, ruleset.log_group, since, self.request.now + CLOCK_SKEW, timeout)

    def _attempts(self, ruleset: RulesetNames) -> tuple[Attempt, ...]:
        window = self._window(ruleset)
        version = self.facts.version.version_id if self.facts.version else None
        found = [item for item in attempts(window, self.request.key, version) if self._is_in_time(item)]
        details = concurrently([partial(with_platform, window, item) for item in found[-MAX_DETAILED:]], THREADS)
        return (*found[:-MAX_DETAILED], *details)

    def _visible(self, name: str) -> int:
        return self.states[name].depth.visible if name in self.states else 0

    def _hidden(self, name: str) -> str | None:
        count = self.states[name].depth.in_flight if name in self.states else 0
        return f"{name}: {count} messages there are hidden, as somebody has received them" if count else None

    def _peek(self, name: str) -> DeadLetter | None:
        """The input's message among the first of a dead-letter queue."""
        message = self._ours(name)
        if message is None:
            return None
        expires = message.sent_at + timedelta(seconds=self.states[name].retention_s)
        return DeadLetter(name, message, None, expires)

    def _ours(self, name: str) -> Message | None:
        self.notes.append(f"looked into {name}: each message there that was seen counts one receive more")
        messages = self.stations.queues.peek(name, MAX_MESSAGES)
        found = next((message for message in messages if self._is_ours(message)), None)
        left = self._visible(name) - len(messages)
        if found is None and left > 0:
            self.unread.append(f"{name}: looked at {len(messages)} messages, and some {left} more are there")
        return found

    def _is_ours(self, message: Message) -> bool:
        event, version = object_event(message.body), self.facts.version
        if event is None or (event.bucket, event.key) != (self.stations.bucket.name, self.request.key):
            return False
        if version is not None and version.version_id and event.version_id:
            return event.version_id == version.version_id
        return self._is_of_version(message.sent_at)

    def _is_in_time(self, attempt: Attempt) -> bool:
        is_named = attempt.names_version and self.facts.version is not None and self.facts.version.version_id
        return bool(is_named) or self._is_of_version(attempt.sent_at or attempt.started)

    def _is_of_version(self, sent_at: datetime) -> bool:
        """Where no version is named: whether an event of that time is of this version, or of one before or after."""
        version = self.facts.version
        if version is None:
            return True
        is_late = self.replaced_at is not None and sent_at >= self.replaced_at
        return sent_at > version.last_modified - EVENT_SKEW and not is_late

    def _into_the_queue(self, ruleset: RulesetNames) -> None:
        """Look at waiting messages, if that is wanted, nothing else tells where the input is and it does no harm.

        Asked for again and again, looks alone would use up the receives, and fill the dead-letter queue.
        """
        facts = self.facts
        if facts.dead is not None:
            since = self._died(facts)
            self.facts = replace(facts, dead=replace(facts.dead, since=since))
            return
        if not ruleset.has_function or facts.completion or facts.undelivered or facts.attempts or facts.queue is None:
            return
        receives = facts.queue.max_receive_count
        if not facts.queue.depth.visible or not self.request.look:
            return
        if receives is not None and receives < MIN_RECEIVES:
            self.notes.append(f"{ruleset.queue} gives a message {receives} receives only: not looked into")
            return
        before = len(self.unread)
        found = self._try(partial(self._ours, ruleset.queue))
        self.facts = replace(facts, waiting=found, looked=len(self.unread) == before)

    def _died(self, facts: Facts) -> datetime | None:
        """It moves when it would be received once more: after its last attempt has been hidden for long enough."""
        if not facts.attempts or facts.queue is None:
            return None
        again = facts.attempts[-1].started + timedelta(seconds=facts.queue.visibility_timeout_s)
        return min(again, self.request.now)

    def _try(self, look: Callable[[], Found], aside: list[str] | None = None) -> Found | None:
        """What is denied or not there does not keep the rest from telling. `aside`: nor could it tell where it is."""
        try:
            return look()
        except RefinerctlError as error:
            (self.unread if aside is None else aside).append(error.message)
            return None
