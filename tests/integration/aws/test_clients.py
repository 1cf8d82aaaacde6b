"""The clients of logs, queues, functions and metrics, against servers that answer as AWS does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from refinerctl.aws.lambda_ import Functions
from refinerctl.aws.logs import THROTTLED_PAUSES_S, LogGroups
from refinerctl.aws.metrics import QUERIES_PER_CALL, Metric, Metrics
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import Queues
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.local.function_logs import FunctionLogs
from tests.integration.servers import Answer, Request, serving

NOW = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


def page(*times_ms: int, token: str | None = None) -> Answer:
    """A page of FilterLogEvents; an event's id is its time."""
    start = int(NOW.timestamp() * 1000)
    events = [
        {"timestamp": start + at, "message": f"m{at}", "logStreamName": "s", "eventId": f"e{at}"} for at in times_ms
    ]
    return Answer(200, json.dumps({"events": events} | ({"nextToken": token} if token else {})).encode())


def throttled() -> Answer:
    return Answer(400, json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}).encode())


class TestLogPages:
    def read(self, answers: list[Answer], page_events: int = 10_000, pauses: list[float] | None = None) -> list[str]:
        def answer(_request: Request) -> Answer:
            return answers.pop(0)

        with serving(answer) as server:
            groups = LogGroups(server.session(), page_events, sleep=(pauses if pauses is not None else []).append)
            return [event.message for event in groups.events("g", NOW)]

    def test_empty_pages_do_not_end_it(self) -> None:
        assert self.read([page(token="a"), page(1, 2, token="b"), page(token="c"), page(3)]) == ["m1", "m2", "m3"]

    def test_a_full_page_without_a_token_is_not_the_end(self) -> None:
        assert self.read([page(1, 2, 3), page(3, 4, 5), page(5)], page_events=3) == ["m1", "m2", "m3", "m4", "m5"]

    def test_an_expired_token_loses_nothing(self) -> None:
        expired = {"__type": "InvalidParameterException", "message": "The specified nextToken is invalid."}
        refused = Answer(400, json.dumps(expired).encode())
        assert self.read([page(1, 2, token="a"), refused, page(2, 3)]) == ["m1", "m2", "m3"]

    def test_throttling_that_outlasts_the_sdk_loses_nothing(self, no_backoff: list[float]) -> None:
        pauses: list[float] = []
        refused = [throttled() for _ in range(8 * 3)]
        assert self.read([page(1, token="a"), *refused, page(2)], pauses=pauses) == ["m1", "m2"]
        assert pauses == [1, 2, 4]

    def test_throttling_without_an_end_is_an_error(self, no_backoff: list[float]) -> None:
        pauses: list[float] = []
        with pytest.raises(RefinerctlError, match="FilterLogEvents on log group g failed: ThrottlingException"):
            self.read([throttled() for _ in range(8 * 20)], pauses=pauses)
        assert pauses == list(THROTTLED_PAUSES_S)


class TestLogGroups:
    def test_bounds_streams_and_patterns(self, session: AwsSession, unique: str) -> None:
        groups = LogGroups(session)
        now = datetime.now(UTC).replace(microsecond=0)
        for stream in ("a", "b", "a"):
            groups.create_stream(unique, stream)
        for stream in ("a", "b"):
            groups.put(unique, stream, [(now + timedelta(seconds=n), f"{stream}{n} sägt 報告") for n in range(4)])

        def said(**given: Any) -> list[str]:
            return [event.message[:2] for event in groups.events(unique, now + timedelta(seconds=1), **given)]

        assert said() == ["a1", "b1", "a2", "b2", "a3", "b3"]
        assert said(until=now + timedelta(seconds=2), streams=["b"]) == ["b1", "b2"]
        assert said(pattern='"b3"') == ["b3"]
        events = list(groups.events(unique, now))
        assert len({event.event_id for event in events}) == 8
        assert (events[0].timestamp, events[0].group, events[0].stream) == (now, unique, "a")
        assert events[0].message == "a0 sägt 報告"

    def test_a_functions_lines_arrive(self, session: AwsSession, unique: str, tmp_path: Path) -> None:
        began = datetime.now(UTC) - timedelta(minutes=1)
        logs = FunctionLogs(tmp_path / "functions.log", LogGroups(session))
        for number in range(1200):
            logs.write(unique, f"s{number % 2}", "r", f"line {number}")
        logs.close()
        found = [event.message for event in LogGroups(session).events(f"/aws/lambda/{unique}", began)]
        assert sorted(found) == sorted(f"line {number}" for number in range(1200))

    def test_a_group_that_does_not_exist_has_no_lines(self, session: AwsSession, unique: str) -> None:
        assert list(LogGroups(session).events(unique, NOW)) == []


