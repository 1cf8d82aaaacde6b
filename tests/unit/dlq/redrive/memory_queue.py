"""Queues in memory with SQS's behaviour as far as a redrive depends on it, faults on demand, and a kill switch."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAddress, QueueAttributes
from refinerctl.dlq.redrive.routes import Route, SendTo
from refinerctl.errors import NotFoundError, RefinerctlError, TransientError
from refinerctl.files import Disk

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)


class Killed(BaseException):
    """kill -9: from here on nothing of the process has an effect any more."""


class Power:
    """Goes off after so many uses; None: never."""

    def __init__(self, uses: int | None = None) -> None:
        self._uses = uses
        self._lock = threading.Lock()

    def use(self) -> None:
        with self._lock:
            if self._uses == 0:
                raise Killed
            if self._uses is not None:
                self._uses -= 1


class PoweredDisk(Disk):
    """The process may be killed before and after each record."""

    def __init__(self, power: Power) -> None:
        self._power = power

    def write(self, descriptor: int, line: bytes) -> int:
        self._power.use()
        written = super().write(descriptor, line)
        self._power.use()
        return written


class FullDisk(Disk):
    """Has no room for a record, and for all that follow, once `is_full` says so of it."""

    def __init__(self, is_full: Callable[[bytes], bool]) -> None:
        self._is_full = is_full

    def write(self, descriptor: int, line: bytes) -> int:
        if self._is_full(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(descriptor, line)


@dataclass
class Kept:
    """A message in a queue. `hidden`: received, and neither deleted nor released."""

    message: Message
    hidden: bool = False
    receives: int = 0


OK = EntryResult()
# What may come of an entry, in the order in which faults are drawn.
LOST = EntryResult(error="NoAnswer", is_uncertain=True, cause=TransientError("no answer"))
BUSY = EntryResult(error="RequestThrottled", cause=TransientError("too many requests"))
ENTRY = EntryResult(error="InternalError", message="try again")
DENIED = EntryResult(error="AccessDenied", cause=RefinerctlError("access denied"))
TOO_LONG = EntryResult(error="BatchRequestTooLong", is_sender_fault=True, cause=RefinerctlError("too long"))
BAD = EntryResult(error="InvalidMessageContents", message="bad characters", is_sender_fault=True)

Item = TypeVar("Item")
Fault = tuple[EntryResult, bool]  # and whether it was done all the same


@dataclass
class MemoryQueue:
    """One queue. `faults`: for calls of send and delete to come, None for none; then there are none any more."""

    name: str
    power: Power = field(default_factory=Power)
    kept: dict[str, Kept] = field(default_factory=dict)
    faults: Iterator[Fault | None] = field(default_factory=lambda: iter(()))
    max_message_bytes: int = 1000
    is_gone: bool = False
    now: datetime = NOW
    calls: list[str] = field(default_factory=list)
    on_receive: Callable[[], object] = lambda: None
    max_workers: int = 40
    counts_lag_s: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ids: Iterator[int] = field(default_factory=itertools.count)
    _known: dict[str, str] = field(default_factory=dict)  # deduplication id to message id

    @property
    def address(self) -> QueueAddress:
        return QueueAddress(self.name, f"https://sqs/{self.name}", f"arn:aws:sqs:us-east-1:000000000000:{self.name}")

    def put(self, body: str, sent_at: datetime = LONG_AGO, message_id: str | None = None, **system: str) -> str:
        message_id = message_id or f"{self.name}-{next(self._ids)}"
        with self._lock:
            self.kept[message_id] = Kept(Message(body, sent_at, 0, id=message_id, system=system))
        return message_id

    def bodies(self) -> list[str]:
        return [item.message.body for item in self.kept.values()]

    def forget_sent(self) -> None:
        """Five minutes pass: deduplication ids are forgotten."""
        self._known.clear()

    def time_out(self) -> None:
        """The visibility timeouts of all messages end."""
        self.now += timedelta(hours=12)
        for item in self.kept.values():
            item.hidden = False

    def attributes(self, attempts: int = 1) -> QueueAttributes:
        self._called("attributes")
        with self._lock:
            hidden = sum(item.hidden for item in self.kept.values())
            return QueueAttributes(self.now, len(self.kept) - hidden, hidden, 0)

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        self._called("receive")
        self.on_receive()
        with self._lock:
            groups = (item.message.system.get("MessageGroupId") for item in self.kept.values() if item.hidden)
            busy = set(groups) - {None} if self.name.endswith(".fifo") else set()
            free = (
                item
                for item in self.kept.values()
                if not item.hidden and (not busy or item.message.system.get("MessageGroupId") not in busy)
            )
            found = [self._hand_out(item) for item in itertools.islice(free, count)]
        self.power.use()
        return found

    def send(self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None]) -> list[EntryResult]:
        try:
            leaving()
        except RefinerctlError as error:
            return [EntryResult(error="Connection", cause=error)] * len(messages)
        self._called("send")
        return self._each(messages, self._take)

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        self._called("delete")
        return self._each(receipts, self._delete)

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        self._called("release")
        return [self._set_visibility(receipt, visibility_s) for receipt in receipts]

    def _called(self, what: str) -> None:
        self.power.use()
        self.calls.append(what)
        if self.is_gone:
            raise NotFoundError(f"there is no queue {self.name}")

    def _hand_out(self, item: Kept) -> Message:
        item.hidden = True
        item.receives += 1
        return replace(item.message, receipt=f"{item.message.id}/{item.receives}", receive_count=item.receives)

    def _each(self, items: Sequence[Item], act: Callable[[Item], EntryResult]) -> list[EntryResult]:
        with self._lock:
            fault = next(self.faults, None)
            if fault is None:
                results = [act(item) for item in items]
            else:
                result, is_done = fault
                hit = range(len(items)) if result.cause else range(0, len(items), 2)
                done = [act(item) if is_done or number not in hit else OK for number, item in enumerate(items)]
                results = [result if number in hit else done[number] for number in range(len(items))]
        self.power.use()
        return results

    def _take(self, message: OutgoingMessage) -> EntryResult:
        if message.body in ("bad", "\ud83d"):
            return BAD
        if message.size > self.max_message_bytes:
            return EntryResult(error="InvalidParameterValue", message="too large", is_sender_fault=True)
        if message.deduplication in self._known:
            return EntryResult(self._known[message.deduplication])
        system = {"MessageGroupId": message.group} if message.group else {}
        message_id = self.put(message.body, NOW + timedelta(seconds=5), **system)
        if message.deduplication:
            self._known[message.deduplication] = message_id
        return EntryResult(message_id)

    def _delete(self, receipt: str) -> EntryResult:
        """A receipt that is not the newest any more is taken, and nothing is deleted."""
        message_id, _, number = receipt.rpartition("/")
        item = self.kept.get(message_id)
        if item is not None and item.receives == int(number):
            del self.kept[message_id]
        return OK

    def _set_visibility(self, receipt: str, visibility_s: int) -> EntryResult:
        message_id, _, number = receipt.rpartition("/")
        item = self.kept.get(message_id)
        if item is None or item.receives != int(number) or not item.hidden:
            return EntryResult(error="MessageNotInflight", is_sender_fault=True)
        item.hidden = visibility_s > 0
        return OK


def forward(target: MemoryQueue) -> Callable[[Message], Route]:
    """Everything to `target`, as it is."""
    return lambda message: SendTo(
        target.address,
        OutgoingMessage(
            message.body,
            message.attributes,
            message.system.get("MessageGroupId"),
            message.system.get("MessageDeduplicationId"),
        ),
    )
