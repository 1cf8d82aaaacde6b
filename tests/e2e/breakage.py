"""Ways to break the local environment through AWS's API, each of them mended afterwards.

One for each setting that is read from AWS; what the checks make of it is in tests/unit/insight/verify.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

from refinerctl.ledger.entries import Release, ReleaseAction, dump_releases

BUCKET = "data-repository"
BUS = "data-repository-bus"
FORWARD = "dibbs-ecr-forward"
POISON = "dibbs-ecr-PoisonInput"
FAULTY = "dibbs-ecr-FaultyInput"
DIBBS = "dibbs-ecr-DibbsInput"
COMPLETE = "dibbs-ecr-RefinerComplete"
LEDGER = {"Bucket": "terraform-state", "Key": "refiner/terraform.releases.json"}


class Aws:
    """Plain boto3 clients of the environment."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self.s3, self.events, self.sqs, self.functions = map(make, ("s3", "events", "sqs", "lambda"))
        self.iam, self.logs, self.kms, self.ecr = map(make, ("iam", "logs", "kms", "ecr"))

    def url(self, queue: str) -> str:
        url: str = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        return url

    def attributes(self, queue: str) -> dict[str, str]:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.url(queue), AttributeNames=["All"])
        found: dict[str, str] = answer["Attributes"]
        return found


Change = Callable[[dict[str, Any]], object]
Breakage = Callable[[Aws, ExitStack], object]  # the stack's callbacks mend it


def no_events(aws: Aws, mend: ExitStack) -> None:
    notify = partial(aws.s3.put_bucket_notification_configuration, Bucket=BUCKET)
    mend.callback(notify, NotificationConfiguration={"EventBridgeConfiguration": {}})
    notify(NotificationConfiguration={})


def queue_attribute(aws: Aws, mend: ExitStack, *, queue: str, name: str, value: str, before: str | None = None) -> None:
    change = partial(aws.sqs.set_queue_attributes, QueueUrl=aws.url(queue))
    mend.callback(change, Attributes={name: aws.attributes(queue).get(name, "") if before is None else before})
    change(Attributes={name: value})


def rule_disabled(aws: Aws, mend: ExitStack, *, bus: str, rule: str) -> None:
    mend.callback(aws.events.enable_rule, EventBusName=bus, Name=rule)
    aws.events.disable_rule(EventBusName=bus, Name=rule)


def rule_pattern(aws: Aws, mend: ExitStack, *, rule: str, change: Change) -> None:
    before = aws.events.describe_rule(EventBusName=BUS, Name=rule)["EventPattern"]
    pattern = json.loads(before)
    change(pattern)
    mend.callback(aws.events.put_rule, EventBusName=BUS, Name=rule, EventPattern=before)
    aws.events.put_rule(EventBusName=BUS, Name=rule, EventPattern=json.dumps(pattern))


def target(aws: Aws, mend: ExitStack, *, bus: str, rule: str, **change: Any) -> None:
    """A value of None removes it."""
    (before,) = aws.events.list_targets_by_rule(EventBusName=bus, Rule=rule)["Targets"]

    def put(target: dict[str, Any]) -> None:
        aws.events.remove_targets(EventBusName=bus, Rule=rule, Ids=[before["Id"]])
        aws.events.put_targets(EventBusName=bus, Rule=rule, Targets=[target])

    mend.callback(put, before)
    put({key: value for key, value in {**before, **change}.items() if value is not None})


def role_policy(aws: Aws, mend: ExitStack, *, role: str, policy: str, change: Change) -> None:
    names = {"RoleName": role, "PolicyName": policy}
    before = json.dumps(aws.iam.get_role_policy(**names)["PolicyDocument"])
    after = json.loads(before)
    change(after)
    mend.callback(aws.iam.put_role_policy, **names, PolicyDocument=before)
    aws.iam.put_role_policy(**names, PolicyDocument=json.dumps(after))


def mapping(aws: Aws, mend: ExitStack, *, after: dict[str, Any], before: dict[str, Any]) -> None:
    (found,) = aws.functions.list_event_source_mappings(FunctionName=POISON)["EventSourceMappings"]
    mend.callback(aws.functions.update_event_source_mapping, UUID=found["UUID"], **before)
    aws.functions.update_event_source_mapping(UUID=found["UUID"], **after)


def other_release(aws: Aws, mend: ExitStack) -> None:
    image = f"000000000000.dkr.ecr.us-east-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:{'1' * 64}"
    release = Release(ReleaseAction.DEPLOY, "v1.0.0", {"RefinerInput": image}, at=datetime.now(UTC))
    mend.callback(aws.s3.delete_object, **LEDGER)
    aws.s3.put_object(**LEDGER, Body=dump_releases([release]))


