"""`rnr workers`: shows tasks, and changes the number of tasks and the autoscaler's schedule."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from refinerctl.aws.logs import LogGroups
from refinerctl.aws.session import AwsSession
from tests.command import Command
from tests.integration.rnr.account import Account, as_json

TASK = "0123456789abcdef"


@pytest.fixture
def schedule(account: Account, session: AwsSession) -> dict[str, Any]:
    """The service with two tasks, and the autoscaler's schedule."""
    name, ecs, scheduler = account.name, session.client("ecs"), session.client("scheduler")
    ecs.create_cluster(clusterName=name)
    containers: Any = [{"name": "worker", "image": "worker", "memory": 128}]
    ecs.register_task_definition(family=f"{name}-worker", containerDefinitions=containers)
    ecs.create_service(cluster=name, serviceName=f"{name}-worker", taskDefinition=f"{name}-worker", desiredCount=2)
    scheduler.create_schedule_group(Name=name)
    target = {"Arn": "arn:aws:lambda:us-east-1:000000000000:function:f", "RoleArn": "arn:aws:iam::000000000000:role/r"}
    given = {
        "Name": f"{name}-autoscaler",
        "GroupName": name,
        "ScheduleExpression": "rate(1 minute)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {**target, "Input": '{"a":1}'},
    }
    scheduler.create_schedule(**given)
    return given


def desired(session: AwsSession, account: Account) -> int:
    found = session.client("ecs").describe_services(cluster=account.name, services=[f"{account.name}-worker"])
    return found["services"][0]["desiredCount"]


@pytest.mark.usefixtures("schedule")
def test_scale_holds_until_the_autoscaler_decides_again(account: Account, run: Command, session: AwsSession) -> None:
    done = run("rnr", "workers", "--scale", "3", "--dry-run")
    assert done.out == f"would set service {account.name}-worker from 2 to 3 workers\n"
    assert desired(session, account) == 2

    done = run("rnr", "workers", "--scale", "3", "--yes")
    assert (done.code, desired(session, account)) == (0, 3)
    assert "the next run of the autoscaler decides again" in done.err


def test_drain_stops_the_autoscaler_first_and_resume_starts_it(
    account: Account, run: Command, session: AwsSession, schedule: dict[str, Any]
) -> None:
    done = run("rnr", "workers", "--drain", "--yes")
    assert (done.code, desired(session, account)) == (0, 0)
    assert account.seen.index(f"PUT /schedules/{account.name}-autoscaler") < account.seen.index("UpdateService")
    assert "rnr workers --resume" in done.err
    found = session.client("scheduler").get_schedule(GroupName=account.name, Name=f"{account.name}-autoscaler")
    assert {**schedule, "State": "DISABLED"}.items() <= found.items()
    assert "the autoscaler is stopped" in run("rnr", "workers").out

    assert run("rnr", "workers", "--resume", "--yes", "--output", "json").json()["autoscaler_enabled"] is True


@pytest.mark.usefixtures("schedule")
def test_tasks_with_their_jobs(account: Account, run: Command, session: AwsSession) -> None:
    arn, group = f"arn:aws:ecs:us-east-1:000000000000:task/{account.name}/{TASK}", f"/aws/ecs/{account.name}-worker"
    logs, stream = LogGroups(session), f"worker/worker/{TASK}"
    logs.create_stream(group, stream)
    lines = [
        {"message": message, "taskId": TASK, "messageId": key, "key": key}
        for message, key in (("record received", "in/a"), ("record done", "in/a"), ("record received", "in/b"))
    ]
    logs.put(group, stream, [(datetime.now(UTC), json.dumps(line)) for line in lines])
    answers = {
        "ListTasks": {"taskArns": [arn]},
        "DescribeTasks": {"tasks": [{"taskArn": arn, "lastStatus": "RUNNING", "startedAt": 1_700_000_000}]},
        "GetTaskProtection": {"protectedTasks": [{"taskArn": arn, "protectionEnabled": True}]},
    }
    account.before = lambda name: as_json(answers[name]) if name in answers else None
    done = run("rnr", "workers", "--output", "json")

    assert done.json()["protected"] == 1
    assert [(task["id"], task["protected"], task["key"]) for task in done.json()["tasks"]] == [(TASK, True, "in/b")]
    assert run("rnr", "workers").out.splitlines()[-1].split()[:2] == [TASK, "RUNNING"]


def test_missing_service_and_invalid_options(run: Command, account: Account) -> None:
    done = run("rnr", "workers")
    assert (done.code, f"service {account.name}-worker" in done.err) == (1, True)
    for words in (["--dry-run"], ["--drain", "--resume"], ["--scale", "-1"], ["--scale", "1"]):
        assert run("rnr", "workers", *words).code == 2
