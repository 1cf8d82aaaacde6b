"""What a real broker answers."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pika

from autoscaler.management import ManagementApi, QueueCounts
from refinerctl.local.rabbitmq import RabbitMQServer
from rnr_common.secret import Secret
from rnr_common.topology import declare

QUEUE = "autoscaler-work"


def test_the_counts_of_a_queue_from_its_declaration_to_an_acknowledgement(rabbitmq: RabbitMQServer) -> None:
    value = json.dumps({"username": rabbitmq.username, "password": rabbitmq.password})
    client: Any = SimpleNamespace(get_secret_value=lambda **_: {"SecretString": value})
    api = ManagementApi({"RNR_BROKER_API_URL": rabbitmq.api_url}, Secret("arn:secret", client))

    assert api.queue(QUEUE) is None
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.amqp_url))
    channel = connection.channel()
    declare(channel, QUEUE)
    assert api.queue(QUEUE) == QueueCounts()
    channel.confirm_delivery()
    for _ in range(3):
        channel.basic_publish(QUEUE, QUEUE, b"work")
    channel.basic_qos(prefetch_count=1)
    messages = channel.consume(QUEUE)
    channel.basic_ack(next(messages)[0].delivery_tag)
    next(messages)
    deadline = time.monotonic() + 60
    expected = QueueCounts(ready=1, unacknowledged=1, consumers=1, published=3)
    while (counts := api.queue(QUEUE)) != expected and time.monotonic() < deadline:  # they lag
        connection.sleep(0.2)
    connection.close()
    assert counts == expected
