"""SQS: message move tasks, its own redrive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import UNKNOWN_ACTION
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "ResourceNotFoundException"}

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
        try:
            answer = self._client().list_message_move_tasks(SourceArn=source_arn, MaxResults=10)
        except Exception as error:
            if error_code(error) in UNKNOWN_ACTION:
                return None
            raise _explained(error, source_arn) from error
        return tuple(_task(item) for item in answer.get("Results", []))

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
            return self._client().start_message_move_task(**given)["TaskHandle"]
        except Exception as error:
            if error_code(error).rpartition(".")[2] in ("UnsupportedOperation", "InvalidParameterValue"):
                said = getattr(error, "response", {}).get("Error", {}).get("Message", "")
                raise RefusedError(f"SQS refused to start a move task: {said}", hint="Use --method copy.") from error
            explained = _explained(error, source_arn)
            if isinstance(explained, AccessDeniedError):
                explained = AccessDeniedError(explained.message, hint="Use --method copy, which needs no move task.")
            raise explained from error

    def cancel(self, handle: str) -> int:
        """Cancel a task; returns how many messages it has moved. Raises RefinerctlError if it is not running."""
        try:
            return self._client().cancel_message_move_task(TaskHandle=handle).get("ApproximateNumberOfMessagesMoved", 0)
        except Exception as error:
            if error_code(error) in _MISSING:
                raise RefinerctlError("the move task is not running any more") from error
            raise explain(error, "the move task") or error from error

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


def _explained(error: Exception, arn: str) -> Exception:
    name = arn.rpartition(":")[2]
    if error_code(error) in _MISSING:
        return NotFoundError(f"queue {name!r} does not exist", hint="Check --env and --region.")
    return explain(error, f"queue {name}") or error
