"""Ways to break the local environment through AWS's API, each of them mended afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from refinerctl.ledger.entries import Release, ReleaseAction, dump_releases

BUCKET = "data-repository"
BUS = "data-repository-bus"
FORWARD = "dibbs-ecr-forward"
POISON = "dibbs-ecr-PoisonInput"
FAULTY = "dibbs-ecr-FaultyInput"
COMPLETE = "dibbs-ecr-RefinerComplete"
LEDGER = {"Bucket": "terraform-state", "Key": "refiner/terraform.releases.json"}


@dataclass
class Aws:
    """Plain boto3 clients of the environment, and Terraform's outputs."""

    make: Callable[[str], Any]
    outputs: dict[str, Any]

    @cached_property
    def s3(self) -> Any:
        return self.make("s3")

    @cached_property
    def events(self) -> Any:
        return self.make("events")

    @cached_property
    def sqs(self) -> Any:
        return self.make("sqs")

    @cached_property
    def functions(self) -> Any:
        return self.make("lambda")

    @cached_property
    def iam(self) -> Any:
        return self.make("iam")

    @cached_property
    def logs(self) -> Any:
        return self.make("logs")

    @cached_property
    def kms(self) -> Any:
        return self.make("kms")

    def url(self, queue: str) -> str:
        url: str = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        return url

    def attributes(self, queue: str) -> dict[str, str]:
        found: dict[str, str] = self.sqs.get_queue_attributes(QueueUrl=self.url(queue), AttributeNames=["All"])[
            "Attributes"
        ]
        return found


Breakage = Callable[[Aws], Iterator[None]]


@contextmanager
def broken_by(breakage: Breakage, aws: Aws) -> Iterator[None]:
    """Whatever happens inside: it is mended afterwards."""
    steps = breakage(aws)
    next(steps)
    try:
        yield
    finally:
        next(steps, None)


def queue_attribute(queue: str, name: str, value: str) -> Breakage:
    def broken(aws: Aws) -> Iterator[None]:
        before = aws.attributes(queue).get(name, "")
        aws.sqs.set_queue_attributes(QueueUrl=aws.url(queue), Attributes={name: value})
        yield
        aws.sqs.set_queue_attributes(QueueUrl=aws.url(queue), Attributes={name: before})

    return broken


def rule_disabled(bus: str, rule: str) -> Breakage:
    def broken(aws: Aws) -> Iterator[None]:
        aws.events.disable_rule(EventBusName=bus, Name=rule)
        yield
        aws.events.enable_rule(EventBusName=bus, Name=rule)

    return broken


def rule_pattern(bus: str, rule: str, change: Callable[[dict[str, Any]], object]) -> Breakage:
    def broken(aws: Aws) -> Iterator[None]:
        before = aws.events.describe_rule(EventBusName=bus, Name=rule)["EventPattern"]
        pattern = json.loads(before)
        change(pattern)
        aws.events.put_rule(EventBusName=bus, Name=rule, EventPattern=json.dumps(pattern))
        yield
        aws.events.put_rule(EventBusName=bus, Name=rule, EventPattern=before)

    return broken


def target(bus: str, rule: str, **change: Any) -> Breakage:
    """A value of None removes it."""

    def broken(aws: Aws) -> Iterator[None]:
        (before,) = aws.events.list_targets_by_rule(EventBusName=bus, Rule=rule)["Targets"]
        after = {key: value for key, value in {**before, **change}.items() if value is not None}
        aws.events.remove_targets(EventBusName=bus, Rule=rule, Ids=[before["Id"]])
        aws.events.put_targets(EventBusName=bus, Rule=rule, Targets=[after])
        yield
        aws.events.remove_targets(EventBusName=bus, Rule=rule, Ids=[before["Id"]])
        aws.events.put_targets(EventBusName=bus, Rule=rule, Targets=[before])

    return broken


def role_policy(role: str, policy: str, change: Callable[[dict[str, Any]], object]) -> Breakage:
    def broken(aws: Aws) -> Iterator[None]:
        before = aws.iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        after = json.loads(json.dumps(before))
        change(after)
        aws.iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(after))
        yield
        aws.iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(before))

    return broken


def mapping(after: dict[str, Any], before: dict[str, Any]) -> Breakage:
    def broken(aws: Aws) -> Iterator[None]:
        (found,) = aws.functions.list_event_source_mappings(FunctionName=POISON)["EventSourceMappings"]
        aws.functions.update_event_source_mapping(UUID=found["UUID"], **after)
        yield
        aws.functions.update_event_source_mapping(UUID=found["UUID"], **before)

    return broken


