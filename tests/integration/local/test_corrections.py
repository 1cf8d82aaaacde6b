"""The server in front of the emulator: what it corrects, and what it forwards."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pika
import pika.exceptions
import pytest
import redis as client
from botocore.exceptions import ClientError

from refinerctl.aws.logs import LogGroups
from refinerctl.aws.session import AwsSession
from refinerctl.embedded import Instance, ServerStatus
from refinerctl.errors import RefinerctlError
from refinerctl.local.corrections.cloudwatch import correct_alarms
from refinerctl.local.corrections.ecs import ServiceCorrections
from refinerctl.local.corrections.elasticache import CacheCorrections
from refinerctl.local.corrections.mq import BrokerCorrections
from refinerctl.local.corrections.secretsmanager import correct_stages
from refinerctl.local.corrections.server import CorrectingServer, json_answer
from refinerctl.local.ecs_agent import EcsAgent
from refinerctl.local.emulator import Emulator
from refinerctl.local.engines import ProcessEngine
from refinerctl.local.function_logs import FunctionLogs
from refinerctl.local.servers import LocalServers
from tests.brokers import needs_rabbitmq, needs_redis

SERVICES = ("mq", "elasticache", "ecs", "cloudwatch", "secretsmanager")


@pytest.fixture
def corrections(emulator: Emulator) -> Iterator[CorrectingServer]:
    server = CorrectingServer(emulator.endpoint_url)
    yield server
    server.close()


@pytest.fixture
def corrected(emulator: Emulator, corrections: CorrectingServer) -> AwsSession:
    endpoints = dict.fromkeys(SERVICES, corrections.url)
    return AwsSession("us-east-1", profile=None, endpoint_url=emulator.endpoint_url, embedded=True, endpoints=endpoints)


def post(url: str, service: str, body: str, **headers: str) -> str:
    scope = f"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, Signature=0"
    form = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": scope, **headers}
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), form)) as response:
        text: str = response.read().decode()
        return text


def test_replication_group_is_a_redis_server_with_its_token(
    corrections: CorrectingServer, corrected: AwsSession, tmp_path: Path, unique: str
) -> None:
    needs_redis()
    changes: list[list[ServerStatus]] = []
    instance = Instance(tmp_path / "instance")
    instance.prepare()
    servers = LocalServers(instance, changes.append)
    CacheCorrections(corrections, servers)
    api = corrected.client("elasticache")
    given = {"ReplicationGroupId": unique, "AuthToken": "a-token-of-16-characters"}
    try:
        api.create_replication_group(
            **given, ReplicationGroupDescription="x", Engine="valkey", TransitEncryptionEnabled=True
        )
        (group,) = api.describe_replication_groups(ReplicationGroupId=unique)["ReplicationGroups"]
        endpoint = group["NodeGroups"][0]["PrimaryEndpoint"]
        server = client.Redis(endpoint["Address"], endpoint["Port"], password=given["AuthToken"])
        assert server.ping()
        assert [status.address for status in changes[-1]] == [f"redis://127.0.0.1:{endpoint['Port']}"]
        api.delete_replication_group(ReplicationGroupId=unique)
        with pytest.raises(client.ConnectionError):
            server.ping()
        assert changes[-1] == []
    finally:
        servers.close()


@pytest.mark.nightly  # tests/e2e/test_rnr.py uses one, too
def test_broker_is_a_rabbitmq_server_with_its_user(
    corrections: CorrectingServer, corrected: AwsSession, tmp_path: Path, unique: str
) -> None:
    needs_rabbitmq()
    instance = Instance(tmp_path / "instance")
    instance.prepare()
    servers = LocalServers(instance, lambda _: None)
    BrokerCorrections(corrections, servers)
    api = corrected.client("mq")
    given: dict[str, Any] = {
        "BrokerName": unique,
        "EngineType": "RABBITMQ",
        "EngineVersion": "3.13",
        "HostInstanceType": "mq.m7g.medium",
        "DeploymentMode": "SINGLE_INSTANCE",
        "PubliclyAccessible": False,
        "SubnetIds": ["subnet-00000001"],
        "SecurityGroups": ["sg-1"],
        "Logs": {"General": True},
    }
    try:
        with pytest.raises(api.exceptions.BadRequestException, match="needs a user with a password"):
            api.create_broker(**given, Users=[])
        created = api.create_broker(**given, Users=[{"Username": "operator", "Password": "a-password-of-a-test"}])
        broker = api.describe_broker(BrokerId=created["BrokerId"])
        assert (broker["EngineType"], broker["SubnetIds"], broker["SecurityGroups"], broker["Logs"]["General"]) == (
            "RabbitMQ",
            given["SubnetIds"],
            given["SecurityGroups"],
            True,
        )
        user = api.describe_user(BrokerId=created["BrokerId"], Username="operator")
        assert (user["Username"], user["ConsoleAccess"]) == ("operator", False)
        parameters = pika.URLParameters(broker["BrokerInstances"][0]["Endpoints"][0])
        parameters.credentials = pika.PlainCredentials("operator", "a-password-of-a-test")
        assert pika.BlockingConnection(parameters).is_open
        api.delete_broker(BrokerId=created["BrokerId"])
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            pika.BlockingConnection(parameters)
    finally:
        servers.close()


def test_secrets_version_keeps_its_own_stages(
    corrections: CorrectingServer, corrected: AwsSession, unique: str
) -> None:
    correct_stages(corrections)
    api = corrected.client("secretsmanager")
    secret = api.create_secret(Name=unique)["ARN"]
    put = api.put_secret_value(SecretId=secret, SecretString="1", VersionStages=["AWSCURRENT", "INITIAL"])
    assert sorted(put["VersionStages"]) == ["AWSCURRENT", "INITIAL"]
    for value in "2345":  # a version without a stage would be gone
        api.put_secret_value(SecretId=secret, SecretString=value)
    assert api.get_secret_value(SecretId=secret)["SecretString"] == "5"
    assert api.get_secret_value(SecretId=secret, VersionStage="INITIAL")["SecretString"] == "1"
    api.put_secret_value(SecretId=secret, SecretString="6", VersionStages=["AWSCURRENT", "INITIAL"])
    assert api.get_secret_value(SecretId=secret, VersionStage="INITIAL")["SecretString"] == "6"


def test_alarm_in_query_protocol_keeps_everything(
    corrections: CorrectingServer, corrected: AwsSession, unique: str
) -> None:
    correct_alarms(corrections)
    metric = {"MetricStat.Metric.MetricName": "A", "MetricStat.Period": "60", "MetricStat.Stat": "Sum"}
    alarm = {
        "AlarmName": unique,
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": "3",
        "Threshold": "1.5",
        "ActionsEnabled": "false",
        "Dimensions.member.1.Name": "QueueName",
        "Dimensions.member.1.Value": "a&b",
        "MetricName": "A",
        "Namespace": "rnr",
        "Period": "300",
        "Statistic": "Maximum",
        **{f"Metrics.member.1.{name}": value for name, value in metric.items()},
        "Metrics.member.1.Id": "m1",
        "Metrics.member.1.ReturnData": "true",
    }
    post(corrections.url, "monitoring", urlencode({"Action": "PutMetricAlarm", **alarm}))
    xml = post(corrections.url, "monitoring", f"Action=DescribeAlarms&AlarmNames.member.1={unique}")
    assert "<Period>300</Period>" in xml
    assert "<Dimensions><member><Name>QueueName</Name><Value>a&amp;b</Value></member></Dimensions>" in xml
    assert "<ActionsEnabled>false</ActionsEnabled>" in xml
    (found,) = corrected.client("cloudwatch").describe_alarms(AlarmNames=[unique])["MetricAlarms"]
    assert (found["Period"], found["Threshold"], found["EvaluationPeriods"]) == (300, 1.5, 3)
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(corrections.url, "monitoring", "Action=DescribeAlarms&MaxRecords=1000")
    assert b"<Code>ValidationError</Code>" in refused.value.read()


def test_services_and_tasks_are_those_of_the_agent(
    corrections: CorrectingServer, corrected: AwsSession, session: AwsSession, tmp_path: Path, unique: str
) -> None:
    logs = FunctionLogs(tmp_path / "tasks.log", LogGroups(session))
    engine = ProcessEngine({}, tmp_path / "venvs")
    agent = EcsAgent(session.client("ecs"), engine, logs, {})
    ServiceCorrections(corrections, agent)
    ecs = corrected.client("ecs")
    try:
        ecs.create_cluster(clusterName=unique)
        container = {"name": "c", "image": "i", "memory": 128}
        ecs.register_task_definition(family=unique, containerDefinitions=[container])  # type: ignore[list-item]
        created = ecs.create_service(cluster=unique, serviceName="s", taskDefinition=unique, desiredCount=0)
        assert created["service"]["availabilityZoneRebalancing"] == "DISABLED"
        ecs.update_service(cluster=unique, service="s", availabilityZoneRebalancing="ENABLED")
        (found,) = ecs.describe_services(cluster=unique, services=["s"])["services"]
        assert (found["availabilityZoneRebalancing"], found["runningCount"]) == ("ENABLED", 0)
        assert ecs.list_tasks(cluster=unique, serviceName="s")["taskArns"] == []
        with pytest.raises(ecs.exceptions.InvalidParameterException, match="task was not found"):
            ecs.stop_task(cluster=unique, task="no-such-task")
    finally:
        agent.close()
        logs.close()


def test_registered_operation_is_answered_and_others_are_forwarded(
    corrections: CorrectingServer, corrected: AwsSession, unique: str
) -> None:
    corrections.correct("ecs", "ListTasks", lambda request, _: json_answer({"taskArns": [request.json["cluster"]]}))
    ecs = corrected.client("ecs")
    assert ecs.list_tasks(cluster=unique)["taskArns"] == [unique]
    ecs.create_cluster(clusterName=unique)
    assert ecs.describe_clusters(clusters=[unique])["clusters"][0]["clusterName"] == unique


def test_failed_correction_is_an_error_that_says_why(corrections: CorrectingServer, corrected: AwsSession) -> None:
    def fail(*_: object) -> None:
        raise RefinerctlError("no server <x> is installed", hint="Install it.")

    corrections.correct("mq", "GET /v1/brokers/{}", fail)  # type: ignore[arg-type]
    corrections.correct("elasticache", "DescribeReplicationGroups", fail)  # type: ignore[arg-type]
    api = corrected.client("mq")
    reason = r"no server <x> is installed\. Install it\."
    with pytest.raises(api.exceptions.BadRequestException, match=reason):
        api.describe_broker(BrokerId="b-1")
    with pytest.raises(ClientError, match=reason):  # in XML
        corrected.client("elasticache").describe_replication_groups()


def test_web_page_is_refused(corrections: CorrectingServer) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        post(corrections.url, "ecs", "{}", Origin="https://example.com")