def throttled(aws: Aws, mend: ExitStack) -> None:
    mend.callback(aws.functions.delete_function_concurrency, FunctionName=POISON)
    aws.functions.put_function_concurrency(FunctionName=POISON, ReservedConcurrentExecutions=0)


def no_retention(aws: Aws, mend: ExitStack) -> None:
    group = f"/aws/lambda/{POISON}"
    mend.callback(aws.logs.put_retention_policy, logGroupName=group, retentionInDays=30)
    aws.logs.delete_retention_policy(logGroupName=group)


def key_disabled(aws: Aws, mend: ExitStack) -> None:
    key = aws.kms.create_key(Description="of a test")["KeyMetadata"]["KeyId"]
    aws.kms.disable_key(KeyId=key)
    queue_attribute(aws, mend, queue=COMPLETE, name="SqsManagedSseEnabled", value="false", before="true")
    queue_attribute(aws, mend, queue=COMPLETE, name="KmsMasterKeyId", value=key)


_OTHER_QUEUE = f"arn:aws:sqs:us-east-1:000000000000:{COMPLETE}"
_OTHER_BUS = {
    "Effect": "Allow",
    "Principal": {"Service": "events.amazonaws.com"},
    "Action": "sqs:SendMessage",
    "Resource": "*",
    "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:events:*:*:rule/another-bus/*"}},
}
_refine = partial(role_policy, role=POISON, policy="refine")

# What the check says then, and what does it: of ruleset PoisonInput, unless its name or SHARED says another.
BREAKAGES: dict[str, tuple[str, Breakage]] = {
    "bucket-events": ("fail", no_events),
    "forward-rule": ("fail", partial(rule_disabled, bus="default", rule=FORWARD)),
    "forward-target": ("fail", partial(target, bus="default", rule=FORWARD, Arn=_OTHER_QUEUE)),
    "forward-role": ("fail", partial(
        role_policy, role=FORWARD, policy="put-events",
        change=lambda policy: policy["Statement"][0].update(Action="events:PutRule"))),
    "rule": ("fail", partial(rule_disabled, bus=BUS, rule=POISON)),
    "rule-pattern": ("fail", partial(
        rule_pattern, rule=POISON, change=lambda pattern: pattern["detail"]["object"].update(key=[{"prefix": "x/"}]))),
    "rule-target": ("fail", partial(target, bus=BUS, rule=POISON, Arn=_OTHER_QUEUE)),
    "queue-policy": ("fail", partial(
        queue_attribute, queue=POISON, name="Policy", value=json.dumps({"Statement": _OTHER_BUS}))),
    "delivery-dlq": ("fail", partial(target, bus=BUS, rule=POISON, DeadLetterConfig=None)),
    "delivery-dlq-policy": ("fail", partial(
        queue_attribute, queue=f"{POISON}-delivery-dlq", name="Policy", value="")),
    "dlq-retention": ("fail", partial(
        queue_attribute, queue=f"{POISON}-dlq", name="MessageRetentionPeriod", value="3600")),
    "visibility-timeout": ("fail", partial(queue_attribute, queue=POISON, name="VisibilityTimeout", value="3")),
    "function-release": ("fail", other_release),
    "mapping": ("fail", partial(mapping, after={"Enabled": False}, before={"Enabled": True})),
    "mapping-partial-batches": ("fail", partial(
        mapping, after={"FunctionResponseTypes": []},
        before={"FunctionResponseTypes": ["ReportBatchItemFailures"]})),
    "function-concurrency": ("fail", throttled),
    "log-retention": ("warn", no_retention),
    "role-permissions": ("fail", partial(
        _refine, change=lambda policy: policy["Statement"][2]["Action"].remove("sqs:DeleteMessage"))),
    "role-extra": ("warn", partial(
        _refine, change=lambda policy: policy["Statement"][2]["Action"].append("sqs:PurgeQueue"))),
    "kms-keys": ("fail", key_disabled),
    "quota-concurrency": ("warn", partial(
        mapping, after={"ScalingConfig": {"MaximumConcurrency": 1000}}, before={"ScalingConfig": {}})),
}  # fmt: skip
SHARED = ("bucket-events", "forward-rule", "forward-target", "forward-role", "kms-keys", "quota-concurrency")
STAGES = {**dict.fromkeys(SHARED), "function-release": "RefinerInput"}
