"""One queue of RabbitMQ as the commands see queues.

A received message is a delivery that is not acknowledged: hidden from others until the connection ends, however it
ends. So nothing has to be extended, and a killed process loses nothing.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAddress, QueueAttributes
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.parallel import attempt
from refinerctl.rabbitmq.amqp import AmqpConnection, Delivery, Publication, Tag
from refinerctl.rabbitmq.endpoint import BrokerEndpoint
from refinerctl.rabbitmq.management import Management, QueueReading
from refinerctl.rabbitmq.messages import ACQUIRED_COUNT, message_digest, read_delivery, sent_id, to_publication

CONNECTIONS = 4
# For how long a lost connection is tried again: a node restarts meanwhile.
RECEIVE_PATIENCE_S = 60.0
SEND_PATIENCE_S = 45.0
READ_PATIENCE_S = 30.0
READ_ATTEMPTS = 6
# For how long messages that a queue rejects are sent again.
FULL_S = 5.0
# The broker samples a queue every five seconds, and the management API reads these samples every five seconds.
COUNTS_LAG_S = 10.0

_GONE = EntryResult(
    error="ConnectionLost",
    message="the connection was lost, so the message is in its queue again",
    is_sender_fault=True,
)


class RabbitConnections:
    """The connections to one broker, which its queues share."""

    def __init__(self, endpoint: BrokerEndpoint, management: Management, count: int = CONNECTIONS) -> None:
        self.endpoint = endpoint
        self.management = management
        self.amqp = tuple(AmqpConnection(endpoint) for _ in range(count))

    def address(self, name: str) -> QueueAddress:
        """Of a queue on this broker."""
        return QueueAddress(name, self.endpoint.queue_url(name), "")

    def close(self) -> None:
        for connection in self.amqp:
            connection.close()


class RabbitQueue:
    """Messages of one queue; safe to share between threads. See `QueueClient`.

    RabbitMQ gives messages no ids. An id here is a hash of the message with its broker's headers; the second of equal
    messages gets the suffix `-2`, and so on. `settled` are ids that an earlier part of the run has deleted: no other
    message gets them. `unsettled` are those that it has received and maybe deleted, as those are whose deletion was not
    confirmed: a message gets such an id again only if no equal one is known, or a deleted one would be taken for it.
    """

    max_workers = CONNECTIONS
    counts_lag_s = COUNTS_LAG_S

    def __init__(
        self,
        connections: RabbitConnections,
        address: QueueAddress,
        settled: Iterable[str] = (),
        unsettled: Iterable[str] = (),
    ) -> None:
        self.address = address
        self._connections = connections.amqp
        self._management = connections.management
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._in_hand: dict[str, _Receipt] = {}
        self._equals: set[str] = set()  # digests of which there are several messages
        self._settled = {hash(message_id) for message_id in map(self._known, settled)}
        self._unsettled = set(map(self._known, unsettled))
        self._full_since: float | None = None
        self._first: dict[str, int] = {}  # of equal messages: the lowest number that may be free

    def attributes(self, attempts: int = READ_ATTEMPTS) -> QueueAttributes:
        """`visible` is exact. `in_flight` counts what others have received, too: at least what the last sample shows.

        Without the management API, only what this process has received is in flight.
        """
        ready = self._connections[0].ready(self.address.name, READ_PATIENCE_S if attempts > 1 else 0.0)
        seen = self._sample(attempts)
        in_flight = self._own_in_flight()
        if seen is not None and seen.total is not None:
            # A sample from before a message was received shows it as ready.
            in_flight = max(in_flight, seen.unacknowledged or 0, seen.total - ready)
        # The broker's HTTP server updates its clock every second.
        at = seen.at + timedelta(seconds=1) if seen else datetime.now(UTC)
        return QueueAttributes(at, ready, in_flight, 0)

    def _sample(self, attempts: int) -> QueueReading | None:
        """The broker's last sample of the queue, if there is one; None without the management API."""
        if self._management.endpoint.api is None:
            return None
        for number in range(1, attempts + 1):
            answer = attempt(lambda: self._management.queue(self.address.name))
            is_final = answer.error is not None and not isinstance(answer.error, TransientError)
            is_sampled = answer.value is not None and answer.value.total is not None  # not yet after a restart
            if is_sampled or is_final or number == attempts:
                break
            time.sleep(0.05 * 2**number)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        """Up to `count` messages; waits for none, as it sees all that are ready."""
        link = next(self._numbers) % len(self._connections)
        found = self._connections[link].receive(self.address.name, count, RECEIVE_PATIENCE_S)
        return [self._message(link, delivery) for delivery in found]

    def send(
        self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = lambda: None
    ) -> list[EntryResult]:
        """Publish to this queue. The new id of a message is its `content_id`."""
        publications: list[Publication] = []
        for message in messages:
            try:
                publications.append(to_publication(message))
            except (ValueError, TypeError) as error:  # edited: each is checked alone
                wrong = EntryResult(error="Invalid", message=f"cannot be sent: {error}", is_sender_fault=True)
                if len(messages) == 1:
                    return [wrong]
                return [self.send([each], leaving)[0] for each in messages]
        link = self._connections[next(self._numbers) % len(self._connections)]
        try:
            errors = link.publish(self.address.name, publications, leaving, SEND_PATIENCE_S)
        except RefinerctlError as error:
            return [_failed(error, cause=error)] * len(messages)
        is_full = self._is_full(errors)
        return [
            EntryResult(sent_id(message)) if error is None else _failed(error, is_final=is_full)
            for message, error in zip(messages, errors, strict=True)
        ]

    def _is_full(self, errors: Sequence[RefinerctlError | None]) -> bool:
        """Whether the queue has taken nothing for so long that it is not worth to wait for each message."""
        with self._lock:
            if any(error is None for error in errors):
                self._full_since = None
            elif self._full_since is None:
                self._full_since = time.monotonic()
            return self._full_since is not None and time.monotonic() - self._full_since > FULL_S

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        """Acknowledge."""
        parsed = [_Receipt.parse(text) for text in receipts]
        done: dict[_Receipt, bool] = {}
        for link, group in _by_link(parsed):
            tags = [receipt.tag for receipt in group]
            done |= zip(group, self._connections[link].acknowledge(tags), strict=True)
        with self._lock:
            for receipt, is_done in done.items():
                if is_done:
                    self._settled.add(hash(receipt.id))
                    self._unsettled.discard(receipt.id)
                else:
                    self._unsettled.add(receipt.id)
                if self._in_hand.get(receipt.id) == receipt:
                    del self._in_hand[receipt.id]
        return [EntryResult() if done[receipt] else _GONE for receipt in parsed]

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        """Requeue for 0; anything else changes nothing, as a delivery is hidden until its connection ends."""
        parsed = [_Receipt.parse(text) for text in receipts]
        if visibility_s:
            return [EntryResult() if self._is_valid(receipt) else _GONE for receipt in parsed]
        for link, group in _by_link(parsed):
            self._connections[link].requeue([receipt.tag for receipt in group])
        with self._lock:
            for receipt in parsed:
                if self._in_hand.get(receipt.id) == receipt:
                    del self._in_hand[receipt.id]
        return [EntryResult()] * len(parsed)

    def _message(self, link: int, delivery: Delivery) -> Message:
        message = read_delivery(delivery)
        digest = message_digest(message)
        if message.receive_count > 1 or ACQUIRED_COUNT in delivery.headers:
            self._check_holders(digest, link)
        with self._lock:
            message_id = self._free_id(digest)
            receipt = _Receipt(link, delivery.tag.generation, delivery.tag.number, message_id)
            self._in_hand[message_id] = receipt
        return replace(message, id=message_id, receipt=receipt.text)

    def _check_holders(self, digest: str, link: int) -> None:
        """A message that was received before may be one whose connection was lost, which is not noticed yet."""
        with self._lock:
            numbers = itertools.count(1)
            ids = itertools.takewhile(self._was_given, (_id(digest, number) for number in numbers))
            held = [self._in_hand[message_id] for message_id in ids if message_id in self._in_hand]
            others = {receipt.link for receipt in held if receipt.link != link and self._is_valid(receipt)}
        for other in others:
            attempt(self._connections[other].check)

    def _was_given(self, message_id: str) -> bool:
        return message_id in self._in_hand or message_id in self._unsettled or hash(message_id) in self._settled

    def _free_id(self, digest: str) -> str:
        """An id that was not deleted, and that no other message has which is in hand."""
        number = self._first.get(digest, 1)
        while hash(_id(digest, number)) in self._settled:
            number += 1
        if number > 1:
            self._first[digest] = number
        while not self._is_free(_id(digest, number), digest):
            number += 1
        return self._known(_id(digest, number))

    def _known(self, message_id: str) -> str:
        """The same id, after it has been noted that its message has equal ones."""
        digest, dash, _ = message_id.partition("-")
        if dash:
            self._equals.add(digest)
        return message_id

    def _is_free(self, message_id: str, digest: str) -> bool:
        receipt = self._in_hand.get(message_id)
        is_in_hand = receipt is not None and self._is_valid(receipt)
        is_in_doubt = message_id in self._unsettled and digest in self._equals
        return not is_in_hand and not is_in_doubt and hash(message_id) not in self._settled

    def _is_valid(self, receipt: _Receipt) -> bool:
        return self._connections[receipt.link].is_open(receipt.generation)

    def _own_in_flight(self) -> int:
        with self._lock:
            return sum(self._is_valid(receipt) for receipt in self._in_hand.values())


