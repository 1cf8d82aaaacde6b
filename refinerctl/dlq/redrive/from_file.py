"""Exported messages as if they were in a queue: the engine receives them, and deletes what was sent."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAddress, QueueAttributes
from refinerctl.dlq.records import read_records
from refinerctl.errors import RefinerctlError, UsageError

# SQS's largest message, https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_MESSAGE_BYTES = 1_048_576
_AFTER_ALL = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Checked:
    """A file that was read to its end: its SHA-256, how many messages it has, and which queues they were in."""

    digest: str
    count: int
    queues: tuple[QueueAddress, ...]
    sources: tuple[str, ...]


def check(file: BinaryIO) -> Checked:
    """Read all of it before anything is sent. Raises UsageError, naming the line, for what is not an export.

    A last line without its end is one that was being written when its writer died, or lost its tail on the way.
    """
    seen: set[str] = set()
    queues: dict[str, QueueAddress] = {}
    sources: dict[str, None] = {}
    digest = hashlib.sha256()

    def lines() -> Iterator[bytes]:
        for number, line in enumerate(file, 1):
            digest.update(line)
            if not line.endswith(b"\n"):
                raise UsageError(f"line {number}: the line has no end: the file is not whole")
            yield line

    for record in read_records(lines()):
        if record.message.id in seen:
            raise UsageError(f"message {record.message.id} is there twice", hint="Take one of them out.")
        seen.add(record.message.id)
        queues.setdefault(record.queue.name, record.queue)
        sources.setdefault(record.message.system.get("DeadLetterQueueSourceArn", ""))
    return Checked(digest.hexdigest(), len(seen), tuple(queues.values()), tuple(filter(None, sources)))


class FileSource:
    """A file of exported messages, with the interface of a queue (`Queue` in `ports`).

    `done` are the ids of those that an earlier part of the run was done with. Receipts are line numbers, the same in
    every run. Messages are read when they are asked for; those given back come again.
    """

    def __init__(self, file: BinaryIO, address: QueueAddress, count: int, done: Collection[str] = ()) -> None:
        file.seek(0)
        self._address = address
        self._records = enumerate(read_records(file), 1)
        self._done = done
        self._given_back: deque[Message] = deque()
        self._in_hand: dict[str, Message] = {}
        self._deleted: set[str] = set()
        self._count = count - len(done)
        self._lock = threading.Lock()

    @property
    def address(self) -> QueueAddress:
        return self._address

    def attributes(self) -> QueueAttributes:
        """Everything was there before the start, whatever times and whose clocks the messages have."""
        with self._lock:
            hidden, left = len(self._in_hand), self._count - len(self._deleted)
            return QueueAttributes(_AFTER_ALL, max(left - hidden, 0), hidden, 0, MAX_MESSAGE_BYTES)

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        """The next ones; without any there is nothing to wait for."""
        with self._lock:
            found: list[Message] = []
            while len(found) < count and self._given_back:
                found.append(self._given_back.popleft())
            while len(found) < count and (letter := self._next()) is not None:
                found.append(letter)
            self._in_hand |= {letter.receipt: letter for letter in found}
            return found

    def send(
        self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = lambda: None
    ) -> list[EntryResult]:
        raise RefinerctlError("a file of exported messages is no target")

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        """These are done with: the journal says so, the file stays as it is."""
        with self._lock:
            for receipt in receipts:
                self._in_hand.pop(receipt, None)
                self._deleted.add(receipt)
        return [EntryResult() for _ in receipts]

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        with self._lock:
            if visibility_s == 0:
                self._given_back.extend(self._in_hand.pop(receipt) for receipt in receipts if receipt in self._in_hand)
        return [EntryResult() for _ in receipts]

    def _next(self) -> Message | None:
        for number, record in self._records:
            if record.message.id not in self._done and str(number) not in self._deleted:
                return replace(record.message, receipt=str(number))
        return None
