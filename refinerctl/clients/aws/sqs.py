"""SQS: how many messages wait, and a look at them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from refinerctl.clients.aws.session import AwsSession, error_code, explain
from refinerctl.errors import NotFoundError
from refinerctl.models import Message, QueueDepth

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef, MessageTypeDef

# How long a message that is looked at stays hidden, should we die in the middle.
PEEK_SECONDS = 10

_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}


class Queues:
    """The queues of one account and region, by name."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._urls: dict[str, str] = {}

    def depth(self, name: str) -> QueueDepth:
        """Approximate counts of `name`. Raises NotFoundError without the queue."""
        try:
            answer = self._client().get_queue_attributes(
                QueueUrl=self._url(name),
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
        except Exception as error:
            raise _explained(error, name) from error
        counts = answer["Attributes"]
        return QueueDepth(
            name,
            visible=int(counts.get("ApproximateNumberOfMessages", 0)),
            in_flight=int(counts.get("ApproximateNumberOfMessagesNotVisible", 0)),
            delayed=int(counts.get("ApproximateNumberOfMessagesDelayed", 0)),
        )

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
                )
                messages = answer.get("Messages", [])
                if not messages:
                    break
                found.extend(_message(item) for item in messages)
                handles.extend(item["ReceiptHandle"] for item in messages)
        except Exception as error:
            raise _explained(error, name) from error
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

    def _client(self) -> SQSClient:
        return self._session.client("sqs")

    def _url(self, name: str) -> str:
        if name not in self._urls:
            self._urls[name] = self._client().get_queue_url(QueueName=name)["QueueUrl"]
        return self._urls[name]


def _message(item: MessageTypeDef) -> Message:
    attributes = item.get("Attributes", {})
    return Message(
        body=item.get("Body", ""),
        sent_at=datetime.fromtimestamp(int(attributes.get("SentTimestamp", 0)) / 1000, UTC),
        receive_count=int(attributes.get("ApproximateReceiveCount", 0)),
    )


def _explained(error: Exception, name: str) -> Exception:
    if error_code(error) in _MISSING:
        return NotFoundError(f"there is no queue {name!r}", hint="Check --env and --region, or deploy the stack first.")
    return explain(error, f"queue {name}") or error
