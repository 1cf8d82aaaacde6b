"""The checks of `verify`, each a function over a snapshot: what is broken is said, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from refinerctl.aws.events import RuleTarget
from refinerctl.aws.iam import RolePolicy
from refinerctl.aws.kms import KmsKey
from refinerctl.aws.lambda_ import Concurrency, SourceMapping
from refinerctl.aws.policies import parse_policy
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.insight.verify import CHECKS, check_ids, verify
from refinerctl.insight.verify.answers import Absent, Unread
from refinerctl.insight.verify.samples import event
from refinerctl.insight.verify.types import CheckResult, RulesetSnapshot, Snapshot, Status
from refinerctl.releases.model import Release, ReleaseAction
from tests.unit.pipeline_snapshots import (
    ACCOUNT,
    BUCKET,
    BUS,
    DAY,
    IMAGE,
    REGION,
    admits,
    grants,
    healthy,
    pattern,
    queue,
    queue_arn,
    ruleset,
    trusts,
)

KEY = f"arn:aws:kms:{REGION}:key/11111111-2222-3333-4444-555555555555"
INPUT: Any = ruleset("RefinerInput", "RefinerInput/")
HEALTHY: Any = healthy()
DONE = ruleset("RefinerComplete", "RefinerComplete/", function=False)
OBJECTS = f"arn:aws:s3:::{BUCKET}/*"
GONE = Absent("there is no such thing")


def concerns(snapshot: Snapshot) -> list[CheckResult]:
    return [result for result in verify(snapshot) if result.status in (Status.WARN, Status.FAIL)]


def of_input(**change: Any) -> Snapshot:
    return healthy(replace(INPUT, **change), DONE)


def policy(effect: str, action: str, **elements: Any) -> Any:
    return parse_policy({"Statement": {"Effect": effect, "Action": action, "Resource": "*", **elements}})


def another_rule(arn: str, bus: str, **change: Any) -> Snapshot:
    """A second rule of a bus sends to `arn`."""
    rule = replace(INPUT.rule, name="another", **change)
    return healthy(rules={**HEALTHY.rules, bus: (*HEALTHY.rules[bus], rule)}, senders={arn: frozenset({"another"})})


def part(name: str, **change: Any) -> Snapshot:
    """One resource of the input ruleset is otherwise."""
    return of_input(**{name: replace(getattr(INPUT, name), **change)})


def forward(name: str, **change: Any) -> Snapshot:
    return healthy(**{name: replace(getattr(HEALTHY, name), **change)})


def forward_target(**change: Any) -> Snapshot:
    (target,) = HEALTHY.forward_targets
    return healthy(forward_targets=(replace(target, **change),))


def target(**change: Any) -> Snapshot:
    (found,) = INPUT.targets
    return of_input(targets=(replace(found, **change),))


def role(*policies: RolePolicy, without: str | None = None) -> Snapshot:
    own = tuple(policy for policy in INPUT.role.policies if policy.name != without)
    return part("role", policies=(*own, *policies))


def mapping(**change: Any) -> Snapshot:
    (found,) = INPUT.mappings
    return of_input(mappings=(replace(found, **change),))


def extra(*actions: str, on: str = "*") -> Snapshot:
    return role(RolePolicy("added", grants(*actions, on=on)))


def encrypted(key: KmsKey, **change: Any) -> Snapshot:
    """The input queue is encrypted with a key that the role may decrypt with."""
    may_decrypt = RolePolicy("key", grants("kms:Decrypt", on=KEY))
    own = replace(INPUT.role, policies=(*INPUT.role.policies, may_decrypt))
    changed = replace(INPUT, queue=replace(INPUT.queue, kms_key=KEY), role=own)
    return healthy(replace(changed, **change), DONE, keys={KEY: key})


def key_policy(*, events: bool = True, account: bool = True) -> Any:
    statements = [
        {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "kms:*", "Resource": "*"}
    ] * events
    statements += [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ] * account
    return parse_policy({"Statement": statements})


FUZZY = pattern('{"fuzzy": "RefinerInput/"}')
OLD_MAPPING = SourceMapping("old", queue_arn("dibbs-ecr-RefinerInput"), state="Disabled")
OTHER_IMAGE = IMAGE.replace("sha256:1", "sha256:2")

# check, ruleset, status, words in what was seen, snapshot
BROKEN: list[tuple[str, str | None, str, str, Snapshot]] = [
    ("bucket-exists", None, "fail", "no such thing", healthy(bucket=GONE)),
    ("bucket-events", None, "fail", "sends no events", healthy(sends_events=False)),
    ("bus-exists", None, "fail", "no such thing", healthy(bus=GONE)),
    ("forward-rule", None, "fail", "no such thing", healthy(forward_rule=GONE)),
    ("forward-rule", None, "fail", "is disabled", forward("forward_rule", is_enabled=False)),
    (
        "forward-pattern",
        None,
        "fail",
        "does not take all",
        forward("forward_rule", pattern=pattern('{"prefix": "RefinerInput/"}')),
    ),
    ("forward-pattern", None, "warn", "cannot be evaluated", forward("forward_rule", pattern=FUZZY)),
    ("forward-pattern", None, "warn", "other buckets", forward("forward_rule", pattern='{"source": ["aws.s3"]}')),
    ("forward-target", None, "fail", "not to data-repository-bus", forward_target(arn=f"{BUS}-2")),
    ("forward-target", None, "fail", "nothing, not to", healthy(forward_targets=())),
    ("forward-target", None, "fail", "changes the event", forward_target(changes_event=True)),
    ("forward-target", None, "fail", "sends the same events", another_rule(BUS, "default")),
    ("forward-target", None, "warn", "bus, too", another_rule(BUS, "default", pattern=FUZZY)),
    ("forward-role", None, "fail", "has no role", forward_target(role_arn=None)),
    ("forward-role", None, "fail", "no such thing", healthy(forward_role=GONE)),
    ("forward-role", None, "fail", "does not allow events:PutEvents", forward("forward_role", policies=())),
    ("forward-role", None, "fail", "does not trust", forward("forward_role", trust=trusts("lambda.amazonaws.com"))),
    (
        "forward-role",
        None,
        "fail",
        "the resource's own policy denies it",
        forward("bus", policy=policy("Deny", "events:*", Principal={"AWS": ACCOUNT})),
    ),
    ("forward-role", None, "fail", "its permissions bound", forward("forward_role", boundary=policy("Allow", "s3:*"))),
    ("forward-dlq", None, "fail", "has no dead-letter queue", forward_target(dlq_arn=None)),
    ("forward-dlq", None, "fail", "no such", healthy(queues={queue_arn("dibbs-ecr-forward-delivery-dlq"): GONE})),
    ("rule", "RefinerInput", "fail", "no such thing", of_input(rule=GONE)),
    ("rule", "RefinerInput", "fail", "is disabled", part("rule", is_enabled=False)),
    ("rule-pattern", "RefinerInput", "fail", "does not take", part("rule", pattern=pattern('{"prefix": "Other/"}'))),
    (
        "rule-pattern",
        "RefinerInput",
        "fail",
        "does not take all",
        part("rule", pattern=pattern('{"wildcard": "RefinerInput/*.json"}')),
    ),
    (
        "rule-pattern",
        "RefinerInput",
        "warn",
        "other buckets",
        part("rule", pattern=INPUT.rule.pattern.replace(f'"name": ["{BUCKET}"]', '"name": [{"exists": true}]')),
    ),
    ("rule-pattern", "RefinerInput", "warn", "deletions", part("rule", pattern=INPUT.rule.pattern.replace(
        '["Object Created"]', '[{"prefix": "Object"}]'))),
    ("rule-pattern", "RefinerInput", "warn", "outside RefinerInput/, too, like RefinerInput-",
     part("rule", pattern=pattern('{"prefix": "RefinerInput"}'))),
    ("rule-pattern", "RefinerInput", "fail", "does not take all", part("rule", pattern=INPUT.rule.pattern.replace(
        '"detail": {', '"detail": {"reason": ["PutObject"], '))),
    ("rule-target", "RefinerInput", "fail", "nothing, not to", of_input(targets=())),
    ("rule-target", "RefinerInput", "fail", "not to dibbs-ecr-RefinerInput", target(arn=queue_arn("other"))),
    ("rule-target", "RefinerInput", "fail", "changes the event", target(changes_event=True)),
    ("rule-target", "RefinerInput", "fail", "2 times", of_input(targets=INPUT.targets * 2)),
    (
        "rule-target",
        "RefinerInput",
        "warn",
        "and to",
        of_input(targets=(*INPUT.targets, RuleTarget("2", queue_arn("audit")))),
    ),
    ("rule-target", "RefinerInput", "fail", "once more", another_rule(INPUT.queue.arn, "data-repository-bus")),
    ("queue-exists", "RefinerInput", "fail", "no such thing", of_input(queue=GONE)),
    ("queue-policy", "RefinerInput", "fail", "does not let rule", part("queue", policy=())),
    (
        "queue-policy",
        "RefinerInput",
        "fail",
        "does not let rule",
        part("queue", policy=admits(f"{INPUT.rule.arn}-2", "dibbs-ecr-RefinerInput")),
    ),
    ("queue-policy", "RefinerInput", "warn", "cannot be evaluated", part("queue", policy=parse_policy("{"))),
    ("delivery-dlq", "RefinerInput", "fail", "has no dead-letter queue", target(dlq_arn=None)),
    ("delivery-dlq-policy", "RefinerInput", "fail", "does not let rule", part("delivery_dlq", policy=())),
    ("redrive", "RefinerInput", "fail", "has no dead-letter queue", part("queue", dlq_arn=None)),
    ("redrive", "RefinerInput", "fail", "takes no dead letters", part("dlq", redrive_sources=())),
    ("redrive", "RefinerInput", "fail", "is gone",
     healthy(replace(INPUT, dlq=GONE), DONE, queues={queue_arn("dibbs-ecr-RefinerInput-dlq"): GONE})),
    ("dlq-retention", "RefinerInput", "fail", "for 1 days", part("dlq", retention_s=DAY)),
    ("dlq-retention", "RefinerInput", "warn", "for 14 days", part("queue", retention_s=14 * DAY)),
    ("visibility-timeout", "RefinerInput", "fail", "for 299 s", part("queue", visibility_timeout_s=299)),
    ("visibility-timeout", "RefinerInput", "warn", "less than 6", part("queue", visibility_timeout_s=1799)),
    ("function-active", "RefinerInput", "fail", "no such thing", of_input(function=GONE)),
    ("function-active", "RefinerInput", "fail", "no image", part("function", state="Failed", reason="no image")),
    ("function-active", "RefinerInput", "fail", "last update Failed", part("function", update="Failed")),
    ("function-active", "RefinerInput", "warn", "InProgress", part("function", update="InProgress")),
    ("function-active", "RefinerInput", "warn", "first input wakes", part("function", state="Inactive")),
    ("function-release", "RefinerInput", "fail", "release v1.0.0 has", part("function", image_uri=OTHER_IMAGE)),
    ("function-release", "RefinerInput", "fail", "runs team/x:v1", part("function", image_uri="team/x:v1")),
    ("function-image", "RefinerInput", "fail", "is gone", of_input(image=GONE)),
    ("mapping", "RefinerInput", "fail", "nothing feeds", of_input(mappings=())),
    ("mapping", "RefinerInput", "fail", "is Disabled", mapping(state="Disabled")),
    ("mapping", "RefinerInput", "warn", "is Enabling", mapping(state="Enabling")),
    ("mapping", "RefinerInput", "warn", "is deleted unread", mapping(filters=('{"body": {"x": [1]}}',))),
    ("mapping-partial-batches", "RefinerInput", "fail", "no ReportBatchItem", mapping(reports_failures=False)),
    ("function-concurrency", "RefinerInput", "fail", "never starts", part("function", reserved_concurrency=0)),
    ("function-concurrency", "RefinerInput", "warn", "starts with 5", part("function", reserved_concurrency=4)),
    ("log-retention", "RefinerInput", "warn", "for ever", part("log_group", retention_days=None)),
    ("log-retention", "RefinerInput", "warn", "no such thing", of_input(log_group=GONE)),
    ("role-permissions", "RefinerInput", "fail", "no such thing", of_input(role=GONE)),
    ("role-permissions", "RefinerInput", "fail", "does not trust", part("role", trust=())),
    ("role-permissions", "RefinerInput", "warn", "does not surely trust", part("role", trust=policy(
        "Allow", "sts:*", Principal={"Service": "lambda.amazonaws.com"}, Condition={"Bool": {"aws:Other": "true"}}))),
    ("role-permissions", "RefinerInput", "fail", ": its permissions boundary does not",
     part("role", boundary=policy("Allow", "s3:*"))),
    ("role-permissions", "RefinerInput", "warn", "cannot be evaluated",
     part("role", boundary=policy("Allow", "*", Condition={"Bool": {"aws:Other": "true"}}))),
    ("role-permissions", "RefinerInput", "fail", "s3:GetObject on arn:aws:s3:::data-repository/RefinerInput/",
     healthy(bucket_policy=policy("Deny", "s3:GetObject", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"}))),
    ("role-permissions", "RefinerInput", "fail", "the resource's own policy denies it", healthy(bucket_policy=policy(
        "Deny", "s3:Put*", Principal="*", Condition={"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/x"}}))),
    ("role-permissions", "RefinerInput", "warn", "s3:PutObject on",
     replace(role(without="objects"), bucket_policy=Unread("denied"))),
    ("role-permissions", "RefinerInput", "fail", "s3:PutObject on", role(without="objects")),
    ("role-permissions", "RefinerInput", "fail", "sqs:DeleteMessage on", role(without="queue")),
    ("role-permissions", "RefinerInput", "fail", "logs:PutLogEvents on", role(without="logs")),
    ("role-extra", "RefinerInput", "warn", "s3:* on *", extra("s3:*")),
    ("role-extra", "RefinerInput", "warn", "s3:DeleteObject on", extra("s3:DeleteObject", on=OBJECTS)),
    ("role-extra", "RefinerInput", "warn", "s3:GetObject on", extra("s3:GetObject", on=OBJECTS)),
    ("role-extra", "RefinerInput", "warn", "s3:DeleteBucket on arn", extra("s3:DeleteBucket", on="arn:aws:*:::*")),
    ("role-extra", "RefinerInput", "warn", "sqs:ReceiveMessage on", extra("sqs:ReceiveMessage", on=queue_arn("other"))),
    (
        "role-extra",
        "RefinerInput",
        "warn",
        "names what it does not allow",
        role(RolePolicy("added", parse_policy({"Statement": {"Effect": "Allow", "NotAction": "x", "Resource": "*"}}))),
    ),
    ("kms-keys", None, "fail", "is Disabled", encrypted(KmsKey(KEY, "Disabled", policy=key_policy()))),
    ("kms-keys", None, "fail", "EventBridge, which sends to", encrypted(KmsKey(KEY, policy=key_policy(events=False)))),
    ("kms-keys", None, "fail", "Input may not use", encrypted(KmsKey(KEY, policy=key_policy(account=False)))),
    ("kms-keys", None, "fail", "Input may not use", encrypted(KmsKey(KEY, policy=(
        *key_policy(), *policy("Deny", "kms:Decrypt", Principal={"AWS": INPUT.role.arn}))))),
    ("kms-keys", None, "fail", "AWS's own", encrypted(KmsKey(KEY, is_aws_managed=True))),
    ("kms-keys", None, "fail", "bucket data-repository is encrypted with", healthy(bucket_key=KEY, keys={KEY: GONE})),
    ("kms-keys", None, "warn", "cannot be evaluated", encrypted(KmsKey(KEY, policy=parse_policy("{")))),
    (
        "loops",
        None,
        "fail",
        "starts RefinerInput again",
        part("rule", pattern=pattern('{"prefix": "RefinerInput/"}', '{"prefix": "RefinerOutput/"}')),
    ),
    (
        "loops",
        None,
        "fail",
        "starts RefinerInput again",
        part("function", environment={"REFINER_OUTPUT_PREFIX": "/RefinerInput/out/"}),
    ),
    (
        "prefix-overlap",
        None,
        "fail",
        "RefinerInput/new/ of New lies in RefinerInput/",
        healthy(INPUT, ruleset("New", "RefinerInput/new/"), DONE),
    ),
    ("quota-rules", None, "warn", "240 of 300", healthy(rules={"default": (HEALTHY.forward_rule,) * 240})),
    ("quota-concurrency", None, "warn", "10 of the account's 10", healthy(concurrency=Concurrency(10, 10))),
    ("quota-concurrency", None, "warn", "may want 2000", mapping(max_concurrency=2000)),
    (
        "outputs-match",
        None,
        "fail",
        "RefinerInput: queue_arn is arn",
        of_input(names=replace(INPUT.names, arns={"queue_arn": "arn:of:another:queue"})),
    ),
]  # fmt: skip


def test_a_healthy_pipeline_passes_every_check() -> None:
    results = verify(healthy())
    assert {result.status for result in results} == {Status.PASS}
    assert {result.id for result in results} == {check.id for check in CHECKS}
    assert {result.ruleset for result in results if result.id == "mapping"} == {"RefinerInput"}
    assert {result.ruleset for result in results if result.id == "rule"} == {"RefinerInput", "RefinerComplete"}


@pytest.mark.parametrize(
    ("check", "ruleset", "status", "words", "snapshot"),
    BROKEN,
    ids=[f"{check}-{status}-{number}" for number, (check, _, status, *_) in enumerate(BROKEN)],
)
def test_what_is_broken_is_said_and_nothing_else(
    check: str, ruleset: str | None, status: str, words: str, snapshot: Snapshot
) -> None:
    (found,) = concerns(snapshot)
    assert (found.id, found.ruleset, found.status) == (check, ruleset, status)
    assert words in found.seen
    assert found.why
    assert found.fix


@pytest.mark.parametrize(
    "snapshot",
    [
        part("role", boundary=policy("Allow", "*")),
        another_rule(INPUT.queue.arn, "data-repository-bus", is_enabled=False),
        another_rule(INPUT.queue.arn, "data-repository-bus", pattern=pattern('{"prefix": "Other/"}')),
        of_input(mappings=(*INPUT.mappings, OLD_MAPPING)),
        of_input(mappings=(OLD_MAPPING, *INPUT.mappings)),
        healthy(bucket_policy=policy("Deny", "s3:*", Principal={"AWS": "999999999999"})),
        healthy(bucket_policy=policy("Deny", "s3:*", Principal="*", Condition={
            "ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/dibbs-*"}})),
        healthy(bucket_policy=Unread("denied")),
    ],
    ids=[
        "boundary", "disabled-rule", "rule-of-others", "disabled-last", "disabled-first", "another-account",
        "all-but-ours", "unread-policy",
    ],
)  # fmt: skip
def test_what_does_no_harm_is_no_concern(snapshot: Snapshot) -> None:
    assert concerns(snapshot) == []


def test_events_come_from_where_the_pipeline_is() -> None:
    bus = replace(HEALTHY.bus, arn=BUS.replace("us-east-1", "eu-central-1"))
    assert event(healthy(bus=bus), "x")["region"] == "eu-central-1"


def test_every_check_can_be_broken() -> None:
    assert {check for check, *_ in BROKEN} >= {check.id for check in CHECKS} - {"forward-dlq-policy"}
    dlq = replace(HEALTHY.forward_dlq, policy=())
    assert [item.id for item in concerns(healthy(forward_dlq=dlq))] == ["forward-dlq-policy"]


PIPELINE_ANSWERS = [
    item.name
    for item in fields(Snapshot)
    if item.name not in {"names", "account", "partition", "rulesets", "rules", "senders", "keys", "queues", "embedded"}
]
RULESET_ANSWERS = [item.name for item in fields(RulesetSnapshot) if item.name != "names"]


@pytest.mark.parametrize("name", [*PIPELINE_ANSWERS, *RULESET_ANSWERS])
def test_what_is_denied_is_skipped_and_says_so(name: str) -> None:
    denied = Unread("access denied: DescribeIt on it")
    change = {name: denied}
    snapshot = of_input(**change) if name in RULESET_ANSWERS else healthy(**change)
    results = verify(snapshot)
    assert {result.status for result in results} <= {Status.PASS, Status.SKIP}
    skipped = [result for result in results if result.status is Status.SKIP]
    if name not in {"bucket_policy", "bucket_key", "dlq", "delivery_dlq", "forward_dlq"}:  # others need more than these
        assert denied.reason in {result.seen for result in skipped}


def test_if_nothing_may_be_read_that_is_an_error() -> None:
    denied = Unread("access denied")
    blind = replace(INPUT, **dict.fromkeys(RULESET_ANSWERS, denied))
    snapshot = healthy(blind, **dict.fromkeys(PIPELINE_ANSWERS, denied), rules={"default": denied})
    outcomes = {
        item.status
        for item in verify(snapshot, skip=["prefix-overlap", "kms-keys", "loops", "outputs-match"], only=["rule"])
    }
    assert outcomes == {Status.SKIP}
    with pytest.raises(RefinerctlError, match="nothing could be checked: access denied"):
        verify(snapshot, skip=["prefix-overlap", "kms-keys", "loops", "outputs-match"])


def test_checks_are_chosen_by_id() -> None:
    assert {result.id for result in verify(healthy(), only=["rule", "mapping"])} == {"rule", "mapping"}
    assert "rule" not in {result.id for result in verify(healthy(), skip=["rule"])}
    check_ids(["rule"])
    with pytest.raises(UsageError, match="no check nonsense") as caught:
        check_ids(["nonsense", "rule"])
    assert "bucket-exists" in str(caught.value.hint)


class TestWhatIsFine:
    def test_a_release_that_says_nothing_of_a_ruleset_is_no_failure(self) -> None:
        empty = Release(ReleaseAction.DEPLOY, "v1.0.0")
        (found,) = verify(healthy(release=empty), only=["function-release"])
        assert (found.status, found.seen) == (Status.SKIP, "release v1.0.0 records no image of RefinerInput")

    def test_an_image_from_a_folder_on_this_machine(self) -> None:
        local = replace(INPUT, image=GONE, function=replace(INPUT.function, image_uri="team/x:local"))
        (found,) = verify(healthy(local, DONE, embedded=True), only=["function-image"])
        assert found.status is Status.SKIP
        (found,) = verify(healthy(replace(INPUT, image=GONE), DONE, embedded=True), only=["function-image"])
        assert found.status is Status.FAIL  # by digest it does not come from a folder

    def test_short_visibility_on_this_machine(self) -> None:
        short = replace(INPUT, queue=replace(INPUT.queue, visibility_timeout_s=300))
        (found,) = verify(healthy(short, DONE, embedded=True), only=["visibility-timeout"])
        assert found.status is Status.PASS

    def test_permissions_that_the_bucket_or_the_queue_give(self) -> None:
        name = INPUT.role.arn
        given = parse_policy(
            {
                "Statement": [
                    {"Effect": "Allow", "Principal": {"AWS": name}, "Action": ["s3:GetObject", "s3:PutObject"],
                     "Resource": f"arn:aws:s3:::{BUCKET}/*"},
                    {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*",
                     "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
                ]
            }
        )  # fmt: skip
        assert concerns(replace(role(without="objects"), bucket_policy=given)) == []
        denied = parse_policy(
            {"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "*"}}
        )
        (found,) = concerns(healthy(bucket_policy=denied))
        assert found.id == "role-permissions"

    def test_the_policies_that_aws_manages_for_functions(self) -> None:
        arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
        managed = RolePolicy("AWSLambdaVPCAccessExecutionRole", grants("ec2:CreateNetworkInterface", on="*"), arn)
        assert concerns(role(managed)) == []
        imitation = replace(managed, arn=f"arn:aws:iam::{ACCOUNT}:policy/service-role/AWSLambdaVPCAccessExecutionRole")
        assert [item.id for item in concerns(role(imitation))] == ["role-extra"]

    def test_a_key_that_all_may_use(self) -> None:
        assert concerns(encrypted(KmsKey(KEY, policy=key_policy()))) == []

    def test_a_mapping_of_another_queue_feeds_too(self) -> None:
        other = SourceMapping("another", queue_arn("another"), state="Disabled", reports_failures=False)
        assert concerns(of_input(mappings=(other, *INPUT.mappings))) == []

    def test_a_dead_letter_queue_of_another_name(self) -> None:
        other = queue("dead", retention_s=14 * DAY)
        snapshot = healthy(
            replace(INPUT, queue=replace(INPUT.queue, dlq_arn=other.arn)),
            DONE,
            queues={other.arn: other},
        )
        assert concerns(snapshot) == []
