"""SQS: message move tasks, its own redrive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import about, error_code, or_none, was_repeated
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import UNKNOWN_ACTION, about_queue
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

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
            answer = or_none(ask, *UNKNOWN_ACTION)
        return None if answer is None else tuple(_task(item) for item in answer.get("Results", []))

    def start(self, source_arn: str, destination_arn: str | None = None, rate: int | None = None) -> str | None:
        """Start a task; returns its handle. Without a destination each message goes back to its source queue.

        None: a repeated request was refused because a task is running, which may be that of the first request.

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
            if was_repeated(error.__cause__):
                return None
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
