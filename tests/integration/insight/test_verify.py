"""The clients that `verify` asks, against the emulator; KMS in process, where moto has keys of all kinds."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from refinerctl.aws.bucket_settings import BucketSettings
from refinerctl.aws.bucket_versions import BucketVersions
from refinerctl.aws.ecr import EcrRegistry
from refinerctl.aws.events import EventBuses, RuleTarget
from refinerctl.aws.iam import Role, Roles
from refinerctl.aws.kms import Keys
from refinerctl.aws.lambda_ import FunctionConfiguration, Functions
from refinerctl.aws.log_settings import LogSettings
from refinerctl.aws.policies import Request, allowed
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.schedules import Schedules
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import Queues
from refinerctl.errors import AccessDeniedError, NotFoundError
from refinerctl.images import ImageReference
from refinerctl.insight.verify.checks import Status
from refinerctl.insight.verify.run import checks_of, run_checks
from refinerctl.insight.verify.snapshot import ROLE, ROLES_AT_ONCE, Clients, take_snapshot
from refinerctl.stacks.base import Function, Pipeline, Queue, Schedule, Stack, Stage
from refinerctl.stacks.refiner import STACK

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
    client, settings = session.client("s3"), BucketSettings(session, bucket.name)
    settings.check()
    assert (settings.sends_events(), settings.policy(), settings.kms_key()) == (False, (), None)
    client.put_bucket_notification_configuration(
        Bucket=bucket.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    client.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(ALLOW))
    encryption: Any = {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "k"}}]
    }
    client.put_bucket_encryption(Bucket=bucket.name, ServerSideEncryptionConfiguration=encryption)
    assert (settings.sends_events(), len(settings.policy()), settings.kms_key()) == (True, 1, "k")
    nowhere = BucketSettings(session, "nowhere")
    for ask in (nowhere.check, nowhere.sends_events, nowhere.policy, nowhere.kms_key):
        with pytest.raises(NotFoundError, match="bucket nowhere does not exist"):
            ask()


def test_a_queues_settings(session: AwsSession, unique: str) -> None:
    attributes = {
        "VisibilityTimeout": "7",
        "MessageRetentionPeriod": "3600",
        "RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [QUEUE]}),
    }
    url = session.client("sqs").create_queue(QueueName=unique, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
    found = Queues(session).settings(unique)
    assert (found.visibility_timeout_s, found.retention_s, found.redrive_sources) == (7, 3600, (QUEUE,))
    assert (found.dlq_arn, found.max_receive_count, found.policy) == (None, None, ())
    redrive = json.dumps({"deadLetterTargetArn": found.arn, "maxReceiveCount": "4"})
    session.client("sqs").set_queue_attributes(
        QueueUrl=url, Attributes={"RedrivePolicy": redrive, "RedriveAllowPolicy": '{"redrivePermission": "denyAll"}'}
    )
    changed = Queues(session).settings(unique)
    assert (changed.dlq_arn, changed.max_receive_count, changed.redrive_sources) == (found.arn, 4, ())
    with pytest.raises(NotFoundError):
        Queues(session).settings("nowhere")


def test_log_groups_are_told_apart(session: AwsSession, unique: str) -> None:
    client = session.client("logs")
    for name in (f"/{unique}-2", f"/{unique}"):
        client.create_log_group(logGroupName=name)
    client.put_retention_policy(logGroupName=f"/{unique}-2", retentionInDays=7)
    settings = LogSettings(session)
    assert settings.get(f"/{unique}").retention_days is None
    assert settings.get(f"/{unique}-2").retention_days == 7
    with pytest.raises(NotFoundError):
        settings.get(f"/{unique}-3")


def test_a_function_that_is_not_there(session: AwsSession) -> None:
    with pytest.raises(NotFoundError, match="there is no function 'nobody'"):
        Functions(session).get("nobody")
    assert Functions(session).concurrency().limit > 0


def test_an_image_by_tag_and_by_digest(session: AwsSession, unique: str) -> None:
    client, ecr = session.client("ecr"), EcrRegistry(session)
    with pytest.raises(NotFoundError, match="there is no ECR repository"):
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


def test_versions_that_were_there_before_stay(session: AwsSession, bucket: S3Bucket) -> None:
    client, versions = session.client("s3"), BucketVersions(session)
    client.put_object(Bucket=bucket.name, Key="k", Body=b"somebody else's")
    before = versions.oldest(bucket.name, "k")
    assert before is not None
    time.sleep(1.1)  # S3 tells whole seconds
    client.put_object(Bucket=bucket.name, Key="k", Body=b"a canary's")
    assert versions.delete_key(bucket.name, "k", before + timedelta(seconds=1)) == 1
    assert client.get_object(Bucket=bucket.name, Key="k")["Body"].read() == b"somebody else's"
    assert versions.oldest(bucket.name, "k") == before


def test_keys_of_all_kinds() -> None:
    with mock_aws():
        session = AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=False)
        client, keys = session.client("kms"), Keys(session)
        arn = client.create_key()["KeyMetadata"]["Arn"]
        own = keys.get(arn)
        assert (own.state, own.is_aws_managed, own.arn) == ("Enabled", False, arn)
        assert own.policy
        client.disable_key(KeyId=arn.rpartition("/")[2])
        assert keys.get(arn).state == "Disabled"
        with pytest.raises(NotFoundError, match=r"KMS key 11111111.* does not exist"):
            keys.get("11111111-2222-3333-4444-555555555555")


def test_a_key_of_awss_own(session: AwsSession) -> None:
    arn = "arn:aws:kms:us-east-1:000000000000:key/k"
    metadata = {"KeyId": "k", "Arn": arn, "KeyManager": "AWS", "KeyState": "Enabled"}
    with Stubber(session.client("kms")) as canned:
        canned.add_response("describe_key", {"KeyMetadata": metadata}, {"KeyId": "alias/aws/sqs"})
        canned.add_response("get_key_policy", {"Policy": "{}"}, {"KeyId": "k", "PolicyName": "default"})
        assert Keys(session).get("alias/aws/sqs").is_aws_managed


def clients(session: AwsSession) -> Clients:
    return Clients(session, lambda: None)


def pipeline(**values: Any) -> Pipeline:
    assert STACK.pipeline is not None
    return STACK.pipeline(STACK.settings, {"bucket_name": "never-made", "name_prefix": "never-made"} | values)


NOTHING = pipeline(bus_name="never-made")


def failures(session: AwsSession, of: Pipeline, stack: Stack) -> list[tuple[str, str | None]]:
    results = run_checks(take_snapshot(clients(session), of), checks_of(stack))
    return [(item.id, item.stage) for item in results if item.status is Status.FAIL]


def test_each_absence_is_reported_once_if_nothing_is_deployed(session: AwsSession) -> None:
    assert sorted(failures(session, NOTHING, STACK), key=str) == [
        ("bucket-exists", None),
        ("bus-exists", None),
        ("forward-rule", None),
        ("function-active", "RefinerInput"),
        ("queue-exists", "RefinerComplete"),
        ("queue-exists", "RefinerInput"),
    ]


def test_a_stack_of_a_schedule_a_function_and_a_queue(session: AwsSession, unique: str) -> None:
    queue, dlq = f"{unique}-jobs", f"{unique}-jobs-dlq"
    sqs, scheduler = session.client("sqs"), session.client("scheduler")
    dlq_arn = f"arn:aws:sqs:us-east-1:000000000000:{dlq}"
    sqs.create_queue(QueueName=dlq, Attributes={"MessageRetentionPeriod": "1209600"})
    redrive = json.dumps({"deadLetterTargetArn": dlq_arn, "maxReceiveCount": "4"})
    sqs.create_queue(QueueName=queue, Attributes={"RedrivePolicy": redrive})
    arn = Queues(session).settings(queue).arn
    target = {"Arn": arn, "RoleArn": "arn:aws:iam::000000000000:role/nobody", "DeadLetterConfig": {"Arn": dlq_arn}}
    scheduler.create_schedule(
        Name=unique,
        ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=target,
        State="DISABLED",
    )
    schedules = Schedules(session)
    found = schedules.get("default", unique)
    assert (found.expression, found.is_enabled, found.target_arn, found.dlq_arn) == ("rate(1 day)", False, arn, dlq_arn)
    with pytest.raises(NotFoundError, match="schedule default/never-made does not exist"):
        schedules.get("default", "never-made")
    small = Pipeline(
        unique,
        (
            Stage("jobs", source=Schedule(unique, dlq=Queue(dlq)), queue=Queue(queue, dlq=Queue(dlq))),
            Stage("nightly", source=Schedule("never-made"), consumer=Function("never-made")),
        ),
    )
    assert sorted(failures(session, small, Stack("small"))) == [
        ("function-active", "nightly"),
        ("schedule", "jobs"),
        ("schedule", "nightly"),
        ("schedule-role", "jobs"),
    ]


class ManyFunctions(Functions):
    """Every function exists."""

    def get(self, name: str) -> FunctionConfiguration:
        return FunctionConfiguration(name, f"arn:{name}", image_uri="team/x:v1", role_arn=role_arn(name))


def role_arn(name: str) -> str:
    return f"arn:aws:iam::000000000000:role/{name}"


class BusyRoles(Roles):
    """Takes a moment for each role, and counts how many are read at once."""

    def __init__(self, session: AwsSession) -> None:
        super().__init__(session)
        self.counts: list[int] = []
        self._now = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> Role:
        with self._lock:
            self._now += 1
            self.counts.append(self._now)
        time.sleep(0.02)
        with self._lock:
            self._now -= 1
        return Role(name, role_arn(name), ())


def test_a_few_roles_are_read_at_a_time(session: AwsSession) -> None:
    rulesets = {f"R{n}": {"prefix": f"R{n}/", "image_uri": "team/x"} for n in range(3 * ROLES_AT_ONCE)}
    many, roles = pipeline(rulesets=rulesets), BusyRoles(session)
    asked = clients(session)
    asked.roles, asked.functions = roles, ManyFunctions(session)
    found = take_snapshot(asked, many)
    assert {role.name for role in found.answered(ROLE).values()} == {f"never-made-{name}" for name in rulesets}
    assert len(roles.counts) == 3 * ROLES_AT_ONCE
    assert 1 < max(roles.counts) <= ROLES_AT_ONCE


class Expired(AwsSession):
    """A session whose credentials are refused."""

    def caller(self) -> str:
        raise AccessDeniedError("the AWS credentials are expired")


def test_credentials_that_do_not_work_are_an_error() -> None:
    session = Expired("us-east-1", profile=None, endpoint_url=None, embedded=False)
    with pytest.raises(AccessDeniedError):
        take_snapshot(clients(session), NOTHING)
