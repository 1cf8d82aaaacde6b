"""What has a queue, SQS or RabbitMQ, and how it is found, read and used there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol

from refinerctl.aws.consumers import Health, HealthCheck
from refinerctl.aws.messages import QueueAddress, QueueName
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.queues import DeadLetterQueue, QueueReader, RequestedQueue, dlqs_of, list_queues, unread
from refinerctl.dlq.redrive.routes import Routes
from refinerctl.errors import NotFoundError, RefusedError, known_names
from refinerctl.parallel import attempt
from refinerctl.stacks.base import Broker, Queue

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.move_tasks import MoveTasks
    from refinerctl.aws.sqs import QueueState


class Consumers(Protocol):
    """The consumers of queues, and how often these deliver a message."""

    def check(self, target: QueueAddress, dlq: str | None, now: datetime) -> Health:
        """Raises nothing: what cannot be read becomes a warning. `dlq` is where failed messages are expected."""

    def settings(self, queue: QueueAddress) -> QueueState:
        """Raises NotFoundError without the queue."""


class QueueService(Protocol):
    """SQS, or a broker; `routes` decide on the messages of its DLQs."""

    routes: ClassVar[type[Routes]]

    def find(self, wanted: RequestedQueue) -> DeadLetterQueue:
        """The queue without its age. Raises NotFoundError without the queue."""

    def address(self, text: str) -> QueueAddress:
        """The queue of this name, URL or ARN. Raises NotFoundError without the queue."""

    def client(self, address: QueueAddress, settled: Iterable[str] = (), unsettled: Iterable[str] = ()) -> QueueClient:
        """Its messages. An earlier part of the run has deleted those with ids in `settled`, maybe the `unsettled`."""

    def sources(self, dlq: QueueAddress) -> list[QueueAddress]:
        """The queues whose DLQ this is. Raises RefinerctlError if they cannot be read."""

    def purge(self, address: QueueAddress) -> None:
        """Delete all messages of a queue."""

    @property
    def tasks(self) -> MoveTasks | None:
        """None: it has no message move tasks."""

    @property
    def consumers(self) -> Consumers: ...


class SqsService:
    """SQS in the region of `app`."""

    routes: ClassVar[type[Routes]] = Routes

    def __init__(self, app: AppContext) -> None:
        from refinerctl.aws.message_queue import MessageQueues

        self._app = app
        self._queues = MessageQueues(app.session)

    def find(self, wanted: RequestedQueue) -> DeadLetterQueue:
        return queue_reader(self._app).read(wanted)[0]

    def address(self, text: str) -> QueueAddress:
        return self._app.queues.address(text)

    def client(self, address: QueueAddress, settled: Iterable[str] = (), unsettled: Iterable[str] = ()) -> QueueClient:
        return self._queues.at(address)

    def sources(self, dlq: QueueAddress) -> list[QueueAddress]:
        return self._app.queues.sources(dlq)

    def purge(self, address: QueueAddress) -> None:
        self._app.queues.purge(address)

    @cached_property
    def tasks(self) -> MoveTasks:
        from refinerctl.aws.move_tasks import MoveTasks

        return MoveTasks(self._app.session)

    @cached_property
    def consumers(self) -> HealthCheck:
        return HealthCheck(self._app.queues.state_at, self._app.functions, self._app.metrics)


def service_of(app: AppContext, name: str) -> QueueService:
    """What has the queue of this name: the broker that the stack says, else SQS."""
    components = app.pipeline.by_kind(Queue) if app.stack.pipeline else iter(())
    broker = next((queue.broker for queue in components if queue.name == name), None)
    return service_at(app, broker)


def service_at(app: AppContext, broker: Broker | None) -> QueueService:
    """A broker of the stack; None is SQS."""
    if broker is None:
        return SqsService(app)
    from refinerctl.dlq.rabbit_service import RabbitService

    return RabbitService(app, broker)


def queue_name(app: AppContext, text: str, *, is_dlq: bool = True) -> str:
    """The full name of the stack's queue that `text` names; for a stage, its DLQ if `is_dlq`, else its own queue.

    `text` itself if the stack has no such queue.
    """
    found = app.pipeline.find_queue(text, is_dlq=is_dlq) if app.stack.pipeline else None
    return found.name if found else text


def at_queue(app: AppContext, text: str | None) -> AppContext:
    """The app in the region of the queue that `text` names; its logs, functions and metrics are there, too."""
    return app if text is None else app.in_region(QueueName.parse(queue_name(app, text)).region)


def queue_reader(app: AppContext) -> QueueReader:
    return QueueReader(app.queues, app.event_buses, app.metrics)


def stack_dlqs(app: AppContext) -> tuple[RequestedQueue, ...]:
    """The DLQs of this run's stack; none if it has no pipeline."""
    return dlqs_of(app.pipeline) if app.stack.pipeline else ()


