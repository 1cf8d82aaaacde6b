"""A snapshot of stack rnr in which everything is as it should be; a test changes what it is about."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from refinerctl.aws.alarms import Topic
from refinerctl.aws.ecs_services import Deployment, ServiceState, TaskDefinition
from refinerctl.aws.elasticache import CacheSettings
from refinerctl.aws.events import ScheduleSettings
from refinerctl.aws.iam import Role, RolePolicy
from refinerctl.aws.lambda_ import Concurrency, FunctionConfiguration
from refinerctl.aws.logs import LogGroupSettings
from refinerctl.aws.mq import BrokerSettings
from refinerctl.aws.secrets import SecretState
from refinerctl.aws.security_groups import SecurityGroup, TrafficRule
from refinerctl.aws.service_metrics import ServiceCounts
from refinerctl.inputs.listing import InputCount
from refinerctl.insight.verify import snapshot as facts
from refinerctl.insight.verify.snapshot import Snapshot
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.parallel import Answer
from refinerctl.stacks.base import Broker, Pipeline, Stage
from refinerctl.stacks.rnr import STACK
from tests.unit.fakes import START
from tests.unit.insight.verify.snapshots import (
    ACCOUNT,
    DAY,
    REGION,
    TOPIC,
    dlq_alarm,
    grants,
    policy,
    queue,
    queue_arn,
    role_arn,
    trusts,
)

NAME = "rnr-test"
WORKER, CLUSTER = f"{NAME}-worker", NAME
DEFINITION = f"arn:aws:ecs:{REGION}:task-definition/{WORKER}:3"
DIGEST = f"sha256:{'2' * 64}"
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/rnr/any@{DIGEST}"
INPUTS, RESULTS = "forecasts", "results"
VALUES = {"app_name": "rnr", "env": "test", "input_bucket_name": INPUTS, "output_bucket_name": RESULTS}
SECRETS = {kind: f"arn:aws:secretsmanager:{REGION}:secret:{NAME}-{kind}-AbCdEf" for kind in ("broker", "cache")}
GROUPS = {kind: f"sg-{kind}" for kind in ("broker", "cache", "producer", "autoscaler", "postprocess", "worker")}
BROKER_VARIABLES = {"RNR_BROKER_URL": "amqps://b:5671", "RNR_BROKER_SECRET": SECRETS["broker"]}
INPUT_VARIABLES = {"RNR_INPUT_BUCKET": INPUTS, "RNR_INPUT_PREFIX": "rnr/input/"}
OUTPUT_VARIABLES = {
    "RNR_OUTPUT_BUCKET": RESULTS,
    "RNR_OUTPUT_PREFIX": "rnr/output/",
    "RNR_COMPLETE_PREFIX": "rnr/complete/",
}
COMMON = {"RNR_NAME": NAME}
ENVIRONMENTS = {
    "producer": {**COMMON, **BROKER_VARIABLES, **INPUT_VARIABLES, "RNR_QUEUE": f"{NAME}-work", "RNR_CACHE_URL": "x"},
    "worker": {
        **COMMON,
        **BROKER_VARIABLES,
        **INPUT_VARIABLES,
        **OUTPUT_VARIABLES,
        "RNR_QUEUE": f"{NAME}-work",
        "PROCESSOR": "worker.routing:run",
    },
    "autoscaler": {
        **COMMON,
        **BROKER_VARIABLES,
        "RNR_QUEUE": f"{NAME}-work",
        "RNR_BROKER_API_URL": "https://b",
        "RNR_CLUSTER": CLUSTER,
        "RNR_SERVICE": WORKER,
        "RNR_STATE_PARAMETER": "/rnr-test/autoscaler",
    },
    "postprocess": {**COMMON, **OUTPUT_VARIABLES, "RNR_MERGED_PREFIX": "rnr/merged/"},
}


def pipeline() -> Pipeline:
    assert STACK.pipeline is not None
    return STACK.pipeline(STACK.settings, VALUES)


def rule(port: int, *groups: str) -> TrafficRule:
    return TrafficRule("tcp", port, port, groups)


def healthy() -> Snapshot:
    found = pipeline()
    stages = {stage.name: stage for stage in found.stages}
    worker = stages["worker"]
    answers: dict[Any, Any] = {
        **{
            (question, bucket): answer
            for bucket in (INPUTS, RESULTS)
            for question, answer in {facts.BUCKET: None, facts.BUCKET_POLICY: (), facts.BUCKET_KEY: None}.items()
        },
        (facts.BROKER, f"{NAME}-broker"): BrokerSettings(
            f"{NAME}-broker",
            "arn:broker",
            "RUNNING",
            "3.13",
            has_logs=True,
            endpoints=("amqps://b:5671", "https://b"),
            security_groups=(GROUPS["broker"],),
        ),
        (facts.CACHE, f"{NAME}-cache"): CacheSettings(
            f"{NAME}-cache",
            "arn:cache",
            "available",
            6379,
            encrypts_transit=True,
            encrypts_at_rest=True,
            has_login=True,
            security_groups=(GROUPS["cache"],),
        ),
        **{
            (facts.SECRET, f"{NAME}-{kind}"): SecretState(f"{NAME}-{kind}", arn, has_current_version=True)
            for kind, arn in SECRETS.items()
        },
        **{(facts.STATE_LOGIN, broker): False for broker in found.by_kind(Broker)},
        **_groups(),
        **_service(worker),
        (facts.ALARMS, NAME): (
            *(dlq_alarm(dlq.name) for stage in found.stages for dlq in stage.sqs_queues),
            dlq_alarm(WORKER, metric="DlqMessages"),
        ),
        (facts.TOPIC, TOPIC): Topic("operators", 1),
        (facts.CONCURRENCY,): Concurrency(1000, 1000),
        (facts.RELEASE,): Release(ReleaseAction.DEPLOY, "v1.0.0", {stage.name: IMAGE for stage in found.stages}),
        (facts.IMAGE, IMAGE): DIGEST,
    }
    for name in ("producer", "autoscaler", "postprocess"):
        answers |= _function(stages[name])
    asked = {question: Answer(value) for question, value in answers.items()}
    return Snapshot(found, ACCOUNT, "aws", asked, at=START)


def _groups() -> dict[Any, Any]:
    broker, cache = GROUPS["broker"], GROUPS["cache"]
    amqp = rule(5671, GROUPS["producer"], GROUPS["worker"])
    groups = (
        SecurityGroup(broker, ingress=(amqp, rule(443, GROUPS["autoscaler"]))),
        SecurityGroup(cache, ingress=(rule(6379, GROUPS["producer"]),)),
        SecurityGroup(GROUPS["producer"], egress=(rule(5671, broker), rule(6379, cache))),
        SecurityGroup(GROUPS["worker"], egress=(rule(5671, broker),)),
        SecurityGroup(GROUPS["autoscaler"], egress=(rule(443, broker),)),
        SecurityGroup(GROUPS["postprocess"]),
    )
    return {(facts.SECURITY_GROUP, group.id): group for group in groups}


def _service(worker: Stage) -> dict[Any, Any]:
    service = worker.service
    assert service is not None
    log_group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{service.log_group}:*"
    task = (
        RolePolicy("read", grants("s3:GetObject", on=f"arn:aws:s3:::{INPUTS}/rnr/input/*")),
        RolePolicy(
            "write",
            grants("s3:PutObject", on=[f"arn:aws:s3:::{RESULTS}/rnr/{prefix}/*" for prefix in ("output", "complete")]),
        ),
        RolePolicy("secret", grants("secretsmanager:GetSecretValue", on=SECRETS["broker"])),
        RolePolicy(
            "protection",
            grants(
                "ecs:GetTaskProtection",
                "ecs:UpdateTaskProtection",
                on=f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/{CLUSTER}/*",
            ),
        ),
    )
    execution = (
        RolePolicy("logs", grants("logs:CreateLogStream", "logs:PutLogEvents", on=log_group)),
        RolePolicy("pull", grants("ecr:BatchGetImage", on=f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/rnr/any")),
    )
    roles = {"ecs-task-role": task, "ecs-execution-role": execution}
    return {
        (facts.SERVICE, CLUSTER, WORKER): ServiceState(
            WORKER,
            f"arn:aws:ecs:us-east-1:{ACCOUNT}:service/{CLUSTER}/{WORKER}",
            CLUSTER,
            "ACTIVE",
            2,
            2,
            0,
            DEFINITION,
            deployments=(Deployment(DEFINITION, "PRIMARY", "COMPLETED", desired=2, running=2),),
            has_circuit_breaker=True,
            rolls_back=True,
            security_groups=(GROUPS["worker"],),
        ),
        (facts.DEFINITION, DEFINITION, "worker"): TaskDefinition(
            DEFINITION,
            role_arn(f"{NAME}-ecs-task-role"),
            role_arn(f"{NAME}-ecs-execution-role"),
            image=IMAGE,
            stop_timeout_s=120,
            environment=tuple(sorted(ENVIRONMENTS["worker"].items())),
            log_group=service.log_group,
        ),
        **{
            (facts.ROLE, f"{NAME}-{name}"): Role(
                f"{NAME}-{name}", role_arn(f"{NAME}-{name}"), trusts("ecs-tasks.amazonaws.com"), policies
            )
            for name, policies in roles.items()
        },
        (facts.COUNTS, service): ServiceCounts(START - timedelta(minutes=1), ready=3, unacknowledged=2, dlq_messages=0),
        (facts.LOG_GROUP, service.log_group): LogGroupSettings(service.log_group, 30),
        (facts.INPUTS, INPUTS, worker): InputCount(1000, 5),
    }


def _function(stage: Stage) -> dict[Any, Any]:
    base, arn = f"{NAME}-{stage.name}", f"arn:aws:lambda:{REGION}:function:{NAME}-{stage.name}"
    log_group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/lambda/{base}"
    dlq, delivery_dlq = f"{base}-dlq", f"{base}-delivery-dlq"
    objects = {
        "postprocess": [f"arn:aws:s3:::{RESULTS}/rnr/*"],
    }
    policies = [
        RolePolicy("logs", grants("logs:CreateLogStream", "logs:PutLogEvents", on=f"{log_group}:*")),
        RolePolicy("dlq", grants("sqs:SendMessage", on=queue_arn(dlq))),
    ]
    if stage.name in objects:
        policies.append(RolePolicy("objects", grants("s3:GetObject", "s3:PutObject", on=objects[stage.name])))
    if stage.name in ("producer", "postprocess"):
        buckets = [f"arn:aws:s3:::{bucket}" for bucket in (INPUTS, RESULTS)]
        policies.append(RolePolicy("buckets", grants("s3:ListBucket", on=buckets)))
    if stage.name != "postprocess":
        policies.append(RolePolicy("secrets", grants("secretsmanager:GetSecretValue", on=list(SECRETS.values()))))
    if stage.name == "autoscaler":
        service = f"arn:aws:ecs:us-east-1:{ACCOUNT}:service/{CLUSTER}/{WORKER}"
        policies.append(RolePolicy("scaling", grants("ecs:DescribeServices", "ecs:UpdateService", on=service)))
    scheduler = f"{NAME}-scheduler-{stage.name}-role"
    return {
        (facts.FUNCTION, base): FunctionConfiguration(
            base,
            arn,
            image_uri=IMAGE,
            timeout_s=60,
            role_arn=role_arn(base),
            environment=dict(ENVIRONMENTS[stage.name]),
            security_groups=(GROUPS[stage.name],),
        ),
        (facts.FAILURES, base): queue_arn(dlq),
        (facts.MAPPINGS, base): (),
        (facts.ROLE, base): Role(base, role_arn(base), trusts("lambda.amazonaws.com"), tuple(policies)),
        (facts.LOG_GROUP, f"/aws/lambda/{base}"): LogGroupSettings(f"/aws/lambda/{base}", 30),
        (facts.SCHEDULE, NAME, base): ScheduleSettings(
            base,
            f"arn:aws:scheduler:{REGION}:schedule/{NAME}/{base}",
            "rate(5 minutes)",
            is_enabled=True,
            target_arn=arn,
            role_arn=role_arn(scheduler),
            dlq_arn=queue_arn(delivery_dlq),
        ),
        (facts.ROLE, scheduler): Role(
            scheduler,
            role_arn(scheduler),
            policy(
                "Allow",
                "sts:AssumeRole",
                Principal={"Service": "scheduler.amazonaws.com"},
                Condition={"ArnEquals": {"aws:SourceArn": f"arn:aws:scheduler:{REGION}:schedule-group/{NAME}"}},
            ),
            (RolePolicy("invoke", grants("lambda:InvokeFunction", on=arn)),),
        ),
        (facts.QUEUE, dlq): queue(dlq, retention_s=14 * DAY),
        (facts.QUEUE, delivery_dlq): queue(delivery_dlq, retention_s=14 * DAY),
    }
