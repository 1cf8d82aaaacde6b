"""The SQS server of the tests against moto and ministack where these agree with AWS, and alone where they do not."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from refinerctl.local.emulator import Emulator
from tests.sqs.server import SqsServer, sqs_server

ALL = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"]}
ATTRIBUTES: dict[str, Any] = {
    "binary": {"DataType": "Binary", "BinaryValue": b"\x00\xff\xfe"},
    "custom": {"DataType": "String.city", "StringValue": "Zürich"},
    "number": {"DataType": "Number", "StringValue": "1.50"},
}
TRACE: Any = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[SqsServer]:
    with sqs_server() as server:
        yield server


def client_of(endpoint: str | None) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


@contextmanager
def moto_client() -> Iterator[Any]:
    from moto import mock_aws

    with mock_aws():
        yield client_of(None)


@pytest.fixture(params=["ours", "moto", "ministack"])
def sqs(request: pytest.FixtureRequest, server: SqsServer, emulator: Emulator) -> Iterator[Any]:
    if request.param == "moto":
        with moto_client() as client:
            yield client
    else:
        yield client_of(server.url if request.param == "ours" else emulator.endpoint_url)


def new_queue(sqs: Any, **attributes: str) -> str:
    suffix = ".fifo" if attributes.get("FifoQueue") else ""
    url: str = sqs.create_queue(QueueName=f"contract-{next(_NUMBERS)}{suffix}", Attributes=attributes)["QueueUrl"]
    return url


def arn_of(sqs: Any, url: str) -> str:
    arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return arn


def receive(sqs: Any, url: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, **{**ALL, "WaitTimeSeconds": 0, **more}
    ).get("Messages", [])
    return found


def code_of(error: pytest.ExceptionInfo[Any]) -> str:
    code: str = error.value.response["Error"]["Code"]
    return code


def test_message_keeps_everything(sqs: Any) -> None:
    url = new_queue(sqs)
    sent = sqs.send_message(
        QueueUrl=url, MessageBody='{"é": 1}', MessageAttributes=ATTRIBUTES, MessageSystemAttributes=TRACE
    )
    [message] = receive(sqs, url)
    assert message["Body"] == '{"é": 1}'
    assert message["MessageId"] == sent["MessageId"]
    assert message["MessageAttributes"] == ATTRIBUTES
    assert message["Attributes"]["AWSTraceHeader"] == TRACE["AWSTraceHeader"]["StringValue"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert abs(int(message["Attributes"]["SentTimestamp"]) / 1000 - time.time()) < 60


def test_a_received_message_is_hidden_until_it_is_released(sqs: Any) -> None:
    url = new_queue(sqs)
    sqs.send_message(QueueUrl=url, MessageBody="x")
    [first] = receive(sqs, url)
    assert receive(sqs, url) == []
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    [second] = receive(sqs, url)
    assert second["ReceiptHandle"] != first["ReceiptHandle"]
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    asked = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=asked)["Attributes"] == dict.fromkeys(asked, "0")


def test_batches_answer_entry_by_entry(sqs: Any) -> None:
    url = new_queue(sqs)
    entries = [{"Id": str(number), "MessageBody": f"m{number}"} for number in range(3)]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 3
    messages = receive(sqs, url)
    given = [{"Id": str(number), "ReceiptHandle": item["ReceiptHandle"]} for number, item in enumerate(messages)]
    given[1]["ReceiptHandle"] = "nonsense"
    answer = sqs.delete_message_batch(QueueUrl=url, Entries=given)
    assert {item["Id"] for item in answer["Successful"]} == {"0", "2"}
    assert [(item["Id"], item["Code"]) for item in answer["Failed"]] == [("1", "ReceiptHandleIsInvalid")]


def test_message_received_too_often_goes_to_the_dead_letter_queue_as_it_was(sqs: Any) -> None:
    dead = new_queue(sqs)
    policy = json.dumps({"deadLetterTargetArn": arn_of(sqs, dead), "maxReceiveCount": 2})
    url = new_queue(sqs, RedrivePolicy=policy, VisibilityTimeout="0")
    sent = sqs.send_message(QueueUrl=url, MessageBody="poison", MessageAttributes=ATTRIBUTES)
    stamps = {receive(sqs, url)[0]["Attributes"]["SentTimestamp"] for _ in range(2)}
    assert receive(sqs, url) == []
    [message] = receive(sqs, dead)
    assert (message["MessageId"], message["MessageAttributes"]) == (sent["MessageId"], ATTRIBUTES)
    assert {message["Attributes"]["SentTimestamp"]} == stamps


def test_fifo_groups_are_in_order_and_locked_and_duplicates_dropped(sqs: Any) -> None:
    url = new_queue(sqs, FifoQueue="true")
    for body, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=body)
    sqs.send_message(QueueUrl=url, MessageBody="again", MessageGroupId="a", MessageDeduplicationId="a1")
    first = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1, **ALL)["Messages"][0]
    assert first["Body"] == "a1"
    assert first["Attributes"]["MessageGroupId"] == "a"
    assert [item["Body"] for item in receive(sqs, url)] == ["b1"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    assert [item["Body"] for item in receive(sqs, url)] == ["a2"]


def test_errors_have_the_codes_of_sqs(sqs: Any) -> None:
    url = new_queue(sqs)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as missing:
        sqs.get_queue_url(QueueName="there-is-none")
    assert code_of(missing) == "AWS.SimpleQueueService.NonExistentQueue"
    with pytest.raises(sqs.exceptions.ReceiptHandleIsInvalid):
        sqs.delete_message(QueueUrl=url, ReceiptHandle="nonsense")
    entries = [{"Id": str(number), "MessageBody": "x"} for number in range(11)]
    with pytest.raises(sqs.exceptions.TooManyEntriesInBatchRequest):
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    with pytest.raises(sqs.exceptions.BatchEntryIdsNotDistinct):
        sqs.send_message_batch(QueueUrl=url, Entries=[entries[0], entries[0]])


# What the others do not do, or not as AWS documents it.


@pytest.fixture
def ours(server: SqsServer) -> Any:
    return client_of(server.url)


def test_deduplicated_send_is_answered_with_the_original(server: SqsServer, ours: Any) -> None:
    url = new_queue(ours, FifoQueue="true")
    once = {"MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    first, second = (ours.send_message(QueueUrl=url, **once) for _ in range(2))
    assert (first["MessageId"], first["SequenceNumber"]) == (second["MessageId"], second["SequenceNumber"])
    [message] = receive(ours, url)
    ours.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    ours.send_message(QueueUrl=url, **once)
    assert receive(ours, url) == []  # gone or not, for five minutes
    server.advance(301)
    ours.send_message(QueueUrl=url, **once)
    assert [item["Body"] for item in receive(ours, url)] == ["x"]


def test_clock_ends_visibility_timeouts_and_retention(server: SqsServer, ours: Any) -> None:
    url = new_queue(ours, MessageRetentionPeriod="3600")
    ours.send_message(QueueUrl=url, MessageBody="x")
    [old] = receive(ours, url, VisibilityTimeout=600)
    server.advance(601)
    [new] = receive(ours, url)
    ours.delete_message(QueueUrl=url, ReceiptHandle=old["ReceiptHandle"])  # of no effect, and no error
    assert server.depth(url.rpartition("/")[2]) == 1
    server.advance(3000)
    assert server.depth(url.rpartition("/")[2]) == 0
    ours.delete_message(QueueUrl=url, ReceiptHandle=new["ReceiptHandle"])


def test_size_and_number_of_attributes_are_limited(ours: Any) -> None:
    url = new_queue(ours, MaximumMessageSize="1024")
    too_many = {f"a{number}": ATTRIBUTES["number"] for number in range(11)}
    entries: list[Any] = [
        {"Id": "fits", "MessageBody": "x" * 1024},
        {"Id": "long", "MessageBody": "x" * 1025},
        {"Id": "attributes", "MessageBody": "x" * 1000, "MessageAttributes": ATTRIBUTES},
        {"Id": "many", "MessageBody": "x", "MessageAttributes": too_many},
    ]
    answer = ours.send_message_batch(QueueUrl=url, Entries=entries)
    assert [item["Id"] for item in answer["Successful"]] == ["fits"]
    assert {item["Code"] for item in answer["Failed"]} == {"InvalidParameterValue"}
    entries = [{"Id": str(number), "MessageBody": "x" * 700_000} for number in range(2)]
    with pytest.raises(ours.exceptions.BatchRequestTooLong):
        ours.send_message_batch(QueueUrl=url, Entries=entries)


def test_long_poll_ends_with_the_first_message(ours: Any) -> None:
    url = new_queue(ours)
    start = time.monotonic()
    sender = threading.Timer(0.2, lambda: ours.send_message(QueueUrl=url, MessageBody="x"))
    sender.start()
    assert [item["Body"] for item in receive(ours, url, WaitTimeSeconds=10)] == ["x"]
    assert 0.15 < time.monotonic() - start < 8
    sender.join()


def test_move_task_returns_messages_to_where_they_came_from(server: SqsServer, ours: Any) -> None:
    [queue, dead] = server.create_pair("moved")
    sources = ours.list_dead_letter_source_queues(QueueUrl=server.queue_url(dead))["queueUrls"]
    assert sources == [server.queue_url(queue)]
    server.fill(dead, 60, source=queue, receive_count=3)
    before = {item.id for item in server.messages(dead)}
    task = ours.start_message_move_task(SourceArn=server.arn(dead), MaxNumberOfMessagesPerSecond=100)
    with pytest.raises(Exception, match="already a task running"):
        ours.start_message_move_task(SourceArn=server.arn(dead))
    time.sleep(0.1)
    [listed] = ours.list_message_move_tasks(SourceArn=server.arn(dead))["Results"]
    assert (listed["Status"], listed["TaskHandle"]) == ("RUNNING", task["TaskHandle"])
    assert 0 < listed["ApproximateNumberOfMessagesMoved"] < 60 == listed["ApproximateNumberOfMessagesToMove"]
    ours.cancel_message_move_task(TaskHandle=task["TaskHandle"])
    time.sleep(0.1)
    [listed] = ours.list_message_move_tasks(SourceArn=server.arn(dead))["Results"]
    moved = listed["ApproximateNumberOfMessagesMoved"]
    assert listed["Status"] == "CANCELLED"
    assert (server.depth(queue), server.depth(dead)) == (moved, 60 - moved)
    assert not before & {item.id for item in server.messages(queue)}
