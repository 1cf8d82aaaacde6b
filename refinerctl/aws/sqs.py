"""SQS: how many messages wait, and a look at them."""

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
from refinerctl.errors import NotFoundError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeFilterType, QueueAttributeNameType
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef, MessageTypeDef

# How long a message that is looked at stays hidden, should we die in the middle.
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


class Queues:
    """The queues of one account and region, by name."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
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
        client = self._session.in_region(wanted.region).client("sqs")
        owner = {"QueueOwnerAWSAccountId": wanted.account} if wanted.account else {}
        try:
            url = client.get_queue_url(QueueName=wanted.name, **owner)["QueueUrl"]
        except Exception as error:
            raise explained(error, wanted.name) from error
        region = client.meta.region_name
        account = QueueName.parse(url).account or wanted.account
        return QueueAddress(wanted.name, url, f"arn:{client.meta.partition}:sqs:{region}:{account}:{wanted.name}")

    def find(self, prefix: str) -> None:
        """Learn the URLs of all queues whose names start with `prefix`: a call less for each that is asked for later.

        Who may not list queues pays those calls.
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
        return _queue(name, answer["Attributes"])

    def peek(self, name: str, limit: int = 100) -> list[Message]:
        """Look at up to `limit` messages and give them back at once.

        Looking raises each one's receive count by one: only for queues that have no redrive policy of their own.
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
            self._give_back(name, handles)
        return found

    def _give_back(self, name: str, handles: list[str]) -> None:
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

    def _client(self) -> SQSClient:
        return self._session.client("sqs")

    def _url(self, name: str) -> str:
        if name not in self._urls:
            self._urls[name] = self._client().get_queue_url(QueueName=name)["QueueUrl"]
        return self._urls[name]


def _depth(name: str, counts: Mapping[str, str]) -> QueueDepth:
    visible, in_flight, delayed = (int(counts.get(count, 0)) for count in _COUNTS)
    return QueueDepth(name, visible, in_flight, delayed)


def _queue(name: str, attributes: Mapping[QueueAttributeNameType, str]) -> QueueSettings:
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
    """What an SDK error means for queue `name`; the error itself if it is none."""
    if error_code(error) in _MISSING:
        return NotFoundError(f"there is no queue {name!r}", hint="Check --env and --region, or deploy the stack first.")
    return explain(error, f"queue {name}") or error
