"""The client of alarms, against moto and the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto import mock_aws

from refinerctl.aws.alarms import Alarms, Topic
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError

TOPIC = "arn:aws:sns:us-east-1:123456789012:operators"


@pytest.fixture
def in_process() -> Iterator[AwsSession]:
    with mock_aws():
        yield AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=True)


def put(session: AwsSession, name: str, **settings: Any) -> None:
    session.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=[{"Name": "QueueName", "Value": "q-dlq"}],
        Statistic="Maximum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        **settings,
    )


def test_an_alarm_has_the_fields_of_describe_alarms(session: AwsSession, unique: str) -> None:
    put(session, f"{unique}-on", AlarmActions=[TOPIC])
    put(session, f"{unique}-off", AlarmActions=[TOPIC], ActionsEnabled=False)
    session.client("cloudwatch").set_alarm_state(AlarmName=f"{unique}-on", StateValue="ALARM", StateReason="1 > 0")
    off, on = Alarms(session).find(unique)
    assert (on.name, on.state, on.metric) == (f"{unique}-on", "ALARM", "ApproximateNumberOfMessagesVisible")
    assert (on.resources, on.actions, on.reason) == (("q-dlq",), (TOPIC,), "1 > 0")
    assert on.since is not None
    assert datetime.now(UTC) - on.since < timedelta(minutes=1)
    assert (off.actions, off.state) == ((), "INSUFFICIENT_DATA")
    assert Alarms(session).find(unique, "ALARM") == (on,)


def test_a_call_for_every_hundred_alarms(in_process: AwsSession) -> None:
    calls: list[dict[str, Any]] = []
    for number in range(150):
        put(in_process, f"x-{number:03}")
    put(in_process, "other")
    in_process.client("cloudwatch").meta.events.register(
        "provide-client-params.cloudwatch.DescribeAlarms", lambda params, **_: calls.append(params)
    )
    assert [alarm.name for alarm in Alarms(in_process).find("x-")] == [f"x-{number:03}" for number in range(150)]
    assert [call["MaxRecords"] for call in calls] == [100] * len(calls)
    assert len(Alarms(in_process).find("")) == 151


def test_the_subscriptions_of_a_topic(session: AwsSession, unique: str) -> None:
    sns = session.client("sns")
    arn = sns.create_topic(Name=unique)["TopicArn"]
    assert Alarms(session).topic(arn) == Topic(unique, 0)
    sns.subscribe(TopicArn=arn, Protocol="http", Endpoint="http://127.0.0.1:9/never-confirmed")
    assert Alarms(session).topic(arn) == Topic(unique, 0, pending=1)
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:000000000000:q")
    assert Alarms(session).topic(arn) == Topic(unique, 1, pending=1)


def test_a_topic_is_read_in_its_own_region(in_process: AwsSession) -> None:
    arn = in_process.in_region("eu-west-1").client("sns").create_topic(Name="operators")["TopicArn"]
    assert Alarms(in_process).topic(arn).name == "operators"
    with pytest.raises(NotFoundError, match="topic nobody does not exist"):
        Alarms(in_process).topic(arn.replace("operators", "nobody"))
