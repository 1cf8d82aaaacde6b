"""The search for one input: what S3, the queues, the function's log and the DLQs know of it, at most two calls deep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.aws.s3 import ObjectVersion, object_event
from refinerctl.errors import AccessDeniedError, NotFoundError
from refinerctl.inputs.completions import completions_of
from refinerctl.insight.attempts import FunctionLog
from refinerctl.insight.trace_verdict import DlqMessage, Facts, Verdict, verdict
from refinerctl.parallel import attempt, concurrently
from refinerctl.stacks.base import CompletionStatus, EventRule, Queue, Stage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.messages import Message
    from refinerctl.aws.sqs import QueueState
    from refinerctl.inputs.completions import Completion

THREADS = 16
CLOCK_SKEW = timedelta(minutes=1)
# S3 records whole seconds, SQS milliseconds.
EVENT_SKEW = timedelta(seconds=2)
MAX_MESSAGES = 200
MAX_ERRORS, MAX_ERROR = 3, 200
# Looking at a message costs one of its receives: it must have some left to be processed with.
MIN_RECEIVES = 3


@dataclass(frozen=True)
class TraceRequest:
    """Which input. `version_id` None: the newest. Logs before `since` are not searched.

    `look`: receive the messages of the stage's queue, too, if nothing else tells; it costs each one of its receives.
    """

    key: str
    since: datetime
    now: datetime
    version_id: str | None = None
    look: bool = False


@dataclass(frozen=True)
class Trace:
    """What was found about an input, and where it is."""

    facts: Facts
    verdict: Verdict
    notes: tuple[str, ...]


def trace_input(app: AppContext, request: TraceRequest) -> Trace:
    """Find an input. Receives messages of dead-letter queues; those of the stage's queue only if `look`.

    Raises NotFoundError without the bucket, or for a version that the object does not have.
    """
    search = _Search(app, request)
    search.read_present()
    if search.facts.stage is not None:
        search.read_past(search.facts.stage)
        search.read_queue(search.facts.stage)
    facts = search.facts
    facts.unread = list(dict.fromkeys(facts.unread))
    return Trace(facts, verdict(facts), (*search.notes, *facts.unread))


class _Search:
    """Fills in the facts, step by step. What cannot be read does not keep the rest from telling.

    It is among `facts.unread` if the input could be there, else among `notes`.
    """

    def __init__(self, app: AppContext, request: TraceRequest) -> None:
        self.facts = Facts(request.key, request.now, app.pipeline.stages, app.pipeline.stage_for(request.key))
        self.notes: list[str] = []
        self._app = app
        self._request = request
        self._states: dict[Queue, QueueState] = {}
        self._replaced_at: datetime | None = None
        shared_rules = (item for item in app.pipeline.shared if isinstance(item, EventRule))
        self._shared_dlqs = [rule.dlq for rule in shared_rules if rule.dlq is not None]

    def read_present(self) -> None:
        """The object, its completion, the counts of the queues, the function: all at the same time."""
        app, facts, stage = self._app, self.facts, self.facts.stage
        calls: dict[object, Callable[[], Any]] = {
            queue: partial(app.queues.state, queue.name)
            for queue in (*(stage.queues if stage else ()), *self._shared_dlqs)
        }
        keys = self._completion_keys()
        calls |= {key: partial(completions_of(app).get, key) for key in keys}
        of_function: dict[object, Callable[[], Any]] = {}
        if facts.function is not None:
            of_function["function"] = partial(app.functions.get, facts.function.name)
            of_function["mapping"] = partial(app.functions.mappings, facts.function.name)
        # Without the bucket or any credentials there is nothing to tell: only that is an error.
        reads: list[Callable[[], Any]] = [
            *(self._versions, partial(self._ask, calls, facts.unread), partial(self._ask, of_function, self.notes))
        ]
        versions, found, function = concurrently(reads, len(reads))
        self._states = {queue: state for queue, state in found.items() if isinstance(queue, Queue)}
        facts.queue = found.get(facts.stage_queue)
        facts.timeout_s = function["function"].timeout_s if "function" in function else None
        if "mapping" in function and facts.stage_queue:
            facts.mapping = function["mapping"][0].state if function["mapping"] else "missing"
        self._choose_version(versions)
        self._choose_completion([found[key] for key in keys if found.get(key)])
        for other in facts.stages:
            if other.prefix is not None and facts.key.startswith(other.prefix) and other != stage:
                self.notes.append(f"{other.name} takes it, too: it is traced through {facts.stage_name} only")

    def read_past(self, stage: Stage) -> None:
        """The log, and the messages of the DLQs that hold any. Receiving is harmless: a DLQ has no redrive policy."""
        facts = self.facts
        dlqs = [*(queue for queue in stage.queues if queue != stage.queue), *self._shared_dlqs]
        states = {dlq: self._states[dlq] for dlq in dlqs if dlq in self._states}
        for dlq, state in states.items():
            if state.in_flight:
                facts.unread.append(f"{dlq.name}: {state.in_flight} messages are in flight, received by somebody else")
        calls: dict[object, Callable[[], Any]] = {
            dlq: partial(self._message_in, dlq) for dlq, state in states.items() if state.visible
        }
        log = self._log(stage)
        if log is not None:
            calls["attempts"] = partial(log.about, self._request.key)
        found = self._ask(calls, facts.unread)
        about = found.pop("attempts", ())
        facts.attempts = tuple(item for item in about if self._is_its(item.version_id, item.sent_at or item.started))
        for dlq, message in found.items():
            if message is not None:
                self._found_in_dlq(stage, dlq, message)
        if log is not None and not facts.attempts and facts.completion is None:
            errors = self._ask({"errors": partial(log.last_errors, MAX_ERRORS)}, facts.unread).get("errors", ())
            facts.function_errors = tuple(error[:MAX_ERROR] for error in errors)
            if facts.version is not None and facts.version.last_modified < self._request.since:
                facts.unread.append(f"logs before {self._request.since:%Y-%m-%d %H:%MZ} were not searched, see --since")

    def read_queue(self, stage: Stage) -> None:
        """The messages that wait, if that was asked for, nothing else tells where the input is and it does no harm.

        Traces in a loop would otherwise use up the receives of all messages there, and fill the DLQ.
        """
        facts, state = self.facts, self.facts.queue
        is_found = facts.completion or facts.dlq_message or facts.undelivered_message or facts.attempts
        if not self._request.look or is_found or stage.consumer is None or stage.queue is None:
            return
        if state is None or not state.visible:
            return
        if state.max_receive_count is not None and state.max_receive_count < MIN_RECEIVES:
            allowed = f"{stage.queue.name} allows {state.max_receive_count} receives"
            self.notes.append(f"{allowed}: its messages were not received to find the input")
            return
        count = len(facts.unread)
        facts.queued_message = self._ask({"queue": partial(self._message_in, stage.queue)}, facts.unread).get("queue")
        facts.all_queued_were_seen = len(facts.unread) == count

    def _ask(self, calls: Mapping[object, Callable[[], Any]], problems: list[str]) -> dict[Any, Any]:
        """The results of the calls that did not fail; of the others the errors are among `problems`."""
        answers = concurrently([partial(attempt, call) for call in calls.values()], THREADS)
        problems += [answer.error.message for answer in answers if answer.error]
        return {subject: item.value for subject, item in zip(calls, answers, strict=True) if item.error is None}

    def _completion_keys(self) -> tuple[str, ...]:
        stage = self.facts.stage
        if stage is None or stage.consumer is None or self._app.stack.completion_keys is None:
            return ()
        return completions_of(self._app).keys_for(self._request.key, stage.prefix)

    def _versions(self) -> list[ObjectVersion]:
        try:
            return self._app.bucket.versions(self._request.key)
        except AccessDeniedError as error:  # the newest may be readable all the same
            self.notes.append(error.message)
            info = self._app.bucket.head(self._request.key)
            return [ObjectVersion(info.key, info.version_id, info.last_modified, info.size)] if info else []

    def _choose_version(self, versions: Sequence[ObjectVersion]) -> None:
        wanted = self._request.version_id
        real = [version for version in versions if not version.is_delete_marker]
        chosen = next((version for version in real if wanted in (None, version.version_id)), None)
        if wanted is not None and chosen is None:
            raise NotFoundError(
                f"{self._request.key} has no version {wanted}",
                hint=f"It has {len(real)} versions; leave out --version-id for the newest.",
            )
        self.facts.version = chosen
        if versions and versions[0].is_delete_marker:
            self.facts.deleted_at = versions[0].last_modified
        newer = [version.last_modified for version in real if chosen and version.last_modified > chosen.last_modified]
        if newer:
            self._replaced_at = min(newer)
            self.notes.append(f"a newer version was written at {self._replaced_at:%Y-%m-%d %H:%M:%SZ}")

    def _choose_completion(self, found: Sequence[Completion]) -> None:
        facts = self.facts
        facts.completion = next((completion for completion in found if self._is_about(completion)), None)
        facts.has_other_completion = bool(found) and facts.completion is None
        if facts.completion is not None and facts.completion.document.status is CompletionStatus.COMPLETED:
            keys = facts.completion.document.output_keys
            heads = self._ask({key: partial(self._app.bucket.head, key) for key in keys}, facts.unread)
            facts.missing_outputs = tuple(key for key, head in heads.items() if head is None)

    def _is_about(self, completion: Completion) -> bool:
        """The image records the version that the event named and the one that it read; else the time decides."""
        version, versions = self.facts.version, completion.source_versions
        if version is None or not versions or version.version_id is None:
            return version is None or completion.info.last_modified >= version.last_modified
        return version.version_id in versions

    def _is_its(self, version_id: str | None, sent_at: datetime) -> bool:
        """Whether an event of that time is about the version; the time decides only if no version is named."""
        version = self.facts.version
        if version is None:
            return True
        if version.version_id and version_id:
            return version.version_id == version_id
        is_late = self._replaced_at is not None and sent_at >= self._replaced_at
        return sent_at > version.last_modified - EVENT_SKEW and not is_late

    def _log(self, stage: Stage) -> FunctionLog | None:
        if stage.consumer is None:
            return None
        request, version = self._request, self.facts.version
        return FunctionLog(
            self._app.log_groups,
            stage.consumer.log_group,
            self._app.stack.read_log_line,
            since=max(version.last_modified - CLOCK_SKEW, request.since) if version else request.since,
            until=request.now + CLOCK_SKEW,
            timeout_s=self.facts.timeout_s or 900,
        )

    def _message_in(self, queue: Queue) -> Message | None:
        """The input's message among the first of a queue."""
        self.notes.append(f"messages of {queue.name} were received to find it: their receive counts increased by 1")
        messages = self._app.queues.peek(queue.name, MAX_MESSAGES)
        for message in messages:
            event = object_event(message.body)
            if event is None or (event.bucket, event.key) != (self._app.bucket.name, self._request.key):
                continue
            if self._is_its(event.version_id, message.sent_at):
                return message
        if (left := self._states[queue].visible - len(messages)) > 0:
            self.facts.unread.append(f"{queue.name}: {len(messages)} messages were received, about {left} were not")
        return None

    def _found_in_dlq(self, stage: Stage, dlq: Queue, message: Message) -> None:
        facts = self.facts
        expires_at = message.sent_at + timedelta(seconds=self._states[dlq].retention_s)
        if stage.queue is None or dlq != stage.queue.dlq:
            facts.undelivered_message = facts.undelivered_message or DlqMessage(dlq.name, message, expires_at)
            return
        # SQS does not record it: a message moves when it would be received again, after its last receive timed out.
        last = facts.attempts[-1].started if facts.attempts and facts.queue else None
        since = min(last + facts.hidden, facts.now) if last else None
        facts.dlq_message = DlqMessage(dlq.name, message, expires_at, since)
