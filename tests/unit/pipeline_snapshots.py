"""A pipeline in which everything is as it should be; a test replaces what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refinerctl.aws.events import BusSettings, RuleSettings, RuleTarget
from refinerctl.aws.iam import Role, RolePolicy
from refinerctl.aws.lambda_ import Concurrency, FunctionConfiguration, SourceMapping
from refinerctl.aws.log_settings import LogGroupSettings
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.sqs import QueueSettings
from refinerctl.insight.verify.types import PipelineParts, RulesetParts, RulesetSnapshot, Snapshot
from refinerctl.releases.model import Release, ReleaseAction

ACCOUNT = "123456789012"
REGION = f"us-east-1:{ACCOUNT}"
BUCKET = "data-repository"
BUS = f"arn:aws:events:{REGION}:event-bus/data-repository-bus"
DIGEST = f"sha256:{'1' * 64}"
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/dibbs-ecr-refiner/lambda@{DIGEST}"
DAY = 86400


def pattern(*matchers: str) -> str:
    key = f', "object": {{"key": [{", ".join(matchers)}]}}' if matchers else ""
    detail = f'{{"bucket": {{"name": ["{BUCKET}"]}}{key}}}'
    return f'{{"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {detail}}}'


def queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{name}"


def rule_arn(name: str) -> str:
    return f"arn:aws:events:{REGION}:rule/{name}"


def admits(rule: str, queue: str) -> Policy:
    return parse_policy(
        {
            "Statement": {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn(queue),
                "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
            }
        }
    )


def trusts(service: str) -> Policy:
    return parse_policy(
        {"Statement": {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}}
    )


def grants(*actions: str, on: str | list[str]) -> Policy:
    return parse_policy({"Statement": {"Effect": "Allow", "Action": list(actions), "Resource": on}})


def queue(name: str, **change: Any) -> QueueSettings:
    return replace(QueueSettings(name, queue_arn(name), visibility_timeout_s=1800, retention_s=4 * DAY), **change)


def ruleset(name: str, prefix: str, *, function: bool = True, **change: Any) -> RulesetSnapshot:
    base = f"dibbs-ecr-{name}"
    rule = RuleSettings(base, rule_arn(f"data-repository-bus/{base}"), pattern(f'{{"prefix": "{prefix}"}}'))
    names = RulesetParts(
        name,
        prefix,
        rule=base,
        queue=base,
        dlq=f"{base}-dlq",
        delivery_dlq=f"{base}-delivery-dlq",
        function=base if function else None,
        log_group=f"/aws/lambda/{base}" if function else None,
        arns={"rule_arn": rule.arn, "queue_arn": queue_arn(base)},
    )
    found = RulesetSnapshot(
        names,
        rule=rule,
        targets=(RuleTarget("queue", queue_arn(base), dlq_arn=queue_arn(f"{base}-delivery-dlq")),),
        queue=queue(base, policy=admits(rule.arn, base), dlq_arn=queue_arn(f"{base}-dlq"), max_receive_count=5),
        dlq=queue(f"{base}-dlq", retention_s=14 * DAY, redrive_sources=(queue_arn(base),)),
        delivery_dlq=queue(f"{base}-delivery-dlq", policy=admits(rule.arn, f"{base}-delivery-dlq")),
    )
    return replace(_with_function(found, base, prefix) if function else found, **change)


def _with_function(found: RulesetSnapshot, base: str, prefix: str) -> RulesetSnapshot:
    role = f"arn:aws:iam::{ACCOUNT}:role/{base}"
    objects = [f"arn:aws:s3:::{BUCKET}/{item}*" for item in (prefix, "RefinerOutput/", "RefinerComplete/")]
    log_group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/lambda/{base}"
    return replace(
        found,
        function=FunctionConfiguration(
            base, f"arn:aws:lambda:{REGION}:function:{base}", image_uri=IMAGE, timeout_s=300, role_arn=role
        ),
        mappings=(SourceMapping(f"mapping-{base}", queue_arn(base)),),
        role=Role(
            base,
            role,
            trusts("lambda.amazonaws.com"),
            (
                RolePolicy("objects", grants("s3:GetObject", "s3:PutObject", on=objects)),
                RolePolicy("bucket", grants("s3:ListBucket", on=f"arn:aws:s3:::{BUCKET}")),
                RolePolicy(
                    "queue",
                    grants("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", on=queue_arn(base)),
                ),
                RolePolicy("logs", grants("logs:CreateLogStream", "logs:PutLogEvents", on=f"{log_group}:*")),
            ),
        ),
        log_group=LogGroupSettings(f"/aws/lambda/{base}", 30),
        image=DIGEST,
    )


def healthy(*rulesets: RulesetSnapshot, **change: Any) -> Snapshot:
    """With an input and a completion ruleset, unless others are given."""
    forward = RuleSettings("dibbs-ecr-forward", rule_arn("dibbs-ecr-forward"), pattern())
    role = f"arn:aws:iam::{ACCOUNT}:role/dibbs-ecr-forward"
    dlq = "dibbs-ecr-forward-delivery-dlq"
    found = rulesets or (
        ruleset("RefinerInput", "RefinerInput/"),
        ruleset("RefinerComplete", "RefinerComplete/", function=False),
    )
    snapshot = Snapshot(
        names=PipelineParts(
            BUCKET,
            "data-repository-bus",
            "dibbs-ecr-forward",
            dlq,
            "RefinerOutput/",
            "RefinerComplete/",
            tuple(item.names for item in found),
            "a test",
            arns={"bus_arn": BUS},
        ),
        account=ACCOUNT,
        partition="aws",
        bucket=BUCKET,
        sends_events=True,
        bucket_policy=(),
        bucket_key=None,
        bus=BusSettings("data-repository-bus", BUS),
        forward_rule=forward,
        forward_targets=(RuleTarget("event-bus", BUS, role_arn=role, dlq_arn=queue_arn(dlq)),),
        forward_role=Role(
            "dibbs-ecr-forward",
            role,
            trusts("events.amazonaws.com"),
            (RolePolicy("put", grants("events:PutEvents", on=BUS)),),
        ),
        forward_dlq=queue(dlq, policy=admits(forward.arn, dlq)),
        rulesets=found,
        concurrency=Concurrency(1000, 1000),
        release=Release(ReleaseAction.DEPLOY, "v1.0.0", {item.names.name: IMAGE for item in found}),
        rules={
            "default": (forward,),
            "data-repository-bus": tuple(item.rule for item in found if isinstance(item.rule, RuleSettings)),
        },
    )
    snapshot = replace(snapshot, **change)
    return replace(snapshot, queues={item.arn: item for item in _queues(snapshot)} | dict(change.get("queues", {})))


def _queues(snapshot: Snapshot) -> list[QueueSettings]:
    answers = [snapshot.forward_dlq]
    for item in snapshot.rulesets:
        answers += [item.queue, item.dlq, item.delivery_dlq]
    return [item for item in answers if isinstance(item, QueueSettings)]
