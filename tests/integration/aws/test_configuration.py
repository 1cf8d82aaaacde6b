"""How the clients read the configuration of AWS's resources; KMS with moto, which has keys in all states."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from refinerctl.aws.bucket_versions import BucketVersions
from refinerctl.aws.ecr import EcrRegistry
from refinerctl.aws.events import EventBuses, RuleTarget
from refinerctl.aws.iam import Roles, kms_key
from refinerctl.aws.logs import LogGroups
from refinerctl.aws.messages import QueueAddress
from refinerctl.aws.policies import Request, allowed
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import Queues
from refinerctl.errors import NotFoundError
from refinerctl.images import ImageReference

QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"
ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}


def test_a_bus_with_its_rules_and_targets(session: AwsSession, unique: str) -> None:
    client, buses = session.client("events"), EventBuses(session)
    client.create_event_bus(Name=unique)
    for name, state in (("a", "ENABLED"), ("b", "DISABLED")):
        client.put_rule(Name=name, EventBusName=unique, EventPattern='{"source": ["x"]}', State=state)  # type: ignore[arg-type]
    targets: Any = [{"Id": "1", "Arn": QUEUE, "DeadLetterConfig": {"Arn": f"{QUEUE}-dlq"}, "InputPath": "$.detail"}]
    client.put_targets(Rule="a", EventBusName=unique, Targets=targets)
    assert buses.bus(unique).arn.endswith(f"event-bus/{unique}")
    assert [(rule.name, rule.is_enabled, rule.pattern) for rule in buses.rules(unique)] == [
        ("a", True, '{"source": ["x"]}'),
        ("b", False, '{"source": ["x"]}'),
    ]
    assert buses.targets(unique, "a") == (RuleTarget("1", QUEUE, dlq_arn=f"{QUEUE}-dlq", changes_event=True),)
    assert buses.targets(unique, "b") == ()
    assert buses.senders(unique, QUEUE) == {"a"}
    assert buses.senders(unique, f"{QUEUE}-2") == set()
    client.put_permission(EventBusName=unique, Policy=json.dumps(ALLOW))
    assert len(buses.bus(unique).policy) == 1
    with pytest.raises(NotFoundError, match="event bus nowhere does not exist"):
        buses.bus("nowhere")


def test_a_role_with_inline_and_attached_policies(session: AwsSession, unique: str) -> None:
    client = session.client("iam")
    trust = {
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]
    }
    client.create_role(RoleName=unique, AssumeRolePolicyDocument=json.dumps(trust))
    client.put_role_policy(RoleName=unique, PolicyName="inline", PolicyDocument=json.dumps(ALLOW))
    arn = client.create_policy(PolicyName=f"{unique}-attached", PolicyDocument=json.dumps(ALLOW))["Policy"]["Arn"]
    client.attach_role_policy(RoleName=unique, PolicyArn=arn)
    roles = Roles(session)
    assert roles.get(unique).boundary is None
    client.put_role_permissions_boundary(RoleName=unique, PermissionsBoundary=arn)
    role = roles.get(unique)
    assert role.boundary == role.policies[1].statements
    assert [(policy.name, policy.arn) for policy in role.policies] == [("inline", None), (f"{unique}-attached", arn)]
    request = Request("s3:GetObject", "arn:aws:s3:::b/k", role_arn=role.arn)
    assert all(allowed([policy.statements], request) for policy in role.policies)
    assert allowed([role.trust], Request("sts:AssumeRole", role.arn, service="lambda.amazonaws.com")) is True
    with pytest.raises(NotFoundError, match="role nobody does not exist"):
        Roles(session).get("nobody")


def test_a_buckets_settings(session: AwsSession, bucket: S3Bucket) -> None:
    client = session.client("s3")
    assert (bucket.sends_events(), bucket.policy(), bucket.kms_key()) == (False, (), None)
    client.put_bucket_notification_configuration(
        Bucket=bucket.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    client.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(ALLOW))
    encryption: Any = {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "k"}}]
    }
    client.put_bucket_encryption(Bucket=bucket.name, ServerSideEncryptionConfiguration=encryption)
    assert (bucket.sends_events(), len(bucket.policy()), bucket.kms_key()) == (True, 1, "k")


def test_a_queues_settings(session: AwsSession, unique: str) -> None:
    attributes = {
        "Policy": json.dumps(ALLOW),
        "VisibilityTimeout": "7",
        "MessageRetentionPeriod": "3600",
        "RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [QUEUE]}),
    }
    url = session.client("sqs").create_queue(QueueName=unique, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
    queues = Queues(session)
    found = queues.state(unique)
    assert queues.state_at(queues.address(unique)) == found
    assert (found.visibility_timeout_s, found.retention_s, found.redrive_sources) == (7, 3600, (QUEUE,))
    assert (found.dlq_arn, found.max_receive_count, len(found.policy)) == (None, None, 1)
    redrive = json.dumps({"deadLetterTargetArn": found.arn, "maxReceiveCount": "4"})
    session.client("sqs").set_queue_attributes(
        QueueUrl=url, Attributes={"RedrivePolicy": redrive, "RedriveAllowPolicy": '{"redrivePermission": "denyAll"}'}
    )
    changed = queues.state(unique)
    assert (changed.dlq_arn, changed.max_receive_count, changed.redrive_sources) == (found.arn, 4, ())
    with pytest.raises(NotFoundError, match="queue nowhere does not exist"):
        queues.state("nowhere")
    with pytest.raises(NotFoundError, match="queue nowhere does not exist"):
        queues.state_at(QueueAddress("nowhere", f"{url}x", found.arn))


def test_a_log_group_is_found_by_its_exact_name(session: AwsSession, unique: str) -> None:
    client = session.client("logs")
    for name in (f"/{unique}-2", f"/{unique}"):
        client.create_log_group(logGroupName=name)
    client.put_retention_policy(logGroupName=f"/{unique}-2", retentionInDays=7)
    groups = LogGroups(session)
    assert groups.settings(f"/{unique}").retention_days is None
    assert groups.settings(f"/{unique}-2").retention_days == 7
    with pytest.raises(NotFoundError):
        groups.settings(f"/{unique}-3")


def test_an_image_by_tag_and_by_digest(session: AwsSession, unique: str) -> None:
    client, ecr = session.client("ecr"), EcrRegistry(session)
    with pytest.raises(NotFoundError, match="ECR repository"):
        ecr.find(ImageReference(unique, tag="v1"))
    client.create_repository(repositoryName=unique)
    client.put_image(repositoryName=unique, imageManifest='{"schemaVersion": 2}', imageTag="v1")
    digest = ecr.find(ImageReference(unique, tag="v1"))
    assert ecr.find(ImageReference(unique, digest=digest)) == digest
    with pytest.raises(NotFoundError, match=f"{unique}:v2 is not in ECR"):
        ecr.find(ImageReference(unique, tag="v2"))


def test_all_versions_of_one_key_are_deleted_and_no_other(session: AwsSession, bucket: S3Bucket) -> None:
    client = session.client("s3")
    for key in ("a+b ü", "a+b ü", "a+b ü.json", "a"):
        client.put_object(Bucket=bucket.name, Key=key, Body=b"x")
    client.delete_object(Bucket=bucket.name, Key="a+b ü")
    assert BucketVersions(session).delete_key(bucket.name, "a+b ü") == 3
    left = [item["Key"] for item in client.list_object_versions(Bucket=bucket.name)["Versions"]]
    assert left == ["a", "a+b ü.json"]
    assert BucketVersions(session).delete_key(bucket.name, "a+b ü") == 0
    assert BucketVersions(session).oldest(bucket.name, "a+b ü") is None


def test_older_versions_are_not_deleted(session: AwsSession, bucket: S3Bucket) -> None:
    client, versions = session.client("s3"), BucketVersions(session)
    client.put_object(Bucket=bucket.name, Key="k", Body=b"somebody else's")
    before = versions.oldest(bucket.name, "k")
    assert before is not None
    time.sleep(1.1)  # S3 tells whole seconds
    client.put_object(Bucket=bucket.name, Key="k", Body=b"a canary's")
    assert versions.delete_key(bucket.name, "k", before + timedelta(seconds=1)) == 1
    assert client.get_object(Bucket=bucket.name, Key="k")["Body"].read() == b"somebody else's"
    assert versions.oldest(bucket.name, "k") == before


def test_kms_keys_are_enabled_disabled_or_missing() -> None:
    with mock_aws():
        session = AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=False)
        client = session.client("kms")
        arn = client.create_key()["KeyMetadata"]["Arn"]
        own = kms_key(session, arn)
        assert (own.state, own.is_aws_managed, own.arn) == ("Enabled", False, arn)
        assert own.policy
        client.disable_key(KeyId=arn.rpartition("/")[2])
        assert kms_key(session, arn).state == "Disabled"
        elsewhere = session.in_region("eu-west-1").client("kms").create_key()["KeyMetadata"]["Arn"]
        assert kms_key(session, elsewhere).policy
        with pytest.raises(NotFoundError, match=r"KMS key 11111111.* does not exist"):
            kms_key(session, "11111111-2222-3333-4444-555555555555")


def test_a_key_that_aws_manages(session: AwsSession) -> None:
    arn = "arn:aws:kms:us-east-1:000000000000:key/k"
    metadata = {"KeyId": "k", "Arn": arn, "KeyManager": "AWS", "KeyState": "Enabled"}
    with Stubber(session.client("kms")) as canned:
        canned.add_response("describe_key", {"KeyMetadata": metadata}, {"KeyId": "alias/aws/sqs"})
        canned.add_response("get_key_policy", {"Policy": "{}"}, {"KeyId": "k", "PolicyName": "default"})
        assert kms_key(session, "alias/aws/sqs").is_aws_managed
