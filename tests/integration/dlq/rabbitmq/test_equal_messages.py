"""Equal messages whose connection is lost while they are acknowledged: none is taken for another one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.rabbitmq.endpoint import endpoint_of
from refinerctl.rabbitmq.management import Management
from refinerctl.rabbitmq.message_queue import RabbitConnections, RabbitQueue
from tests.integration.dlq.rabbitmq.forwarder import Forwarder
from tests.integration.dlq.rabbitmq.stage import Stage


@pytest.fixture
def forwarder(stage: Stage) -> Iterator[Forwarder]:
    forwarder = Forwarder(stage.account.broker.ports["amqp"])
    yield forwarder
    forwarder.close()


@pytest.fixture
def connections(stage: Stage, forwarder: Forwarder) -> Iterator[RabbitConnections]:
    broker = stage.account.broker
    url, login = f"amqp://127.0.0.1:{forwarder.port}", (broker.username, broker.password)
    endpoint = endpoint_of("b", url, broker.api_url, None, login, "secret")
    connections = RabbitConnections(endpoint, Management(endpoint), count=2)
    yield connections
    connections.close()


def publish(stage: Stage, *bodies: str) -> None:
    with stage.channel() as channel:
        for body in bodies:
            channel.basic_publish("", stage.dlq, body)


def receive(queue: RabbitQueue, count: int) -> list[Message]:
    return queue.receive(count, visibility_s=30, wait_s=1)


def client(stage: Stage, connections: RabbitConnections, **earlier: list[str]) -> RabbitQueue:
    return RabbitQueue(connections, QueueAddress(stage.dlq, "", ""), **earlier)


def test_what_was_maybe_deleted_is_not_found_again(
    stage: Stage, forwarder: Forwarder, connections: RabbitConnections
) -> None:
    publish(stage, *["equal"] * 4)
    queue = client(stage, connections)
    first, second = receive(queue, 2)

    forwarder.loses_answers = True
    results = queue.delete([first.receipt])
    forwarder.loses_answers = False

    assert not any(result.is_done for result in results)
    stage.wait(lambda: stage.depth(stage.dlq) == 3)
    found = {message.id for message in receive(queue, 10)}
    assert len(found) == 3
    assert first.id not in found
    assert second.id in found


def test_a_message_without_equals_is_found_again(
    stage: Stage, forwarder: Forwarder, connections: RabbitConnections
) -> None:
    publish(stage, "one", "another")
    queue = client(stage, connections)
    messages = receive(queue, 2)

    forwarder.loses_requests = True
    results = queue.delete([message.receipt for message in messages])
    forwarder.loses_requests = False

    assert not any(result.is_done for result in results)
    stage.wait(lambda: stage.depth(stage.dlq) == 2)
    assert {message.id for message in receive(queue, 10)} == {message.id for message in messages}


def test_a_resumed_run_finds_no_equal_message_under_an_unsettled_id(
    stage: Stage, connections: RabbitConnections
) -> None:
    publish(stage, "equal")
    queue = client(stage, connections)
    (message,) = receive(queue, 1)
    queue.change_visibility([message.receipt], 0)

    def resumed(**earlier: list[str]) -> str:
        queue = client(stage, connections, **earlier)
        (found,) = receive(queue, 1)
        queue.change_visibility([found.receipt], 0)
        return found.id

    assert resumed(unsettled=[message.id]) == message.id
    assert resumed(unsettled=[message.id], settled=[f"{message.id}-2"]) == f"{message.id}-3"


def test_a_message_whose_connection_was_lost_is_found_again_before_that_is_noticed(
    stage: Stage, forwarder: Forwarder, connections: RabbitConnections
) -> None:
    publish(stage, "one")
    queue = client(stage, connections)
    (message,) = receive(queue, 1)

    forwarder.end_unnoticed()
    stage.wait(lambda: stage.depth(stage.dlq) == 1)

    (again,) = receive(queue, 1)
    assert again.id == message.id
    assert again.receipt != message.receipt
