"""SQS: the settings and counts of queues, and their first messages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, cast

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress, QueueDepth
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.queue_names import QueueName
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError, RefusedError
from refinerctl.parallel import attempt

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeFilterType
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef, MessageTypeDef

# Visibility timeout of messages that a peek receives, in case it is killed before it releases them.
PEEK_SECONDS = 10

_COUNTS: dict[str, QueueAttributeFilterType] = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
# How emulators refuse an action that they do not have.
UNKNOWN_ACTION = {"InvalidAction", "UnknownOperationException", "NotImplemented", "UnknownAction"}


@dataclass(frozen=True)
class QueueState:
    """A queue's settings and approximate message counts; times in seconds.

    `redrive_sources` may use it as their DLQ; None is any queue.
    """

    name: str
    arn: str
    visibility_timeout_s: int
    retention_s: int
    policy: Policy = ()
    dlq_arn: str | None = None
    max_receive_count: int | None = None
    redrive_sources: tuple[str, ...] | None = None
    kms_key: str | None = None
    visible: int = 0
    in_flight: int = 0
    delayed: int = 0

    @property
    def depth(self) -> QueueDepth:
        return QueueDepth(self.name, self.visible, self.in_flight, self.delayed)


class Queues:
    """Queues by name, and by address those of other accounts and regions. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._elsewhere: dict[str, AwsSession] = {}
        self._urls: dict[str, str] = {}

    def depth(self, name: str) -> QueueDepth:
        """Approximate counts of `name`. Raises NotFoundError without the queue."""
        return QueueDepth(name, **_counts(self._attributes(name, tuple(_COUNTS.values()))))

    def state(self, name: str) -> QueueState:
        """Settings and counts of `name` in one call. Raises NotFoundError without the queue."""
        return _state(name, "", self._attributes(name, ("All",)))

    def state_at(self, address: QueueAddress) -> QueueState:
        """The same of a queue by its address, in any region."""
        return _state(address.name, address.arn, self._attributes(address, ("All",)))

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

    def sources(self, dlq: QueueAddress) -> list[QueueAddress]:
        """The queues whose DLQ this is; they are in its account and region.

        If the endpoint has no ListDeadLetterSourceQueues, each queue is asked. Raises NotFoundError without the queue.
        """
        client = self._client(_region(dlq))
        prefix = dlq.arn.rpartition(":")[0]

        def at(url: str) -> QueueAddress:
            name = url.rpartition("/")[2]
            return QueueAddress(name, url, f"{prefix}:{name}")

        try:
            pages = client.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=dlq.url)
            return [at(url) for page in pages for url in page.get("queueUrls", [])]
        except Exception as error:
            if error_code(error) not in UNKNOWN_ACTION:
                raise explained(error, dlq.name) from error
        try:
            listed = client.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 1000})
            found = [at(url) for page in listed for url in page.get("QueueUrls", [])]
        except Exception as error:
            raise explain(error, "the queues") or error from error
        sources = []
        for queue in found:
            state = attempt(partial(self.state_at, queue))
            if state.error and not state.not_found:  # it may have been deleted since it was listed
                raise state.error
            if state.value and state.value.dlq_arn == dlq.arn:
                sources.append(queue)
        return sources

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
                    hint="Wait a minute. SQS is still deleting the messages of the last purge.",
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
            with contextlib.suppress(Exception):  # they become visible within PEEK_SECONDS anyway
                self._client().change_message_visibility_batch(QueueUrl=self._url(name), Entries=entries)

    def _attributes(self, queue: str | QueueAddress, wanted: Sequence[QueueAttributeFilterType]) -> Mapping[str, str]:
        try:
            if isinstance(queue, QueueAddress):
                client, url = self._client(_region(queue)), queue.url
            else:
                client, url = self._client(), self._url(queue)
            answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)
        except Exception as error:
            raise explained(error, queue if isinstance(queue, str) else queue.name) from error
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


def _counts(found: Mapping[str, str]) -> dict[str, int]:
    return {name: int(found.get(attribute, 0)) for name, attribute in _COUNTS.items()}


def _state(name: str, arn: str, found: Mapping[str, str]) -> QueueState:
    redrive, permission = (json.loads(found.get(key) or "{}") for key in ("RedrivePolicy", "RedriveAllowPolicy"))
    sources = {"denyAll": (), "byQueue": tuple(permission.get("sourceQueueArns", ()))}
    return QueueState(
        name,
        found.get("QueueArn", arn),
        visibility_timeout_s=int(found.get("VisibilityTimeout", 30)),
        retention_s=int(found.get("MessageRetentionPeriod", 345_600)),
        policy=parse_policy(found.get("Policy")),
        dlq_arn=redrive.get("deadLetterTargetArn"),
        max_receive_count=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
        redrive_sources=sources.get(permission.get("redrivePermission")),
        kms_key=found.get("KmsMasterKeyId") or None,
        **_counts(found),
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
