"""Where inputs are sent again: the queue of their stage, on SQS or a broker, and the message that it takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from refinerctl.aws.messages import EntryResult, MessageAttribute, OutgoingMessage, QueueAddress
from refinerctl.aws.s3 import ObjectInfo, created_event
from refinerctl.console import counted
from refinerctl.errors import RefusedError
from refinerctl.parallel import attempt
from refinerctl.stacks.base import Broker, EventRule, InputObject, Service, Stage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.consumers import Health
    from refinerctl.rabbitmq.message_queue import RabbitConnections
    from refinerctl.stacks.base import WriteInputMessage


class Sender(Protocol):
    """Sends to a queue."""

    def send(self, messages: Sequence[OutgoingMessage]) -> list[EntryResult]:
        """A result for each of up to ten messages, in their order."""


@dataclass(frozen=True)
class Target:
    """A stage, and the SQS queue that its rule sends to."""

    stage: Stage
    queue: QueueAddress

    def message(self, bucket: str, info: ObjectInfo) -> OutgoingMessage:
        """What EventBridge would deliver about this version of an input."""
        _, partition, _, region, account, _ = self.queue.arn.split(":")
        event = created_event(bucket, info, partition=partition, region=region, account=account)
        return OutgoingMessage(json.dumps(event, separators=(",", ":")))

    def sender(self, app: AppContext) -> Sender:
        from refinerctl.aws.message_queue import MessageQueues

        return MessageQueues(app.session).at(self.queue)


@dataclass(frozen=True)
class BrokerTarget(Target):
    """A stage, and the queue on a broker that its service consumes."""

    write: WriteInputMessage
    connections: RabbitConnections = field(compare=False)

    def message(self, bucket: str, info: ObjectInfo) -> OutgoingMessage:
        """What the stack publishes about this version of an input."""
        item = InputObject(bucket, info.key, info.version_id, info.etag.strip('"'), info.size)
        made = self.write(item, datetime.now(UTC))
        headers = {name: MessageAttribute("String", value) for name, value in made.headers.items()}
        return OutgoingMessage(made.body, headers, properties=made.properties)

    def sender(self, app: AppContext) -> Sender:
        from refinerctl.rabbitmq.message_queue import RabbitQueue

        return RabbitQueue(self.connections, self.queue)


def find_targets(app: AppContext, stages: Iterable[Stage]) -> dict[Stage, Target]:
    """The queue of each stage. Raises RefusedError if a message to it would differ from what its source sends."""
    found: dict[Stage, Target] = {}
    for stage in dict.fromkeys(stages):
        broker = stage.queue.broker if stage.queue else None
        found[stage] = _on_broker(app, stage, broker) if broker else _on_sqs(app, stage)
    return found


def warn_of_ignored(app: AppContext, keys: Sequence[str]) -> None:
    """Print a warning if no stage receives some of these keys. Outside of a project the stages are unknown."""
    pipeline = attempt(lambda: app.pipeline).value if app.settings.layout.is_project else None
    ignored = [key for key in keys if pipeline.stage_for(key) is None] if pipeline else []
    if pipeline and ignored:
        prefixes = ", ".join(stage.prefix for stage in pipeline.stages if stage.prefix) or "none"
        count = f"{len(ignored):,} of {counted(len(keys), 'input')}"
        app.render.warning(
            f"{count} will not be processed: no stage receives {ignored[0]}. Prefixes of the stages: {prefixes}"
        )


def _on_sqs(app: AppContext, stage: Stage) -> Target:
    queue = app.queues.address(stage.queue.name if stage.queue else "")
    if queue.is_fifo:
        raise RefusedError(f"{queue.name} is a FIFO queue: the message group of an input is unknown")
    rule = stage.source
    if isinstance(rule, EventRule):
        targets = attempt(partial(app.event_buses.targets, rule.bus, rule.name))
        if targets.error is not None:
            app.render.warning(f"cannot check whether rule {rule.name} changes events: {targets.error.message}")
        if any(target.arn == queue.arn and target.changes_event for target in targets.value or ()):
            raise RefusedError(
                f"rule {rule.name} changes the events that it sends to {queue.name}",
                hint="Copy the object onto itself: S3 then sends an event, and writes a new version.",
            )
    return Target(stage, queue)


def _on_broker(app: AppContext, stage: Stage, broker: Broker) -> BrokerTarget:
    """Raises NotFoundError without the queue, TransientError if the broker cannot be reached."""
    from refinerctl.rabbitmq.message_queue import RabbitConnections

    name = stage.queue.name if stage.queue else ""
    if (write := app.stack.input_message) is None:
        raise RefusedError(f"stack {app.stack.name} does not define the messages of queue {name}")
    management = app.broker(broker)
    connections = RabbitConnections(management.endpoint, management, count=1)
    connections.amqp[0].ready(name)
    return BrokerTarget(stage, connections.address(name), write, connections)


def check_consumers(app: AppContext, targets: Iterable[Target], now: datetime, *, force: bool) -> None:
    """Print warnings about the consumers of queues. Raises RefusedError, unless `force`, if one is broken."""
    from refinerctl.aws.consumers import HealthCheck, refuse_broken

    check = HealthCheck(app.queues.state_at, app.functions, app.metrics)
    found = [
        _service_health(app, target.queue.name, target.stage.service)
        if target.stage.service
        else check.check(target.queue, None, now)
        for target in targets
    ]
    for health in found:
        for sentence in (*health.warnings, *(health.broken if force else ())):
            app.render.warning(sentence)
    if not force:
        refuse_broken(found)


def _service_health(app: AppContext, queue: str, service: Service) -> Health:
    """A service without tasks is healthy: its autoscaler starts some when messages arrive."""
    from refinerctl.aws.consumers import Health

    found = attempt(partial(app.services.get, service.cluster, service.name))
    if found.value is None:
        said = found.error.message if found.error else ""
        if found.not_found:
            return Health(queue, broken=(said,))
        return Health(queue, warnings=(f"the state of service {service.name} is unknown: {said}",))
    if found.value.status != "ACTIVE":
        return Health(queue, broken=(f"service {service.name} is {found.value.status}",))
    deployment = found.value.primary
    if deployment and deployment.rollout == "FAILED":
        warning = f"the last deployment of service {service.name} failed: {deployment.reason}"
        return Health(queue, (service.name,), warnings=(warning,))
    return Health(queue, (service.name,))
