"""The other AWS clients against the emulator."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refinerctl.aws.lambda_ import Functions
from refinerctl.aws.logs import LogGroups
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import Queues
from refinerctl.local.function_logs import FunctionLogs

ROLE = "arn:aws:iam::000000000000:role/r"


@pytest.fixture
def queue(session: AwsSession, unique: str) -> str:
    session.client("sqs").create_queue(QueueName=f"queue-{unique}")
    return f"queue-{unique}"


def send(session: AwsSession, queue: str, count: int) -> None:
    client = session.client("sqs")
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    for number in range(count):
        client.send_message(QueueUrl=url, MessageBody=f"m{number}")


class TestQueues:
    def test_depth_counts_waiting_and_in_flight(self, session: AwsSession, queue: str) -> None:
        send(session, queue, 3)
        client = session.client("sqs")
        client.receive_message(QueueUrl=client.get_queue_url(QueueName=queue)["QueueUrl"], MaxNumberOfMessages=1)
        found = Queues(session).state(queue)
        assert (found.name, found.visible, found.in_flight, found.delayed) == (queue, 2, 1, 0)

    @pytest.mark.parametrize("count", [0, 1, 10, 11, 25])
    def test_a_look_shows_every_message_and_gives_them_back(self, session: AwsSession, queue: str, count: int) -> None:
        send(session, queue, count)
        queues = Queues(session)
        for times in (1, 2):
            seen = queues.peek(queue)
            assert sorted(message.body for message in seen) == sorted(f"m{number}" for number in range(count))
            assert all(message.receive_count == times for message in seen)
            assert all(abs(message.sent_at - datetime.now(UTC)) < timedelta(minutes=5) for message in seen)
        assert queues.state(queue).visible == count

    def test_a_look_stops_at_its_limit(self, session: AwsSession, queue: str) -> None:
        send(session, queue, 25)
        assert 5 <= len(Queues(session).peek(queue, limit=5)) < 25
        assert Queues(session).state(queue).visible == 25


class TestLogGroups:
    def test_what_is_put_is_read_from_a_moment_on(self, session: AwsSession, unique: str) -> None:
        groups, group = LogGroups(session), f"/aws/lambda/{unique}"
        now = datetime.now(UTC).replace(microsecond=0)
        for _ in range(2):
            groups.create_stream(group, "2026/03/01/[$LATEST]a")
        lines = [(now - timedelta(hours=1), "old"), (now, "héllo 報告"), (now + timedelta(seconds=1), '{"a": 1}')]
        groups.put(group, "2026/03/01/[$LATEST]a", lines)
        found = list(groups.events(group, now))
        assert [(event.timestamp, event.message) for event in found] == lines[1:]
        assert {(event.group, event.stream) for event in found} == {(group, "2026/03/01/[$LATEST]a")}

    def test_a_functions_lines_arrive(self, session: AwsSession, unique: str, tmp_path: Path) -> None:
        began = datetime.now(UTC) - timedelta(minutes=1)
        logs = FunctionLogs(tmp_path / "functions.log", LogGroups(session))
        for number in range(1200):
            logs.write(unique, f"s{number % 2}", "r", f"line {number}")
        logs.close()
        found = [event.message for event in LogGroups(session).events(f"/aws/lambda/{unique}", began)]
        assert sorted(found) == sorted(f"line {number}" for number in range(1200))


class TestFunctions:
    def test_a_functions_configuration(self, session: AwsSession, unique: str) -> None:
        session.client("lambda").create_function(
            FunctionName=unique,
            Role=ROLE,
            PackageType="Image",
            Code={"ImageUri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/refiner:v1"},
            MemorySize=512,
            Timeout=7,
            Environment={"Variables": {"A": "1"}},
            ImageConfig={"Command": ["other.handler"]},
        )
        found = Functions(session).get(unique)
        assert found.name == unique
        assert found.image_uri.endswith("/team/refiner:v1")
        assert (found.memory_mb, found.timeout_s, found.environment) == (512, 7, {"A": "1"})
        assert found.command == ("other.handler",)
        assert found == Functions(session).get(unique)

    def test_a_change_is_seen(self, session: AwsSession, unique: str) -> None:
        client = session.client("lambda")
        client.create_function(
            FunctionName=unique, Role=ROLE, PackageType="Image", Code={"ImageUri": "team/refiner:v1"}
        )
        before = Functions(session).get(unique)
        client.update_function_configuration(FunctionName=unique, Environment={"Variables": {"B": json.dumps([1])}})
        after = Functions(session).get(unique)
        assert after != before
        assert after.environment == {"B": "[1]"}
