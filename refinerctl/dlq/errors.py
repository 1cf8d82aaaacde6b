"""Why messages failed: EventBridge writes it into their attributes, functions and Lambda into logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.aws.messages import Message
from refinerctl.dlq.bodies import delivery_error, source_key
from refinerctl.errors import RefinerctlError
from refinerctl.insight.attempts import Attempt, FunctionLog, read_attempts
from refinerctl.parallel import attempt, concurrently
from refinerctl.stacks.records import RecordEvent

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.logs import LogEvent
    from refinerctl.aws.messages import QueueAddress
    from refinerctl.dlq.queues import MessageSource

# FilterLogEvents is limited to a few calls per second and account: for more messages than FEW all failures are
# read in one go, and at most MAX_LOOKUPS messages that these do not name are looked up one by one.
FEW = 8
MAX_LOOKUPS = 100
LOOKUPS_AT_ONCE = 4
MAX_LINES = 100_000
# Messages come in any order: if failures from an earlier time are needed, that much more is read.
READ_MORE = timedelta(hours=1)
# Shown of the last errors of a function that names no messages.
MAX_LAST_ERRORS, MAX_SHOWN = 3, 200
SKEW = timedelta(minutes=1)


@dataclass(frozen=True)
class MessageError:
    """Why a message failed, and the invocation that logged it, if any."""

    text: str
    request_id: str | None = None


@dataclass
class ErrorFinder:
    """Finds errors of messages in the logs of the functions that consume their source queue.

    What was read is kept, so messages can be passed in any number of calls, by one thread at a time. `failed_term` is a
    text in every line that names a failed message. `many`: many messages follow, even if each call passes only one.
    `problems`: what could not be read; `failure`: why the error of no message is known.
    """

    logs: Sequence[FunctionLog] = ()
    failed_term: str | None = None
    problems: list[str] = field(default_factory=list)
    failure: RefinerctlError | None = None
    many: bool = False
    max_lookups: int = MAX_LOOKUPS
    max_lines: int = MAX_LINES
    not_looked_up: int = 0
    _read_from: datetime | None = None
    _failed: dict[str, tuple[datetime, MessageError]] = field(default_factory=dict)
    _known: dict[str, MessageError | None] = field(default_factory=dict)
    _lookups: int = 0
    _unnamed_since: datetime | None = None

    def find(self, messages: Sequence[Message]) -> Mapping[str, MessageError]:
        """The known errors by message id."""
        for message in messages:
            if (text := delivery_error(message)) is not None:
                self._known[message.id] = MessageError(text)
        asked = [message for message in messages if message.id not in self._known]
        if asked and self.logs:
            if self.failed_term and (self.many or len(asked) + self._lookups > FEW):
                self._read_failures(min(message.sent_at for message in asked) - SKEW, self.failed_term)
            named = {
                message.id: self._failed[_logged_id(message)][1]
                for message in asked
                if _logged_id(message) in self._failed
            }
            self._known |= named
            self._look_up([message for message in asked if message.id not in named])
        return {message.id: error for message in messages if (error := self._known.get(message.id)) is not None}

    def is_settled(self, message: Message) -> bool:
        """Whether a message without an error has none; otherwise it was not looked up."""
        return not self.logs or message.id in self._known

    def check(self, *, reads: bool = False) -> None:
        """Raises RefinerctlError if errors cannot be read; `reads`: try it before the first message."""
        for log in self.logs if reads else ():
            recent = replace(log, since=log.until - SKEW)
            self._keep_problem(attempt(partial(next, recent.lines(None), None)).error)
        if self.failure is not None:
            raise RefinerctlError(
                f"the filter uses `error`, but errors cannot be read: {self.failure.message}",
                hint=self.failure.hint or "Filter by --key-prefix, --since, --until or the content of messages.",
            ) from self.failure

    def notes(self) -> Iterator[str]:
        """Notes about errors that were not found; for messages that no log names, the last errors of the function."""
        if self._unnamed_since is not None and (last := self._last_errors(self._unnamed_since - SKEW)):
            yield f"some messages are in no log; the last errors since they were sent: {' | '.join(last)}"
        if self.not_looked_up:
            yield f"errors of {self.not_looked_up} messages unknown: too many to look up one by one"
        for problem in self.problems:
            yield f"errors unknown: {problem}"

    def _read_failures(self, since: datetime, term: str) -> None:
        until = self._read_from
        if until is not None:
            if since >= until:
                return
            since = min(since, until - READ_MORE)
        for log in self.logs:
            part = replace(log, since=since, until=until or log.until)
            self._keep_problem(attempt(partial(self._read_part, part, term)).error)
        self._read_from = since

    def _read_part(self, log: FunctionLog, term: str) -> None:
        """The last failure of a message replaces earlier ones."""
        for found in read_attempts(self._first_lines(log, term), log.read_line):
            if found.error and found.message_id:
                known = self._failed.get(found.message_id)
                if known is None or known[0] <= _ended(found):
                    self._failed[found.message_id] = _ended(found), _error(found)

    def _first_lines(self, log: FunctionLog, term: str) -> Iterator[LogEvent]:
        for number, event in enumerate(log.lines(f'"{term}"')):
            if number == self.max_lines:
                self.problems.append(f"only the first {self.max_lines:,} failures in {log.group} were read")
                return
            yield event

    def _look_up(self, messages: Sequence[Message]) -> None:
        room = max(0, self.max_lookups - self._lookups)
        self.not_looked_up += len(messages[room:])
        self._lookups += len(messages[:room])
        tasks = [partial(attempt, partial(self._last_failure, message)) for message in messages[:room]]
        for message, answer in zip(messages, concurrently(tasks, LOOKUPS_AT_ONCE), strict=False):
            self._keep_problem(answer.error)
            self._known[message.id] = _error(answer.value) if answer.value else None
            if answer.value is None:
                self._unnamed_since = min(self._unnamed_since or message.sent_at, message.sent_at)

    def _last_failure(self, message: Message) -> Attempt | None:
        """By the id of the message, or by the object's key if the function logs no ids."""
        for text in filter(None, (_logged_id(message), source_key(message.body))):
            found = [item for log in self.logs for item in log.about(text, message.sent_at - SKEW) if item.error]
            if found:
                return sorted(found, key=_ended)[-1]  # at equal times the last line is used
        return None

    def _last_errors(self, since: datetime) -> list[str]:
        found: list[str] = []
        for log in self.logs:
            answer = attempt(partial(log.last_errors, MAX_LAST_ERRORS, since))
            self._keep_problem(answer.error)
            found += [error[:MAX_SHOWN] for error in answer.value or ()]
        return found

    def _keep_problem(self, error: RefinerctlError | None) -> None:
        if error is not None:
            self.failure = error
            if error.message not in self.problems:
                self.problems.append(error.message)


