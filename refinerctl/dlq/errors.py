"""What killed a message: EventBridge wrote it on it, or the log of the function that could not process it says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from refinerctl.aws.log_events import LogEvent, LogSource
from refinerctl.aws.messages import Message
from refinerctl.dlq.bodies import delivery_error, source_key
from refinerctl.dlq.views import MessageError
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.insight.function_lines import (
    FAILED,
    Mark,
    error_text,
    json_line,
    pattern_of,
    platform_line,
)
from refinerctl.parallel import concurrently

# FilterLogEvents is allowed a handful of times per second in a whole account: of more messages than this all failures
# are read at once, and those that they do not name are looked up one by one, at most so many.
FEW = 8
MAX_LOOKUPS = 100
LOOKUPS_AT_ONCE = 4
MAX_LINES = 100_000
MAX_LINES_OF_ONE = 2_000
MAX_TEXT = 1_000
# What a function logged where it names no messages: a hint.
MAX_ERRORS, MAX_SHOWN = 3, 200
SKEW = timedelta(minutes=1)

# Messages come in any order: who has to read further back reads so much more.
READ_MORE = timedelta(hours=1)

_Dated: TypeAlias = tuple[datetime, MessageError]

# How Lambda's runtimes begin a line that the function's code has written: time, tab, request id, tab.
_REQUEST_ID = re.compile(r"^\S+\t([0-9a-f]{8}-[0-9a-f-]{27})\t")


@dataclass
class ErrorFinder:
    """Finds errors in `groups` (the log groups of the functions that read the source queue), until `until` (UTC).

    What was read stays, so that messages can be asked about in any number of calls, from one thread at a time.
    `many`: that is how many are going to be asked about, if only one after the other. `problems`: what could not be
    read; `failure`: why nothing can be said of any message.
    """

    logs: LogSource
    groups: Sequence[str]
    until: datetime
    problems: list[str] = field(default_factory=list)
    failure: RefinerctlError | None = None
    many: bool = False
    max_lookups: int = MAX_LOOKUPS
    max_lines: int = MAX_LINES
    not_looked_up: int = 0
    _read_from: datetime | None = None
    _failed: dict[str, _Dated] = field(default_factory=dict)
    _known: dict[str, MessageError | None] = field(default_factory=dict)
    _lookups: int = 0
    _unnamed_since: datetime | None = None

    def find(self, letters: Sequence[Message]) -> Mapping[str, MessageError]:
        """The errors by message id, of those messages that something is known of."""
        asked = [letter for letter in letters if letter.id not in self._known and not self._is_written_on(letter)]
        if asked and self.groups:
            if self.many or len(asked) + self._lookups > FEW:
                self._read_failures(min(letter.sent_at for letter in asked) - SKEW)
            self._look_up([letter for letter in asked if not self._is_among_failures(letter)])
        return {letter.id: error for letter in letters if (error := self._known.get(letter.id)) is not None}

    def is_settled(self, letter: Message) -> bool:
        """Whether a message without an error has none, once it has been asked about; else nobody has looked."""
        return not self.groups or letter.id in self._known

    def check(self, *, reads: bool = False) -> None:
        """Raises RefinerctlError if errors cannot be read; `reads`: try it before anybody asks about a message."""
        if reads:
            for group in self.groups:
                list(self._lines(group, self.until - SKEW, f'"{FAILED}"', self.until, 1))
        if self.failure is not None:
            raise RefinerctlError(
                f"the filter is about errors, and these cannot be read: {self.failure.message}",
                hint=self.failure.hint or "Filter by --key-prefix, --since, --until or by what is in the message.",
            ) from self.failure

    def notes(self) -> Iterator[str]:
        """What could not be found out; of messages that no log names the function's last errors."""
        if self._unnamed_since is not None and (last := self._last_errors(self._unnamed_since - SKEW)):
            yield f"errors of the function since the first message that no log names: {' | '.join(last)}"
        if self.not_looked_up:
            yield f"what killed {self.not_looked_up} messages was not looked up: they are not among the logged failures"
        for problem in self.problems:
            yield f"errors are not known: {problem}"

    def _is_written_on(self, letter: Message) -> bool:
        if (text := delivery_error(letter)) is None:
            return False
        self._known[letter.id] = MessageError(text)
        return True

    def _is_among_failures(self, letter: Message) -> bool:
        if (error := self._failed.get(letter.id)) is None:
            return False
        self._known[letter.id] = error[1]
        return True

    def _read_failures(self, since: datetime) -> None:
        """All that this repository's image has logged as failed; each line names its message, the latest one counts."""
        until = self.until
        if self._read_from is not None:
            if since >= self._read_from:
                return
            since, until = min(since, self._read_from - READ_MORE), self._read_from
        for group in self.groups:
            count = 0
            for event in self._lines(group, since, f'"{FAILED}"', until, self.max_lines):
                count += 1
                record = json_line(event.message) or {}
                known = self._failed.get(_id(record))
                if record.get("message") == FAILED and (known is None or known[0] <= event.timestamp):
                    self._failed[_id(record)] = event.timestamp, _failure(record)
            if count == self.max_lines:
                self.problems.append(f"of {group} no more than the first {self.max_lines:,} failures were read")
        self._read_from = since

    def _look_up(self, letters: list[Message]) -> None:
        room = max(0, self.max_lookups - self._lookups)
        self.not_looked_up += len(letters[room:])
        self._lookups += len(letters[:room])
        tasks = [partial(self._ask_about, letter) for letter in letters[:room]]
        for letter, error in zip(letters, concurrently(tasks, LOOKUPS_AT_ONCE), strict=False):
            self._known[letter.id] = error
            if error is None:
                self._unnamed_since = min(self._unnamed_since or letter.sent_at, letter.sent_at)

    def _last_errors(self, since: datetime) -> list[str]:
        """Each once, the latest last."""
        found: dict[str, datetime] = {}
        for group in self.groups:
            for pattern in ("ERROR", '"Task timed out"', '"Error:"'):
                for event in self._lines(group, since, pattern, self.until, MAX_LINES_OF_ONE):
                    if (line := platform_line(event.message)) is not None and line.error:
                        found[line.error[:MAX_SHOWN]] = event.timestamp
        return sorted(found, key=lambda text: found[text])[-MAX_ERRORS:]

    def _ask_about(self, letter: Message) -> MessageError | None:
        """By the message's id, or by the object's key where the function logs no ids of messages."""
        for text in filter(None, (letter.id, source_key(letter.body))):
            found = [error for group in self.groups if (error := self._last_error(group, letter, text)) is not None]
            if found:
                return max(found, key=lambda error: error[0])[1]
        return None

    def _last_error(self, group: str, letter: Message, text: str) -> _Dated | None:
        """With the time of the last line that named the message."""
        since = letter.sent_at - SKEW
        error: MessageError | None = None
        request: str | None = None
        at = since
        for event in self._lines(group, since, pattern_of(text), self.until, MAX_LINES_OF_ONE):
            record = json_line(event.message)
            if record is not None and text not in (record.get("messageId"), record.get("key")):
                continue
            request, at = _request_of(event, record) or request, event.timestamp
            if record is not None and record.get("message") == FAILED:
                error = _failure(record)
            elif (line := platform_line(event.message)) is not None and line.error:
                error = MessageError(line.error[:MAX_TEXT], line.request_id or request)
        if request is not None and (error is None or error.request_id != request):
            # The last invocation that had it did not live to say what was wrong.
            error = self._platform_error(group, since, request) or error
        return (at, error) if error is not None else None

    def _platform_error(self, group: str, since: datetime, request: str) -> MessageError | None:
        """Lambda's own word on an invocation: of several lines the one that says most."""
        found: list[str] = []
        for event in self._lines(group, since, pattern_of(request), self.until, MAX_LINES_OF_ONE):
            line = platform_line(event.message)
            if line is not None and line.error and line.mark is not Mark.START and line.request_id == request:
                found.append(line.error)
        text = max(found, key=len, default=None)
        return MessageError(text[:MAX_TEXT], request) if text else None

    def _lines(self, group: str, since: datetime, pattern: str, until: datetime, most: int) -> Iterator[LogEvent]:
        try:
            yield from islice(self.logs.events(group, since, pattern, until=until), most)
        except RefinerctlError as error:
            if error.message not in self.problems:
                self.problems.append(error.message)
            if not isinstance(error, NotFoundError):  # without the group nothing was ever logged
                self.failure = error


def _id(record: Mapping[str, Any]) -> str:
    return str(record.get("messageId"))


def _failure(record: Mapping[str, Any]) -> MessageError:
    request = record.get("requestId")
    text = error_text(record.get("error") or "no reason given")
    return MessageError(text[:MAX_TEXT], str(request) if request else None)


def _request_of(event: LogEvent, record: Mapping[str, Any] | None) -> str | None:
    if record is not None:
        request = record.get("requestId")
        return str(request) if request else None
    match = _REQUEST_ID.match(event.message)
    return match[1] if match else None
