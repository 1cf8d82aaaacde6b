"""Amazon MQ: the endpoints of a broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError, RefinerctlError

MISSING_HINT = "Check --env and --region, or deploy the stack first."


@dataclass(frozen=True)
class BrokerDescription:
    """A broker: `amqp_url` and `console_url`, which is also that of the management API, without credentials."""

    name: str
    id: str
    state: str
    version: str
    amqp_url: str
    console_url: str


class Brokers:
    """The brokers of one account and region."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def describe(self, name: str) -> BrokerDescription:
        """Raises NotFoundError without the broker, RefinerctlError while it has no endpoint."""
        client = self._session.client("mq")
        with about(f"broker {name}", MISSING_HINT):
            pages = client.get_paginator("list_brokers").paginate()
            listed = (
                item for page in pages for item in page.get("BrokerSummaries", ()) if item.get("BrokerName") == name
            )
            if (summary := next(listed, None)) is None:
                raise NotFoundError(f"broker {name} does not exist", hint=MISSING_HINT)
            found = client.describe_broker(BrokerId=summary["BrokerId"])
        instance: Any = next(iter(found.get("BrokerInstances") or ()), {})
        endpoints, console = instance.get("Endpoints") or (), instance.get("ConsoleURL")
        state = str(found.get("BrokerState", "unknown"))
        if not endpoints or not console:
            raise RefinerctlError(f"broker {name} has no endpoint: it is {state}", hint="Wait until it is RUNNING.")
        return BrokerDescription(
            name,
            summary["BrokerId"],
            state,
            found.get("EngineVersion", ""),
            endpoints[0].rstrip("/"),
            console.rstrip("/"),
        )
