"""Stack rnr in the local environment: real servers behind Amazon MQ and ElastiCache, and no changes for Terraform."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pika
import pytest
import redis

from tests.e2e.project import Project, eventually

pytestmark = pytest.mark.e2e


def servers(project: Project) -> dict[str, Any]:
    """Servers of the environment by the first word of their name."""
    found = project.run("local", "status", "--output", "json").json()["servers"]
    return {server["name"].partition("-")[0]: server for server in found}


def secret(project: Project, name: str) -> dict[str, str]:
    text = project.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
    content: dict[str, str] = json.loads(text)
    return content


def broker_connection(project: Project) -> pika.BlockingConnection:
    """As a worker connects: the address of DescribeBroker, the credentials of the secret."""
    mq = project.client("mq")
    (summary,) = mq.list_brokers()["BrokerSummaries"]
    broker = mq.describe_broker(BrokerId=summary["BrokerId"])
    (endpoint,) = broker["BrokerInstances"][0]["Endpoints"]
    content = secret(project, summary["BrokerName"])
    parameters = pika.URLParameters(endpoint)
    parameters.credentials = pika.PlainCredentials(content["username"], content["password"])
    return pika.BlockingConnection(parameters)


def test_terraform_sees_no_changes_after_up(rnr: Project) -> None:
    variables = rnr.run("local", "env", "--terraform", "rnr", "--output", "json").json()
    done = subprocess.run(
        ["terraform", "plan", "-detailed-exitcode", "-no-color"],
        cwd=rnr.folder / "terraform" / "stacks" / "rnr",
        env=rnr.environment() | {name: value or "" for name, value in variables.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout + done.stderr + rnr.run("local", "logs", "--source", "terraform").out
    assert "aws_mq_broker" in printed
    for name, field in (("rnr-local-broker", "password"), ("rnr-local-cache", "token")):
        assert secret(rnr, name)[field] not in printed


def test_broker_is_a_rabbitmq_server_that_is_restarted_after_a_crash(rnr: Project) -> None:
    assert broker_connection(rnr).is_open
    before = servers(rnr)["rabbitmq"]
    os.kill(before["pid"], signal.SIGKILL)
    assert eventually(lambda: servers(rnr)["rabbitmq"]["pid"] not in (before["pid"], None))
    assert servers(rnr)["rabbitmq"]["address"] == before["address"]
    assert broker_connection(rnr).is_open
    assert "starting it again" in rnr.run("local", "logs", "--source", "supervisor").out


def test_cache_is_a_redis_server_with_the_token_of_the_secret(rnr: Project) -> None:
    (group,) = rnr.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    endpoint = group["NodeGroups"][0]["PrimaryEndpoint"]
    token = secret(rnr, group["ReplicationGroupId"])["token"]
    assert redis.Redis(endpoint["Address"], endpoint["Port"], password=token).ping()
    assert servers(rnr)["redis"]["address"] == f"redis://127.0.0.1:{endpoint['Port']}"
