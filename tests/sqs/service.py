"""What SQS does for each action, on queues in memory; a receive of 200,000 messages takes as long as one of one.

Rules, limits and errors: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/. Only what clients of
these tests can run into is here.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import heapq
import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

ACCOUNT = "000000000000"
REGION = "us-east-1"
MAX_BATCH = MAX_ATTRIBUTES = 10
MAX_BATCH_BYTES = 1_048_576
DEDUPLICATION_S = 300.0
MAX_TASK_RATE = 500
TICK_S = 0.02
DEFAULTS = {"VisibilityTimeout": "30", "MaximumMessageSize": "1048576", "MessageRetentionPeriod": "345600"}
_PREFIX = "AWS.SimpleQueueService."
_RECEIPT = re.compile(r"AQEB/[\w-]+\+\d+", re.ASCII)
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNTER = itertools.count(1)

Request = dict[str, Any]


class SqsError(Exception):
    """An error as AWS names it: `shape` in JSON, `code` in the query protocol's header."""

    def __init__(self, shape: str, message: str, code: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.shape, self.code, self.status = shape, code or shape, status


def invalid(message: str) -> SqsError:
    return SqsError("InvalidParameterValueException", message, "InvalidParameterValue")


def new_id() -> str:
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(slots=True, eq=False)
class Message:
    """`attributes` as they came in JSON; in flight until `hidden_until`, by the server's clock."""

    body: str
    sent_s: float
    attributes: dict = field(default_factory=dict)
    trace: str | None = None
    group: str | None = None
    deduplication: str | None = None
    source_arn: str | None = None
    id: str = field(default_factory=new_id)
    sequence: int = field(default_factory=lambda: next(_COUNTER))
    receive_count: int = 0
    hidden_until: float = 0.0

    @property
    def receipt(self) -> str:
        return f"AQEB/{self.id}+{self.receive_count}"


class Queue:
    """A queue. `visible` may have messages that were deleted or hidden later: these are skipped."""

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name, self.attributes = name, attributes
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        self.is_fifo = name.endswith(".fifo")
        self.messages: dict[str, Message] = {}
        self.in_flight: dict[str, Message] = {}
        self.visible: collections.deque[Message] = collections.deque()
        self.hidden: list[tuple[float, int, Message]] = []
        self.sent: dict[str, tuple[float, Message]] = {}  # by deduplication id
        self.purged_s = float("-inf")
        self._counts: collections.deque[tuple[float, int, int]] = collections.deque()

    def counts(self, lag_s: float) -> tuple[int, int]:
        """Messages that are visible and in flight, as they were so long ago, or when this was first asked."""
        counts, now = self._counts, time.monotonic()
        counts.append((now, len(self.messages) - len(self.in_flight), len(self.in_flight)))
        while len(counts) > 1 and counts[1][0] <= now - lag_s:
            counts.popleft()
        return counts[0][1:]

    @property
    def redrive(self) -> tuple[str, int] | None:
        policy = json.loads(self.attributes.get("RedrivePolicy") or "null")
        return (policy["deadLetterTargetArn"], int(policy["maxReceiveCount"])) if policy else None

    def put(self, message: Message) -> None:
        self.messages[message.id] = message
        self.visible.append(message)

    def tick(self, now: float) -> None:
        """Show what has been hidden for long enough."""
        while self.hidden and self.hidden[0][0] <= now:
            until, _, message = heapq.heappop(self.hidden)
            if message.hidden_until == until and message.id in self.in_flight:
                self.show(message)

    def hide(self, message: Message, until: float) -> None:
        message.hidden_until = until
        self.in_flight[message.id] = message
        heapq.heappush(self.hidden, (until, next(_COUNTER), message))

    def show(self, message: Message) -> None:
        message.hidden_until = 0.0
        self.in_flight.pop(message.id, None)
        self.visible.append(message)

    def remove(self, message: Message) -> None:
        self.messages.pop(message.id, None)
        self.in_flight.pop(message.id, None)

    def clear(self) -> None:
        for message in list(self.messages.values()):
            self.remove(message)

    @property
    def busy_groups(self) -> set[str | None]:
        return {message.group for message in self.in_flight.values()} if self.is_fifo else set()

    def next_visible(self, busy_groups: set[str | None]) -> Message | None:
        """Takes one; it is to be hidden or removed. Of a FIFO queue the first one that is in none of these groups."""
        if self.is_fifo:
            there = self.messages.values()
            free = (item for item in there if item.group not in busy_groups and item.id not in self.in_flight)
            return min(free, key=lambda item: item.sequence, default=None)
        while self.visible:
            message = self.visible.popleft()
            if message.id in self.messages and message.id not in self.in_flight:
                return message
        return None

    def by_receipt(self, receipt: str) -> Message | None:
        """The message, if this is its newest receipt."""
        if not _RECEIPT.fullmatch(receipt):
            raise SqsError("ReceiptHandleIsInvalid", f'The input receipt handle "{receipt}" is not a valid one.')
        message = self.messages.get(receipt[5:].partition("+")[0])
        return message if message is not None and message.receipt == receipt else None


@dataclass
class Move:
    """A message move task."""

    source: Queue
    destination: str | None
    rate: int | None
    started_s: float
    to_move: int
    handle: str = field(default_factory=new_id)
    moved: int = 0
    status: str = "RUNNING"
    failure: str | None = None

    def listed(self) -> Request:
        found: Request = {
            "TaskHandle": self.handle if self.status == "RUNNING" else None,
            "Status": self.status,
            "SourceArn": self.source.arn,
            "DestinationArn": self.destination,
            "MaxNumberOfMessagesPerSecond": self.rate,
            "ApproximateNumberOfMessagesMoved": self.moved,
            "ApproximateNumberOfMessagesToMove": self.to_move,
            "FailureReason": self.failure,
            "StartedTimestamp": int(self.started_s * 1000),
        }
        return {name: value for name, value in found.items() if value is not None}


class Service:
    """The queues and tasks of an account. A method for each action, by its name; `base` is the endpoint's URL."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.moves: list[Move] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.offset_s = 0.0
        self.lag_s = 0.0  # of counts
        self._running: set[asyncio.Task[None]] = set()

    def now(self) -> float:
        return time.time() + self.offset_s

    def queue(self, request: Request) -> Queue:
        return self._named(request["QueueUrl"].rpartition("/")[2])

    def _named(self, name: str) -> Queue:
        if name not in self.queues:
            code = f"{_PREFIX}NonExistentQueue"
            raise SqsError("QueueDoesNotExist", "The specified queue does not exist.", code)
        self.queues[name].tick(self.now())
        self.queues[name].counts(self.lag_s)
        return self.queues[name]

    def by_arn(self, arn: str | None) -> Queue:
        queue = self.queues.get((arn or "").rpartition(":")[2])
        if queue is None or queue.arn != arn:
            raise SqsError("ResourceNotFoundException", f"The resource {arn} doesn't exist.")
        return queue

    def CreateQueue(self, request: Request, base: str) -> Request:  # noqa: N802
        name = request["QueueName"]
        self.queues.setdefault(name, Queue(name, {**DEFAULTS, **(request.get("Attributes") or {})}))
        return {"QueueUrl": f"{base}/{ACCOUNT}/{name}"}

    def DeleteQueue(self, request: Request, base: str) -> Request:  # noqa: N802
        del self.queues[self.queue(request).name]
        return {}

    def GetQueueUrl(self, request: Request, base: str) -> Request:  # noqa: N802
        return {"QueueUrl": f"{base}/{ACCOUNT}/{self._named(request['QueueName']).name}"}

    def ListQueues(self, request: Request, base: str) -> Request:  # noqa: N802
        prefix = request.get("QueueNamePrefix") or ""
        return {"QueueUrls": [f"{base}/{ACCOUNT}/{name}" for name in self.queues if name.startswith(prefix)]}

    def GetQueueAttributes(self, request: Request, base: str) -> Request:  # noqa: N802
        queue, asked = self.queue(request), request.get("AttributeNames") or []
        visible, in_flight = queue.counts(self.lag_s)
        found = queue.attributes | {
            "QueueArn": queue.arn,
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": str(in_flight),
            "ApproximateNumberOfMessagesDelayed": "0",
        }
        return {"Attributes": {name: value for name, value in found.items() if "All" in asked or name in asked}}

    def SetQueueAttributes(self, request: Request, base: str) -> Request:  # noqa: N802
        self.queue(request).attributes.update(request["Attributes"])
        return {}

    def ListDeadLetterSourceQueues(self, request: Request, base: str) -> Request:  # noqa: N802
        return {"queueUrls": [f"{base}/{ACCOUNT}/{name}" for name in self._sources(self.queue(request))]}

    def _sources(self, dlq: Queue) -> list[str]:
        return sorted(queue.name for queue in self.queues.values() if queue.redrive and queue.redrive[0] == dlq.arn)

    def PurgeQueue(self, request: Request, base: str) -> Request:  # noqa: N802
        queue = self.queue(request)
        if self.now() - queue.purged_s < 60:
            raise SqsError("PurgeQueueInProgress", "Only one every 60 seconds.", f"{_PREFIX}PurgeQueueInProgress", 403)
        queue.purged_s = self.now()
        queue.clear()
        return {}

    def SendMessage(self, request: Request, base: str) -> Request:  # noqa: N802
        return self._send(self.queue(request), request)

    def SendMessageBatch(self, request: Request, base: str) -> Request:  # noqa: N802
        queue, entries = self.queue(request), _entries(request)
        if sum(map(_size, entries)) > MAX_BATCH_BYTES:
            raise SqsError("BatchRequestTooLong", "Batch requests are limited.", f"{_PREFIX}BatchRequestTooLong")
        return _each(entries, lambda entry: self._send(queue, entry))

    def _send(self, queue: Queue, entry: Request) -> Request:
        body, attributes, now = entry["MessageBody"], entry.get("MessageAttributes") or {}, self.now()
        if _FORBIDDEN.search(body):
            raise SqsError("InvalidMessageContents", "Invalid characters found.")
        if len(attributes) > MAX_ATTRIBUTES:
            raise invalid(f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [10].")
        if _size(entry) > int(queue.attributes["MaximumMessageSize"]):
            raise invalid(f"Message must be shorter than {queue.attributes['MaximumMessageSize']} bytes.")
        trace = (entry.get("MessageSystemAttributes") or {}).get("AWSTraceHeader", {}).get("StringValue")
        group, deduplication = entry.get("MessageGroupId"), entry.get("MessageDeduplicationId")
        message = Message(body, now, attributes, trace, group, deduplication)
        sent_s, original = queue.sent.get(deduplication or "", (float("-inf"), message))
        if queue.is_fifo and sent_s + DEDUPLICATION_S > now:  # accepted, and dropped
            return _sent(original, body)
        if queue.is_fifo and deduplication:
            queue.sent[deduplication] = now, message
        queue.put(message)
        return _sent(message, body)

    async def ReceiveMessage(self, request: Request, base: str) -> Request:  # noqa: N802
        loop = asyncio.get_running_loop()
        ends = loop.time() + (request.get("WaitTimeSeconds") or 0)
        while not (found := self._receive(self.queue(request), request)) and loop.time() < ends:
            await asyncio.sleep(TICK_S)
        return {"Messages": [_received(message) for message in found]} if found else {}

    def _receive(self, queue: Queue, request: Request) -> list[Message]:
        timeout, now, taken = request.get("VisibilityTimeout"), self.now(), list[Message]()
        timeout_s = int(queue.attributes["VisibilityTimeout"]) if timeout is None else timeout
        limit, busy = request.get("MaxNumberOfMessages", 1), queue.busy_groups
        while len(taken) < limit and (message := queue.next_visible(busy)) is not None:
            if message.sent_s + int(queue.attributes["MessageRetentionPeriod"]) <= now:
                queue.remove(message)
            elif queue.redrive and message.receive_count >= queue.redrive[1]:
                queue.remove(message)
                dlq = self.by_arn(queue.redrive[0])
                moved_s = now if queue.is_fifo else message.sent_s  # there the clock starts again
                dlq.put(replace(message, sent_s=moved_s, source_arn=queue.arn))
            else:
                message.receive_count += 1
                queue.hide(message, now + timeout_s)
                taken.append(message)
        if timeout_s == 0:
            for message in taken:
                queue.show(message)
        return taken

    def DeleteMessage(self, request: Request, base: str) -> Request:  # noqa: N802
        return self._delete(self.queue(request), request)

    def DeleteMessageBatch(self, request: Request, base: str) -> Request:  # noqa: N802
        queue = self.queue(request)
        return _each(_entries(request), lambda entry: self._delete(queue, entry))

    def _delete(self, queue: Queue, entry: Request) -> Request:
        """With a receipt that is not the newest: no error, and nothing is deleted."""
        if (message := queue.by_receipt(entry["ReceiptHandle"])) is not None:
            queue.remove(message)
        return {}

    def ChangeMessageVisibility(self, request: Request, base: str) -> Request:  # noqa: N802
        return self._change(self.queue(request), request)

    def ChangeMessageVisibilityBatch(self, request: Request, base: str) -> Request:  # noqa: N802
        queue = self.queue(request)
        return _each(_entries(request), lambda entry: self._change(queue, entry))

    def _change(self, queue: Queue, entry: Request) -> Request:
        message = queue.by_receipt(entry["ReceiptHandle"])
        if message is None or message.id not in queue.in_flight:
            raise invalid("Message does not exist or is not available for visibility timeout change.")
        if entry["VisibilityTimeout"] > 0:
            queue.hide(message, self.now() + entry["VisibilityTimeout"])
        else:
            queue.show(message)
        return {}

    async def StartMessageMoveTask(self, request: Request, base: str) -> Request:  # noqa: N802
        source, destination = self.by_arn(request.get("SourceArn")), request.get("DestinationArn")
        if not self._sources(source):
            raise invalid("Source queue must be configured as a Dead Letter Queue.")
        if destination is not None:
            self.by_arn(destination)
        if any(move.source is source and move.status == "RUNNING" for move in self.moves):
            raise invalid("There is already a task running. Only one active task is allowed for a source queue arn.")
        rate = request.get("MaxNumberOfMessagesPerSecond")
        move = Move(source, destination, rate, self.now(), len(source.messages) - len(source.in_flight))
        self.moves.append(move)
        task = asyncio.get_running_loop().create_task(self._run(move))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return {"TaskHandle": move.handle}

    def ListMessageMoveTasks(self, request: Request, base: str) -> Request:  # noqa: N802
        source = self.by_arn(request.get("SourceArn"))
        found = [move.listed() for move in reversed(self.moves) if move.source is source]
        return {"Results": found[: request.get("MaxResults") or 1]}

    def CancelMessageMoveTask(self, request: Request, base: str) -> Request:  # noqa: N802
        for move in self.moves:
            if move.handle == request["TaskHandle"] and move.status == "RUNNING":
                move.status = "CANCELLED"
                return {"ApproximateNumberOfMessagesMoved": move.moved}
        raise SqsError("ResourceNotFoundException", "Task does not exist.")

    async def _run(self, move: Move) -> None:
        loop = asyncio.get_running_loop()
        start, rate = loop.time(), move.rate or MAX_TASK_RATE
        while move.status == "RUNNING":
            await asyncio.sleep(TICK_S)
            while move.status == "RUNNING" and move.moved < (loop.time() - start) * rate:
                self._move_one(move)

    def _move_one(self, move: Move) -> None:
        """As a new message: with a new id, sent now."""
        message = move.source.next_visible(move.source.busy_groups)
        if message is None:
            move.status = "COMPLETED"
            return
        try:
            target = self.by_arn(move.destination or message.source_arn)
        except SqsError:
            move.source.visible.append(message)
            move.status, move.failure = "FAILED", "DestinationDoesNotExist"
            return
        move.source.remove(message)
        kept = (message.body, self.now(), message.attributes, message.trace, message.group, message.deduplication)
        target.put(Message(*kept))
        move.moved += 1


def _each(entries: Iterable[Request], act: Callable[[Request], Request]) -> Request:
    done, failed = [], []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"], **act(entry)})
        except SqsError as error:
            failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": str(error)})
    return {"Successful": done, "Failed": failed} if failed else {"Successful": done}


def _entries(request: Request) -> list[Request]:
    entries: list[Request] = request["Entries"]
    if not 0 < len(entries) <= MAX_BATCH:
        code = "TooManyEntriesInBatchRequest" if entries else "EmptyBatchRequest"
        raise SqsError(code, f"{len(entries)} entries.", f"{_PREFIX}{code}")
    if len({entry["Id"] for entry in entries}) < len(entries):
        raise SqsError("BatchEntryIdsNotDistinct", "Id repeated.", f"{_PREFIX}BatchEntryIdsNotDistinct")
    return entries


def _size(entry: Request) -> int:
    """Bytes of body and attributes: names, types and values."""
    size = len(entry["MessageBody"].encode("utf-8", "surrogatepass"))
    for name, value in (entry.get("MessageAttributes") or {}).items():
        size += len(name.encode()) + len(value["DataType"].encode()) + len((value.get("StringValue") or "").encode())
        size += len(value.get("BinaryValue") or "") * 3 // 4
    return size


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _sent(message: Message, body: str) -> Request:
    return {"MessageId": message.id, "MD5OfMessageBody": _md5(body), "SequenceNumber": str(message.sequence)}


def _received(message: Message) -> Request:
    system = {
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": str(int(message.sent_s * 1000)),
        "ApproximateReceiveCount": str(message.receive_count),
        "SentTimestamp": str(int(message.sent_s * 1000)),
        "AWSTraceHeader": message.trace,
        "MessageGroupId": message.group,
        "MessageDeduplicationId": message.deduplication,
        "DeadLetterQueueSourceArn": message.source_arn,
    }
    answer = {
        "MessageId": message.id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": _md5(message.body),
        "Body": message.body,
        "Attributes": {name: value for name, value in system.items() if value},
    }
    return answer | ({"MessageAttributes": message.attributes} if message.attributes else {})