class TestQueues:
    @pytest.fixture
    def url(self, session: AwsSession, unique: str) -> str:
        return session.client("sqs").create_queue(QueueName=unique)["QueueUrl"]

    def send(self, session: AwsSession, url: str, count: int) -> None:
        attribute: Any = {"ERROR_CODE": {"DataType": "String", "StringValue": "NO_PERMISSIONS"}}
        for number in range(count):
            session.client("sqs").send_message(QueueUrl=url, MessageBody=f"m{number}", MessageAttributes=attribute)

    def test_messages_that_wait_and_in_flight_are_counted(self, session: AwsSession, url: str, unique: str) -> None:
        self.send(session, url, 3)
        session.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=1)
        found = Queues(session).state(unique)
        assert (found.name, found.visible, found.in_flight, found.delayed, found.total) == (unique, 2, 1, 0, 3)

    @pytest.mark.parametrize("count", [0, 10, 25])
    def test_a_look_shows_every_message_and_returns_them(
        self, session: AwsSession, url: str, unique: str, count: int
    ) -> None:
        self.send(session, url, count)
        queues = Queues(session)
        for times in (1, 2):
            seen = queues.peek(unique)
            assert sorted(message.body for message in seen) == sorted(f"m{number}" for number in range(count))
            assert all(message.receive_count == times for message in seen)
            assert all(message.texts == {"ERROR_CODE": "NO_PERMISSIONS"} for message in seen)
            assert all(abs(message.sent_at - datetime.now(UTC)) < timedelta(minutes=5) for message in seen)
        assert queues.state(unique).visible == count

    def test_a_look_stops_at_its_limit(self, session: AwsSession, url: str, unique: str) -> None:
        self.send(session, url, 25)
        assert 5 <= len(Queues(session).peek(unique, limit=5)) < 25
        assert Queues(session).state(unique).visible == 25

    def test_known_urls_cost_a_call_less(self) -> None:
        actions: list[str] = []

        def answer(request: Request) -> Answer:
            actions.append(request.method)
            if len(actions) == 1:
                urls = [f"{server.url}/0/x-{n}" for n in range(3)]
                return Answer(200, json.dumps({"QueueUrls": urls}).encode())
            return Answer(200, json.dumps({"Attributes": {"ApproximateNumberOfMessages": "3"}}).encode())

        with serving(answer) as server:
            queues = Queues(server.session())
            queues.find("x-")
            assert [queues.state(f"x-{n}").visible for n in range(3)] == [3, 3, 3]
        assert len(actions) == 4


class TestVersions:
    def test_newest_first_with_markers_and_without_other_keys(self, session: AwsSession, bucket: S3Bucket) -> None:
        client = session.client("s3")
        first = client.put_object(Bucket=bucket.name, Key="a ü", Body=b"1")["VersionId"]
        second = client.put_object(Bucket=bucket.name, Key="a ü", Body=b"22")["VersionId"]
        client.put_object(Bucket=bucket.name, Key="a ü more", Body=b"other")
        client.delete_object(Bucket=bucket.name, Key="a ü")
        found = bucket.versions("a ü")
        assert [version.is_delete_marker for version in found] == [True, False, False]
        assert {version.version_id for version in found[1:]} == {first, second}
        assert bucket.versions("never") == []


def test_a_functions_configuration(session: AwsSession, unique: str) -> None:
    session.client("lambda").create_function(
        FunctionName=unique,
        Role="arn:aws:iam::000000000000:role/r",
        PackageType="Image",
        Code={"ImageUri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/refiner:v1"},
        MemorySize=512,
        Timeout=7,
        Environment={"Variables": {"A": "1"}},
        ImageConfig={"Command": ["other.handler"]},
    )
    functions = Functions(session)
    found = functions.get(unique)
    assert (found.name, found.role_name, found.command) == (unique, "r", ("other.handler",))
    assert found.image_uri.endswith("/team/refiner:v1")
    assert (found.memory_mb, found.timeout_s, found.environment) == (512, 7, {"A": "1"})
    assert functions.mappings(unique) == ()
    assert functions.concurrency().limit > 0
    session.client("lambda").update_function_configuration(FunctionName=unique, Environment={"Variables": {"B": "2"}})
    assert functions.get(unique).environment == {"B": "2"}


def test_a_function_and_a_mapping_that_do_not_exist(session: AwsSession) -> None:
    with pytest.raises(NotFoundError, match="function nobody does not exist"):
        Functions(session).get("nobody")
    with pytest.raises(NotFoundError, match=r"event source mapping 6d0a2f7e.* does not exist"):
        Functions(session).mapping_is_enabled("6d0a2f7e-0000-0000-0000-000000000000")


@mock_aws
def test_many_metrics_in_one_call_and_more_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    session = AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=False)
    client = session.client("cloudwatch")
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(3):
        data: Any = {
            "MetricName": "Errors",
            "Dimensions": [{"Name": "FunctionName", "Value": f"f{number}"}],
            "Timestamp": now - timedelta(minutes=10),
            "Value": number + 1,
        }
        client.put_metric_data(Namespace="AWS/Lambda", MetricData=[data, data])
    calls: list[int] = []
    client.meta.events.register(
        "provide-client-params.cloudwatch.GetMetricData",
        lambda params, **_: calls.append(len(params["MetricDataQueries"])),
    )
    count = QUERIES_PER_CALL + 1
    wanted = {n: Metric("AWS/Lambda", "Errors", "FunctionName", f"f{n}", "Sum", 3600) for n in range(count)}
    found = Metrics(session).read(wanted, now - timedelta(hours=1), now)
    assert [sum(point.value for point in found[number]) for number in range(3)] == [2, 4, 6]
    assert found[count - 1] == ()
    assert sorted(calls) == [1, QUERIES_PER_CALL]
