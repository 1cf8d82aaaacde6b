"""One SQS queue: receive, send, delete and hide messages in batches, with a result for each entry."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from refinerctl.aws.messages import (
    EntryResult,
    Message,
    MessageAttribute,
    OutgoingMessage,
    QueueAddress,
    QueueAttributes,
    QueueName,
)
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs_wire import ANSWER_TIMEOUT_S, THROTTLED, Reply, SqsWire
from refinerctl.errors import TransientError

_TRACE_HEADER = "AWSTraceHeader"
# These describe this receive, not the message.
_RECEIVE_ATTRIBUTES = {"ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SentTimestamp"}
_COUNTS = tuple(f"ApproximateNumberOfMessages{state}" for state in ("", "NotVisible", "Delayed"))
_BINARY = "Binary"
READ_ATTEMPTS = 6
# A short poll's error when too many messages are in flight; a long poll just returns none.
OVER_LIMIT = "OverLimit"

NO_RESULT = EntryResult(error="NoResult", message="the answer has no result for this entry", is_uncertain=True)


class MessageQueues:
    """Queues of one account, those of a region sharing connections."""

    def __init__(self, session: AwsSession, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._session = session
        self._timeout_s = answer_timeout_s
        self._wires: dict[str, SqsWire] = {}

    def at(self, address: QueueAddress) -> MessageQueue:
        """The queue at this address. Raises RefinerctlError if a client cannot be set up."""
        region = QueueName.parse(address.arn or address.url).region or ""
        if region not in self._wires:
            self._wires[region] = SqsWire(self._session.in_region(region or None), self._timeout_s)
        return MessageQueue(self._wires[region], address)


class MessageQueue:
    """Messages of one queue; safe to share between threads.

    Calls with entries raise nothing: they return a result for each entry, in their order.
    """

    max_workers = 40
    counts_lag_s = 0.0  # approximate, so they are read repeatedly anyway

    def __init__(self, wire: SqsWire, address: QueueAddress) -> None:
        self._wire = wire
        self.address = address

    def attributes(self, attempts: int = READ_ATTEMPTS) -> QueueAttributes:
        """Counts now. Raises NotFoundError without the queue, and other RefinerctlErrors."""
        for number in range(1, attempts):
            with contextlib.suppress(TransientError):
                return self._attributes()
            time.sleep(0.1 * 2**number)
        return self._attributes()

    def _attributes(self) -> QueueAttributes:
        reply = self._wire.call("GetQueueAttributes", self.address, {"AttributeNames": ["All"]})
        reply.check()
        found = reply.answer.get("Attributes", {})
        if _COUNTS[0] not in found:
            raise TransientError(f"the response for queue {self.address.name} has no message count")
        visible, in_flight, delayed = (int(found.get(name, 0)) for name in _COUNTS)
        return QueueAttributes(reply.at, visible, in_flight, delayed)

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        """Up to `count` (1 to 10) messages; waits up to `wait_s` for the first.

        Raises TransientError, or another RefinerctlError that the next call would get, too.
        """
        request = {
            "MaxNumberOfMessages": count,
            "VisibilityTimeout": visibility_s,
            "WaitTimeSeconds": wait_s,
            # The first is the older name of the second; emulators know one or the other.
            "AttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        }
        reply = self._wire.call("ReceiveMessage", self.address, request, wait_s=wait_s)
        if reply.failure is None or reply.failure.error != OVER_LIMIT:
            reply.check()
        return [_message(item) for item in reply.answer.get("Messages") or ()]

    def send(
        self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = lambda: None
    ) -> list[EntryResult]:
        """Send up to ten. `leaving` is called just before the request leaves, and its RefinerctlError prevents that."""
        request = _entries([_entry(message) for message in messages])
        reply = self._wire.call("SendMessageBatch", self.address, request, leaving=leaving)
        results = _results(reply, len(messages))
        return [_checked(*result, message) for result, message in zip(results, messages, strict=True)]

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        """Delete up to ten."""
        request = _entries([{"ReceiptHandle": receipt} for receipt in receipts])
        reply = self._wire.call("DeleteMessageBatch", self.address, request)
        return [result for result, _ in _results(reply, len(receipts))]

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        """Hide up to ten for `visibility_s` from now; 0 makes them visible."""
        request = _entries([{"ReceiptHandle": receipt, "VisibilityTimeout": visibility_s} for receipt in receipts])
        reply = self._wire.call("ChangeMessageVisibilityBatch", self.address, request)
        return [result for result, _ in _results(reply, len(receipts))]


def _entries(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"Entries": [{"Id": str(number), **entry} for number, entry in enumerate(entries)]}


def _results(reply: Reply, count: int) -> list[tuple[EntryResult, dict[str, Any]]]:
    """The result of each entry, and what the answer says about it."""
    if reply.failure is not None:
        return [(reply.failure, {})] * count
    said = {item.get("Id"): (EntryResult(item.get("MessageId")), item) for item in reply.answer.get("Successful") or ()}
    said |= {item.get("Id"): (_failed(item), item) for item in reply.answer.get("Failed") or ()}
    return [said.get(str(number), (NO_RESULT, {})) for number in range(count)]


def _failed(item: dict[str, Any]) -> EntryResult:
    code = str(item.get("Code") or "unknown")
    is_sender_fault = bool(item.get("SenderFault")) and code not in THROTTLED
    return EntryResult(error=code, message=str(item.get("Message") or ""), is_sender_fault=is_sender_fault)


def _checked(result: EntryResult, item: dict[str, Any], message: OutgoingMessage) -> EntryResult:
    """The result of sending `message`; without the id, or with another body's checksum, it is uncertain."""
    if not result.is_done:
        return result
    if not result.message_id:
        return NO_RESULT
    digest = item.get("MD5OfMessageBody")
    if digest and digest != hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest():
        return EntryResult(
            error="BodyChanged",
            message="the checksum in SQS's response does not match the body that was sent",
            is_uncertain=True,
        )
    return result


