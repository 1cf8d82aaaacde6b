"""`inputs` and `replay` of a stack whose queue is on a real RabbitMQ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pika
import pytest

from refinerctl.aws.session import AwsSession
from refinerctl.local.rabbitmq import RabbitMQServer
from rnr_common.message import WorkMessage
from rnr_common.topology import declare
from tests.command import Command
from tests.integration.rnr.account import Account


class Stack:
    """The stack `name` with its bucket, queue and service."""

    def __init__(self, account: Account, rabbitmq: RabbitMQServer, session: AwsSession) -> None:
        account.broker = rabbitmq
        self.account, self.name, self.bucket = account, account.name, f"{account.name}-in"
        self.s3 = session.client("s3")
        for bucket in (self.bucket, f"{self.name}-out"):
            self.s3.create_bucket(Bucket=bucket)
        secret = f'{{"username": "{rabbitmq.username}", "password": "{rabbitmq.password}"}}'
        session.client("secretsmanager").create_secret(Name=f"{self.name}-broker", SecretString=secret)
        ecs: Any = session.client("ecs")
        ecs.create_cluster(clusterName=self.name)
        task = ecs.register_task_definition(
            family=f"{self.name}-worker", containerDefinitions=[{"name": "worker", "image": "r"}]
        )["taskDefinition"]["taskDefinitionArn"]
        ecs.create_service(cluster=self.name, serviceName=f"{self.name}-worker", taskDefinition=task, desiredCount=0)
        self.connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.amqp_url))
        self.channel: Any = self.connection.channel()

    def put(self, *names: str) -> None:
        for name in names:
            self.s3.put_object(Bucket=self.bucket, Key=f"rnr/input/{name}", Body=b"time,inflow\n")

    def message(self) -> tuple[Any, WorkMessage]:
        """Properties and content of the next message of the work queue, which is removed."""
        _, properties, body = self.channel.basic_get(f"{self.name}-work", auto_ack=True)
        return properties, WorkMessage.parse(body)

    def reject(self) -> None:
        """The next message of the work queue, which moves to the DLQ."""
        method, _, _ = self.channel.basic_get(f"{self.name}-work")
        self.channel.basic_reject(method.delivery_tag, requeue=False)
        while not self.depth(f"{self.name}-work-dlq"):
            self.connection.sleep(0.05)

    def depth(self, queue: str) -> int:
        count: int = self.channel.queue_declare(queue, passive=True).method.message_count
        return count


@pytest.fixture
def stack(account: Account, rabbitmq: RabbitMQServer, session: AwsSession) -> Stack:
    return Stack(account, rabbitmq, session)


def test_replay_publishes_what_a_worker_reads_and_inputs_finds_it_in_the_dlq(stack: Stack, run: Command) -> None:
    stack.put("a b+ü%41.csv", "b.csv")
    declare(stack.channel, f"{stack.name}-work")
    planned = run("replay", "--stack", "rnr", "rnr/input/b.csv", "--dry-run")
    assert planned.code == 0, planned.err
    assert stack.depth(f"{stack.name}-work") == 0

    sent = run("replay", "--stack", "rnr", "rnr/input/a b+ü%41.csv", "rnr/input/gone", "--yes", "--output", "json")
    assert sent.code == 1
    assert "1 of 2 inputs could not be sent" in sent.err
    missing, line = sent.lines()
    assert missing["error"] == "the object does not exist"
    assert (line["status"], line["queue"], line["stage"]) == ("sent", f"{stack.name}-work", "worker")
    properties, message = stack.message()
    head = stack.s3.head_object(Bucket=stack.bucket, Key="rnr/input/a b+ü%41.csv")
    assert (message.bucket, message.key, message.size) == (stack.bucket, "rnr/input/a b+ü%41.csv", 12)
    assert message.etag == head["ETag"].strip('"')
    assert properties.message_id == message.claim_id == line["message_id"]
    assert (properties.delivery_mode, properties.content_type) == (2, "application/json")
    assert properties.headers["traceparent"].startswith("00-")

    assert run("replay", "--stack", "rnr", "rnr/input/b.csv", "--yes").code == 0
    stack.reject()
    listed = run("inputs", "--stack", "rnr", "--output", "json")
    assert listed.code == 0, listed.err
    assert {item["key"]: (item["status"], item["dlq"]) for item in listed.lines()} == {
        "rnr/input/a b+ü%41.csv": ("under-way", None),
        "rnr/input/b.csv": ("failed", f"{stack.name}-work-dlq"),
    }
    assert f"messages of {stack.name}-work-dlq were received to find inputs in it" in listed.err
    assert stack.depth(f"{stack.name}-work-dlq") == 1


def test_replay_without_the_queue_or_the_service(stack: Stack, session: AwsSession, run: Command) -> None:
    stack.put("a.csv")
    done = run("replay", "--stack", "rnr", "rnr/input/a.csv", "--yes")
    assert done.code == 1
    assert f"queue {stack.name}-work does not exist on broker {stack.name}-broker" in done.err
    declare(stack.channel, f"{stack.name}-work")
    session.client("ecs").delete_service(cluster=stack.name, service=f"{stack.name}-worker", force=True)
    refused = run("replay", "--stack", "rnr", "rnr/input/a.csv", "--yes")
    assert refused.code == 4
    assert f"messages would not be processed: service {stack.name}-worker" in refused.err
    assert stack.depth(f"{stack.name}-work") == 0


def test_broker_that_cannot_be_reached(stack: Stack, run: Command, tmp_path: Path) -> None:
    """`inputs` says what is unknown, `replay` how to reach the broker."""
    stack.put("a.csv")
    closed = "amqp://127.0.0.1:9,http://127.0.0.1:9"
    listed = run("inputs", "--stack", "rnr", "--broker-url", closed)
    assert listed.code == 0, listed.err
    assert f"which inputs have a message in {stack.name}-work-dlq is unknown: broker {stack.name}-broker" in listed.err
    assert "under-way" in listed.out
    done = run("replay", "--stack", "rnr", "rnr/input/a.csv", "--broker-url", closed, "--yes")
    assert done.code == 1
    assert f"broker {stack.name}-broker cannot be reached at 127.0.0.1:9" in done.err
    assert "refinerctl local status" in done.err  # what `dlq` says of a broker on this machine