def requested(app: AppContext, text: str) -> RequestedQueue:
    """A queue by its name, its stage's name, URL or ARN, with what the stack defines for it."""
    name = queue_name(app, text)
    return next((item for item in stack_dlqs(app) if item.text == name), RequestedQueue(name))


def find_requested(app: AppContext, text: str) -> tuple[DeadLetterQueue, QueueService]:
    """The queue and its service. Raises NotFoundError, with the stack's DLQs as its hint, if it does not exist."""
    wanted = requested(app, text)
    service = service_of(app, wanted.text)
    try:
        return service.find(wanted), service
    except NotFoundError as error:
        raise NotFoundError(error.message, hint=unknown_queue_hint(app, text) or error.hint) from error


def unknown_queue_hint(app: AppContext, text: str) -> str | None:
    """A hint with the stack's DLQs for an unknown name; None for a queue of the stack, a URL and an ARN."""
    known = stack_dlqs(app)
    if ":" in text or not known or queue_name(app, text) in {item.text for item in known}:
        return None
    stages = (stage.name for stage in app.pipeline.stages if stage.dlq)
    return known_names(text, (*stages, *(item.text for item in known)), "Queues")


def list_all(
    app: AppContext, wanted: Sequence[RequestedQueue], now: datetime
) -> tuple[list[DeadLetterQueue], list[str]]:
    """All of `wanted` in their order, and what else could not be read.

    A queue that cannot be read is listed with its error; raises the first error if there is no other.
    """
    of_sqs = [item for item in wanted if item.broker is None]
    of_brokers = [item for item in wanted if item.broker is not None]
    listed = attempt(lambda: list_queues(of_sqs, lambda region: queue_reader(app.in_region(region)), now))
    answers = [attempt(lambda item=item: service_at(app, item.broker).find(item)) for item in of_brokers]  # type: ignore[misc]
    if listed.error and (not of_brokers or all(answer.error for answer in answers)):
        raise listed.error
    if not of_sqs and answers and all(answer.error for answer in answers):
        raise next(answer.error for answer in answers if answer.error)
    queues, problems = listed.value or ([unread(item, listed.error) for item in of_sqs], [])
    found = dict(zip(of_sqs, queues, strict=True))
    for item, answer in zip(of_brokers, answers, strict=True):
        found[item] = answer.value or unread(item, answer.error)
    hints = [answer.error.hint for answer in answers if answer.error and answer.error.hint]
    return [found[item] for item in wanted], list(dict.fromkeys([*problems, *hints]))


def open_queue(app: AppContext, text: str, *, force: bool = False) -> tuple[DeadLetterQueue, QueueClient, QueueService]:
    """The queue as it is, the client to receive its messages, and what has it.

    Raises NotFoundError without the queue; RefusedError, unless `force`, if receiving could move messages elsewhere.
    """
    queue, service = find_requested(app, text)
    if queue.receive_risk and not force:
        raise RefusedError(queue.receive_risk, hint="Pass --force to receive its messages anyway.")
    return queue, service.client(queue.address), service
