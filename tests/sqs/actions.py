"""What SQS does for each action, on queues in memory.

Rules and errors: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/ and, for the limits,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html.
"""

from __future__ import annotations

import collections
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.sqs.queues import MAX_IN_FLIGHT, FifoQueue, Message, Queue, SqsError, attributes_md5, invalid, md5, new_id

ACCOUNT = "000000000000"
REGION = "us-east-1"
MAX_BATCH = 10
MAX_ATTRIBUTES = 10
PURGE_PAUSE_S = 60
DEFAULTS = {
    "VisibilityTimeout": "30",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
}
FIFO_DEFAULTS = {"ContentBasedDeduplication": "false", "DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"}
_ENTRY_ID = re.compile(r"[\w-]{1,80}", re.ASCII)
_NAME = re.compile(r"[\w-]{1,75}\.fifo|[\w-]{1,80}", re.ASCII)
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SEQUENCE = 18_849_496_460_467_696_128

Request = dict[str, Any]


class Service:
    """All queues of an account. `base` is the URL that the request came to."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self.offset_s = 0.0
        self._sequence = _SEQUENCE
        self.on_create: Callable[[Queue], None] = lambda queue: None

    def now(self) -> float:
        return time.time() + self.offset_s

    def queue(self, request: Request) -> Queue:
        url = request.get("QueueUrl")
        if not url:
            raise SqsError("MissingParameterException", "The request must contain the parameter QueueUrl.")
        if (queue := self.queues.get(url.rpartition("/")[2])) is None:
            raise no_queue()
        return queue

    def by_arn(self, arn: str) -> Queue | None:
        queue = self.queues.get(arn.rpartition(":")[2])
        return queue if queue and queue.arn == arn else None

    def next_sequence(self) -> int:
        self._sequence += 256
        return self._sequence

    # Queues

    def create_queue(self, request: Request, base: str) -> Request:
        name, attributes = request["QueueName"], dict(request.get("Attributes") or {})
        if not _NAME.fullmatch(name) or (attributes.get("FifoQueue") == "true") != name.endswith(".fifo"):
            raise invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
        if (queue := self.queues.get(name)) is not None:
            if any(queue.attributes.get(key) != value for key, value in attributes.items()):
                message = f"A queue already exists with the same name and a different value for attributes of {name}"
                raise SqsError("QueueNameExists", message, "QueueAlreadyExists")
            return {"QueueUrl": f"{base}/{ACCOUNT}/{name}"}
        kind, defaults = (FifoQueue, DEFAULTS | FIFO_DEFAULTS) if name.endswith(".fifo") else (Queue, DEFAULTS)
        self._check_attributes(attributes)
        queue = kind(name, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}", {**defaults, **attributes}, self.now())
        self.queues[name] = queue
        self.on_create(queue)
        return {"QueueUrl": f"{base}/{ACCOUNT}/{name}"}

    def delete_queue(self, request: Request, base: str) -> Request:
        del self.queues[self.queue(request).name]
        return {}

    def get_queue_url(self, request: Request, base: str) -> Request:
        if request["QueueName"] not in self.queues:
            raise no_queue()
        return {"QueueUrl": f"{base}/{ACCOUNT}/{request['QueueName']}"}

    def list_queues(self, request: Request, base: str) -> Request:
        prefix = request.get("QueueNamePrefix") or ""
        urls = [f"{base}/{ACCOUNT}/{name}" for name in sorted(self.queues) if name.startswith(prefix)]
        return _page("QueueUrls", urls, request)

    def get_queue_attributes(self, request: Request, base: str) -> Request:
        queue, asked = self.queue(request), request.get("AttributeNames") or []
        queue.tick(self.now())
        found = queue.attributes | {
            "QueueArn": queue.arn,
            "ApproximateNumberOfMessages": str(queue.visible),
            "ApproximateNumberOfMessagesNotVisible": str(queue.in_flight),
            "ApproximateNumberOfMessagesDelayed": str(queue.delayed),
            "CreatedTimestamp": str(int(queue.created_s)),
            "LastModifiedTimestamp": str(int(queue.created_s)),
        }
        known = {*found, "All", "Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId", "FifoQueue"}
        if unknown := [name for name in asked if name not in known and name not in FIFO_DEFAULTS]:
            raise SqsError("InvalidAttributeName", f"Unknown Attribute {unknown[0]}.")
        chosen = {name: value for name, value in found.items() if "All" in asked or name in asked}
        return {"Attributes": chosen} if chosen else {}

    def set_queue_attributes(self, request: Request, base: str) -> Request:
        queue, attributes = self.queue(request), request["Attributes"]
        self._check_attributes(attributes)
        for name, value in attributes.items():
            if value == "":
                queue.attributes.pop(name, None)
            else:
                queue.attributes[name] = value
        return {}

    def list_dead_letter_source_queues(self, request: Request, base: str) -> Request:
        names = sorted(queue.name for queue in self.sources(self.queue(request)))
        return {"queueUrls": [], **_page("queueUrls", [f"{base}/{ACCOUNT}/{name}" for name in names], request)}

    def sources(self, dead: Queue) -> Iterator[Queue]:
        return (queue for queue in self.queues.values() if queue.redrive and queue.redrive[0] == dead.arn)

    def purge_queue(self, request: Request, base: str) -> Request:
        queue = self.queue(request)
        if self.now() - queue.purged_s < PURGE_PAUSE_S:
            message = f"Only one PurgeQueue operation on {queue.name} is allowed every 60 seconds."
            raise SqsError("PurgeQueueInProgress", message, "AWS.SimpleQueueService.PurgeQueueInProgress", 403)
        queue.purged_s = self.now()
        queue.purge()
        return {}

    def _check_attributes(self, attributes: dict[str, str]) -> None:
        known = {*DEFAULTS, *FIFO_DEFAULTS, "FifoQueue", "Policy", "RedrivePolicy", "RedriveAllowPolicy"}
        if unknown := [name for name in attributes if name not in known and not name.startswith("Kms")]:
            raise SqsError("InvalidAttributeName", f"Unknown Attribute {unknown[0]}.")
        if policy := attributes.get("RedrivePolicy"):
            arn = json.loads(policy).get("deadLetterTargetArn", "")
            if self.by_arn(arn) is None:
                raise invalid(f"Value {policy} for parameter RedrivePolicy is invalid. Reason: Dead letter target")

    # Messages

    def send_message(self, request: Request, base: str) -> Request:
        message = self._send(self.queue(request), request)
        return _sent(message, request)

    def send_message_batch(self, request: Request, base: str) -> Request:
        queue, entries = self.queue(request), _entries(request)
        if sum(_size(entry) for entry in entries) > int(DEFAULTS["MaximumMessageSize"]):
            message = f"Batch requests cannot be longer than {DEFAULTS['MaximumMessageSize']} bytes."
            raise SqsError("BatchRequestTooLong", message, "AWS.SimpleQueueService.BatchRequestTooLong")
        return _each(entries, lambda entry: _sent(self._send(queue, entry), entry))

    def _send(self, queue: Queue, entry: Request) -> Message:
        now = self.now()
        _check_message(queue, entry)
        trace = (entry.get("MessageSystemAttributes") or {}).get("AWSTraceHeader", {}).get("StringValue")
        group, deduplication = entry.get("MessageGroupId"), entry.get("MessageDeduplicationId")
        if isinstance(queue, FifoQueue):
            group, deduplication = _fifo_ids(queue, entry)
            if original := queue.original(deduplication, group, now):
                return original  # accepted, and dropped
        message = Message(
            new_id(), entry["MessageBody"], now, entry.get("MessageAttributes") or {}, trace, group, deduplication
        )
        if isinstance(queue, FifoQueue):
            message.sequence = self.next_sequence()
            queue.remember(message, now)
        delay = entry.get("DelaySeconds")
        queue.put(message, now, queue.number("DelaySeconds") if delay is None else delay)
        return message

    def receive_message(self, request: Request, base: str) -> Request | None:
        """None: nothing yet, and the request may wait."""
        queue = self.queue(request)
        limit = request.get("MaxNumberOfMessages", 1)
        if not 1 <= limit <= MAX_BATCH:
            why = "Must be between 1 and 10, if provided."
            raise invalid(f"Value {limit} for parameter MaxNumberOfMessages is invalid. Reason: {why}")
        timeout = request.get("VisibilityTimeout")
        if queue.in_flight >= MAX_IN_FLIGHT:
            if self.wait_s(request):
                return None
            raise SqsError("OverLimit", "Too many messages in flight", status=403)
        taken = queue.take(
            limit, queue.number("VisibilityTimeout") if timeout is None else timeout, self.now(), self._bury(queue)
        )
        if not taken:
            return None
        system = {*(request.get("AttributeNames") or ()), *(request.get("MessageSystemAttributeNames") or ())}
        names = request.get("MessageAttributeNames") or ()
        return {"Messages": [_received(message, system, names) for message in taken]}

    def wait_s(self, request: Request) -> float:
        """How long a receive may wait."""
        asked = request.get("WaitTimeSeconds")
        return self.queue(request).number("ReceiveMessageWaitTimeSeconds") if asked is None else asked

    def _bury(self, queue: Queue) -> Callable[[Message], None]:
        def bury(message: Message) -> None:
            dead = self.by_arn(queue.redrive[0]) if queue.redrive else None
            if dead is None:
                return
            moved = Message(
                message.id, message.body, message.sent_s, message.attributes, message.trace, message.group,
                message.deduplication, message.sequence, queue.arn,
                receive_count=message.receive_count, first_received_s=message.first_received_s,
            )  # fmt: skip
            if dead.is_fifo:  # there the clock of the retention period starts again
                moved.sent_s = self.now()
            dead.put(moved, self.now())

        return bury

    def delete_message(self, request: Request, base: str) -> Request:
        self.queue(request).delete(request["ReceiptHandle"], self.now())
        return {}

    def delete_message_batch(self, request: Request, base: str) -> Request:
        queue, entries, now = self.queue(request), _entries(request), self.now()

        def delete(entry: Request) -> Request:
            queue.delete(entry["ReceiptHandle"], now)
            return {}

        return _each(entries, delete)

    def change_message_visibility(self, request: Request, base: str) -> Request:
        self._change(self.queue(request), request)
        return {}

    def change_message_visibility_batch(self, request: Request, base: str) -> Request:
        queue, entries = self.queue(request), _entries(request)

        def change(entry: Request) -> Request:
            self._change(queue, entry)
            return {}

        return _each(entries, change)

    def _change(self, queue: Queue, entry: Request) -> None:
        queue.change_visibility(entry["ReceiptHandle"], entry["VisibilityTimeout"], self.now())


def no_queue() -> SqsError:
    message = "The specified queue does not exist."
    return SqsError("QueueDoesNotExist", message, "AWS.SimpleQueueService.NonExistentQueue")


def _page(name: str, found: list[str], request: Request) -> Request:
    """At most MaxResults, and where to go on; without that parameter, a thousand."""
    size, start = request.get("MaxResults") or 1000, int(request.get("NextToken") or 0)
    more = {"NextToken": str(start + size)} if request.get("MaxResults") and start + size < len(found) else {}
    return ({name: found[start : start + size]} if found else {}) | more


def _each(entries: list[Request], act: Callable[[Request], Request]) -> Request:
    done, failed = [], []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"], **act(entry)})
        except SqsError as error:
            failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": str(error)})
    return {"Successful": done, "Failed": failed} if failed else {"Successful": done}


def _entries(request: Request) -> list[Request]:
    entries: list[Request] = request.get("Entries") or []
    prefix = "AWS.SimpleQueueService."
    if not entries:
        raise SqsError("EmptyBatchRequest", "There should be at least one entry.", f"{prefix}EmptyBatchRequest")
    if len(entries) > MAX_BATCH:
        message = f"Maximum number of entries per request are 10. You have sent {len(entries)}."
        raise SqsError("TooManyEntriesInBatchRequest", message, f"{prefix}TooManyEntriesInBatchRequest")
    ids = [entry["Id"] for entry in entries]
    if len(set(ids)) < len(ids):
        repeated = collections.Counter(ids).most_common(1)[0][0]
        raise SqsError("BatchEntryIdsNotDistinct", f"Id {repeated} repeated.", f"{prefix}BatchEntryIdsNotDistinct")
    if not all(map(_ENTRY_ID.fullmatch, ids)):
        message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores."
        raise SqsError("InvalidBatchEntryId", message, f"{prefix}InvalidBatchEntryId")
    return entries


def _size(entry: Request) -> int:
    """Bytes of body and attributes: names, types and values."""
    size = len(entry["MessageBody"]) if entry["MessageBody"].isascii() else len(entry["MessageBody"].encode())
    for name, value in (entry.get("MessageAttributes") or {}).items():
        size += len(name.encode()) + len(value["DataType"].encode()) + len((value.get("StringValue") or "").encode())
        size += len(value.get("BinaryValue") or "") * 3 // 4
    return size


def _check_message(queue: Queue, entry: Request) -> None:
    body, attributes = entry.get("MessageBody"), entry.get("MessageAttributes") or {}
    if not body:
        raise SqsError("MissingParameterException", "The request must contain the parameter MessageBody.")
    if _FORBIDDEN.search(body):
        raise SqsError("InvalidMessageContents", "Invalid characters found.")
    if len(attributes) > MAX_ATTRIBUTES:
        raise invalid(f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [10].")
    if _size(entry) > queue.number("MaximumMessageSize"):
        limit = queue.attributes["MaximumMessageSize"]
        raise invalid(f"One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes.")


def _fifo_ids(queue: FifoQueue, entry: Request) -> tuple[str, str]:
    group, deduplication = entry.get("MessageGroupId"), entry.get("MessageDeduplicationId")
    if not group:
        message = "The request must contain the parameter MessageGroupId."
        raise SqsError("MissingParameterException", message, "MissingParameter")
    if entry.get("DelaySeconds"):
        raise invalid(f"Value {entry['DelaySeconds']} for parameter DelaySeconds is invalid.")
    if not deduplication and queue.attributes["ContentBasedDeduplication"] != "true":
        raise invalid("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId")
    return group, deduplication or hashlib.sha256(entry["MessageBody"].encode()).hexdigest()


def _sent(message: Message, entry: Request) -> Request:
    answer = {"MessageId": message.id, "MD5OfMessageBody": md5(entry["MessageBody"])}
    if attributes := entry.get("MessageAttributes"):
        answer["MD5OfMessageAttributes"] = attributes_md5(attributes)
    if system := entry.get("MessageSystemAttributes"):
        answer["MD5OfMessageSystemAttributes"] = attributes_md5(system)
    if message.sequence:
        answer["SequenceNumber"] = str(message.sequence)
    return answer


def _received(message: Message, system: set[str], names: Sequence[str]) -> Request:
    answer: Request = {
        "MessageId": message.id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": md5(message.body),
        "Body": message.body,
    }
    if system:
        found = _system_attributes(message)
        if "All" not in system:
            found = {name: value for name, value in found.items() if name in system}
        answer |= {"Attributes": found} if found else {}
    if message.attributes and names:
        chosen = {name: value for name, value in message.attributes.items() if _is_asked(name, names)}
        if chosen:
            answer |= {"MessageAttributes": chosen, "MD5OfMessageAttributes": attributes_md5(chosen)}
    return answer


def _system_attributes(message: Message) -> dict[str, str]:
    found = {
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received_s * 1000)),
        "ApproximateReceiveCount": str(message.receive_count),
        "SentTimestamp": str(int(message.sent_s * 1000)),
    }
    optional = {
        "AWSTraceHeader": message.trace,
        "MessageGroupId": message.group,
        "MessageDeduplicationId": message.deduplication,
        "SequenceNumber": str(message.sequence) if message.sequence else None,
        "DeadLetterQueueSourceArn": message.source_arn,
    }
    return found | {name: value for name, value in optional.items() if value}


def _is_asked(name: str, names: Sequence[str]) -> bool:
    return any(
        asked in ("All", ".*", name) or (asked.endswith(".*") and name.startswith(asked[:-2])) for asked in names
    )
