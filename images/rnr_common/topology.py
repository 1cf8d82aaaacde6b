"""The one definition of the stack's exchanges and queues: every image declares it, identically."""

from __future__ import annotations

from typing import Any

DELIVERY_LIMIT = 5
# RabbitMQ closes the channel of a consumer that keeps a delivery longer than this. The queue's own limit counts since
# RabbitMQ 3.12; an older broker ignores it and has only the limit of its configuration (30 minutes by default).
CONSUMER_TIMEOUT_MS = 24 * 3600 * 1000
# Operators read and release the DLQ's messages any number of times. Since RabbitMQ 4 a quorum queue without a limit
# drops a message after 20 releases, and RabbitMQ 3 refuses -1 (no limit): the greatest number is right for both.
NO_DELIVERY_LIMIT = 2**31 - 1


def dlq_name(queue: str) -> str:
    """The dead-letter queue of a queue; its exchange has the same name."""
    return f"{queue}-dlq"


def queue_arguments(queue: str) -> dict[str, Any]:
    """The arguments of the work queue. Dead-lettering at least once needs `reject-publish`."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-consumer-timeout": CONSUMER_TIMEOUT_MS,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": dlq_name(queue),
        "x-dead-letter-routing-key": dlq_name(queue),
        "x-dead-letter-strategy": "at-least-once",
    }


def dlq_arguments() -> dict[str, Any]:
    """The arguments of the dead-letter queue: nothing is ever dropped from it."""
    return {"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT}


def declare(channel: Any, queue: str) -> None:
    """Declare exchanges, queues and bindings, the DLQ first.

    `channel` is one of pika's. A blocking channel raises if the broker has something else under these names; another
    channel is closed by the broker then, with code 406.
    """
    for name, arguments in ((dlq_name(queue), dlq_arguments()), (queue, queue_arguments(queue))):
        channel.exchange_declare(name, exchange_type="direct", durable=True)
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.queue_bind(name, name, routing_key=name)