def _logged_id(message: Message) -> str:
    """By which logs name a message: RabbitMQ's have an id only if their sender sets it."""
    return message.system.get("message_id") or message.id


def _error(found: Attempt) -> MessageError:
    return MessageError(found.error or "", found.request_id or None)


def _ended(found: Attempt) -> datetime:
    return found.ended or found.started


def error_finder(
    app: AppContext, sources: Iterable[MessageSource | QueueAddress], until: datetime | None = None
) -> ErrorFinder:
    """Finds errors in the logs of the functions that consume these queues, up to `until` or now.

    Which functions: by the stack's pipeline, for other queues by Lambda's event source mappings.
    """
    stages = app.pipeline.stages if app.stack.pipeline else ()
    of_stack = {stage.queue.name: stage.consumer for stage in stages if stage.queue}
    finder = ErrorFinder(failed_term=app.stack.log_terms.get(RecordEvent.FAILED))
    groups: dict[str, None] = {}
    for source in sources:
        if source.name in of_stack:
            consumer = of_stack[source.name]
            groups |= {consumer.log_group: None} if consumer else {}
            continue
        answer = attempt(partial(app.functions.consumers, source.arn))
        if answer.error:
            finder.failure = answer.error
            finder.problems.append(answer.error.message)
        groups |= {f"/aws/lambda/{found.function}": None for found in answer.value or ()}
    until = until or datetime.now(UTC) + SKEW
    finder.logs = [FunctionLog(app.log_groups, group, app.stack.read_log_line, until, until) for group in groups]
    return finder
