"""The checks of `verify`: each finds what is broken, and no other check does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refinerctl.aws.alarms import Topic
from refinerctl.aws.events import RuleTarget, ScheduleSettings
from refinerctl.aws.iam import KmsKey, RolePolicy
from refinerctl.aws.lambda_ import Concurrency, SourceMapping
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, UsageError
from refinerctl.inputs.listing import InputCount
from refinerctl.insight.findings import Status
from refinerctl.insight.verify import servers, services
from refinerctl.insight.verify.checks import CheckResult, choose, run_checks
from refinerctl.insight.verify.samples import event
from refinerctl.insight.verify.snapshot import (
    ALARMS,
    BUCKET,
    BUCKET_EVENTS,
    BUCKET_KEY,
    BUCKET_POLICY,
    BUS,
    CONCURRENCY,
    FUNCTION,
    IMAGE,
    INPUTS,
    KEY,
    LOG_GROUP,
    MAPPINGS,
    QUEUE,
    RELEASE,
    ROLE,
    RULES,
    SCHEDULE,
    SENDERS,
    TARGETS,
    TOPIC,
    Question,
    Snapshot,
)
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.stacks.base import Function, Pipeline, Queue, Schedule, Stack, Stage
from refinerctl.stacks.refiner import STACK
from tests.unit.insight.verify import snapshots
from tests.unit.insight.verify.snapshots import (
    ACCOUNT,
    BUS_NAME,
    DAY,
    FORWARD,
    INPUT,
    REGION,
    allows_rule,
    answering,
    changed,
    dlq_alarm,
    grants,
    healthy,
    pattern,
    policy,
    queue,
    queue_arn,
    role_arn,
    rule_arn,
    trusts,
)

OF_SERVERS = {check.id for section in (servers.SECTION, services.SECTION) for check in section.checks} | {
    "function-dlq"
}
# Without those of components that stack refiner does not have: test_rnr_checks.py has them.
CHECKS = {check.id for check in choose(STACK)} - OF_SERVERS - {"function-dlq"}
SMALL = Stack("small")  # gets only the checks that every stack gets
OF_SCHEDULES = {"schedule", "schedule-target", "schedule-role"}
HEALTHY = healthy()
DLQ, DELIVERY_DLQ, FORWARD_DLQ = f"{INPUT}-dlq", f"{INPUT}-delivery-dlq", f"{FORWARD}-delivery-dlq"
LOGS = f"/aws/lambda/{INPUT}"
OBJECTS = f"arn:aws:s3:::{snapshots.BUCKET}/*"
KEY_ARN = f"arn:aws:kms:{REGION}:key/11111111-2222-3333-4444-555555555555"
MISSING = NotFoundError("it does not exist")
LAB_TOO = {"Lab": ("Lab/", True), **snapshots.RULESETS}
FUZZY = pattern('{"fuzzy": "RefinerInput/"}')
# A dot in a name is a level: this also matches what the function writes.
DOTTED = pattern("x").replace(
    '"object": {"key": [x]}',
    '"$or": [{"object": {"key": [{"prefix": "RefinerInput/"}]}}, {"object.key": [{"prefix": "RefinerOutput/"}]}]',
)
OLD_MAPPING = SourceMapping("old", queue_arn(INPUT), state="Disabled")
OTHER_IMAGE = snapshots.IMAGE.replace("sha256:1", "sha256:2")


def concerns(snapshot: Snapshot) -> list[CheckResult]:
    stack = STACK if snapshot.bucket else SMALL
    return [result for result in run_checks(snapshot, stack) if result.status in (Status.WARN, Status.FAIL)]


def only(snapshot: Snapshot, check: str) -> CheckResult:
    (found,) = run_checks(snapshot, STACK, only=[check])
    return found


def change(*asked: Any, **fields: Any) -> Snapshot:
    """The healthy snapshot with other fields in an answer."""
    return changed(HEALTHY, *asked, **fields)


def answer(*asked: Any, value: Any) -> Snapshot:
    return answering(HEALTHY, *asked, value=value)


def inputs(count: InputCount) -> Snapshot:
    return answer(INPUTS, snapshots.BUCKET, HEALTHY.pipeline.stages[1], value=count)


def missing(*asked: Any) -> Snapshot:
    return answering(HEALTHY, *asked, error=MISSING)


def value(*asked: Any) -> Any:
    return HEALTHY.answers[asked].value


def rule(bus: str, **fields: Any) -> Snapshot:
    return change(RULES, bus, **fields)


def another_rule(arn: str, bus: str, **fields: Any) -> Snapshot:
    """A second rule of a bus sends to `arn`."""
    second = replace(value(RULES, BUS_NAME)[0], name="another", **fields)
    with_rule = answer(RULES, bus, value=(*value(RULES, bus), second))
    return answering(with_rule, SENDERS, bus, arn, value=frozenset({"another"}))


def forward_target(**fields: Any) -> Snapshot:
    return change(TARGETS, "default", FORWARD, **fields)


def target(**fields: Any) -> Snapshot:
    return change(TARGETS, BUS_NAME, INPUT, **fields)


def role(*policies: RolePolicy, without: str | None = None) -> Snapshot:
    own = tuple(policy for policy in value(ROLE, INPUT).policies if policy.name != without)
    return change(ROLE, INPUT, policies=(*own, *policies))


def extra(*actions: str, on: str = "*") -> Snapshot:
    return role(RolePolicy("added", grants(*actions, on=on)))


def bucket_policy(effect: str, action: str, **elements: Any) -> Snapshot:
    return answer(BUCKET_POLICY, snapshots.BUCKET, value=policy(effect, action, **elements))


def encrypted(key: KmsKey, *via: str) -> Snapshot:
    """The input queue is encrypted with a key that the role may decrypt with, if `via` is given through these."""
    condition = {"Condition": {"StringEquals": {"kms:ViaService": list(via)}}} if via else {}
    snapshot = role(RolePolicy("key", policy("Allow", "kms:Decrypt", Resource=KEY_ARN, **condition)))
    return answering(changed(snapshot, QUEUE, INPUT, kms_key=KEY_ARN), KEY, KEY_ARN, value=key)


def key_policy(*, events: bool = True, account: bool = True) -> Policy:
    to_events = policy("Allow", "kms:*", Principal={"Service": "events.amazonaws.com"})
    to_account = policy("Allow", "kms:*", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"})
    return (*(to_events * events), *(to_account * account))


def alarms(**fields: Any) -> Snapshot:
    """All alarms of the healthy snapshot, changed."""
    found = value(ALARMS, "dibbs-ecr")
    return answer(ALARMS, "dibbs-ecr", value=tuple(replace(alarm, **fields) for alarm in found))


# A stack without S3 data and event rules: a schedule starts a function; another puts messages into a queue with a DLQ.
NIGHTLY, JOBS, DEAD = Function("x-nightly"), Queue("x-jobs", dlq=Queue("x-jobs-dlq")), "x-jobs-dlq"
SCHEDULES = Pipeline(
    "x",
    (
        Stage("nightly", source=Schedule("x-nightly", dlq=JOBS.dlq), consumer=NIGHTLY),
        Stage("jobs", source=Schedule("x-jobs", "x"), queue=JOBS),
    ),
    told_by="a test",
)


def _small() -> Snapshot:
    function = replace(value(FUNCTION, INPUT), name="x-nightly", role_arn=role_arn("x-nightly"))
    trust = trusts("scheduler.amazonaws.com")
    invoke = RolePolicy("invoke", grants("lambda:InvokeFunction", on=function.arn))
    send = RolePolicy("send", grants("sqs:SendMessage", on=queue_arn("x-jobs")))
    logs = RolePolicy("logs", grants("logs:*", on="*"))
    given = Snapshot(SCHEDULES, ACCOUNT, "aws")
    for asked, found in {
        (SCHEDULE, "default", "x-nightly"): ScheduleSettings(
            "x-nightly", "arn:1", "rate(1 day)", True, function.arn, role_arn("starter"), queue_arn(DEAD)
        ),
        (SCHEDULE, "x", "x-jobs"): ScheduleSettings(
            "x-jobs", "arn:2", "rate(1 hour)", True, queue_arn("x-jobs"), role_arn("starter")
        ),
        (ALARMS, "x"): (dlq_alarm(DEAD),),
        (TOPIC, snapshots.TOPIC): Topic("operators", 1),
        (ROLE, "starter"): replace(value(ROLE, INPUT), name="starter", trust=trust, policies=(invoke, send)),
        (FUNCTION, "x-nightly"): function,
        (ROLE, "x-nightly"): replace(value(ROLE, INPUT), name="x-nightly", policies=(logs,)),
        (IMAGE, snapshots.IMAGE): snapshots.DIGEST,
        (MAPPINGS, "x-nightly"): (),
        (LOG_GROUP, "/aws/lambda/x-nightly"): value(LOG_GROUP, LOGS),
        (QUEUE, "x-jobs"): queue("x-jobs", dlq_arn=queue_arn(DEAD)),
        (QUEUE, DEAD): queue(DEAD, retention_s=14 * DAY),
        (CONCURRENCY,): Concurrency(1000, 1000),
        (RELEASE,): Release(ReleaseAction.DEPLOY, "v1", {"nightly": snapshots.IMAGE}),
    }.items():
        given = answering(given, *asked, value=found)
    return given


HEALTHY_SCHEDULES = _small()
NIGHTLY_SCHEDULE = (SCHEDULE, "default", "x-nightly")

# check, stage, status, words in what was seen, snapshot
BROKEN: list[tuple[str, str | None, str, str, Snapshot]] = [
    ("bucket-exists", None, "fail", "does not exist", missing(BUCKET, snapshots.BUCKET)),
    ("bucket-events", None, "fail", "sends no events", answer(BUCKET_EVENTS, snapshots.BUCKET, value=False)),
    ("bus-exists", None, "fail", "does not exist", missing(BUS, BUS_NAME)),
    ("forward-rule", None, "fail", "rule dibbs-ecr-forward does not exist", answer(RULES, "default", value=())),
    ("forward-pattern", None, "fail", "not match all", rule("default", pattern=pattern('{"prefix": "RefinerInput/"}'))),
    ("forward-pattern", None, "warn", "cannot evaluate", rule("default", pattern=FUZZY)),
    ("forward-pattern", None, "fail", "AWS rejects the pattern of rule dibbs-ecr-forward: it is not JSON: {",
     rule("default", pattern="{")),
    ("forward-pattern", None, "warn", "other buckets", rule("default", pattern='{"source": ["aws.s3"]}')),
    ("forward-target", None, "fail", "not to data-repository-bus", forward_target(arn=f"{snapshots.BUS}-2")),
    ("forward-target", None, "fail", "sends the same events", another_rule(snapshots.BUS, "default")),
    ("forward-role", None, "fail", "has no role", forward_target(role_arn=None)),
    ("forward-role", None, "fail", "does not exist", missing(ROLE, FORWARD)),
    ("forward-role", None, "fail", "does not allow events:PutEvents", change(ROLE, FORWARD, policies=())),
    ("forward-role", None, "fail", "the resource's own policy denies it",
     change(BUS, BUS_NAME, policy=policy("Deny", "events:*", Principal={"AWS": ACCOUNT}))),
    ("forward-dlq", None, "fail", "has no DLQ", forward_target(dlq_arn=None)),
    ("forward-dlq-policy", None, "fail", "does not allow rule", change(QUEUE, FORWARD_DLQ, policy=())),
    ("rule", "RefinerInput", "fail", "does not exist", answer(RULES, BUS_NAME, value=value(RULES, BUS_NAME)[1:])),
    ("rule", "RefinerInput", "fail", "is disabled", rule(BUS_NAME, is_enabled=False)),
    ("rule-pattern", "RefinerInput", "fail", "not match", rule(BUS_NAME, pattern=pattern('{"prefix": "Other/"}'))),
    ("rule-pattern", "RefinerInput", "fail", "does not match all",
     rule(BUS_NAME, pattern=pattern('{"wildcard": "RefinerInput/*.json"}'))),
    ("rule-pattern", "RefinerInput", "fail", "does not match all", rule(BUS_NAME, pattern=pattern(
        '{"prefix": "RefinerInput/"}').replace('"detail": {', '"detail": {"reason": ["PutObject"], '))),
    ("rule-pattern", "RefinerInput", "warn", "other buckets", rule(BUS_NAME, pattern=pattern(
        '{"prefix": "RefinerInput/"}').replace('"name": ["data-repository"]', '"name": [{"exists": true}]'))),
    ("rule-pattern", "RefinerInput", "warn", "deletions", rule(BUS_NAME, pattern=pattern(
        '{"prefix": "RefinerInput/"}').replace('["Object Created"]', '[{"prefix": "Object"}]'))),
    ("rule-pattern", "RefinerInput", "warn", "keys outside of RefinerInput/, such as RefinerInput-",
     rule(BUS_NAME, pattern=pattern('{"prefix": "RefinerInput"}'))),
    ("rule-pattern", "RefinerInput", "fail", "AWS rejects the pattern of rule dibbs-ecr-RefinerInput: prefix needs a",
     rule(BUS_NAME, pattern=pattern('{"prefix": 1}'))),
    ("rule-pattern", "RefinerInput", "fail", "does not match all", rule(BUS_NAME, pattern=pattern(
        '{"prefix": "Other/"}').replace('"object": {"key": [{"prefix": "Other/"}]}', '"object.key": ["x"]'))),
    ("rule-target", "RefinerInput", "fail", "no target, not to", answer(TARGETS, BUS_NAME, INPUT, value=())),
    ("rule-target", "RefinerInput", "fail", f"not to {INPUT}", target(arn=queue_arn("other"))),
    ("rule-target", "RefinerInput", "fail", "changes the event", target(changes_event=True)),
    ("rule-target", "RefinerInput", "fail", "2 times",
     answer(TARGETS, BUS_NAME, INPUT, value=value(TARGETS, BUS_NAME, INPUT) * 2)),
    ("rule-target", "RefinerInput", "warn", "and also to", answer(TARGETS, BUS_NAME, INPUT, value=(
        *value(TARGETS, BUS_NAME, INPUT), RuleTarget("2", queue_arn("audit"))))),
    ("rule-target", "RefinerInput", "fail", "also sends the same events", another_rule(queue_arn(INPUT), BUS_NAME)),
    ("rule-target", "RefinerInput", "warn", "also sends to", another_rule(queue_arn(INPUT), BUS_NAME, pattern=FUZZY)),
    ("queue-exists", "RefinerInput", "fail", "does not exist", missing(QUEUE, INPUT)),
    ("queue-policy", "RefinerInput", "fail", "does not allow rule", change(QUEUE, INPUT, policy=())),
    ("queue-policy", "RefinerInput", "fail", "does not allow rule",
     change(QUEUE, INPUT, policy=allows_rule(f"{rule_arn(INPUT)}-2", INPUT))),
    ("queue-policy", "RefinerInput", "warn", "cannot evaluate", change(QUEUE, INPUT, policy=policy(
        "Allow", "sqs:SendMessage", Principal="*", Condition={"StringEquals": {"aws:SourceOrgID": "o-1"}}))),
    ("queue-policy", "RefinerInput", "fail", "does not allow rule", change(QUEUE, INPUT, policy=policy(
        "Allow", "sqs:SendMessage", Principal={"Federated": "*", "CanonicalUser": "*"}))),
    ("queue-policy", "RefinerInput", "fail", "does not allow rule",
     change(QUEUE, INPUT, policy=policy("Allow", [], Principal="*"))),
    ("delivery-dlq", "RefinerInput", "fail", "has no DLQ", target(dlq_arn=None)),
    ("delivery-dlq", "RefinerInput", "fail", "does not exist", missing(QUEUE, DELIVERY_DLQ)),
    ("delivery-dlq-policy", "RefinerInput", "fail", "does not allow rule", change(QUEUE, DELIVERY_DLQ, policy=())),
    ("redrive", "RefinerInput", "fail", "has no DLQ", change(QUEUE, INPUT, dlq_arn=None)),
    ("redrive", "RefinerInput", "fail", "does not accept messages", change(QUEUE, DLQ, redrive_sources=())),
    ("redrive", "RefinerInput", "fail", "does not exist", missing(QUEUE, DLQ)),
    ("dlq-retention", "RefinerInput", "fail", "for 1 days", change(QUEUE, DLQ, retention_s=DAY)),
    ("dlq-retention", "RefinerInput", "warn", "for 14 days", change(QUEUE, INPUT, retention_s=14 * DAY)),
    ("visibility-timeout", "RefinerInput", "fail", ": 299 s", change(QUEUE, INPUT, visibility_timeout_s=299)),
    ("visibility-timeout", "RefinerInput", "warn", "less than 6", change(QUEUE, INPUT, visibility_timeout_s=1799)),
    ("function-active", "RefinerInput", "fail", "does not exist", missing(FUNCTION, INPUT)),
    ("function-active", "RefinerInput", "fail", "no image", change(FUNCTION, INPUT, state="Failed", reason="no image")),
    ("function-active", "RefinerInput", "fail", "last update: Failed", change(FUNCTION, INPUT, update="Failed")),
    ("function-active", "RefinerInput", "warn", "InProgress", change(FUNCTION, INPUT, update="InProgress")),
    ("function-active", "RefinerInput", "warn", "activates it", change(FUNCTION, INPUT, state="Inactive")),
    ("function-release", "RefinerInput", "fail", "release v1.0.0 has", change(FUNCTION, INPUT, image_uri=OTHER_IMAGE)),
    ("function-release", "RefinerInput", "fail", "runs team/x:v1", change(FUNCTION, INPUT, image_uri="team/x:v1")),
    ("function-image", "RefinerInput", "fail", "does not exist", missing(IMAGE, snapshots.IMAGE)),
    ("mapping", "RefinerInput", "fail", "no event source mapping", answer(MAPPINGS, INPUT, value=())),
    ("mapping", "RefinerInput", "fail", "is Disabled", change(MAPPINGS, INPUT, state="Disabled")),
    ("mapping", "RefinerInput", "warn", "is Enabling", change(MAPPINGS, INPUT, state="Enabling")),
    ("mapping", "RefinerInput", "warn", "Lambda deletes messages", change(MAPPINGS, INPUT, filters=('{"x": [1]}',))),
    ("mapping-partial-batches", "RefinerInput", "fail", "no ReportBatchItem",
     change(MAPPINGS, INPUT, reports_failures=False)),
    ("function-concurrency", "RefinerInput", "fail", "never invokes", change(FUNCTION, INPUT, reserved_concurrency=0)),
    ("function-concurrency", "RefinerInput", "warn", "starts with 5", change(FUNCTION, INPUT, reserved_concurrency=4)),
    ("log-retention", "RefinerInput", "warn", "never expire", change(LOG_GROUP, LOGS, retention_days=None)),
    ("log-retention", "RefinerInput", "warn", "does not exist", missing(LOG_GROUP, LOGS)),
    ("role-permissions", "RefinerInput", "fail", "does not exist", missing(ROLE, INPUT)),
    ("role-permissions", "RefinerInput", "fail", "does not trust", change(ROLE, INPUT, trust=())),
    ("role-permissions", "RefinerInput", "warn", "cannot evaluate whether role", change(ROLE, INPUT, trust=policy(
        "Allow", "sts:*", Principal={"Service": "lambda.amazonaws.com"}, Condition={"Bool": {"aws:Other": "true"}}))),
    ("role-permissions", "RefinerInput", "fail", ": its permissions boundary does not",
     change(ROLE, INPUT, boundary=policy("Allow", "s3:*"))),
    ("role-permissions", "RefinerInput", "warn", "cannot evaluate",
     change(ROLE, INPUT, boundary=policy("Allow", "*", Condition={"Bool": {"aws:Other": "true"}}))),
    ("role-permissions", "RefinerInput", "fail", "s3:GetObject on arn:aws:s3:::data-repository/RefinerInput/",
     bucket_policy("Deny", "s3:GetObject", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"})),
    ("role-permissions", "RefinerInput", "fail", "the resource's own policy denies it", bucket_policy(
        "Deny", "s3:Put*", Principal="*", Condition={"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/x"}})),
    ("role-permissions", "RefinerInput", "warn", "cannot evaluate", bucket_policy(
        "Deny", "s3:*", Principal={"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/{INPUT}/{INPUT}"})),
    ("role-permissions", "RefinerInput", "warn", "s3:PutObject on", answering(
        role(without="objects"), BUCKET_POLICY, snapshots.BUCKET, error=AccessDeniedError("denied"))),
    ("role-permissions", "RefinerInput", "fail", "s3:PutObject on", role(without="objects")),
    ("role-permissions", "RefinerInput", "fail", "sqs:DeleteMessage on", role(without="queue")),
    ("role-permissions", "RefinerInput", "fail", "logs:PutLogEvents on", role(without="logs")),
    ("role-extra", "RefinerInput", "warn", "s3:* on *", extra("s3:*")),
    ("role-extra", "RefinerInput", "warn", "s3:DeleteObject on", extra("s3:DeleteObject", on=OBJECTS)),
    ("role-extra", "RefinerInput", "warn", "s3:GetObject on", extra("s3:GetObject", on=OBJECTS)),
    ("role-extra", "RefinerInput", "warn", "s3:DeleteBucket on arn", extra("s3:DeleteBucket", on="arn:aws:*:::*")),
    ("role-extra", "RefinerInput", "warn", "sqs:ReceiveMessage on", extra("sqs:ReceiveMessage", on=queue_arn("other"))),
    ("role-extra", "RefinerInput", "warn", "a statement with NotAction", role(
        RolePolicy("added", parse_policy({"Statement": {"Effect": "Allow", "NotAction": "x", "Resource": "*"}})))),
    ("kms-keys", None, "fail", "is Disabled", encrypted(KmsKey(KEY_ARN, "Disabled", policy=key_policy()))),
    ("kms-keys", None, "fail", "EventBridge, which sends to",
     encrypted(KmsKey(KEY_ARN, policy=key_policy(events=False)))),
    ("kms-keys", None, "fail", "Input may not use", encrypted(KmsKey(KEY_ARN, policy=key_policy(account=False)))),
    ("kms-keys", None, "fail", "Input may not use", encrypted(KmsKey(KEY_ARN, policy=(
        *key_policy(), *policy("Deny", "kms:Decrypt", Principal={"AWS": role_arn(INPUT)}))))),
    ("kms-keys", None, "fail", "Input may not use",
     encrypted(KmsKey(KEY_ARN, policy=key_policy()), "s3.us-east-1.amazonaws.com")),
    ("kms-keys", None, "fail", "AWS manages its key", encrypted(KmsKey(KEY_ARN, is_aws_managed=True))),
    ("kms-keys", None, "fail", "bucket data-repository is encrypted with", answering(
        answer(BUCKET_KEY, snapshots.BUCKET, value=KEY_ARN), KEY, KEY_ARN, error=MISSING)),
    ("kms-keys", None, "warn", "cannot evaluate", encrypted(KmsKey(KEY_ARN, policy=parse_policy("{")))),
    ("loops", None, "fail", "starts RefinerInput again",
     healthy(RefinerInput={"REFINER_OUTPUT_PREFIX": "/RefinerInput/out/"})),
    ("completion-overlap", None, "fail", "of Lab and RefinerInput can have the same key: RefinerComplete/….completion",
     healthy(LAB_TOO, Lab={"REFINER_COMPLETE_PREFIX": "/RefinerComplete/", "REFINER_COMPLETE_SUFFIX": ".completion"})),
    ("completion-overlap", None, "fail", "RefinerComplete/Lab/….json and RefinerComplete/….json",
     healthy(LAB_TOO, Lab={"REFINER_COMPLETE_PREFIX": "RefinerComplete/Lab/"})),
    ("read-access", "RefinerInput", "fail", "does not exist", missing(BUCKET, snapshots.CONFIG)),
    ("role-permissions", "RefinerInput", "fail", "s3:GetObject on arn:aws:s3:::config/a/",
     role(without="read")),
    ("role-permissions", "RefinerInput", "fail", "s3:ListBucket on arn:aws:s3:::config", role(without="buckets")),
    ("role-permissions", "RefinerInput", "fail", "the resource's own policy denies it",
     answer(BUCKET_POLICY, snapshots.CONFIG, value=policy("Deny", "s3:*", Principal="*"))),
    ("role-extra", "RefinerInput", "warn", "s3:PutObject on arn:aws:s3:::config/a/*",
     extra("s3:PutObject", on="arn:aws:s3:::config/a/*")),
    ("role-extra", "RefinerInput", "warn", "s3:GetObject on arn:aws:s3:::config/*",
     extra("s3:GetObject", on="arn:aws:s3:::config/*")),
    ("kms-keys", None, "fail", "dibbs-ecr-RefinerInput may not use KMS key", answering(
        answer(BUCKET_KEY, snapshots.CONFIG, value=KEY_ARN), KEY, KEY_ARN, value=KmsKey(KEY_ARN, "Enabled"))),
    ("function-environment", "RefinerInput", "fail", "REFINER_OUTPUT_PREFIX of dibbs-ecr-RefinerInput is Other/, but",
     change(FUNCTION, INPUT, environment={"REFINER_OUTPUT_PREFIX": "Other/"})),
    ("function-environment", "RefinerInput", "warn", "names: A_PREFIX is other/, S3_BUCKET_CONFIG is elsewhere",
     change(FUNCTION, INPUT, environment={
         "A_PREFIX": "other/", "EICR_PREFIX": "/eICR/", "CONFIG_PREFIX": "a/b/", "S3_BUCKET_CONFIG": "elsewhere",
         "OTHER_BUCKET": "config", "OWN_BUCKET": "data-repository", "BUCKETS": "3 of them", "URL_PREFIX": "https://x/"})),
    ("prefix-overlap", None, "fail", "RefinerInput/new/ of New is below RefinerInput/", healthy(
        {"New": ("RefinerInput/new/", True), **snapshots.RULESETS})),
    ("quota-rules", None, "warn", "240 of 300", answer(RULES, "default", value=value(RULES, "default") * 240)),
    ("quota-concurrency", None, "warn", "10 of the account's 10", answer(CONCURRENCY, value=Concurrency(10, 10))),
    ("quota-concurrency", None, "warn", "may want 2000", change(MAPPINGS, INPUT, max_concurrency=2000)),
    ("outputs-match", None, "fail", "RefinerInput: queue_arn is arn", replace(HEALTHY, pipeline=replace(
        HEALTHY.pipeline, stages=(
            replace(HEALTHY.pipeline.stages[1], recorded={"queue_arn": "arn:of:another:queue"}),
            HEALTHY.pipeline.stages[0])))),
    ("dlq-alarms", None, "warn", f"5 of 5 DLQs have no alarm: {snapshots.COMPLETE}-delivery-dlq, ",
     answer(ALARMS, "dibbs-ecr", value=())),
    ("dlq-alarms", None, "warn", f"1 of 5 DLQs have no alarm: {FORWARD_DLQ}",
     answer(ALARMS, "dibbs-ecr", value=value(ALARMS, "dibbs-ecr")[1:])),
    ("dlq-alarms", None, "warn", "5 of 5 DLQs", alarms(metric="NumberOfMessagesReceived")),
    ("alarm-actions", None, "warn", f"5 of 5 alarms notify nobody, for instance {FORWARD_DLQ}-messages: it has no",
     alarms(actions=())),
    ("alarm-actions", None, "warn", "1 of 5 alarms notify nobody", change(ALARMS, "dibbs-ecr", actions=())),
    ("alarm-actions", None, "warn", "topic operators, which does not exist", missing(TOPIC, snapshots.TOPIC)),
    ("alarm-actions", None, "warn", "topic operators, which has no subscription",
     answer(TOPIC, snapshots.TOPIC, value=Topic("operators", 0))),
    ("alarm-actions", None, "warn", "topic operators, which has only unconfirmed subscriptions (2)",
     answer(TOPIC, snapshots.TOPIC, value=Topic("operators", 0, 2))),
    ("inputs-complete", "RefinerInput", "warn", "of 50 inputs below RefinerInput/ at least 3 have neither",
     inputs(InputCount(50, 3))),
    ("inputs-complete", "RefinerInput", "warn", "at least 1 have", changed(
        inputs(InputCount(50, 3)), QUEUE, FORWARD_DLQ, visible=2)),
    ("inputs-complete", "RefinerInput", "warn", "there are more inputs", inputs(InputCount(50, 3, all_counted=False))),
    ("schedule", "nightly", "fail", "is disabled", changed(HEALTHY_SCHEDULES, *NIGHTLY_SCHEDULE, is_enabled=False)),
    ("schedule", "nightly", "fail", "does not exist", answering(HEALTHY_SCHEDULES, *NIGHTLY_SCHEDULE, error=MISSING)),
    ("schedule-target", "nightly", "fail", "not to x-nightly",
     changed(HEALTHY_SCHEDULES, *NIGHTLY_SCHEDULE, target_arn="a:b")),
    ("schedule-role", "nightly", "fail", "has no role", changed(HEALTHY_SCHEDULES, *NIGHTLY_SCHEDULE, role_arn=None)),
    ("delivery-dlq", "nightly", "fail", "has no DLQ", changed(HEALTHY_SCHEDULES, *NIGHTLY_SCHEDULE, dlq_arn=None)),
    ("redrive", "jobs", "fail", "has no DLQ", changed(HEALTHY_SCHEDULES, QUEUE, "x-jobs", dlq_arn=None)),
    ("function-active", "nightly", "fail", "does not exist",
     answering(HEALTHY_SCHEDULES, FUNCTION, "x-nightly", error=MISSING)),
]  # fmt: skip


def test_a_healthy_pipeline_passes_every_check() -> None:
    results = run_checks(HEALTHY, STACK)
    assert {result.status for result in results} == {Status.PASS}
    assert {result.id for result in results} == CHECKS - OF_SCHEDULES
    assert {result.stage for result in results if result.id == "mapping"} == {"RefinerInput"}
    assert {result.stage for result in results if result.id == "rule"} == {"RefinerInput", "RefinerComplete"}


@pytest.mark.parametrize(
    ("check", "stage", "status", "words", "snapshot"),
    BROKEN,
    ids=[f"{check}-{status}-{number}" for number, (check, _, status, *_) in enumerate(BROKEN)],
)
def test_one_check_finds_what_is_broken(
    check: str, stage: str | None, status: str, words: str, snapshot: Snapshot
) -> None:
    (found,) = concerns(snapshot)
    assert (found.id, found.stage, found.status) == (check, stage, status)
    assert words in found.seen
    assert found.why
    assert found.fix


def test_every_check_has_a_broken_case() -> None:
    assert {check for check, *_ in BROKEN} == CHECKS


@pytest.mark.parametrize(
    "snapshot",
    [
        change(ROLE, INPUT, boundary=policy("Allow", "*")),
        another_rule(queue_arn(INPUT), BUS_NAME, is_enabled=False),
        another_rule(queue_arn(INPUT), BUS_NAME, pattern=pattern('{"prefix": "Other/"}')),
        answer(MAPPINGS, INPUT, value=(*value(MAPPINGS, INPUT), OLD_MAPPING)),
        answer(MAPPINGS, INPUT, value=(OLD_MAPPING, *value(MAPPINGS, INPUT))),
        answer(MAPPINGS, INPUT, value=(
            SourceMapping("2", queue_arn("2"), "Disabled", reports_failures=False), *value(MAPPINGS, INPUT))),
        bucket_policy("Deny", "s3:*", Principal={"AWS": "999999999999"}),
        bucket_policy("Deny", "s3:*", Principal="*", Condition={
            "ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/dibbs-*"}}),
        answering(HEALTHY, BUCKET_POLICY, snapshots.BUCKET, error=AccessDeniedError("denied")),
        encrypted(KmsKey(KEY_ARN, policy=key_policy())),
        encrypted(KmsKey(KEY_ARN, policy=key_policy()), "sqs.us-east-1.amazonaws.com"),
        changed(inputs(InputCount(50, 3)), QUEUE, INPUT, visible=1, in_flight=1, delayed=1),
        changed(inputs(InputCount(50, 3)), QUEUE, DLQ, visible=3),
        role(RolePolicy("nothing", policy("Allow", "s3:*", Resource=[]))),
        alarms(actions=("arn:aws:ssm-incidents::123456789012:response-plan/x",)),
        alarms(actions=(f"{snapshots.TOPIC}-2", snapshots.TOPIC)),
        answering(change(QUEUE, INPUT, dlq_arn=queue_arn("dead")), QUEUE, "dead",
                  value=queue("dead", retention_s=14 * DAY)),
    ],
    ids=[
        "boundary", "disabled-rule", "rule-of-others", "disabled-last", "disabled-first", "mapping-of-another-queue",
        "another-account", "all-but-ours", "unread-policy", "key-that-all-may-use", "through-sqs", "in-queue", "in-dlq",
        "policy-of-nothing", "other-action",
        "second-topic", "dlq-of-another-name",
    ],
)  # fmt: skip
def test_harmless_differences_are_no_concern(snapshot: Snapshot) -> None:
    assert concerns(snapshot) == []


def test_sample_events_have_the_region_of_the_event_bus() -> None:
    elsewhere = change(BUS, "default", arn=snapshots.BUS.replace("us-east-1", "eu-central-1"))
    assert event(elsewhere, "x")["region"] == "eu-central-1"


ASKED = sorted(HEALTHY.answers, key=lambda asked: str(asked[1:]))
# Its check needs more answers than these to see anything.
UNSEEN = {BUCKET_KEY}


@pytest.mark.parametrize("question", dict.fromkeys(asked[0] for asked in ASKED), ids=lambda _: "")
def test_what_is_denied_is_skipped_with_the_reason(question: Question[Any]) -> None:
    denied = AccessDeniedError("access denied: DescribeIt on it")
    snapshot = HEALTHY
    for asked in ASKED:
        if asked[0] is question:
            snapshot = answering(snapshot, *asked, error=denied)
    results = run_checks(snapshot, STACK)
    assert {result.status for result in results} <= {Status.PASS, Status.SKIP}
    if question not in UNSEEN:
        assert denied.message in {result.seen for result in results if result.status is Status.SKIP}


def test_an_error_if_nothing_can_be_read() -> None:
    snapshot = HEALTHY
    for asked in ASKED:
        snapshot = answering(snapshot, *asked, error=AccessDeniedError("access denied"))
    pure = ["prefix-overlap", "completion-overlap", "kms-keys", "loops", "outputs-match"]
    assert {item.status for item in run_checks(snapshot, STACK, only=["rule"], skip=pure)} == {Status.SKIP}
    with pytest.raises(RefinerctlError, match="nothing could be checked: access denied"):
        run_checks(snapshot, STACK, skip=pure)


def test_checks_are_chosen_by_id() -> None:
    assert {check.id for check in choose(STACK, only=["rule", "mapping"])} == {"rule", "mapping"}
    assert "rule" not in {check.id for check in choose(STACK, skip=["rule"])}
    with pytest.raises(UsageError, match="unknown check nonsense") as caught:
        choose(STACK, ["nonsense", "rule"])
    assert "bucket-exists" in str(caught.value.hint)


def test_a_release_without_an_image_of_the_stage_is_skipped() -> None:
    found = only(answer(RELEASE, value=Release(ReleaseAction.DEPLOY, "v1.0.0")), "function-release")
    assert (found.status, found.seen) == (Status.SKIP, "release v1.0.0 records no image of RefinerInput")


def test_an_embedded_image_from_a_folder_is_skipped_unless_it_has_a_digest() -> None:
    embedded = replace(missing(IMAGE, snapshots.IMAGE), embedded=True)
    assert only(embedded, "function-image").status is Status.FAIL
    from_folder = answering(
        changed(embedded, FUNCTION, INPUT, image_uri="team/x:local"), IMAGE, "team/x:local", error=MISSING
    )
    assert only(from_folder, "function-image").status is Status.SKIP


def test_an_embedded_environment_has_no_alarms() -> None:
    embedded = replace(answer(ALARMS, "dibbs-ecr", value=()), embedded=True)
    assert {only(embedded, check).status for check in ("dlq-alarms", "alarm-actions")} == {Status.SKIP}


def test_an_embedded_environment_needs_no_factor_of_six() -> None:
    short = replace(change(QUEUE, INPUT, visibility_timeout_s=300), embedded=True)
    assert only(short, "visibility-timeout").status is Status.PASS


def test_the_buckets_policy_may_grant_what_the_role_does_not() -> None:
    given = (
        *policy("Allow", ["s3:GetObject", "s3:PutObject"], Principal={"AWS": role_arn(INPUT)}, Resource=OBJECTS),
        *policy("Deny", "s3:*", Principal="*", Condition={"Bool": {"aws:SecureTransport": "false"}}),
    )
    assert concerns(answering(role(without="objects"), BUCKET_POLICY, snapshots.BUCKET, value=given)) == []
    (found,) = concerns(bucket_policy("Deny", "s3:PutObject", Principal="*"))
    assert found.id == "role-permissions"


def test_policies_that_aws_manages_for_functions_are_expected() -> None:
    arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
    managed = RolePolicy("AWSLambdaVPCAccessExecutionRole", grants("ec2:CreateNetworkInterface", on="*"), arn)
    assert concerns(role(managed)) == []
    imitation = replace(managed, arn=f"arn:aws:iam::{ACCOUNT}:policy/service-role/AWSLambdaVPCAccessExecutionRole")
    assert [item.id for item in concerns(role(imitation))] == ["role-extra"]


def test_a_stack_of_schedules_gets_the_checks_of_its_components() -> None:
    results = run_checks(HEALTHY_SCHEDULES, SMALL)
    assert {result.status for result in results} == {Status.PASS}
    of_queue = {"queue-exists", "redrive", "dlq-retention"}
    of_function = {
        "delivery-dlq", "function-active", "function-release", "function-image", "function-concurrency",
        "log-retention", "role-permissions",
    }  # fmt: skip
    of_all = {"kms-keys", "quota-concurrency", "dlq-alarms", "alarm-actions"}
    expected = {"jobs": of_queue | OF_SCHEDULES, "nightly": of_function | OF_SCHEDULES, None: of_all}
    assert {stage: {item.id for item in results if item.stage == stage} for stage in expected} == expected


def test_a_stage_that_consumes_a_dlq_is_checked() -> None:
    consumed = replace(
        SCHEDULES, stages=(*SCHEDULES.stages, Stage("dead", queue=JOBS.dlq, consumer=Function("x-dead")))
    )
    results = run_checks(replace(HEALTHY_SCHEDULES, pipeline=consumed), SMALL)
    of_stage = {result.id for result in results if result.stage == "dead"}
    assert {"queue-exists", "mapping", "visibility-timeout", "function-active"} <= of_stage
    assert "redrive" not in of_stage
