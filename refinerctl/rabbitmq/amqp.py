"""One AMQP connection in a thread of its own: receive, acknowledge, requeue, publish with confirms.

pika's connections belong to one thread, and have to be served often, or the broker closes them for lack of heartbeats.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from refinerctl.addresses import tls_context
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, TransientError
from refinerctl.rabbitmq.endpoint import VHOST, BrokerEndpoint
from refinerctl.waits import WAITS

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

HEARTBEAT_S = 30
CONNECT_TIMEOUT_S = 10
# A broker without memory or disk space accepts no message until it has some again.
BLOCKED_TIMEOUT_S = 60
IDLE_S = 1.0
RECONNECT_PAUSES_S = (0.5, 1.0, 2.0)
MAX_SHOWN = 300
_NOT_FOUND, _ACCESS_REFUSED = 404, 403
# The properties of a message besides its headers; all are texts or integers.
PROPERTIES = (
    "content_type",
    "content_encoding",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
    "delivery_mode",
)

Result = TypeVar("Result")


class Tag(NamedTuple):
    """A delivery: valid as long as the channel that it came from, the `generation`-th of its connection, is open."""

    generation: int
    number: int


@dataclass(frozen=True)
class Delivery:
    """A message that was received and not acknowledged. `properties` are those that are set, without headers."""

    tag: Tag
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Publication:
    """A message to publish; it is always persistent."""

    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, str | int] = field(default_factory=dict)


@dataclass
class _Channels:
    connection: BlockingConnection
    receiving: BlockingChannel
    sending: BlockingChannel


class AmqpConnection:
    """A connection that is opened on first use, and again after it was lost; safe to share between threads.

    What was received and not acknowledged goes back to its queue when the connection ends, however it ends.
    """

    def __init__(self, endpoint: BrokerEndpoint) -> None:
        self.endpoint = endpoint
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._channels: _Channels | None = None
        self._generation = 0

    def is_open(self, generation: int) -> bool:
        """Whether deliveries of this generation can still be acknowledged."""
        return generation == self._generation and self._channels is not None

    def check(self) -> None:
        """Notice now if it was lost: it may take a heartbeat until then. Raises RefinerctlError if it was."""
        self._call(lambda channels: channels.receiving.basic_qos(), 0.0, "the connection")

    def receive(self, name: str, count: int, patience_s: float = 0.0) -> list[Delivery]:
        """Up to `count` messages that are ready; waits for none.

        With each of these calls, a connection that was lost is opened again within `patience_s`. Raises NotFoundError
        without the queue, TransientError if the connection was lost, and other RefinerctlErrors.
        """

        def work(channels: _Channels) -> list[Delivery]:
            found: list[Delivery] = []
            while len(found) < count:
                method, properties, body = channels.receiving.basic_get(name)
                if method is None:
                    break
                found.append(self._delivery(method.delivery_tag, properties, body))
            return found

        return self._call(work, patience_s, f"queue {name}")

    def acknowledge(self, tags: Sequence[Tag]) -> list[bool]:
        """Whether each was acknowledged; a delivery of a lost connection cannot be."""
        return self._settle(tags, lambda channel, number: channel.basic_ack(number))

    def requeue(self, tags: Sequence[Tag]) -> None:
        """Make these ready again; those of a lost connection are already."""
        self._settle(tags, lambda channel, number: channel.basic_nack(number, requeue=True))

    def publish(
        self, name: str, messages: Sequence[Publication], leaving: Callable[[], None], patience_s: float = 0.0
    ) -> list[RefinerctlError | None]:
        """Publish to a queue, one after the other, each with its confirm; None is confirmed.

        `leaving` is called just before the first one leaves. After an error of the connection the others are not sent.
        An unroutable message is a NotFoundError, one that the queue rejects a TransientError.
        """

        def work(channels: _Channels) -> list[RefinerctlError | None]:
            leaving()
            results: list[RefinerctlError | None] = []
            for message in messages:
                results.append(self._publish(channels, name, message))
                if self._channels is None:
                    break
            not_sent = TransientError("not sent: the connection to the broker was lost before")
            return results + [not_sent] * (len(messages) - len(results))

        return self._call(work, patience_s, f"queue {name}")

    def ready(self, name: str, patience_s: float = 0.0) -> int:
        """How many messages are ready in a queue now. Raises NotFoundError without the queue."""

        def work(channels: _Channels) -> int:
            from pika.exceptions import ChannelClosedByBroker

            channel = channels.connection.channel()  # the broker closes it without the queue
            try:
                count: int = channel.queue_declare(name, passive=True).method.message_count
            except ChannelClosedByBroker as error:
                raise self._closed_by_broker(error, f"queue {name}") from error
            channel.close()
            return count

        return self._call(work, patience_s, f"queue {name}")

    def purge(self, name: str) -> None:
        """Delete all messages of a queue that are ready. Raises NotFoundError without the queue."""
        self._call(lambda channels: channels.receiving.queue_purge(name), 0.0, f"queue {name}")

    def close(self) -> None:
        """Close it; a task that is running is not waited for."""
        with self._lock:
            if self._thread is not None:
                self._tasks.put(None)

    def _settle(self, tags: Sequence[Tag], settle: Callable[[BlockingChannel, int], object]) -> list[bool]:
        if not any(self.is_open(tag.generation) for tag in tags):
            return [False] * len(tags)

        def work(channels: _Channels) -> list[bool]:
            valid = [tag.generation == self._generation for tag in tags]
            for tag, is_valid in zip(tags, valid, strict=True):
                if is_valid:
                    settle(channels.receiving, tag.number)
            # Answered when the broker's channel has handled what was sent before it.
            channels.receiving.basic_qos()
            return valid

        try:
            return self._call(work, 0.0, "the delivery")
        except TransientError:
            return [False] * len(tags)

    def _publish(self, channels: _Channels, name: str, message: Publication) -> RefinerctlError | None:
        from pika import BasicProperties
        from pika.exceptions import AMQPError, NackError, UnroutableError, UnsupportedAMQPFieldException

        properties: Any = {**message.properties, "delivery_mode": 2}
        try:
            channels.sending.basic_publish(
                "",
                name,
                message.body,
                BasicProperties(headers=dict(message.headers) or None, **properties),
                mandatory=True,
            )
        except UnroutableError:
            return NotFoundError(f"queue {name} does not exist on broker {self.endpoint.name}")
        except NackError:
            return TransientError(f"queue {name} rejects messages: it is full, or most of its nodes are down")
        except UnsupportedAMQPFieldException as error:
            return RefinerctlError(f"a header has a value that cannot be sent: {error.args[-1]!r}"[:MAX_SHOWN])
        except (AMQPError, OSError) as error:
            self._drop()
            return self._explained(error, f"queue {name}")
        return None

    def _call(self, work: Callable[[_Channels], Result], patience_s: float, resource: str) -> Result:
        def task() -> Result:
            from pika.exceptions import AMQPError

            try:
                return work(self._opened(patience_s))
            except (AMQPError, OSError) as error:
                self._drop()
                raise self._explained(error, resource) from error

        future: Future[Result] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="amqp", daemon=True)
                self._thread.start()
        self._tasks.put((task, future))
        return future.result()

    def _serve(self) -> None:
        while True:
            try:
                item = self._tasks.get(timeout=IDLE_S)
            except queue.Empty:
                self._beat()
                continue
            if item is None:
                self._drop()
                return
            task, future = item
            try:
                future.set_result(task())
            except BaseException as error:  # raised where it is waited for
                future.set_exception(error)

    def _beat(self) -> None:
        """Answer heartbeats, and notice a lost connection."""
        if self._channels is None:
            return
        try:
            self._channels.connection.process_data_events(0)
            is_open = self._channels.receiving.is_open and self._channels.sending.is_open
        except Exception:  # pika raises ValueError, too
            is_open = False
        if not is_open:
            self._drop()

    def _drop(self) -> None:
        channels, self._channels = self._channels, None
        if channels is not None:
            with contextlib.suppress(Exception):
                channels.connection.close()

    def _opened(self, patience_s: float) -> _Channels:
        """A lost connection is opened again within `patience_s`; the first attempt ever is the only one."""
        if self._channels is None:
            deadline = time.monotonic() + (patience_s if self._generation else 0.0)
            for pause_s in _pauses():
                try:
                    self._channels = self._open()
                    break
                except TransientError:
                    if time.monotonic() + pause_s > deadline:
                        raise
                time.sleep(pause_s)
            self._generation += 1
        assert self._channels is not None  # noqa: S101
        return self._channels

    def _open(self) -> _Channels:
        """Raises TransientError if the broker cannot be reached, AccessDeniedError, and other RefinerctlErrors."""
        import pika

        logging.getLogger("pika").setLevel(logging.CRITICAL + 1)  # each of its errors is raised, too
        endpoint, address = self.endpoint, self.endpoint.amqp
        if address is None:
            raise RefinerctlError(
                f"AMQP's address of broker {endpoint.name} is needed, and --broker-url names only the management API's",
                hint=endpoint.route_hint("amqps"),
            )
        parameters = pika.ConnectionParameters(
            host=address.host,
            port=address.port,
            virtual_host=VHOST,
            credentials=pika.PlainCredentials(endpoint.username, endpoint.password),
            ssl_options=pika.SSLOptions(tls_context(), address.server_name) if address.is_secure else None,
            heartbeat=HEARTBEAT_S,
            blocked_connection_timeout=BLOCKED_TIMEOUT_S,
            socket_timeout=CONNECT_TIMEOUT_S,
            stack_timeout=CONNECT_TIMEOUT_S * 1.5,
            connection_attempts=1,
            client_properties={"connection_name": "refinerctl"},
        )
        try:
            with WAITS.waiting(f"broker {endpoint.name}"):
                connection = pika.BlockingConnection(parameters)
            channels = _Channels(connection, connection.channel(), connection.channel())
            channels.sending.confirm_delivery()
        except Exception as error:  # pika's have no common base
            raise self._not_connected(error) from error
        return channels

    def _not_connected(self, error: Exception) -> RefinerctlError:
        from pika.exceptions import IncompatibleProtocolError, ProbableAccessDeniedError, ProbableAuthenticationError

        endpoint = self.endpoint
        if isinstance(error, ProbableAuthenticationError | ProbableAccessDeniedError):
            return AccessDeniedError(
                f"broker {endpoint.name} refused user {endpoint.username}", hint=endpoint.credentials_hint
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return RefinerctlError(
                f"the TLS certificate of broker {endpoint.name} is not trusted: {error.verify_message}",
                hint="Check --broker-url; SSL_CERT_FILE names another certificate authority.",
            )
        where = f"{endpoint.amqp.host}:{endpoint.amqp.port}" if endpoint.amqp else ""
        if isinstance(error, IncompatibleProtocolError | ssl.SSLError):
            said = "it does not speak AMQP with TLS" if endpoint.amqp and endpoint.amqp.is_secure else "it is not AMQP"
            return TransientError(
                f"broker {endpoint.name} cannot be reached at {where}: {said}", hint=endpoint.route_hint("amqps")
            )
        return TransientError(
            f"broker {endpoint.name} cannot be reached at {where}: {_reason(error)}", hint=endpoint.route_hint("amqps")
        )

    def _explained(self, error: Exception, resource: str) -> RefinerctlError:
        from pika.exceptions import ChannelClosedByBroker

        if isinstance(error, ChannelClosedByBroker):
            return self._closed_by_broker(error, resource)
        return TransientError(
            f"the connection to broker {self.endpoint.name} was lost: {_reason(error)}", is_uncertain=True
        )

    def _closed_by_broker(self, error: Any, resource: str) -> RefinerctlError:
        """The broker closed a channel, with a code of AMQP."""
        name = self.endpoint.name
        if error.reply_code == _NOT_FOUND:
            return NotFoundError(f"{resource} does not exist on broker {name}")
        said = str(error.reply_text)[:MAX_SHOWN]
        if error.reply_code == _ACCESS_REFUSED:
            return AccessDeniedError(f"access denied: {resource} on broker {name}: {said}")
        return TransientError(f"broker {name} closed the channel: {error.reply_code} {said}", is_uncertain=True)

    def _delivery(self, number: int, properties: Any, body: bytes) -> Delivery:
        given = {name: value for name in PROPERTIES if (value := getattr(properties, name, None)) is not None}
        return Delivery(Tag(self._generation, number), body, properties.headers or {}, given)


def _pauses() -> Iterator[float]:
    yield from RECONNECT_PAUSES_S
    while True:
        yield RECONNECT_PAUSES_S[-1]


def _reason(error: Exception) -> str:
    """What pika's exception says; those about connections hold others."""
    inner: Any = error
    while getattr(inner, "exception", None) is not None or (inner.args and isinstance(inner.args[0], Exception)):
        inner = getattr(inner, "exception", None) or inner.args[0]
    if isinstance(inner, OSError) and inner.strerror:
        return str(inner.strerror)
    return (" ".join(str(part) for part in inner.args) or type(inner).__name__)[:MAX_SHOWN]
