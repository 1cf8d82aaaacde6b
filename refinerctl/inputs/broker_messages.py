"""The messages of a stage's queue and DLQ on a broker: read there if it can be reached, else only counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.aws.service_metrics import read_counts
from refinerctl.console import counted
from refinerctl.parallel import Answer, attempt
from refinerctl.stacks.base import Broker, Stage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.messages import Message, QueueAttributes
    from refinerctl.rabbitmq.management import Management
    from refinerctl.rabbitmq.message_queue import RabbitQueue

BATCH = 100


@dataclass(frozen=True)
class BrokerMessages:
    """The messages that were received from the DLQ of a stage.

    `unread` are queues that may hold messages of other inputs, and why they are not known.
    """

    received: tuple[Message, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_broker_messages(app: AppContext, stage: Stage, limit: int) -> BrokerMessages:
    """Up to `limit` messages of the stage's DLQ, which are received and released; empty if its queue is on SQS.

    Those of its queue are counted only. If the broker cannot be reached, so are those of the DLQ, by metrics that may
    be minutes old. Raises nothing.
    """
    if stage.queue is None or stage.queue.broker is None:
        return BrokerMessages()
    answer = attempt(partial(_read, app, stage, stage.queue.broker, limit))
    if answer.value is not None:
        return answer.value
    error = answer.error
    unknown = f"which inputs have a message in {stage.dlq.name if stage.dlq else 'a DLQ'} is unknown"
    notes = [f"{unknown}: {error.message}" if error else unknown, error.hint if error else None]
    return BrokerMessages(unread=_counted(app, stage), notes=tuple(note for note in notes if note))


def _read(app: AppContext, stage: Stage, broker: Broker, limit: int) -> BrokerMessages:
    """Raises RefinerctlError if the broker cannot be reached."""
    from refinerctl.rabbitmq.message_queue import RabbitConnections, RabbitQueue

    management = app.broker(broker)
    connections = RabbitConnections(management.endpoint, management, count=1)

    def queue_of(name: str) -> RabbitQueue:
        return RabbitQueue(connections, connections.address(name))

    queue = queue_of(stage.queue.name if stage.queue else "")
    try:
        before = _waiting(_attributes(queue))
        dlq = _read_dlq(queue_of(stage.dlq.name), management, limit) if stage.dlq else BrokerMessages()
        # A message may have moved from one to the other meanwhile.
        waiting = before or _waiting(_attributes(queue))
    finally:
        connections.close()
    unread = {queue.address.name: waiting} if waiting else {}
    return BrokerMessages(dlq.received, {**unread, **dlq.unread}, dlq.notes)


def _attributes(queue: RabbitQueue) -> Answer[QueueAttributes]:
    """Raises RefinerctlError if it cannot be read; a queue that does not exist yet has no messages."""
    answer = attempt(partial(queue.attributes, 1))
    if answer.error is not None and not answer.not_found:
        raise answer.error
    return answer


def _waiting(answer: Answer[QueueAttributes]) -> str:
    return counted(answer.value.total, "message") if answer.value and answer.value.total else ""


def _read_dlq(queue: RabbitQueue, management: Management, limit: int) -> BrokerMessages:
    name, counts = queue.address.name, _attributes(queue).value
    if counts is None or not counts.total:
        return BrokerMessages()
    if management.endpoint.api is not None:
        deliveries = management.delivery_limit(management.queue(name))
        if deliveries is not None:
            why = f"{counted(counts.total, 'message')} not received, because its delivery limit is {deliveries}"
            return BrokerMessages(unread={name: why})
    received: list[Message] = []
    while len(received) < limit:
        found = queue.receive(min(BATCH, limit - len(received)), visibility_s=0, wait_s=0)
        if not found:
            break
        received += found
    queue.change_visibility([message.receipt for message in received], 0)
    left = counts.total - len(received)
    unread = {name: f"{counted(left, 'message')} not received"} if left > 0 else {}
    note = f"messages of {name} were received to find inputs in it: their delivery counts increased by 1"
    return BrokerMessages(tuple(received), unread, (note,) if received else ())


def _counted(app: AppContext, stage: Stage) -> dict[str, str]:
    """By the metrics that the stage's service publishes: why its queues may hold the message of any input."""
    if stage.queue is None or stage.service is None:
        return {}
    answer = attempt(partial(read_counts, app.metrics, stage.service, datetime.now(UTC)))
    if answer.error:
        return {stage.queue.name: answer.error.message}
    if answer.value is None or answer.value.messages is None:
        return {stage.queue.name: f"no recent metrics of service {stage.service.name}"}
    counts = answer.value
    numbers = {stage.queue.name: (counts.ready or 0) + (counts.unacknowledged or 0)}
    if stage.dlq is not None:
        numbers[stage.dlq.name] = counts.dlq_messages or 0
    return {name: counted(number, "message") for name, number in numbers.items() if number}