class _Receipt(NamedTuple):
    """Connection, generation and tag of a delivery, and the id of its message."""

    link: int
    generation: int
    number: int
    id: str

    @classmethod
    def parse(cls, text: str) -> _Receipt:
        link, generation, number, message_id = text.split(":")
        return cls(int(link), int(generation), int(number), message_id)

    @property
    def text(self) -> str:
        return ":".join(str(part) for part in self)

    @property
    def tag(self) -> Tag:
        return Tag(self.generation, self.number)


def _id(digest: str, number: int) -> str:
    return digest if number == 1 else f"{digest}-{number}"


def _by_link(receipts: Sequence[_Receipt]) -> Iterable[tuple[int, list[_Receipt]]]:
    return [
        (link, [receipt for receipt in receipts if receipt.link == link])
        for link in sorted({receipt.link for receipt in receipts})
    ]


def _failed(error: RefinerctlError, cause: RefinerctlError | None = None, *, is_final: bool = False) -> EntryResult:
    is_uncertain = isinstance(error, TransientError) and error.is_uncertain
    is_final = not is_uncertain and (is_final or not isinstance(error, TransientError))
    return EntryResult(
        error=type(error).__name__,
        message=error.message,
        is_sender_fault=cause is None and is_final,
        is_uncertain=is_uncertain,
        cause=cause,
    )
