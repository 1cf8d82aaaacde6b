"""How the clients read ECS services, security groups, secrets, brokers and caches."""

from __future__ import annotations

from typing import Any

import pytest

from refinerctl.aws.ecs_services import Services
from refinerctl.aws.elasticache import cache_settings
from refinerctl.aws.lambda_ import Functions
from refinerctl.aws.mq import broker_settings
from refinerctl.aws.secrets import Secrets
from refinerctl.aws.security_groups import lets_through, security_group
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError


def test_a_service_with_its_task_definition_and_tasks(session: AwsSession, unique: str) -> None:
    ecs, services = session.client("ecs"), Services(session)
    ecs.create_cluster(clusterName=unique)
    container: Any = {
        "name": "worker",
        "image": "repo@sha256:1",
        "stopTimeout": 120,
        "environment": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
    }
    arn = ecs.register_task_definition(
        family=unique, containerDefinitions=[container], taskRoleArn="arn:aws:iam::123456789012:role/task"
    )["taskDefinition"]["taskDefinitionArn"]
    ecs.create_service(
        cluster=unique,
        serviceName=unique,
        taskDefinition=arn,
        desiredCount=0,
        deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
    )
    state = services.get(unique, unique)
    assert (state.name, state.desired, state.running, state.task_definition) == (unique, 0, 0, arn)
    assert (state.has_circuit_breaker, state.rolls_back) == (True, True)
    assert state.primary is not None
    assert state.primary.task_definition == arn
    definition = services.definition(arn, "worker")
    assert (definition.image, definition.stop_timeout_s) == ("repo@sha256:1", 120)
    assert definition.environment == (("A", "1"), ("B", "2"))
    assert services.tasks(unique, unique) == ()
    with pytest.raises(NotFoundError, match="has no container other"):
        services.definition(arn, "other")
    for cluster, name in ((unique, "nowhere"), ("nowhere", unique)):
        with pytest.raises(NotFoundError, match=f"service {name} of cluster {cluster} does not exist"):
            services.get(cluster, name)


def test_a_security_group_with_its_rules(session: AwsSession, unique: str) -> None:
    ec2 = session.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ids = [
        ec2.create_security_group(GroupName=f"{unique}-{n}", Description="d", VpcId=vpc)["GroupId"] for n in range(2)
    ]
    peer = {"UserIdGroupPairs": [{"GroupId": ids[1]}], "IpProtocol": "tcp", "FromPort": 5671, "ToPort": 5671}
    ec2.authorize_security_group_ingress(GroupId=ids[0], IpPermissions=[peer])
    found = security_group(session, ids[0])
    assert lets_through(found.ingress, 5671, [ids[1]]) is True
    assert lets_through(found.ingress, 443, [ids[1]]) is False
    assert lets_through(found.egress, 443, [ids[1]]) is None  # the default: to any address
    with pytest.raises(NotFoundError):
        security_group(session, "sg-00000000000000000")


def test_a_secret_without_its_value(session: AwsSession, unique: str) -> None:
    client = session.client("secretsmanager")
    client.create_secret(Name=unique, SecretString="{}")
    found = Secrets(session).state(unique)
    assert (found.name, found.has_current_version, found.deleted_at) == (unique, True, None)
    client.delete_secret(SecretId=unique, RecoveryWindowInDays=7)
    assert Secrets(session).state(unique).deleted_at is not None
    with pytest.raises(NotFoundError, match=f"secret {unique}-2 does not exist"):
        Secrets(session).state(f"{unique}-2")


def test_a_broker_and_a_cache(session: AwsSession, unique: str) -> None:
    session.client("mq").create_broker(
        BrokerName=unique,
        EngineType="RABBITMQ",
        EngineVersion="3.13",
        HostInstanceType="mq.m5.large",
        DeploymentMode="SINGLE_INSTANCE",
        PubliclyAccessible=False,
        AutoMinorVersionUpgrade=True,
        Users=[{"Username": "operator", "Password": "long-enough-password"}],
    )
    found = broker_settings(session, unique)
    assert (found.name, found.is_public) == (unique, False)
    with pytest.raises(NotFoundError, match="broker nowhere does not exist"):
        broker_settings(session, "nowhere")
    session.client("elasticache").create_replication_group(
        ReplicationGroupId=unique, ReplicationGroupDescription="d", Engine="valkey", CacheNodeType="cache.t4g.micro"
    )
    assert cache_settings(session, unique).name == unique
    with pytest.raises(NotFoundError, match="cache nowhere does not exist"):
        cache_settings(session, "nowhere")


def test_a_function_without_a_destination_of_failed_invocations(session: AwsSession, unique: str) -> None:
    assert Functions(session).failure_destination(unique) is None
