"""The checks of services, brokers, caches and schedules: each finds what is broken, and no other check does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from refinerctl.aws.security_groups import SecurityGroup, TrafficRule, lets_through
from refinerctl.aws.service_metrics import ServiceCounts
from refinerctl.errors import NotFoundError, TransientError
from refinerctl.inputs.listing import InputCount
from refinerctl.insight.findings import Status
from refinerctl.insight.verify import rnr, servers, services
from refinerctl.insight.verify.checks import choose, run_checks
from refinerctl.insight.verify.snapshot import (
    ALARMS,
    BROKER,
    CACHE,
    COUNTS,
    DEFINITION,
    FAILURES,
    FUNCTION,
    IMAGE,
    INPUTS,
    LOG_GROUP,
    RELEASE,
    ROLE,
    SCHEDULE,
    SECRET,
    SECURITY_GROUP,
    SERVICE,
    STATE_LOGIN,
    Snapshot,
)
from refinerctl.stacks.base import Broker, Service
from refinerctl.stacks.rnr import STACK
from tests.unit.fakes import START
from tests.unit.insight.verify import rnr_snapshots as rnr_stack
from tests.unit.insight.verify.rnr_snapshots import CLUSTER, GROUPS, NAME, WORKER, rule
from tests.unit.insight.verify.rnr_snapshots import IMAGE as PINNED
from tests.unit.insight.verify.snapshots import answering, changed, queue_arn

HEALTHY = rnr_stack.healthy()
MISSING = NotFoundError("it does not exist")
THE_BROKER, THE_CACHE = (BROKER, f"{NAME}-broker"), (CACHE, f"{NAME}-cache")
THE_SERVICE, THE_DEFINITION = (SERVICE, CLUSTER, WORKER), (DEFINITION, rnr_stack.DEFINITION, "worker")
PRODUCER, MERGER = (FUNCTION, f"{NAME}-producer"), (FUNCTION, f"{NAME}-postprocess")
TASK_ROLE, EXECUTION_ROLE = (ROLE, f"{NAME}-ecs-task-role"), (ROLE, f"{NAME}-ecs-execution-role")
THE_LOGIN = (STATE_LOGIN, next(HEALTHY.pipeline.by_kind(Broker)))
SERVICE_OF_WORKER = next(HEALTHY.pipeline.by_kind(Service))
STALE = ServiceCounts(START - timedelta(minutes=6), ready=5, unacknowledged=0, dlq_messages=0)
OWN = {check.id for section in (servers.SECTION, services.SECTION, rnr.SECTION) for check in section.checks}


def of_service(**change: Any) -> Snapshot:
    return changed(HEALTHY, *THE_SERVICE, **change)


def deployment(**change: Any) -> Snapshot:
    (primary,) = HEALTHY.get(*THE_SERVICE).value.deployments  # type: ignore[union-attr]
    return of_service(deployments=(replace(primary, **change),), events=("(service x) cannot pull image",))


def without_policy(role: tuple[Any, ...], name: str) -> Snapshot:
    found: Any = HEALTHY.answers[role].value
    return changed(HEALTHY, *role, policies=tuple(policy for policy in found.policies if policy.name != name))


def variables(**given: str) -> Snapshot:
    values = {**rnr_stack.ENVIRONMENTS["worker"], **given}
    kept = {name: value for name, value in values.items() if value}
    return changed(HEALTHY, *THE_DEFINITION, environment=tuple(sorted(kept.items())))


BROKEN: list[tuple[str, str | None, str, str, Snapshot]] = [
    ("broker", None, "fail", "does not exist", answering(HEALTHY, *THE_BROKER, error=MISSING)),
    ("broker", None, "fail", "CRITICAL_ACTION", changed(HEALTHY, *THE_BROKER, state="CRITICAL_ACTION_REQUIRED")),
    ("broker", None, "warn", "REBOOT", changed(HEALTHY, *THE_BROKER, state="REBOOT_IN_PROGRESS")),
    ("broker-private", None, "fail", "publicly", changed(HEALTHY, *THE_BROKER, is_public=True)),
    ("broker-tls", None, "fail", "amqp://b:5672", changed(HEALTHY, *THE_BROKER, endpoints=("amqp://b:5672",))),
    ("broker-logs", None, "warn", "log of broker", changed(HEALTHY, *THE_BROKER, has_logs=False)),
    ("secret", None, "fail", "no current version",
     changed(HEALTHY, SECRET, f"{NAME}-broker", has_current_version=False)),
    ("secret", None, "fail", "scheduled for deletion on 2026-03-01",
     changed(HEALTHY, SECRET, f"{NAME}-cache", deleted_at=START)),
    ("state-password", None, "fail", "accepts the password that is in Terraform's state",
     answering(HEALTHY, *THE_LOGIN, value=True)),
    ("cache", None, "warn", "is modifying", changed(HEALTHY, *THE_CACHE, status="modifying")),
    ("cache", None, "fail", "does not exist", answering(HEALTHY, *THE_CACHE, error=MISSING)),
    ("cache-encrypted", None, "fail", "without encryption in transit and without a token",
     changed(HEALTHY, *THE_CACHE, encrypts_transit=False, has_login=False)),
    ("broker-network", None, "fail", f"do not let {WORKER} (port 5671) connect to {NAME}-broker",
     changed(HEALTHY, SECURITY_GROUP, GROUPS["worker"], egress=())),
    ("broker-network", None, "fail", f"do not let {NAME}-autoscaler (port 443) connect",
     changed(HEALTHY, SECURITY_GROUP, GROUPS["broker"],
             ingress=(rule(5671, GROUPS["producer"], GROUPS["worker"]),))),
    ("broker-network", None, "warn", "addresses in security groups decide",
     changed(HEALTHY, SECURITY_GROUP, GROUPS["worker"], egress=(TrafficRule("-1", 0, 65535, elsewhere=True),))),
    ("cache-network", None, "fail", f"{NAME}-producer (port 6379)",
     changed(HEALTHY, SECURITY_GROUP, GROUPS["cache"], ingress=())),
    ("service", "worker", "fail", "does not exist", answering(HEALTHY, *THE_SERVICE, error=MISSING)),
    ("service", "worker", "fail", "a deployment failed: no image", deployment(rollout="FAILED", reason="no image")),
    ("service", "worker", "warn", "in progress: (service x)", deployment(rollout="IN_PROGRESS")),
    ("service", "worker", "warn", "1 of 2 tasks running", of_service(running=1)),
    ("service", "worker", "fail", "DRAINING", of_service(status="DRAINING")),
    ("service-circuit-breaker", "worker", "fail", "no deployment circuit", of_service(has_circuit_breaker=False)),
    ("service-circuit-breaker", "worker", "warn", "does not roll back", of_service(rolls_back=False)),
    ("service-stop-timeout", "worker", "warn", "30 s", changed(HEALTHY, *THE_DEFINITION, stop_timeout_s=None)),
    ("service-stop-timeout", "worker", "warn", "60 s", changed(HEALTHY, *THE_DEFINITION, stop_timeout_s=60)),
    ("service-release", "worker", "fail", "but release v1.0.0 has",
     changed(HEALTHY, RELEASE, images={"worker": PINNED.replace("2", "3")} | dict.fromkeys(
         ("producer", "autoscaler", "postprocess"), PINNED))),
    ("task-role", "worker", "fail", "s3:PutObject on arn:aws:s3:::results/rnr/output/",
     without_policy(TASK_ROLE, "write")),
    ("task-role", "worker", "fail", "secretsmanager:GetSecretValue", without_policy(TASK_ROLE, "secret")),
    ("task-role", "worker", "fail", "ecs:UpdateTaskProtection", without_policy(TASK_ROLE, "protection")),
    ("execution-role", "worker", "fail", "ecr:BatchGetImage", without_policy(EXECUTION_ROLE, "pull")),
    ("log-retention", "worker", "fail", "no task can start",
     answering(HEALTHY, LOG_GROUP, f"/aws/ecs/{WORKER}", error=MISSING)),
    ("autoscaler-metrics", "worker", "fail", "6 minutes old",
     answering(HEALTHY, COUNTS, SERVICE_OF_WORKER, value=STALE)),
    ("schedule", "producer", "fail", "disabled",
     changed(HEALTHY, SCHEDULE, NAME, f"{NAME}-producer", is_enabled=False)),
    ("schedule-target", "producer", "fail", "sends to arn:other",
     changed(HEALTHY, SCHEDULE, NAME, f"{NAME}-producer", target_arn="arn:other")),
    ("schedule-role", "autoscaler", "fail", "lambda:InvokeFunction",
     changed(HEALTHY, ROLE, f"{NAME}-scheduler-autoscaler-role", policies=())),
    ("delivery-dlq", "postprocess", "fail", "has no DLQ",
     changed(HEALTHY, SCHEDULE, NAME, f"{NAME}-postprocess", dlq_arn=None)),
    ("function-dlq", "producer", "fail", "no destination",
     answering(HEALTHY, FAILURES, f"{NAME}-producer", value=None)),
    ("function-dlq", "producer", "fail", "not to rnr-test-producer-dlq",
     answering(HEALTHY, FAILURES, f"{NAME}-producer", value=queue_arn("other"))),
    ("role-permissions", "producer", "fail", "s3:ListBucket",
     without_policy((ROLE, f"{NAME}-producer"), "buckets")),
    ("role-permissions", "producer", "fail", "secretsmanager:GetSecretValue",
     without_policy((ROLE, f"{NAME}-producer"), "secrets")),
    ("role-permissions", "postprocess", "fail", "s3:PutObject on arn:aws:s3:::results/rnr/merged/",
     without_policy((ROLE, f"{NAME}-postprocess"), "objects")),
    ("role-permissions", "autoscaler", "fail", "sqs:SendMessage", without_policy((ROLE, f"{NAME}-autoscaler"), "dlq")),
    ("role-permissions", "autoscaler", "fail", "ecs:UpdateService",
     without_policy((ROLE, f"{NAME}-autoscaler"), "scaling")),
    ("inputs-complete", "worker", "warn", "at least 4 have neither",
     answering(HEALTHY, INPUTS, rnr_stack.INPUTS, HEALTHY.pipeline.choose(("worker",))[0],
               value=InputCount(1000, 9))),
    ("dlq-alarms", None, "warn", WORKER,
     answering(HEALTHY, ALARMS, NAME, value=HEALTHY.get(ALARMS, NAME).value[:-1])),  # type: ignore[index]
    ("rnr-environment", "worker", "fail", "RNR_QUEUE is other, not rnr-test-work", variables(RNR_QUEUE="other")),
    ("rnr-environment", "worker", "fail", "RNR_BROKER_URL is not set", variables(RNR_BROKER_URL="")),
    ("rnr-environment", "worker", "fail", "COMMAND are both set", variables(PROCESSOR_COMMAND="route")),
    ("rnr-environment", "postprocess", "fail", "RNR_MERGED_PREFIX is not set, not rnr/merged/",
     changed(HEALTHY, *MERGER, environment={**rnr_stack.ENVIRONMENTS["postprocess"], "RNR_MERGED_PREFIX": ""})),
]  # fmt: skip


def test_a_healthy_stack_passes_every_check() -> None:
    results = run_checks(HEALTHY, STACK)
    assert [result for result in results if result.status is not Status.PASS] == []
    assert {check.id for check in choose(STACK)} >= OWN
    assert {result.id for result in results} >= OWN


@pytest.mark.parametrize(
    ("check", "stage", "status", "words", "snapshot"),
    BROKEN,
    ids=[f"{number}-{case[0]}" for number, case in enumerate(BROKEN)],
)
def test_a_fault_is_found_by_its_check_alone(
    check: str, stage: str | None, status: str, words: str, snapshot: Snapshot
) -> None:
    results = [result for result in run_checks(snapshot, STACK) if result.status in (Status.FAIL, Status.WARN)]
    (found,) = results
    assert (found.id, found.status, found.stage) == (check, status, stage)
    assert words in found.seen
    assert found.why
    assert found.fix


def test_every_check_has_a_case_that_it_finds() -> None:
    # An image by tag alone is another one than the release's, too: it has a test of its own.
    assert {case[0] for case in BROKEN} >= OWN - {"service-image"}


def test_an_image_that_is_not_pinned_or_not_in_ecr_is_found() -> None:
    by_tag = changed(HEALTHY, *THE_DEFINITION, image=f"{PINNED.partition('@')[0]}:v1")
    found = {result.id: result for result in run_checks(by_tag, STACK) if result.status is Status.FAIL}
    assert "not pinned" in found["service-image"].seen
    gone = answering(HEALTHY, IMAGE, PINNED, error=MISSING)
    failed = {result.id for result in run_checks(gone, STACK) if result.status is Status.FAIL}
    assert failed == {"service-image", "function-image"}


def test_a_local_environment_skips_what_it_does_not_have() -> None:
    results = {result.id: result.status for result in run_checks(replace(HEALTHY, embedded=True), STACK)}
    skipped = {name for name, status in results.items() if status is Status.SKIP}
    assert skipped == {
        "service-stop-timeout",
        "broker-tls", "broker-logs", "cache-encrypted", "broker-network", "cache-network", "dlq-alarms", "alarm-actions"
    }  # fmt: skip


def test_without_metrics_inputs_are_not_counted() -> None:
    silent = answering(HEALTHY, COUNTS, SERVICE_OF_WORKER, value=None)
    results = {result.id: result for result in run_checks(silent, STACK) if result.stage == "worker"}
    assert results["autoscaler-metrics"].status is Status.FAIL
    assert results["inputs-complete"].status is Status.SKIP


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ([], False),
        ([rule(443, "sg-a")], False),
        ([rule(5671, "sg-b")], False),
        ([rule(5671, "sg-a")], True),
        ([TrafficRule("-1", 0, 65535, ("sg-a",))], True),
        ([TrafficRule("udp", 0, 65535, ("sg-a",))], False),
        ([TrafficRule("tcp", 5000, 6000, elsewhere=True)], None),
    ],
)
def test_rules_of_security_groups(rules: list[TrafficRule], verdict: bool | None) -> None:
    assert lets_through(rules, 5671, ["sg-a"]) is verdict
    assert SecurityGroup("sg-a").ingress == ()


def test_the_password_in_the_state_is_not_judged_without_a_route_to_the_broker() -> None:
    away = answering(HEALTHY, *THE_LOGIN, error=TransientError("the broker cannot be reached"))
    (found,) = run_checks(away, STACK, only=["state-password"])

    assert (found.status, found.seen) == (
        Status.SKIP,
        "the broker cannot be reached; a runner in the VPC, or --broker-url, has a route",
    )
