"""RabbitMQ's queues as the commands find, read and use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from refinerctl.aws.consumers import Health
from refinerctl.aws.messages import Message, OutgoingMessage, QueueAddress
from refinerctl.aws.sqs import QueueState
from refinerctl.dlq.queues import DeadLetterQueue, MessageSource, RequestedQueue
from refinerctl.dlq.redrive.routes import Route, Routes, SendTo, Stay, count_redrive
from refinerctl.parallel import attempt
from refinerctl.rabbitmq.management import QueueReading
from refinerctl.rabbitmq.message_queue import RabbitConnections, RabbitQueue
from refinerctl.rabbitmq.messages import outgoing_properties, source_queues
from refinerctl.stacks.base import Broker, Queue

if TYPE_CHECKING:
    from refinerctl.app import AppContext

DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"
# A message that fails again may need a task that is started for it, and minutes of work, several times.
LONG_S = 900


class RabbitRoutes(Routes):
    """Messages go to the queue where they failed first; the broker's headers are not sent again."""

    def origin_of(self, message: Message) -> str | None:
        """The name of that queue; of a message without the broker's headers the only source of its DLQ."""
        names = [name for name in source_queues(message) if name != self.origin.queue.name]
        if not names and len(self.origin.sources) == 1:
            return self.origin.sources[0].name
        return next(iter(names), None)

    def look_up(self, name: str) -> QueueAddress | Stay:
        """The queue of this name, or why nothing can be sent there."""
        return self.resolved(name)

    def send(self, message: Message, target: QueueAddress) -> Route:
        """The form in which a message is sent to `target`."""
        attributes = dict(message.attributes)
        if self.max_redrives is not None:
            reason = count_redrive(message, attributes, self.max_redrives)
            if reason is not None:
                return Stay(reason)
        return SendTo(target, OutgoingMessage(message.body, attributes, properties=outgoing_properties(message)))


class RabbitService:
    """The queues of a broker, with what the stack says of them; also their consumers."""

    routes: ClassVar[type[Routes]] = RabbitRoutes
    tasks = None

    def __init__(self, app: AppContext, broker: Broker) -> None:
        self._management = app.broker(broker)
        if self._management.endpoint.api is None:
            app.render.warning("messages in flight elsewhere are unknown: --broker-url has no https:// URL")
        self._queues = [queue for queue in app.pipeline.by_kind(Queue) if queue.broker == broker]

    @cached_property
    def _connections(self) -> RabbitConnections:
        return RabbitConnections(self._management.endpoint, self._management)

    def find(self, wanted: RequestedQueue) -> DeadLetterQueue:
        """With the counts of now. Without the management API a limit of deliveries is not known."""
        address = self._address(wanted.name)
        counts = self.client(address).attributes(1)
        reading = self._reading(wanted.name)
        return DeadLetterQueue(
            address.name,
            address.url,
            kind=wanted.kind,
            sources=tuple(self._source(source) for source in wanted.sources),
            depth=counts.total,
            visible=counts.visible,
            in_flight=counts.in_flight,
            delayed=0,
            max_receive_count=self._management.delivery_limit(reading) if reading else None,
            is_dropping=reading is not None and DEAD_LETTER_EXCHANGE not in reading.arguments,
        )

    def address(self, text: str) -> QueueAddress:
        """Raises NotFoundError without the queue."""
        self._connections.amqp[0].ready(text)
        return self._address(text)

    def client(self, address: QueueAddress, settled: Iterable[str] = (), unsettled: Iterable[str] = ()) -> RabbitQueue:
        return RabbitQueue(self._connections, address, settled, unsettled)

    def sources(self, dlq: QueueAddress) -> list[QueueAddress]:
        """Of the stack's queues."""
        return [self._address(queue.name) for queue in self._queues if queue.dlq and queue.dlq.name == dlq.name]

    def purge(self, address: QueueAddress) -> None:
        """Messages in flight stay."""
        self._connections.amqp[0].purge(address.name)

    @property
    def consumers(self) -> RabbitService:
        return self

    def check(self, target: QueueAddress, dlq: str | None, _now: datetime) -> Health:
        """Warnings only. A queue without consumers is normal: the autoscaler starts tasks; an idle one has none."""
        return Health(target.name, warnings=tuple(self._warnings(target.name, dlq)))

    def settings(self, queue: QueueAddress) -> QueueState:
        """Where its messages go that fail again, and a guess of the time until then."""
        dlq = self._dlq_of(self._reading(queue.name), queue.name)
        return QueueState(queue.name, dlq_arn=dlq, max_receive_count=1, visibility_timeout_s=LONG_S)

    def _warnings(self, name: str, dlq: str | None) -> Iterator[str]:
        found = attempt(lambda: self._management.queue(name))
        if found.value is None:
            yield f"the consumers of {name} are unknown: {found.error.message if found.error else ''}"
            return
        target = self._dlq_of(found.value, name)
        if target is None:
            yield f"{name} has no dead-letter exchange: a message that fails too often is lost"
        elif dlq not in (None, target):
            yield f"a message that fails again moves to {target}"

    def _dlq_of(self, reading: QueueReading | None, name: str) -> str | None:
        """By the stack; of other queues by what their dead letters are routed by."""
        known = next((queue.dlq.name for queue in self._queues if queue.name == name and queue.dlq), None)
        if reading is None:
            return known
        if DEAD_LETTER_EXCHANGE not in reading.arguments:
            return None
        return str(known or reading.arguments.get(DEAD_LETTER_KEY) or reading.arguments[DEAD_LETTER_EXCHANGE])

    def _source(self, source: MessageSource) -> MessageSource:
        answer = attempt(lambda: self._connections.amqp[0].ready(source.name))
        exists = None if answer.error and not answer.not_found else answer.error is None
        return MessageSource(source.name, exists=exists)

    def _reading(self, name: str) -> QueueReading | None:
        return None if self._management.endpoint.api is None else self._management.queue(name)

    def _address(self, name: str) -> QueueAddress:
        return self._connections.address(name)
