"""`refinerctl status` with alarms, against the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refinerctl.aws.session import AwsSession
from tests.command import Command


@pytest.fixture
def alarm(session: AwsSession, unique: str) -> Iterator[str]:
    """An alarm of stack refiner, with names of this test, in state ALARM."""
    name, cloudwatch = f"{unique}-RefinerInput-dlq-messages", session.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=[{"Name": "QueueName", "Value": f"{unique}-RefinerInput-dlq"}],
        Statistic="Maximum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="3 messages")
    yield name
    cloudwatch.delete_alarms(AlarmNames=[name])


def test_the_first_line_and_json_have_the_reasons(
    alarm: str,
    refinerctl: Command,
    session: AwsSession,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "refinerctl.toml").write_text(
        'environment = "account"\n[environments.account]\nregion = "us-east-1"\n'
        f'[stacks.refiner]\nname_prefix = "{unique}"\n'
    )
    monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", str(session.endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.chdir(tmp_path)

    done = refinerctl("status")
    assert done.code == 0, done.err
    first, header, *_ = done.out.splitlines()
    assert first.startswith("unhealthy: RefinerComplete: it is not deployed in us-east-1, and 1 similar; ")
    assert f"; 1 alarm: {alarm} (" in first
    assert header.startswith("STAGE")
    assert refinerctl("status", "--check").code == 5

    document = refinerctl("status", "--output", "json").json()
    assert document["health"] == "unhealthy"
    assert first.startswith(f"unhealthy: {document['reasons'][0]}; ")
    (found,) = document["alarms"]
    assert (found["name"], found["state"], found["reason"]) == (alarm, "ALARM", "3 messages")