def expected(change: Callable[[dict[str, Any]], object]) -> Breakage:
    """Instead of AWS, Terraform's outputs change."""

    def broken(aws: Aws) -> Iterator[None]:
        before = aws.outputs
        aws.outputs = json.loads(json.dumps(before))
        change(aws.outputs)
        yield
        aws.outputs = before

    return broken


def _ruleset(name: str, **change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda outputs: outputs["rulesets"][name].update(change)


def bucket_gone(aws: Aws) -> Iterator[None]:
    """Last of all, as what is in it goes, too."""
    policy = aws.s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    listed = aws.s3.list_object_versions(Bucket=BUCKET)
    for item in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]:
        aws.s3.delete_object(Bucket=BUCKET, Key=item["Key"], VersionId=item["VersionId"])
    aws.s3.delete_bucket(Bucket=BUCKET)
    yield
    aws.s3.create_bucket(Bucket=BUCKET)
    aws.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    aws.s3.put_bucket_policy(Bucket=BUCKET, Policy=policy)
    _notify(aws, {"EventBridgeConfiguration": {}})


def _notify(aws: Aws, configuration: dict[str, Any]) -> None:
    aws.s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=configuration)


def no_events(aws: Aws) -> Iterator[None]:
    _notify(aws, {})
    yield
    _notify(aws, {"EventBridgeConfiguration": {}})


def queue_gone(name: str, kept: tuple[str, ...]) -> Breakage:
    def broken(aws: Aws) -> Iterator[None]:
        attributes = {key: value for key, value in aws.attributes(name).items() if key in kept}
        aws.sqs.delete_queue(QueueUrl=aws.url(name))
        yield
        aws.sqs.create_queue(QueueName=name, Attributes=attributes)

    return broken


def other_release(aws: Aws) -> Iterator[None]:
    image = f"000000000000.dkr.ecr.us-east-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:{'1' * 64}"
    release = Release(ReleaseAction.DEPLOY, "v1.0.0", {"RefinerInput": image}, at=datetime.now(UTC))
    aws.s3.put_object(**LEDGER, Body=dump_releases([release]))
    yield
    aws.s3.delete_object(**LEDGER)


def throttled(aws: Aws) -> Iterator[None]:
    aws.functions.put_function_concurrency(FunctionName=POISON, ReservedConcurrentExecutions=0)
    yield
    aws.functions.delete_function_concurrency(FunctionName=POISON)


def no_retention(aws: Aws) -> Iterator[None]:
    group = f"/aws/lambda/{POISON}"
    aws.logs.delete_retention_policy(logGroupName=group)
    yield
    aws.logs.put_retention_policy(logGroupName=group, retentionInDays=30)


def many_rules(aws: Aws) -> Iterator[None]:
    names = [f"filler-{number}" for number in range(240)]
    for name in names:
        aws.events.put_rule(EventBusName=BUS, Name=name, EventPattern='{"source": ["nobody"]}', State="DISABLED")
    yield
    for name in names:
        aws.events.delete_rule(EventBusName=BUS, Name=name)


def key_disabled(aws: Aws) -> Iterator[None]:
    key = aws.kms.create_key(Description="of a test")["KeyMetadata"]["KeyId"]
    aws.kms.disable_key(KeyId=key)
    url = aws.url(COMPLETE)
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": key})
    yield
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "", "SqsManagedSseEnabled": "true"})


def overlapping(aws: Aws) -> Iterator[None]:
    inner = "RefinerInput/done/"
    renamed = expected(_ruleset("RefinerComplete", prefix=inner))
    moved = rule_pattern(BUS, COMPLETE, lambda pattern: pattern["detail"]["object"].update(key=[{"prefix": inner}]))
    with broken_by(renamed, aws), broken_by(moved, aws):
        yield


_QUEUE = ("VisibilityTimeout", "MessageRetentionPeriod", "Policy", "RedrivePolicy", "SqsManagedSseEnabled")
_OTHER_QUEUE = f"arn:aws:sqs:us-east-1:000000000000:{COMPLETE}"

