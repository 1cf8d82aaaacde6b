"""SQS: the settings and counts of queues, and their first messages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress, QueueDepth, QueueState
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.queue_names import QueueName
from refinerctl.aws.session import AwsSession, error_code, explain
from refinerctl.errors import NotFoundError, RefusedError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeFilterType
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef, MessageTypeDef

# Visibility timeout of messages that a peek receives, in case it is killed before it releases them.
PEEK_SECONDS = 10

_COUNTS: tuple[QueueAttributeFilterType, ...] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}


@dataclass(frozen=True)
class QueueSettings:
    """A queue's attributes, times in seconds. `redrive_sources` may use it as their DLQ; None is any queue."""

    name: str
    arn: str
    visibility_timeout_s: int
    retention_s: int
    policy: Policy = ()
    dlq_arn: str | None = None
    max_receive_count: int | None = None
    redrive_sources: tuple[str, ...] | None = None
    kms_key: str | None = None


@dataclass(frozen=True)
class QueueSnapshot:
    """A queue's settings and approximate counts, from one answer."""

    settings: QueueSettings
    depth: QueueDepth


class Queues:
    """Queues by name, and by address those of other accounts and regions. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._elsewhere: dict[str, AwsSession] = {}
        self._urls: dict[str, str] = {}

    def depth(self, name: str) -> QueueDepth:
        """Approximate counts of `name`. Raises NotFoundError without the queue."""
        return _depth(name, self._attributes(name, _COUNTS))

    def state(self, name: str) -> QueueState:
        """Counts and settings of `name`. Raises NotFoundError without the queue."""
        found = self._attributes(name, ("All",))
        redrive = json.loads(found.get("RedrivePolicy") or "{}")
        return QueueState(
            _depth(name, found),
            retention_s=int(found.get("MessageRetentionPeriod", 345600)),
            visibility_timeout_s=int(found.get("VisibilityTimeout", 30)),
            max_receive_count=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
        )

    def address(self, text: str) -> QueueAddress:
        """The queue of this name, URL or ARN; it may be of another account or region.

        Raises NotFoundError without the queue, UsageError for what names none.
        """
        wanted = QueueName.parse(text)
        client = self._client(wanted.region)
        owner = {"QueueOwnerAWSAccountId": wanted.account} if wanted.account else {}
        try:
            url = client.get_queue_url(QueueName=wanted.name, **owner)["QueueUrl"]
        except Exception as error:
            raise explained(error, wanted.name) from error
        region = client.meta.region_name
        account = QueueName.parse(url).account or wanted.account
        return QueueAddress(wanted.name, url, f"arn:{client.meta.partition}:sqs:{region}:{account}:{wanted.name}")

    def snapshot(self, address: QueueAddress) -> QueueSnapshot:
        """Settings and counts in one call. Raises NotFoundError without the queue."""
        try:
            answer = self._client(_region(address)).get_queue_attributes(QueueUrl=address.url, AttributeNames=["All"])
        except Exception as error:
            raise explained(error, address.name) from error
        found = cast(Mapping[str, str], answer.get("Attributes", {}))
        return QueueSnapshot(_queue(address.name, {"QueueArn": address.arn, **found}), _depth(address.name, found))

    def purge(self, address: QueueAddress) -> None:
        """Delete all messages, also those in flight; it takes SQS up to a minute.

        Raises RefusedError if this was asked for less than a minute ago, NotFoundError without the queue.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_PurgeQueue.html
        """
        try:
            self._client(_region(address)).purge_queue(QueueUrl=address.url)
        except Exception as error:
            if error_code(error).rpartition(".")[2] == "PurgeQueueInProgress":
                raise RefusedError(
                    f"queue {address.name} was purged less than 60 seconds ago; SQS allows one purge a minute",
                    hint="Wait a minute. SQS is still deleting what the last purge found.",
                ) from error
            raise explained(error, address.name) from error

    def find(self, prefix: str) -> None:
        """Learn the URLs of all queues whose names start with `prefix`: a call less for each that is asked for later.

        Without permission to list queues those calls are made.
        """
        with contextlib.suppress(Exception):
            pages = self._client().get_paginator("list_queues")
            for page in pages.paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 1000}):
                self._urls.update({url.rpartition("/")[2]: url for url in page.get("QueueUrls", [])})

    def settings(self, name: str) -> QueueSettings:
        """How `name` is set up. Raises NotFoundError without the queue."""
        try:
            answer = self._client().get_queue_attributes(QueueUrl=self._url(name), AttributeNames=["All"])
        except Exception as error:
            raise explained(error, name) from error
        return _queue(name, cast(Mapping[str, str], answer["Attributes"]))

    def peek(self, name: str, limit: int = 100) -> list[Message]:
        """Receive up to `limit` messages and make them visible again at once.

        It raises their receive counts by one: only for queues that have no redrive policy of their own.
        Raises NotFoundError without the queue.
        """
        client = self._client()
        found: list[Message] = []
        handles: list[str] = []
        try:
            url = self._url(name)
            while len(found) < limit:
                answer = client.receive_message(
                    QueueUrl=url,
                    MaxNumberOfMessages=10,
                    VisibilityTimeout=PEEK_SECONDS,
                    WaitTimeSeconds=1,  # a short poll asks some of SQS's servers only, and often finds nothing
                    MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
                    MessageAttributeNames=["All"],
                )
                messages = answer.get("Messages", [])
                if not messages:
                    break
                found.extend(_message(item) for item in messages)
                handles.extend(item["ReceiptHandle"] for item in messages)
        except Exception as error:
            raise explained(error, name) from error
        finally:
            self._release(name, handles)
        return found

    def _release(self, name: str, handles: list[str]) -> None:
        for start in range(0, len(handles), 10):
            entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
                {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for index, handle in enumerate(handles[start : start + 10])
            ]
            with contextlib.suppress(Exception):  # they come back by themselves within PEEK_SECONDS
                self._client().change_message_visibility_batch(QueueUrl=self._url(name), Entries=entries)

    def _attributes(self, name: str, wanted: Sequence[QueueAttributeFilterType]) -> Mapping[str, str]:
        try:
            answer = self._client().get_queue_attributes(QueueUrl=self._url(name), AttributeNames=wanted)
        except Exception as error:
            raise explained(error, name) from error
        return cast(Mapping[str, str], answer.get("Attributes", {}))

    def _client(self, region: str | None = None) -> SQSClient:
        if region in (None, self._session.region):
            return self._session.client("sqs")
        if region not in self._elsewhere:
            self._elsewhere[region] = self._session.in_region(region)
        return self._elsewhere[region].client("sqs")

    def _url(self, name: str) -> str:
        if name not in self._urls:
            self._urls[name] = self._client().get_queue_url(QueueName=name)["QueueUrl"]
        return self._urls[name]


def _region(address: QueueAddress) -> str:
    return address.arn.split(":")[3]


def _depth(name: str, counts: Mapping[str, str]) -> QueueDepth:
    visible, in_flight, delayed = (int(counts.get(count, 0)) for count in _COUNTS)
    return QueueDepth(name, visible, in_flight, delayed)


def _queue(name: str, attributes: Mapping[str, str]) -> QueueSettings:
    redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
    permission = json.loads(attributes.get("RedriveAllowPolicy") or "{}")
    sources = {"denyAll": (), "byQueue": tuple(permission.get("sourceQueueArns", ()))}
    return QueueSettings(
        name,
        attributes["QueueArn"],
        visibility_timeout_s=int(attributes.get("VisibilityTimeout", 30)),
        retention_s=int(attributes.get("MessageRetentionPeriod", 345_600)),
        policy=parse_policy(attributes.get("Policy")),
        dlq_arn=redrive.get("deadLetterTargetArn"),
        max_receive_count=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
        redrive_sources=sources.get(permission.get("redrivePermission")),
        kms_key=attributes.get("KmsMasterKeyId") or None,
    )


def _message(item: MessageTypeDef) -> Message:
    attributes = item.get("Attributes", {})
    return Message(
        body=item.get("Body", ""),
        sent_at=datetime.fromtimestamp(int(attributes.get("SentTimestamp", 0)) / 1000, UTC),
        receive_count=int(attributes.get("ApproximateReceiveCount", 0)),
        attributes={
            name: MessageAttribute(value.get("DataType", "String"), value.get("StringValue", ""))
            for name, value in item.get("MessageAttributes", {}).items()
        },
    )


def explained(error: Exception, name: str) -> Exception:
    """The RefinerctlError for an SDK error of a call about queue `name`; any other error as it is."""
    if error_code(error) in _MISSING:
        return NotFoundError(
            f"queue {name} does not exist", hint="Check --env and --region, or deploy the stack first."
        )
    return explain(error, f"queue {name}") or error
