"""SQS: how a dead-letter queue is set up and how full it is, in one call; and emptying it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refinerctl.aws.messages import QueueAddress, QueueDepth
from refinerctl.aws.policies import parse_policy
from refinerctl.aws.session import AwsSession, error_code, explain
from refinerctl.aws.sqs import QueueSettings
from refinerctl.dlq.queues import QueueSnapshot
from refinerctl.errors import NotFoundError, RefusedError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}


class DeadLetterQueues:
    """Queues by URL, each in the region that its ARN names. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._sessions: dict[str, AwsSession] = {}

    def snapshot(self, address: QueueAddress) -> QueueSnapshot:
        """Raises NotFoundError without the queue."""
        try:
            answer: Any = self._client(address).get_queue_attributes(QueueUrl=address.url, AttributeNames=["All"])
        except Exception as error:
            raise _explained(error, address) from error
        return _snapshot(address, answer.get("Attributes", {}))

    def purge(self, address: QueueAddress) -> None:
        """Delete all messages, also those in somebody's hands; it takes SQS up to a minute.

        Raises RefusedError within a minute after another purge.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_PurgeQueue.html
        """
        try:
            self._client(address).purge_queue(QueueUrl=address.url)
        except Exception as error:
            if error_code(error).rpartition(".")[2] == "PurgeQueueInProgress":
                raise RefusedError(
                    f"{address.name} was purged less than 60 seconds ago, and SQS does it once a minute",
                    hint="Wait a minute; what was there at the first purge is being deleted.",
                ) from error
            raise _explained(error, address) from error

    def _client(self, address: QueueAddress) -> SQSClient:
        region = address.arn.split(":")[3]
        if region not in self._sessions:
            self._sessions[region] = self._session.in_region(region)
        return self._sessions[region].client("sqs")


def _snapshot(address: QueueAddress, given: Mapping[str, str]) -> QueueSnapshot:
    redrive, permission = (json.loads(given.get(name) or "{}") for name in ("RedrivePolicy", "RedriveAllowPolicy"))
    allowed = {"denyAll": (), "byQueue": tuple(permission.get("sourceQueueArns", ()))}
    queue = QueueSettings(
        address.name,
        given.get("QueueArn", address.arn),
        visibility_timeout_s=int(given.get("VisibilityTimeout", 30)),
        retention_s=int(given.get("MessageRetentionPeriod", 345_600)),
        policy=parse_policy(given.get("Policy")),
        dlq_arn=redrive.get("deadLetterTargetArn"),
        max_receive_count=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
        redrive_sources=allowed.get(permission.get("redrivePermission")),
    )
    visible, in_flight, delayed = (
        int(given.get(f"ApproximateNumberOfMessages{suffix}", 0)) for suffix in ("", "NotVisible", "Delayed")
    )
    return QueueSnapshot(queue, QueueDepth(address.name, visible, in_flight, delayed))


def _explained(error: Exception, address: QueueAddress) -> Exception:
    if error_code(error) in _MISSING:
        return NotFoundError(f"there is no queue {address.name!r}", hint="Check --env and --region.")
    return explain(error, f"queue {address.name}") or error
