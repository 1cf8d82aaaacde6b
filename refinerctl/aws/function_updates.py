"""Lambda: whether what Terraform has changed is in effect yet."""

from __future__ import annotations

from enum import StrEnum

from refinerctl.aws.session import AwsSession, explain
from refinerctl.errors import RefinerctlError


class Readiness(StrEnum):
    READY = "ready"
    PENDING = "pending"


class FunctionUpdates:
    """Asks Lambda how far it is: https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html"""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def function(self, name: str) -> Readiness:
        """Raises RefinerctlError, with Lambda's reason, if the function or its last update has failed."""
        try:
            found = self._session.client("lambda").get_function_configuration(FunctionName=name)
        except Exception as error:
            raise explain(error, f"function {name}") or error from error
        state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
        if "Failed" in (state, update):
            reason = found.get("LastUpdateStatusReason") or found.get("StateReason") or "no reason given"
            raise RefinerctlError(f"function {name} has not taken the update: {reason}")
        return Readiness.PENDING if "Pending" in state or update == "InProgress" else Readiness.READY

    def mapping(self, uuid: str) -> Readiness:
        """Whether the event source mapping takes messages."""
        try:
            found = self._session.client("lambda").get_event_source_mapping(UUID=uuid)
        except Exception as error:
            raise explain(error, f"event source mapping {uuid}") or error from error
        return Readiness.READY if found.get("State") == "Enabled" else Readiness.PENDING
