"""SQS: message move tasks, its own redrive, and the source queues of a dead-letter queue."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import about, error_code, or_none
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import about_queue
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# Error codes of emulators for an action that they do not support.
_UNKNOWN = ("InvalidAction", "UnknownOperationException", "NotImplemented", "UnknownAction")
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
MAX_TASK_RATE = 500


@dataclass(frozen=True)
class MoveTask:
    """A message move task. Counts are approximate; only a running task has a `handle`; `rate` in messages/s."""

    status: str
    handle: str | None = None
    moved: int = 0
    to_move: int | None = None
    destination_arn: str | None = None
    rate: int | None = None
    failure: str | None = None
    started_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        return self.status in ("RUNNING", "CANCELLING")


class MoveTasks:
    """The message move tasks of one account and region, by the ARN of the dead-letter queue."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def latest(self, source_arn: str) -> tuple[MoveTask, ...] | None:
        """Up to ten tasks, newest first; None if the endpoint does not support move tasks.

        Raises NotFoundError without the queue.
        """
        ask = partial(self._client().list_message_move_tasks, SourceArn=source_arn, MaxResults=10)
        with about_queue(_name(source_arn)):
            answer = or_none(ask, *_UNKNOWN)
        return None if answer is None else tuple(_task(item) for item in answer.get("Results", []))

    def start(self, source_arn: str, destination_arn: str | None = None, rate: int | None = None) -> str:
        """Start a task; returns its handle. Without a destination each message goes back to its source queue.

        `rate` in messages/s, at most MAX_TASK_RATE. Raises RefusedError if SQS refuses.
        """
        given: dict[str, Any] = {"SourceArn": source_arn}
        if destination_arn is not None:
            given["DestinationArn"] = destination_arn
        if rate is not None:
            given["MaxNumberOfMessagesPerSecond"] = rate
        try:
            with about_queue(_name(source_arn)):
                return self._client().start_message_move_task(**given)["TaskHandle"]
        except AccessDeniedError as error:
            raise AccessDeniedError(error.message, hint="Use --method copy, which needs no move task.") from error
        except RefinerctlError as error:
            if error_code(error.__cause__).rpartition(".")[2] not in ("UnsupportedOperation", "InvalidParameterValue"):
                raise
            said = getattr(error.__cause__, "response", {}).get("Error", {}).get("Message", "")
            raise RefusedError(f"SQS refused to start a move task: {said}", hint="Use --method copy.") from error

    def cancel(self, handle: str) -> int:
        """Cancel a task; returns how many messages it has moved. Raises RefinerctlError if it is not running."""
        try:
            with about("the move task"):
                answer = self._client().cancel_message_move_task(TaskHandle=handle)
        except NotFoundError as error:
            raise RefinerctlError("the move task is not running any more") from error
        return answer.get("ApproximateNumberOfMessagesMoved", 0)

    def source_urls(self, dlq_url: str, dlq_arn: str) -> tuple[str, ...]:
        """The URLs of the queues that have this dead-letter queue.

        If the endpoint has no ListDeadLetterSourceQueues, each queue is asked. Raises NotFoundError without the queue.
        """

        def sources() -> tuple[str, ...]:
            pages = self._client().get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=dlq_url)
            return tuple(url for page in pages for url in page.get("queueUrls", []))

        with about_queue(_name(dlq_arn)):
            found = or_none(sources, *_UNKNOWN)
        if found is not None:
            return found
        with about("the queues"):
            pages = self._client().get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 1000})
            urls = [url for page in pages for url in page.get("QueueUrls", [])]
        return tuple(url for url in urls if self._dlq_of(url) == dlq_arn)

    def _dlq_of(self, url: str) -> str | None:
        """None, too, if the queue was deleted since it was listed."""
        try:
            with about_queue(url.rpartition("/")[2]):
                answer = self._client().get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
        except NotFoundError:
            return None
        policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy") or "{}")
        return str(policy.get("deadLetterTargetArn", "")) or None

    def _client(self) -> SQSClient:
        return self._session.client("sqs")


def _task(item: Any) -> MoveTask:
    started = item.get("StartedTimestamp")
    return MoveTask(
        item.get("Status", ""),
        handle=item.get("TaskHandle") or None,
        moved=item.get("ApproximateNumberOfMessagesMoved", 0),
        to_move=item.get("ApproximateNumberOfMessagesToMove"),
        destination_arn=item.get("DestinationArn") or None,
        rate=item.get("MaxNumberOfMessagesPerSecond") or None,
        failure=item.get("FailureReason") or None,
        started_at=datetime.fromtimestamp(started / 1000, UTC) if started else None,
    )


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]
