"""The search for one input: what S3, the queues, the function's log and the DLQs know of it, at most two calls deep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.aws.s3 import ObjectVersion, object_event
from refinerctl.errors import AccessDeniedError, NotFoundError
from refinerctl.inputs.completions import completions_of
from refinerctl.insight.attempts import FunctionLog
from refinerctl.insight.trace_facts import DlqMessage, Facts
from refinerctl.insight.trace_service import find_merged, read_service
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
# Peeking costs one receive of each message: enough receives must be left for processing.
MIN_RECEIVES = 3


def trace_input(
    app: AppContext, key: str, since: datetime, now: datetime, version_id: str | None = None, *, look: bool = False
) -> Facts:
    """Find a version of an input, the newest by default. Logs before `since` are not searched.

    Receives messages of dead-letter queues; those of the stage's queue only if `look` and if nothing else tells, as it
    costs each one of its receives. Raises NotFoundError without the bucket, or for a version that the object does not
    have.
    """
    facts = Facts(key, now, app.pipeline.stages, app.pipeline.stage_for(key))
    search = _Search(app, facts, since)
    search.read_present(version_id)
    if facts.stage is not None:
        search.read_past(facts.stage)
        if look:
            search.read_queue(facts.stage)
    facts.unread = list(dict.fromkeys(facts.unread))
    facts.notes += facts.unread
    return facts


class _Search:
    """Collects the facts, step by step. An error of one source does not stop the others.

    It is among `facts.unread` if the input could be there, else among `facts.notes`.
    """

    def __init__(self, app: AppContext, facts: Facts, since: datetime) -> None:
        self._app = app
        self._facts = facts
        self._since = since
        self._states: dict[Queue, QueueState] = {}
        self._replaced_at: datetime | None = None
        shared_rules = (item for item in app.pipeline.shared if isinstance(item, EventRule))
        self._shared_dlqs = [rule.dlq for rule in shared_rules if rule.dlq is not None]

    def read_present(self, version_id: str | None) -> None:
        """The object, its completion, the counts of the queues, the function: all at the same time."""
        app, facts, stage = self._app, self._facts, self._facts.stage
        calls: dict[object, Callable[[], Any]] = {
            queue: partial(app.queues.state, queue.name)
            for queue in (*(stage.sqs_queues if stage else ()), *self._shared_dlqs)
        }
        keys: tuple[str, ...] = ()
        if stage is not None and stage.consumer is not None and app.stack.completion_keys is not None:
            keys = completions_of(app).keys_for(facts.key)
        calls |= {key: partial(completions_of(app).get, key) for key in keys}
        of_function: dict[object, Callable[[], Any]] = {}
        if facts.function is not None:
            of_function["function"] = partial(app.functions.get, facts.function.name)
            of_function["mapping"] = partial(app.functions.mappings, facts.function.name)
        # Without the bucket or any credentials there is nothing to tell: only that is an error.
        present, of_its_function = partial(self._ask, calls, facts.unread), partial(self._ask, of_function, facts.notes)
        reads: list[Callable[[], Any]] = [self._versions, present, of_its_function]
        versions, found, function = concurrently(reads, len(reads))
        self._states = {queue: state for queue, state in found.items() if isinstance(queue, Queue)}
        facts.queue = found.get(facts.stage_queue)
        facts.timeout_s = function["function"].timeout_s if "function" in function else None
        if "mapping" in function and facts.stage_queue:
            facts.mapping = function["mapping"][0].state if function["mapping"] else "missing"
        self._choose_version(versions, version_id)
        completions = [found[key] for key in keys if found.get(key)]
        others = [item for item in completions if not completions_of(app).is_of(item, facts.key)]
        facts.notes += [item.of_another for item in others]
        self._choose_completion([item for item in completions if item not in others])
        for other in facts.stages:
            if other.prefix is not None and facts.key.startswith(other.prefix) and other != stage:
                facts.notes.append(f"{other.name} also receives it; traced through {facts.stage_name} only")

    def read_past(self, stage: Stage) -> None:
        """The log, and the messages of the DLQs that hold any. Receiving is harmless: a DLQ has no redrive policy."""
        facts = self._facts
        dlqs = [*(queue for queue in stage.sqs_queues if queue != stage.queue), *self._shared_dlqs]
        states = {dlq: self._states[dlq] for dlq in dlqs if dlq in self._states}
        for dlq, state in states.items():
            if state.in_flight:
                facts.unread.append(
                    f"{dlq.name}: {state.in_flight} messages are in flight, received by another consumer"
                )
        calls: dict[object, Callable[[], Any]] = {
            dlq: partial(self._message_in, dlq) for dlq, state in states.items() if state.visible
        }
        log = self._log(stage)
        if log is not None:
            calls["attempts"] = partial(log.about, self._facts.key)
        calls["service"] = partial(
            read_service, self._app, stage, facts.key, self._log_start, facts.now, problems := list[str]()
        )
        found = self._ask(calls, facts.unread)
        facts.unread += problems
        facts.service = found.pop("service", None)
        about = found.pop("attempts", ())
        facts.attempts = tuple(item for item in about if self._is_its(item.version_id, item.sent_at or item.started))
        self._read_completion_again()
        if facts.service and facts.completion:
            merged = find_merged(self._app, facts.completion.info, facts.notes)
            facts.service = replace(facts.service, merged=merged)
        for dlq, message in found.items():
            if message is not None:
                self._found_in_dlq(stage, dlq, message)
        if log is not None and not facts.attempts and facts.completion is None:
            errors = self._ask({"errors": partial(log.last_errors, MAX_ERRORS)}, facts.unread).get("errors", ())
            facts.function_errors = tuple(error[:MAX_ERROR] for error in errors)
            if facts.version is not None and facts.version.last_modified < self._since:
                facts.unread.append(f"logs before {self._since:%Y-%m-%d %H:%MZ} were not searched, see --since")

    def _read_completion_again(self) -> None:
        """The completion may have been written after it was read, and before the log was."""
        facts = self._facts
        key = next((item.completion_key for item in reversed(facts.attempts) if item.completion_key), None)
        if facts.completion is None and key is not None:
            found = self._ask({key: partial(completions_of(self._app).get, key)}, facts.unread).get(key)
            if found is not None:
                self._choose_completion([found])

    def read_queue(self, stage: Stage) -> None:
        """The messages that wait, if nothing else tells where the input is and it does no harm.

        Traces in a loop would otherwise use up the receives of all messages there, and fill the DLQ.
        """
        facts, state = self._facts, self._facts.queue
        is_found = facts.completion or facts.dlq_message or facts.undelivered_message or facts.attempts
        if is_found or stage.consumer is None or stage.queue is None or state is None or not state.visible:
            return
        if state.max_receive_count is not None and state.max_receive_count < MIN_RECEIVES:
            allowed = f"{stage.queue.name} allows {state.max_receive_count} receives"
            self._facts.notes.append(f"{allowed}: its messages were not received to find the input")
            return
        count = len(facts.unread)
        facts.queued_message = self._ask({"queue": partial(self._message_in, stage.queue)}, facts.unread).get("queue")
        facts.all_queued_were_seen = len(facts.unread) == count

    def _ask(self, calls: Mapping[object, Callable[[], Any]], problems: list[str]) -> dict[Any, Any]:
        """The results of the calls that did not fail; of the others the errors are among `problems`."""
        answers = concurrently([partial(attempt, call) for call in calls.values()], THREADS)
        problems += [answer.error.message for answer in answers if answer.error]
        return {subject: item.value for subject, item in zip(calls, answers, strict=True) if item.error is None}

    def _versions(self) -> list[ObjectVersion]:
        try:
            return self._app.bucket.versions(self._facts.key)
        except AccessDeniedError as error:  # the newest may be readable all the same
            self._facts.notes.append(error.message)
            info = self._app.bucket.head(self._facts.key)
            return [ObjectVersion(info.key, info.version_id, info.last_modified, info.size)] if info else []

    def _choose_version(self, versions: Sequence[ObjectVersion], wanted: str | None) -> None:
        real = [version for version in versions if not version.is_delete_marker]
        chosen = next((version for version in real if wanted in (None, version.version_id)), None)
        if wanted is not None and chosen is None:
            raise NotFoundError(
                f"{self._facts.key} has no version {wanted}",
                hint=f"It has {len(real)} versions; omit --version-id for the newest.",
            )
        self._facts.version = chosen
        if versions and versions[0].is_delete_marker:
            self._facts.deleted_at = versions[0].last_modified
        newer = [version.last_modified for version in real if chosen and version.last_modified > chosen.last_modified]
        if newer:
            self._replaced_at = min(newer)
            self._facts.notes.append(f"a newer version was written at {self._replaced_at:%Y-%m-%d %H:%M:%SZ}")

    def _choose_completion(self, found: Sequence[Completion]) -> None:
        facts = self._facts
        facts.completion = next((completion for completion in found if self._is_about(completion)), None)
        facts.has_other_completion = bool(found) and facts.completion is None
        if facts.completion is not None and facts.completion.document.status is CompletionStatus.COMPLETED:
            keys = facts.completion.document.output_keys
            heads = self._ask({key: partial(self._app.results.head, key) for key in keys}, facts.unread)
            facts.missing_outputs = tuple(key for key, head in heads.items() if head is None)

    def _is_about(self, completion: Completion) -> bool:
        """The image records the version that the event named and the one that it read; else the time decides."""
        version, versions = self._facts.version, completion.source_versions
        if version is None or not versions or version.version_id is None:
            return version is None or completion.info.last_modified >= version.last_modified
        return version.version_id in versions

    def _is_its(self, version_id: str | None, sent_at: datetime) -> bool:
        """Whether an event of that time is about the version; the time decides only if no version is named."""
        version = self._facts.version
        if version is None:
            return True
        if version.version_id and version_id:
            return version.version_id == version_id
        is_late = self._replaced_at is not None and sent_at >= self._replaced_at
        return sent_at > version.last_modified - EVENT_SKEW and not is_late

    @property
    def _log_start(self) -> datetime:
        version = self._facts.version
        return max(version.last_modified - CLOCK_SKEW, self._since) if version else self._since

    def _log(self, stage: Stage) -> FunctionLog | None:
        if stage.consumer is None:
            return None
        return FunctionLog(
            self._app.log_groups,
            stage.consumer.log_group,
            self._app.stack.read_log_line,
            since=self._log_start,
            until=self._facts.now + CLOCK_SKEW,
            timeout_s=self._facts.timeout_s or 900,
        )

    def _message_in(self, queue: Queue) -> Message | None:
        """The input's message among the first of a queue."""
        self._facts.notes.append(
            f"messages of {queue.name} were received to find it: their receive counts increased by 1"
        )
        messages = self._app.queues.peek(queue.name, MAX_MESSAGES)
        for message in messages:
            event = object_event(message.body)
            if event is None or (event.bucket, event.key) != (self._app.bucket.name, self._facts.key):
                continue
            if self._is_its(event.version_id, message.sent_at):
                return message
        if (left := self._states[queue].visible - len(messages)) > 0:
            self._facts.unread.append(f"{queue.name}: {len(messages)} messages were received, about {left} were not")
        return None

    def _found_in_dlq(self, stage: Stage, dlq: Queue, message: Message) -> None:
        facts = self._facts
        expires_at = message.sent_at + timedelta(seconds=self._states[dlq].retention_s)
        if stage.queue is None or dlq != stage.queue.dlq:
            facts.undelivered_message = facts.undelivered_message or DlqMessage(dlq.name, message, expires_at)
            return
        # SQS does not record it: a message moves when it would be received again, after its last receive timed out.
        last = facts.attempts[-1].started if facts.attempts and facts.queue else None
        since = min(last + facts.hidden, facts.now) if last else None
        facts.dlq_message = DlqMessage(dlq.name, message, expires_at, since)
