"""Lambda: whether what Terraform has changed is in effect yet."""

from __future__ import annotations

from refinerctl.aws.session import AwsSession, explain
from refinerctl.errors import RefinerctlError


class FunctionUpdates:
    """Progress of updates: https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html"""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def function_is_ready(self, name: str) -> bool:
        """Raises RefinerctlError, with Lambda's reason, if the function or its last update has failed."""
        try:
            found = self._session.client("lambda").get_function_configuration(FunctionName=name)
        except Exception as error:
            raise explain(error, f"function {name}") or error from error
        state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
        if "Failed" in (state, update):
            reason = found.get("LastUpdateStatusReason") or found.get("StateReason") or "Lambda gives no reason"
            raise RefinerctlError(f"the update of function {name} failed: {reason}")
        return "Pending" not in state and update != "InProgress"

    def mapping_is_enabled(self, uuid: str) -> bool:
        """Whether the event source mapping takes messages."""
        try:
            found = self._session.client("lambda").get_event_source_mapping(UUID=uuid)
        except Exception as error:
            raise explain(error, f"event source mapping {uuid}") or error from error
        return found.get("State") == "Enabled"