def _entry(message: OutgoingMessage) -> dict[str, Any]:
    entry: dict[str, Any] = {"MessageBody": message.body}
    if message.attributes:
        entry["MessageAttributes"] = {name: _attribute(value) for name, value in message.attributes.items()}
    if message.group is not None:
        entry["MessageGroupId"] = message.group
    if message.deduplication is not None:
        entry["MessageDeduplicationId"] = message.deduplication
    if message.trace_header is not None:
        entry["MessageSystemAttributes"] = {_TRACE_HEADER: {"DataType": "String", "StringValue": message.trace_header}}
    return entry


def _attribute(attribute: MessageAttribute) -> dict[str, str]:
    if isinstance(attribute.value, bytes):
        return {"DataType": attribute.data_type, "BinaryValue": base64.b64encode(attribute.value).decode()}
    return {"DataType": attribute.data_type, "StringValue": attribute.value}


def _message(item: dict[str, Any]) -> Message:
    system: dict[str, str] = item.get("Attributes") or {}
    return Message(
        id=item["MessageId"],
        body=item.get("Body", ""),
        sent_at=datetime.fromtimestamp(int(system.get("SentTimestamp", 0)) / 1000, UTC),
        receive_count=int(system.get("ApproximateReceiveCount", 0)),
        attributes={name: _read_attribute(value) for name, value in (item.get("MessageAttributes") or {}).items()},
        system={name: value for name, value in system.items() if name not in _RECEIVE_ATTRIBUTES},
        receipt=item["ReceiptHandle"],
    )


def _read_attribute(value: dict[str, str]) -> MessageAttribute:
    kind = value.get("DataType", "String")
    if kind.partition(".")[0] == _BINARY:
        return MessageAttribute(kind, base64.b64decode(value.get("BinaryValue", "")))
    return MessageAttribute(kind, value.get("StringValue", ""))
