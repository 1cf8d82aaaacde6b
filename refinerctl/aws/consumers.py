"""Lambda: which functions are fed from a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refinerctl.aws.session import AwsSession, explain
from refinerctl.dlq.redrive.types import Consumer

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


class Consumers:
    """The event source mappings of one account and region, by the queue that they read from."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def of_queue(self, queue_arn: str) -> tuple[Consumer, ...]:
        """Functions with the states of their mappings; functions are named without version or alias."""
        try:
            pages = self._client().get_paginator("list_event_source_mappings").paginate(EventSourceArn=queue_arn)
            return tuple(
                Consumer(_function(item.get("FunctionArn", "")), item.get("State", ""))
                for page in pages
                for item in page["EventSourceMappings"]
            )
        except Exception as error:
            raise explain(error, f"the consumers of {queue_arn.rpartition(':')[2]}") or error from error

    def _client(self) -> LambdaClient:
        return self._session.client("lambda")


def _function(arn: str) -> str:
    """`arn:aws:lambda:region:account:function:NAME[:qualifier]` → NAME."""
    parts = arn.split(":")
    return parts[6] if len(parts) > 6 else arn
