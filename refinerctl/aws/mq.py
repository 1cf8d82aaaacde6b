"""Amazon MQ: brokers for RabbitMQ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError, RefinerctlError

MISSING_HINT = "Check --env and --region, or deploy the stack first."


@dataclass(frozen=True)
class BrokerSettings:
    """A broker; `state` is Amazon MQ's own word, `endpoints` are the URLs of AMQP and of its management API."""

    name: str
    arn: str
    state: str
    engine_version: str = ""
    is_public: bool = False
    has_logs: bool = False
    endpoints: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str, str]:
        """The URL of AMQP, and that of the management API. Raises RefinerctlError while it has none."""
        amqp = next((url for url in self.endpoints if url.startswith("amqp")), None)
        api = next((url for url in self.endpoints if url.startswith("http")), None)
        if amqp is None or api is None:
            raise RefinerctlError(
                f"broker {self.name} has no endpoint: it is {self.state}", hint="Wait until it is RUNNING."
            )
        return amqp, api


def broker_settings(session: AwsSession, name: str) -> BrokerSettings:
    """The broker of this name. Raises NotFoundError without it."""
    client = session.client("mq")
    with about(f"broker {name}", MISSING_HINT):
        pages = client.get_paginator("list_brokers").paginate()
        summaries = (item for page in pages for item in page.get("BrokerSummaries", ()))
        found_id = next((item["BrokerId"] for item in summaries if item.get("BrokerName") == name), None)
        if found_id is None:
            raise NotFoundError(f"broker {name} does not exist", hint=MISSING_HINT)
        found: Any = client.describe_broker(BrokerId=found_id)
    instances = found.get("BrokerInstances") or []
    urls = [
        url.rstrip("/") for item in instances for url in (*item.get("Endpoints", []), item.get("ConsoleURL")) if url
    ]
    return BrokerSettings(
        name,
        found.get("BrokerArn", ""),
        found.get("BrokerState", "unknown"),
        engine_version=found.get("EngineVersion", ""),
        is_public=bool(found.get("PubliclyAccessible")),
        has_logs=bool((found.get("Logs") or {}).get("General")),
        endpoints=tuple(dict.fromkeys(url.rstrip("/") for url in urls)),
        security_groups=tuple(found.get("SecurityGroups") or ()),
    )
