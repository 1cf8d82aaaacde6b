"""SQS: the settings and counts of queues, and their first messages."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, cast

from refinerctl.aws.errors import about, error_code, or_none, was_repeated
from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress, QueueName
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.session import AwsSession
from refinerctl.errors import RefusedError
from refinerctl.parallel import attempt, concurrently

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef, MessageTypeDef

# Visibility timeout of messages that a peek receives, in case it is killed before it releases them: long enough for
# all of them, at this rate of each worker.
PEEK_SECONDS = 10
SLOWEST_PEEK = 20
# Error codes of emulators for an action that they do not support.
UNKNOWN_ACTION = ("InvalidAction", "UnknownOperationException", "NotImplemented", "UnknownAction")
MISSING_HINT = "Check --env and --region, or deploy the stack first."


@dataclass(frozen=True)
class QueueState:
    """A queue's settings and approximate message counts; times in seconds.

    `redrive_sources` may use it as their DLQ; None is any queue.
    """

    name: str
    arn: str = ""
    visibility_timeout_s: int = 30
    retention_s: int = 345_600
    policy: Policy = ()
    dlq_arn: str | None = None
    max_receive_count: int | None = None
    redrive_sources: tuple[str, ...] | None = None
    kms_key: str | None = None
    visible: int = 0
    in_flight: int = 0
    delayed: int = 0

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


class Queues:
    """Queues by name, and by address those of other accounts and regions. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._elsewhere: dict[str, AwsSession] = {}
        self._urls: dict[str, str] = {}

    def state(self, name: str) -> QueueState:
        """Settings and counts of `name` in one call. Raises NotFoundError without the queue."""
        with about_queue(name):
            return _state(name, "", self._client(), self._url(name))

    def state_at(self, address: QueueAddress) -> QueueState:
        """The same of a queue by its address, in any region."""
        with about_queue(address.name):
            return _state(address.name, address.arn, self._client(_region(address)), address.url)

    def address(self, text: str) -> QueueAddress:
        """The queue of this name, URL or ARN; it may be of another account or region.

        Raises NotFoundError without the queue, UsageError for what names none.
        """
        wanted = QueueName.parse(text)
        client = self._client(wanted.region)
        owner = {"QueueOwnerAWSAccountId": wanted.account} if wanted.account else {}
        with about_queue(wanted.name):
            url = client.get_queue_url(QueueName=wanted.name, **owner)["QueueUrl"]
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

        def listed() -> list[QueueAddress]:
            pages = client.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=dlq.url)
            return [at(url) for page in pages for url in page.get("queueUrls", [])]

        with about_queue(dlq.name):
            if (sources := or_none(listed, *UNKNOWN_ACTION)) is not None:
                return sources
        with about("the queues"):
            pages = client.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 1000})
            found = [at(url) for page in pages for url in page.get("QueueUrls", [])]
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
        with about_queue(address.name):
            try:
                self._client(_region(address)).purge_queue(QueueUrl=address.url)
            except Exception as error:
                if error_code(error).rpartition(".")[2] != "PurgeQueueInProgress":
                    raise
                if was_repeated(error):  # the response to an earlier request was lost
                    return
                raise RefusedError(
                    f"queue {address.name} was purged less than 60 seconds ago; SQS allows one purge a minute",
                    hint="Wait a minute. SQS is still deleting the messages of the last purge.",
                ) from error

    def find(self, prefix: str) -> None:
        """Learn the URLs of all queues whose names start with `prefix`: a call less for each that is asked for later.

        Without permission to list queues those calls are made.
        """
        with contextlib.suppress(Exception):
            pages = self._client().get_paginator("list_queues")
            for page in pages.paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 1000}):
                self._urls.update({url.rpartition("/")[2]: url for url in page.get("QueueUrls", [])})

    def peek(self, name: str, limit: int = 100) -> list[Message]:
        """The messages that `peek_each` receives."""
        found = list[Message]()
        self.peek_each(name, found.append, limit)
        return found

    def peek_each(self, name: str, take: Callable[[Message], object], limit: int, workers: int = 1) -> int:
        """Receive about `limit` messages, and make them visible again at the end. Returns how many were received.

        Each is passed to `take`, by one worker at a time; ends early if that returns true. Keeps receipts only.
        It raises their receive counts by one: only for queues that have no redrive policy of their own.
        Raises NotFoundError without the queue.
        """
        client, receipts, lock, ended = self._client(), list[str](), threading.Lock(), threading.Event()
        visibility_s = max(PEEK_SECONDS, limit // workers // SLOWEST_PEEK)

        def receive() -> None:
            while not ended.is_set() and len(receipts) < limit:
                answer = client.receive_message(
                    QueueUrl=url,
                    MaxNumberOfMessages=10,
                    VisibilityTimeout=visibility_s,
                    WaitTimeSeconds=1,  # a short poll asks some of SQS's servers only, and often finds nothing
                    MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
                    MessageAttributeNames=["All"],
                )
                messages = answer.get("Messages", [])
                with lock:
                    receipts.extend(item["ReceiptHandle"] for item in messages)
                    if not messages or any(take(_message(item)) for item in messages):
                        ended.set()

        with about_queue(name):
            url = self._url(name)
            try:
                concurrently([receive] * workers, workers)
            finally:
                ended.set()
                batches = [receipts[start : start + 10] for start in range(0, len(receipts), 10)]
                concurrently([partial(_release, client, url, batch) for batch in batches], workers)
        return len(receipts)

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


def _state(name: str, arn: str, client: SQSClient, url: str) -> QueueState:
    answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found = cast(Mapping[str, str], answer.get("Attributes", {}))
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
        visible=int(found.get("ApproximateNumberOfMessages", 0)),
        in_flight=int(found.get("ApproximateNumberOfMessagesNotVisible", 0)),
        delayed=int(found.get("ApproximateNumberOfMessagesDelayed", 0)),
    )


def _release(client: SQSClient, url: str, handles: Sequence[str]) -> None:
    entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
        {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0} for index, handle in enumerate(handles)
    ]
    with contextlib.suppress(Exception):  # they become visible after the timeout anyway
        client.change_message_visibility_batch(QueueUrl=url, Entries=entries)


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
        id=item.get("MessageId", ""),
    )


def about_queue(name: str) -> contextlib.AbstractContextManager[None]:
    """Calls about a queue, as of `about`."""
    return about(f"queue {name}", MISSING_HINT)