# By check: the ruleset it is about, its status then, and what does it.
BREAKAGES: dict[str, tuple[str | None, str, Breakage]] = {
    "bucket-events": (None, "fail", no_events),
    "bus-exists": (None, "fail", expected(lambda outputs: outputs.update(bus_name="another-bus"))),
    "forward-rule": (None, "fail", rule_disabled("default", FORWARD)),
    "forward-pattern": (
        None,
        "fail",
        rule_pattern("default", FORWARD, lambda pattern: pattern["detail"]["bucket"].update(name=["another-bucket"])),
    ),
    "forward-target": (None, "fail", target("default", FORWARD, Arn=_OTHER_QUEUE)),
    "forward-role": (
        None,
        "fail",
        role_policy(FORWARD, "put-events", lambda policy: policy["Statement"][0].update(Action="events:PutRule")),
    ),
    "forward-dlq": (None, "fail", target("default", FORWARD, DeadLetterConfig=None)),
    "forward-dlq-policy": (None, "fail", queue_attribute(f"{FORWARD}-delivery-dlq", "Policy", "")),
    "rule": ("PoisonInput", "fail", rule_disabled(BUS, POISON)),
    "rule-pattern": (
        "PoisonInput",
        "fail",
        rule_pattern(BUS, POISON, lambda pattern: pattern["detail"]["object"].update(key=[{"prefix": "Poison/"}])),
    ),
    "rule-target": ("PoisonInput", "fail", target(BUS, POISON, Arn=_OTHER_QUEUE)),
    "queue-policy": (
        "PoisonInput",
        "fail",
        queue_attribute(
            POISON,
            "Policy",
            json.dumps(
                {
                    "Statement": {
                        "Effect": "Allow",
                        "Principal": {"Service": "events.amazonaws.com"},
                        "Action": "sqs:SendMessage",
                        "Resource": "*",
                        "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:events:*:*:rule/another-bus/*"}},
                    }
                }
            ),
        ),
    ),
    "delivery-dlq": ("PoisonInput", "fail", target(BUS, POISON, DeadLetterConfig=None)),
    "delivery-dlq-policy": ("PoisonInput", "fail", queue_attribute(f"{POISON}-delivery-dlq", "Policy", "")),
    "queue-exists": ("RefinerComplete", "fail", queue_gone(COMPLETE, _QUEUE)),
    "redrive": ("PoisonInput", "fail", queue_gone(f"{POISON}-dlq", (*_QUEUE, "RedriveAllowPolicy"))),
    "dlq-retention": ("PoisonInput", "fail", queue_attribute(f"{POISON}-dlq", "MessageRetentionPeriod", "3600")),
    "visibility-timeout": ("PoisonInput", "fail", queue_attribute(POISON, "VisibilityTimeout", "3")),
    "function-active": ("PoisonInput", "fail", expected(_ruleset("PoisonInput", function_name="dibbs-ecr-Nobody"))),
    "function-release": ("RefinerInput", "fail", other_release),
    "mapping": ("PoisonInput", "fail", mapping({"Enabled": False}, {"Enabled": True})),
    "mapping-partial-batches": (
        "PoisonInput",
        "fail",
        mapping({"FunctionResponseTypes": []}, {"FunctionResponseTypes": ["ReportBatchItemFailures"]}),
    ),
    "function-concurrency": ("PoisonInput", "fail", throttled),
    "log-retention": ("PoisonInput", "warn", no_retention),
    "role-permissions": (
        "PoisonInput",
        "fail",
        role_policy(POISON, "refine", lambda policy: policy["Statement"][2]["Action"].remove("sqs:DeleteMessage")),
    ),
    "role-extra": (
        "PoisonInput",
        "warn",
        role_policy(POISON, "refine", lambda policy: policy["Statement"][2]["Action"].append("sqs:PurgeQueue")),
    ),
    "kms-keys": (None, "fail", key_disabled),
    "loops": (
        None,
        "fail",
        rule_pattern(
            BUS,
            POISON,
            lambda pattern: pattern["detail"]["object"]["key"].append({"wildcard": "RefinerOut*"}),
        ),
    ),
    "prefix-overlap": (None, "fail", overlapping),
    "quota-rules": (None, "warn", many_rules),
    "quota-concurrency": (
        None,
        "warn",
        mapping({"ScalingConfig": {"MaximumConcurrency": 1000}}, {"ScalingConfig": {}}),
    ),
    "outputs-match": (None, "fail", expected(lambda outputs: outputs.update(bus_arn="arn:of:another:bus"))),
    "bucket-exists": (None, "fail", bucket_gone),
}
