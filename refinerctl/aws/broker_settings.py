"""Amazon MQ: how a broker for RabbitMQ is configured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError


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


def broker_settings(session: AwsSession, name: str) -> BrokerSettings:
    """The broker of this name. Raises NotFoundError without it."""
    client = session.client("mq")
    with about(f"broker {name}"):
        pages = client.get_paginator("list_brokers").paginate()
        summaries = (item for page in pages for item in page["BrokerSummaries"])
        found_id = next((item["BrokerId"] for item in summaries if item.get("BrokerName") == name), None)
        if found_id is None:
            raise NotFoundError(f"broker {name} does not exist")
        found: Any = client.describe_broker(BrokerId=found_id)
    instances = found.get("BrokerInstances") or []
    urls = [url for item in instances for url in (*item.get("Endpoints", []), item.get("ConsoleURL")) if url]
    return BrokerSettings(
        name,
        found.get("BrokerArn", ""),
        found.get("BrokerState", ""),
        engine_version=found.get("EngineVersion", ""),
        is_public=bool(found.get("PubliclyAccessible")),
        has_logs=bool((found.get("Logs") or {}).get("General")),
        endpoints=tuple(dict.fromkeys(urls)),
        security_groups=tuple(found.get("SecurityGroups") or ()),
    )
