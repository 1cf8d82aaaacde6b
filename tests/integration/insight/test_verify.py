"""`verify` reads the components of a pipeline, with the emulator."""

from __future__ import annotations

import io
import json
import threading
import time
from typing import Any

import pytest

from refinerctl.app import AppContext
from refinerctl.aws.events import EventBuses
from refinerctl.aws.iam import Role, Roles
from refinerctl.aws.lambda_ import FunctionConfiguration, Functions
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import Queues
from refinerctl.config import GlobalFlags
from refinerctl.errors import AccessDeniedError, NotFoundError
from refinerctl.insight.findings import Status
from refinerctl.insight.verify.checks import run_checks
from refinerctl.insight.verify.snapshot import INPUTS, QUEUE, ROLE, ROLES_AT_ONCE, take_snapshot
from refinerctl.stacks.base import Function, Pipeline, Queue, Schedule, Stack, Stage
from refinerctl.stacks.refiner import STACK


def app_of(session: AwsSession) -> AppContext:
    app = AppContext(GlobalFlags())
    app.session = session
    return app


def pipeline(**values: Any) -> Pipeline:
    assert STACK.pipeline is not None
    return STACK.pipeline(STACK.settings, {"bucket_name": "never-made", "name_prefix": "never-made"} | values)


NOTHING = pipeline(bus_name="never-made")


def failures(session: AwsSession, of: Pipeline, stack: Stack) -> list[tuple[str, str | None]]:
    results = run_checks(take_snapshot(app_of(session), of), stack)
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
    arn = Queues(session).state(queue).arn
    target = {"Arn": arn, "RoleArn": "arn:aws:iam::000000000000:role/nobody", "DeadLetterConfig": {"Arn": dlq_arn}}
    scheduler.create_schedule(
        Name=unique,
        ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=target,
        State="DISABLED",
    )
    found = EventBuses(session).schedule("default", unique)
    assert (found.expression, found.is_enabled, found.target_arn, found.dlq_arn) == ("rate(1 day)", False, arn, dlq_arn)
    with pytest.raises(NotFoundError, match="schedule default/never-made does not exist"):
        EventBuses(session).schedule("default", "never-made")
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


def test_inputs_are_counted_after_the_messages(session: AwsSession, bucket: S3Bucket, unique: str) -> None:
    for end in ("RefinerInput", "RefinerInput-dlq", "RefinerInput-delivery-dlq", "forward-delivery-dlq"):
        session.client("sqs").create_queue(QueueName=f"{unique}-{end}")
    for key in ("RefinerInput/a", "RefinerInput/b", "RefinerComplete/a.json"):
        bucket.put(key, io.BytesIO(b""), 0)
    found = pipeline(bucket_name=bucket.name, name_prefix=unique)
    snapshot = take_snapshot(app_of(session), found)
    asked = list(snapshot.answers)
    (stage,) = (stage for stage in found.stages if stage.consumer)
    assert asked.index((INPUTS, bucket.name, stage)) > asked.index((QUEUE, f"{unique}-RefinerInput"))
    (result,) = run_checks(snapshot, STACK, only=["inputs-complete"])
    assert result.seen.startswith("2 inputs below RefinerInput/: 0 without completion")


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
    app = app_of(session)
    app.roles, app.functions = roles, ManyFunctions(session)
    found = take_snapshot(app, many)
    assert {role.name for role in found.answered(ROLE).values()} == {f"never-made-{name}" for name in rulesets}
    assert len(roles.counts) == 3 * ROLES_AT_ONCE
    assert 1 < max(roles.counts) <= ROLES_AT_ONCE


class Expired(AwsSession):
    """A session whose credentials are refused."""

    def caller(self) -> str:
        raise AccessDeniedError("the AWS credentials have expired")


def test_credentials_that_do_not_work_are_an_error() -> None:
    session = Expired("us-east-1", profile=None, endpoint_url=None, embedded=False)
    with pytest.raises(AccessDeniedError):
        take_snapshot(app_of(session), NOTHING)
