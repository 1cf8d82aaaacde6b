"""One SQS queue for moving many messages: batches, and for each entry what came of it."""

from __future__ import annotations

import base64
import hashlib
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
)
from refinerctl.aws.queue_names import QueueName
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs_wire import ANSWER_TIMEOUT_S, BUSY, CallFailedError, SqsWire

_TRACE_HEADER = "AWSTraceHeader"
# Of this receiving, not of the message.
_PASSING_ATTRIBUTES = {"ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SentTimestamp"}
_COUNTS = tuple(f"ApproximateNumberOfMessages{state}" for state in ("", "NotVisible", "Delayed"))
_BINARY = "Binary"
# So many messages are hidden that the queue hands out no more: a long poll says nothing then, a short one this.
OVER_LIMIT = "OverLimit"
DEFAULT_MAX_MESSAGE_BYTES = 262_144

NO_ANSWER = EntryResult(error="NoResult", message="SQS said nothing about this entry", is_uncertain=True)


class MessageQueues:
    """Queues of one account and region, sharing connections; other regions' through a session of their own."""

    def __init__(self, session: AwsSession, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._session = session
        self._timeout_s = answer_timeout_s
        self._wires: dict[str, SqsWire] = {}

    def at(self, address: QueueAddress) -> MessageQueue:
        """The queue of this address. Raises RefinerctlError for settings that make no sense."""
        region = QueueName.parse(address.arn or address.url).region or ""
        if region not in self._wires:
            self._wires[region] = SqsWire(self._session.in_region(region or None), self._timeout_s)
        return MessageQueue(self._wires[region], address)


class MessageQueue:
    """A queue over the wire; safe to share between threads.

    Calls with entries return a result for each, in their order, whatever happens.
    """

    def __init__(self, wire: SqsWire, address: QueueAddress) -> None:
        self._wire = wire
        self.address = address

    def attributes(self) -> QueueAttributes:
        """How it stands now. Raises RefinerctlError; NotFoundError without the queue."""
        try:
            answer, at = self._call("GetQueueAttributes", {"AttributeNames": ["All"]})
        except CallFailedError as failed:
            raise failed.cause from failed
        found = answer.get("Attributes", {})
        visible, hidden, delayed = (int(found.get(name, 0)) for name in _COUNTS)
        limit = int(found.get("MaximumMessageSize", DEFAULT_MAX_MESSAGE_BYTES))
        return QueueAttributes(at, visible, hidden, delayed, limit)

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        """Up to `count` (1 to 10) messages, waiting up to `wait_s` for the first.

        Raises TransientError for trouble that may pass, other RefinerctlErrors for what stays.
        """
        request = {
            "MaxNumberOfMessages": count,
            "VisibilityTimeout": visibility_s,
            "WaitTimeSeconds": wait_s,
            # The first is older than the second; emulators know the one or the other.
            "AttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        }
        try:
            answer, _ = self._call("ReceiveMessage", request, patience_s=wait_s)
        except CallFailedError as failed:
            if failed.code == OVER_LIMIT:
                return []
            raise failed.cause from failed
        return [_message(item) for item in answer.get("Messages") or ()]

    def send(
        self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = lambda: None
    ) -> list[EntryResult]:
        """Send up to ten; `leaving` is called just before the request goes out."""
        entries = [{"Id": str(number), **_entry(message)} for number, message in enumerate(messages)]
        results = self._batch("SendMessageBatch", entries, leaving)
        return [_checked(result, message) for result, message in zip(results, messages, strict=True)]

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        """Delete up to ten."""
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        return [result for result, _ in self._batch("DeleteMessageBatch", entries)]

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        """Let up to ten be invisible for so long from now; 0 gives them back."""
        entries = [
            {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": visibility_s}
            for number, receipt in enumerate(receipts)
        ]
        return [result for result, _ in self._batch("ChangeMessageVisibilityBatch", entries)]

    def _batch(
        self, operation: str, entries: list[dict[str, Any]], leaving: Callable[[], None] = lambda: None
    ) -> list[tuple[EntryResult, dict[str, Any]]]:
        """A result for each entry, and what the answer had about it."""
        try:
            answer, _ = self._call(operation, {"Entries": entries}, leaving=leaving)
        except CallFailedError as failed:
            result = EntryResult(
                error=failed.code,
                message=failed.cause.message,
                is_sender_fault=failed.is_content,
                is_uncertain=failed.is_uncertain,
                cause=failed.cause,
            )
            return [(result, {})] * len(entries)
        said = {
            str(item.get("Id")): (EntryResult(item.get("MessageId")), item) for item in answer.get("Successful") or ()
        }
        said |= {str(item.get("Id")): (_failed(item), item) for item in answer.get("Failed") or ()}
        return [said.get(entry["Id"], (NO_ANSWER, {})) for entry in entries]

    def _call(self, operation: str, request: dict[str, Any], **more: Any) -> tuple[dict[str, Any], datetime]:
        return self._wire.call(operation, self.address.name, {"QueueUrl": self.address.url, **request}, **more)


def _failed(item: dict[str, Any]) -> EntryResult:
    code = str(item.get("Code") or "unknown")
    is_sender_fault = bool(item.get("SenderFault")) and code not in BUSY
    return EntryResult(error=code, message=str(item.get("Message") or ""), is_sender_fault=is_sender_fault)


def _checked(answered: tuple[EntryResult, dict[str, Any]], message: OutgoingMessage) -> EntryResult:
    """What arrived must be what was sent: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference."""
    result, item = answered
    if not result.is_done:
        return result
    if not result.message_id:
        return NO_ANSWER
    digest = item.get("MD5OfMessageBody")
    if digest and digest != hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest():
        return EntryResult(error="BodyChanged", message="another body arrived than the one sent", is_uncertain=True)
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
        system={name: value for name, value in system.items() if name not in _PASSING_ATTRIBUTES},
        receipt=item["ReceiptHandle"],
    )


def _read_attribute(value: dict[str, str]) -> MessageAttribute:
    kind = value.get("DataType", "String")
    if kind.partition(".")[0] == _BINARY:
        return MessageAttribute(kind, base64.b64decode(value.get("BinaryValue", "")))
    return MessageAttribute(kind, value.get("StringValue", ""))
