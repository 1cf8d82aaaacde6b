"""Lambda: which functions receive from a queue."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.aws.errors import explain
from refinerctl.aws.session import AwsSession


@dataclass(frozen=True)
class Consumer:
    """A function with an event source mapping from a queue; `state` is the mapping's."""

    function: str
    state: str


class Consumers:
    """The event source mappings of one account and region, by queue."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def of_queue(self, queue_arn: str) -> tuple[Consumer, ...]:
        """One for each event source mapping. Functions are named without version or alias."""
        try:
            paginator = self._session.client("lambda").get_paginator("list_event_source_mappings")
            return tuple(
                Consumer(_function(item.get("FunctionArn", "")), item.get("State", ""))
                for page in paginator.paginate(EventSourceArn=queue_arn)
                for item in page["EventSourceMappings"]
            )
        except Exception as error:
            raise explain(error, f"the consumers of {queue_arn.rpartition(':')[2]}") or error from error


def _function(arn: str) -> str:
    """`arn:aws:lambda:region:account:function:NAME[:qualifier]` → NAME."""
    parts = arn.split(":")
    return parts[6] if len(parts) > 6 else arn
