"""Queues as SQS keeps them, in memory: nothing here takes longer when there are more messages."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import random
import re
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

MAX_IN_FLIGHT = 120_000
DEDUPLICATION_S = 300.0
_NUMBERS = itertools.count(1)
_RECEIPT = re.compile(r"AQEB/[0-9a-f]+\+[0-9a-f]+\+[0-9a-f]{16}==", re.ASCII)


class SqsError(Exception):
    """An error as AWS names it: `shape` in JSON, `code` in the query protocol's header."""

    def __init__(self, shape: str, message: str, code: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.shape, self.code, self.status = shape, code or shape, status


def invalid(message: str, code: str = "InvalidParameterValue") -> SqsError:
    return SqsError(f"{code}Exception", message, code)


@dataclass(slots=True, eq=False)
class Message:
    """`attributes` as they came in JSON. `ticket` changes whenever the message's state does."""

    id: str
    body: str
    sent_s: float
    attributes: dict = field(default_factory=dict)
    trace: str | None = None
    group: str | None = None
    deduplication: str | None = None
    sequence: int = 0
    source_arn: str | None = None
    number: int = field(default_factory=lambda: next(_NUMBERS))
    receive_count: int = 0
    first_received_s: float = 0.0
    receipt: str | None = None
    is_in_flight: bool = False
    is_delayed: bool = False
    is_gone: bool = False
    ticket: int = 0


def new_id() -> str:
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Queue:
    """A standard queue. `wake` is called when something has become visible."""

    is_fifo = False

    def __init__(self, name: str, arn: str, attributes: dict[str, str], created_s: float) -> None:
        self.name, self.arn, self.created_s = name, arn, created_s
        self.attributes = attributes
        self.purged_s = float("-inf")
        self.messages: dict[int, Message] = {}
        self.in_flight = 0
        self.delayed = 0
        self.wake: Callable[[], None] = lambda: None
        self._visible: deque[Message] = deque()
        self._hidden: list[tuple[float, int, Message]] = []  # until when, ticket
        self._by_receipt: dict[str, Message] = {}
        self._tickets = itertools.count(1)

    def number(self, name: str) -> int:
        return int(self.attributes[name])

    @property
    def redrive(self) -> tuple[str, int] | None:
        """The dead-letter queue's ARN and maxReceiveCount."""
        if not (text := self.attributes.get("RedrivePolicy")):
            return None
        policy = json.loads(text)
        return policy["deadLetterTargetArn"], int(policy["maxReceiveCount"])

    @property
    def visible(self) -> int:
        return len(self.messages) - self.in_flight - self.delayed

    def put(self, message: Message, now_s: float, delay_s: float = 0) -> None:
        self.messages[message.number] = message
        if delay_s > 0:
            self.delayed += 1
            message.is_delayed = True
            self._hide(message, now_s + delay_s)
        else:
            self._show(message)

    def take(self, limit: int, timeout_s: float, now_s: float, bury: Callable[[Message], None]) -> list[Message]:
        """Receive. `bury` gets those that have been received too often; they are no longer here."""
        self.tick(now_s)
        redrive, retention = self.redrive, self.number("MessageRetentionPeriod")
        taken: list[Message] = []
        candidates = self._next()
        while len(taken) < limit and (message := next(candidates, None)) is not None:
            if message.sent_s + retention <= now_s:
                self._forget(message)
            elif redrive and message.receive_count >= redrive[1]:
                self._forget(message)
                bury(message)
            else:
                self._receive(message, now_s)
                if timeout_s > 0:
                    self._hide(message, now_s + timeout_s)
                taken.append(message)
        candidates.close()
        if timeout_s <= 0:
            for message in taken:
                self._reappear(message)
        return taken

    def delete(self, receipt: str, now_s: float) -> None:
        if (message := self._by_receipt.get(receipt)) is not None:
            self._forget(message)
        elif not _RECEIPT.fullmatch(receipt):
            raise SqsError("ReceiptHandleIsInvalid", f'The input receipt handle "{receipt}" is not a valid one.')

    def change_visibility(self, receipt: str, timeout_s: float, now_s: float) -> None:
        self.tick(now_s)
        message = self._by_receipt.get(receipt)
        if message is None and not _RECEIPT.fullmatch(receipt):
            raise SqsError("ReceiptHandleIsInvalid", f'The input receipt handle "{receipt}" is not a valid one.')
        if message is None or not message.is_in_flight:
            why = "Message does not exist or is not available for visibility timeout change."
            raise invalid(f"Value {receipt} for parameter ReceiptHandle is invalid. Reason: {why}")
        if timeout_s > 0:
            self._hide(message, now_s + timeout_s)
        else:
            self._reappear(message)

    def remove_visible(self, now_s: float) -> Message | None:
        """Take one out for good, as a move task does."""
        self.tick(now_s)
        candidates = self._next()
        message = next(candidates, None)
        candidates.close()
        if message is not None:
            self._forget(message)
        return message

    def purge(self) -> None:
        for message in list(self.messages.values()):
            self._forget(message)
        self._visible.clear()

    def tick(self, now_s: float) -> None:
        """Let appear what has been hidden for long enough."""
        while self._hidden and self._hidden[0][0] <= now_s:
            _, ticket, message = heapq.heappop(self._hidden)
            if message.ticket == ticket and not message.is_gone:
                self._reappear(message)

    def expire(self, now_s: float) -> None:
        """Drop what is older than the retention period."""
        retention = self.number("MessageRetentionPeriod")
        for message in [item for item in self.messages.values() if item.sent_s + retention <= now_s]:
            self._forget(message)

    def next_change_s(self) -> float | None:
        return self._hidden[0][0] if self._hidden else None

    def _receive(self, message: Message, now_s: float) -> None:
        message.receive_count += 1
        message.first_received_s = message.first_received_s or now_s
        if message.receipt is not None:
            self._by_receipt.pop(message.receipt, None)
        message.receipt = f"AQEB/{message.number:x}+{message.receive_count:x}+{random.getrandbits(64):016x}=="
        self._by_receipt[message.receipt] = message
        message.is_in_flight = True
        self.in_flight += 1

    def _hide(self, message: Message, until_s: float) -> None:
        message.ticket = next(self._tickets)
        heapq.heappush(self._hidden, (until_s, message.ticket, message))

    def _reappear(self, message: Message) -> None:
        message.ticket = next(self._tickets)
        if message.is_in_flight:
            message.is_in_flight = False
            self.in_flight -= 1
        elif message.is_delayed:
            message.is_delayed = False
            self.delayed -= 1
        self._show(message)

    def _forget(self, message: Message) -> None:
        if self.messages.pop(message.number, None) is None:
            return
        if message.is_in_flight:
            self.in_flight -= 1
        elif message.is_delayed:
            self.delayed -= 1
        message.is_in_flight = message.is_delayed = False
        if message.receipt is not None:
            self._by_receipt.pop(message.receipt, None)
        message.is_gone = True

    def _show(self, message: Message) -> None:
        self._visible.append(message)
        self.wake()

    def _next(self) -> Generator[Message, None, None]:
        # What becomes visible again in the meantime (a visibility timeout of 0) is for the next request.
        for _ in range(len(self._visible)):
            message = self._visible.popleft()
            if not message.is_gone:
                yield message


class _Group:
    """A message group: what is visible by sequence number, and how many are in flight."""

    def __init__(self) -> None:
        self.visible: list[tuple[int, Message]] = []
        self.in_flight: set[int] = set()


class FifoQueue(Queue):
    """Groups in order, locked while something of them is in flight; duplicates are accepted and dropped."""

    is_fifo = True

    def __init__(self, name: str, arn: str, attributes: dict[str, str], created_s: float) -> None:
        super().__init__(name, arn, attributes, created_s)
        self._groups: dict[str, _Group] = {}
        self._ready: dict[str, None] = {}  # an ordered set
        self._sent: dict[str, tuple[float, Message]] = {}

    def original(self, deduplication: str, group: str, now_s: float) -> Message | None:
        """What was sent with the same id within five minutes."""
        found = self._sent.get(self._scope(deduplication, group))
        return found[1] if found and found[0] + DEDUPLICATION_S > now_s else None

    def remember(self, message: Message, now_s: float) -> None:
        self._sent[self._scope(message.deduplication or "", message.group or "")] = (now_s, message)

    def delete(self, receipt: str, now_s: float) -> None:
        self.tick(now_s)
        message = self._by_receipt.get(receipt)
        if message is not None and not message.is_in_flight:
            why = "The receipt handle has expired."
            raise invalid(f"Value {receipt} for parameter ReceiptHandle is invalid. Reason: {why}")
        super().delete(receipt, now_s)

    def _scope(self, deduplication: str, group: str) -> str:
        per_group = self.attributes.get("DeduplicationScope") == "messageGroup"
        return f"{group}\0{deduplication}" if per_group else deduplication

    def _show(self, message: Message) -> None:
        group = self._groups.setdefault(message.group or "", _Group())
        group.in_flight.discard(message.number)
        heapq.heappush(group.visible, (message.sequence, message))
        self._offer(message.group or "", group)

    def _receive(self, message: Message, now_s: float) -> None:
        self._groups[message.group or ""].in_flight.add(message.number)
        super()._receive(message, now_s)

    def _forget(self, message: Message) -> None:
        super()._forget(message)
        if group := self._groups.get(message.group or ""):
            group.in_flight.discard(message.number)
            self._offer(message.group or "", group)

    def _offer(self, name: str, group: _Group) -> None:
        while group.visible and group.visible[0][1].is_gone:
            heapq.heappop(group.visible)
        if group.visible and not group.in_flight:
            if name not in self._ready:
                self._ready[name] = None
                self.wake()
            return
        self._ready.pop(name, None)
        if not group.visible and not group.in_flight:
            self._groups.pop(name, None)

    def _next(self) -> Generator[Message, None, None]:
        for name in list(self._ready):
            self._ready.pop(name, None)
            group = self._groups[name]
            try:
                while group.visible:
                    message = heapq.heappop(group.visible)[1]
                    if not message.is_gone:
                        yield message
            finally:
                self._offer(name, group)


def attributes_md5(attributes: dict) -> str:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html"""
    import base64

    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        item = attributes[name]
        binary = item["DataType"].startswith("Binary")
        value = base64.b64decode(item["BinaryValue"]) if binary else item["StringValue"].encode()
        for part in (name.encode(), item["DataType"].encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        digest.update((b"\x02" if binary else b"\x01") + len(value).to_bytes(4, "big") + value)
    return digest.hexdigest()


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
