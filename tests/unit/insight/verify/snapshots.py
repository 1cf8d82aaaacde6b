"""A snapshot of stack refiner in which everything is as it should be; a test changes what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from refinerctl.aws.alarms import Alarm, Topic
from refinerctl.aws.events import BusSettings, RuleSettings, RuleTarget
from refinerctl.aws.iam import Role, RolePolicy
from refinerctl.aws.lambda_ import Concurrency, FunctionConfiguration, SourceMapping
from refinerctl.aws.logs import LogGroupSettings
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import RefinerctlError
from refinerctl.inputs.listing import InputCount
from refinerctl.insight.verify import snapshot as facts
from refinerctl.insight.verify.snapshot import Snapshot
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.parallel import Answer
from refinerctl.stacks.base import EventRule, Pipeline, Stage
from refinerctl.stacks.refiner import STACK

ACCOUNT = "123456789012"
REGION = f"us-east-1:{ACCOUNT}"
BUCKET = "data-repository"
CONFIG = "config"
BUS_NAME = "data-repository-bus"
BUS = f"arn:aws:events:{REGION}:event-bus/{BUS_NAME}"
DIGEST = f"sha256:{'1' * 64}"
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/dibbs-ecr-refiner/lambda@{DIGEST}"
DAY = 86400
FORWARD = "dibbs-ecr-forward"
INPUT, COMPLETE = "dibbs-ecr-RefinerInput", "dibbs-ecr-RefinerComplete"
Environments = Mapping[str, Mapping[str, str]]
READ_ACCESS = ["eICR/", "s3://config/a/"]
RULESETS = {"RefinerInput": ("RefinerInput/", True), "RefinerComplete": ("RefinerComplete/", False)}


TOPIC = f"arn:aws:sns:{REGION}:operators"


def dlq_alarm(name: str, **change: Any) -> Alarm:
    found = Alarm(f"{name}-messages", "OK", "ApproximateNumberOfMessagesVisible", (name,), (TOPIC,))
    return replace(found, **change)


def pattern(*matchers: str) -> str:
    key = f', "object": {{"key": [{", ".join(matchers)}]}}' if matchers else ""
    detail = f'{{"bucket": {{"name": ["{BUCKET}"]}}{key}}}'
    return f'{{"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {detail}}}'


def queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{name}"


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def rule_arn(name: str) -> str:
    return f"arn:aws:events:{REGION}:rule/{name}"


def policy(effect: str, action: str | list[str], **elements: Any) -> Policy:
    return parse_policy({"Statement": {"Effect": effect, "Action": action, "Resource": "*", **elements}})


def allows_rule(rule: str, queue: str) -> Policy:
    return policy(
        "Allow",
        "sqs:SendMessage",
        Principal={"Service": "events.amazonaws.com"},
        Resource=queue_arn(queue),
        Condition={"ArnEquals": {"aws:SourceArn": rule}},
    )


def trusts(service: str) -> Policy:
    return policy("Allow", "sts:AssumeRole", Principal={"Service": service})


def grants(*actions: str, on: str | list[str]) -> Policy:
    return policy("Allow", list(actions), Resource=on)


def queue(name: str, **change: Any) -> QueueState:
    return replace(QueueState(name, queue_arn(name), visibility_timeout_s=1800, retention_s=4 * DAY), **change)


def pipeline(rulesets: Mapping[str, tuple[str, bool]] | None, environments: Environments) -> Pipeline:
    """Of stack refiner; `rulesets` have a prefix each, and say whether they have a function."""
    values = {
        name: {"prefix": prefix, "image_uri": "team/x:v1" if has_function else None, "read_access": READ_ACCESS}
        | {"environment": environments.get(name)}
        for name, (prefix, has_function) in (rulesets or RULESETS).items()
    }
    assert STACK.pipeline is not None
    found = STACK.pipeline(STACK.settings, {"rulesets": values})
    stages = tuple(
        replace(stage, recorded={"queue_arn": queue_arn(stage.queue.name)} if stage.queue else {})
        for stage in found.stages
    )
    return replace(found, stages=stages, told_by="a test", recorded={"bus_arn": BUS})


def healthy(rulesets: Mapping[str, tuple[str, bool]] | None = None, **environments: Mapping[str, str]) -> Snapshot:
    """With an input and a completion ruleset, unless others are given; `environments` are those of functions."""
    found = pipeline(rulesets, environments)
    forward = RuleSettings(FORWARD, rule_arn(FORWARD), pattern())
    rules = tuple(_rule(stage) for stage in reversed(found.stages))  # RefinerInput first
    dlq = f"{FORWARD}-delivery-dlq"
    answers: dict[Any, Any] = {
        (facts.BUCKET, BUCKET): None,
        (facts.BUCKET_EVENTS, BUCKET): True,
        (facts.BUCKET_POLICY, BUCKET): (),
        (facts.BUCKET_KEY, BUCKET): None,
        (facts.BUCKET, CONFIG): None,
        (facts.BUCKET_POLICY, CONFIG): (),
        (facts.BUCKET_KEY, CONFIG): None,
        (facts.BUS, "default"): BusSettings("default", BUS.replace(BUS_NAME, "default")),
        (facts.BUS, BUS_NAME): BusSettings(BUS_NAME, BUS),
        (facts.RULES, "default"): (forward,),
        (facts.RULES, BUS_NAME): rules,
        (facts.TARGETS, "default", FORWARD): (
            RuleTarget("event-bus", BUS, role_arn=role_arn(FORWARD), dlq_arn=queue_arn(dlq)),
        ),
        (facts.QUEUE, dlq): queue(dlq, policy=allows_rule(forward.arn, dlq)),
        (facts.ROLE, FORWARD): Role(
            FORWARD,
            role_arn(FORWARD),
            trusts("events.amazonaws.com"),
            (RolePolicy("put", grants("events:PutEvents", on=BUS)),),
        ),
        (facts.ALARMS, "dibbs-ecr"): (
            dlq_alarm(dlq),
            *(
                dlq_alarm(f"dibbs-ecr-{stage.name}-{kind}")
                for stage in found.stages
                for kind in ("dlq", "delivery-dlq")
            ),
            dlq_alarm("dibbs-ecr-of-another-stack-dlq", actions=()),
        ),
        (facts.TOPIC, TOPIC): Topic("operators", 1),
        (facts.CONCURRENCY,): Concurrency(1000, 1000),
        (facts.RELEASE,): Release(ReleaseAction.DEPLOY, "v1.0.0", {stage.name: IMAGE for stage in found.stages}),
    }
    for stage in found.stages:
        answers |= _stage_answers(stage, environments.get(stage.name, {}))
    return Snapshot(found, ACCOUNT, "aws", {asked: Answer(value) for asked, value in answers.items()})


def _rule(stage: Stage) -> RuleSettings:
    assert isinstance(stage.source, EventRule)
    name = stage.source.name
    return RuleSettings(name, rule_arn(f"{BUS_NAME}/{name}"), pattern(f'{{"prefix": "{stage.prefix}"}}'))


def _stage_answers(stage: Stage, environment: Mapping[str, str]) -> dict[Any, Any]:
    base, rule = f"dibbs-ecr-{stage.name}", _rule(stage).arn
    delivery_dlq, dlq = f"{base}-delivery-dlq", f"{base}-dlq"
    answers: dict[Any, Any] = {
        (facts.TARGETS, BUS_NAME, base): (RuleTarget("queue", queue_arn(base), dlq_arn=queue_arn(delivery_dlq)),),
        (facts.QUEUE, base): queue(base, policy=allows_rule(rule, base), dlq_arn=queue_arn(dlq), max_receive_count=5),
        (facts.QUEUE, dlq): queue(dlq, retention_s=14 * DAY, redrive_sources=(queue_arn(base),)),
        (facts.QUEUE, delivery_dlq): queue(delivery_dlq, policy=allows_rule(rule, delivery_dlq)),
    }
    return answers | (_function_answers(stage, base, environment) if stage.consumer else {})


def _function_answers(stage: Stage, base: str, environment: Mapping[str, str]) -> dict[Any, Any]:
    objects = [f"arn:aws:s3:::{BUCKET}/{item}*" for item in (stage.prefix, *stage.writes)]
    log_group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/lambda/{base}"
    policies = (
        RolePolicy("objects", grants("s3:GetObject", "s3:PutObject", on=objects)),
        RolePolicy("read", grants("s3:GetObject", on=[f"arn:aws:s3:::{BUCKET}/eICR/*", f"arn:aws:s3:::{CONFIG}/a/*"])),
        RolePolicy("buckets", grants("s3:ListBucket", on=[f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{CONFIG}"])),
        RolePolicy(
            "queue", grants("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", on=queue_arn(base))
        ),
        RolePolicy("logs", grants("logs:CreateLogStream", "logs:PutLogEvents", on=f"{log_group}:*")),
    )
    return {
        (facts.FUNCTION, base): FunctionConfiguration(
            base,
            f"arn:aws:lambda:{REGION}:function:{base}",
            image_uri=IMAGE,
            timeout_s=300,
            role_arn=role_arn(base),
            environment=dict(environment),
        ),
        (facts.MAPPINGS, base): (SourceMapping(f"mapping-{base}", queue_arn(base)),),
        (facts.ROLE, base): Role(base, role_arn(base), trusts("lambda.amazonaws.com"), policies),
        (facts.LOG_GROUP, f"/aws/lambda/{base}"): LogGroupSettings(f"/aws/lambda/{base}", 30),
        (facts.IMAGE, IMAGE): DIGEST,
        (facts.INPUTS, BUCKET, stage): InputCount(1000, 0),
    }


def answering(snapshot: Snapshot, *asked: Any, value: Any = None, error: RefinerctlError | None = None) -> Snapshot:
    """The snapshot with another answer to a question: `asked` is the question and the names."""
    return replace(snapshot, answers={**snapshot.answers, asked: Answer(value, error)})


def changed(snapshot: Snapshot, *asked: Any, **change: Any) -> Snapshot:
    """The snapshot with other fields in an answer; of a tuple in its first item."""
    value: Any = snapshot.answers[asked].value
    if isinstance(value, tuple):
        return answering(snapshot, *asked, value=(replace(value[0], **change), *value[1:]))
    return answering(snapshot, *asked, value=replace(value, **change))
