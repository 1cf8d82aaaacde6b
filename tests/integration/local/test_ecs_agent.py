"""The stand-in for ECS's agent: tasks are processes, services are in the emulator."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from refinerctl.aws.logs import LogGroups
from refinerctl.aws.session import AwsSession
from refinerctl.images import BuildContext
from refinerctl.local.ecs_agent import EcsAgent, EcsError
from refinerctl.local.engines import ProcessEngine
from refinerctl.local.function_logs import FunctionLogs

WORKER = """
import os, signal, sys, time

def stop(*_):
    print("stopping")
    if "IGNORE" not in os.environ:
        sys.exit(0)

signal.signal(signal.SIGTERM, stop)
print("started", os.getpid(), os.environ["GREETING"], os.environ["BASE"], os.getcwd())
while True:
    time.sleep(0.1)
"""


@dataclass
class Cluster:
    """A cluster in the emulator, its agent, and the lines that tasks have written."""

    agent: EcsAgent
    ecs: Any
    logs: Any
    name: str
    file: Path

    def define(self, image: str = "tests/worker:v1", stop_timeout: int = 5, **environment: str) -> str:
        """Register a task definition; its ARN."""
        options = {"awslogs-group": self.name, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "ecs"}
        container = {
            "name": "worker",
            "image": image,
            "stopTimeout": stop_timeout,
            "environment": [{"name": k, "value": v} for k, v in {"GREETING": "hello", **environment}.items()],
            "logConfiguration": {"logDriver": "awslogs", "options": options},
        }
        answer = self.ecs.register_task_definition(family=self.name, containerDefinitions=[container])
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def create(self, desired: int, **definition: Any) -> None:
        self.ecs.create_service(
            cluster=self.name,
            serviceName=self.name,
            taskDefinition=self.define(**definition),
            desiredCount=desired,
            launchType="FARGATE",
        )
        self.agent.notice()

    def update(self, **changes: Any) -> None:
        self.ecs.update_service(cluster=self.name, service=self.name, **changes)
        self.agent.notice()

    def tasks(self) -> list[str]:
        """The ARNs of running tasks, in the order of their start."""
        return list(self.agent.list_tasks({"cluster": self.name, "serviceName": self.name})["taskArns"])

    def has_tasks(self, count: int) -> bool:
        return eventually(lambda: len(self.tasks()) == count)

    def describe(self, arn: str) -> Any:
        (task,) = self.agent.describe_tasks({"cluster": self.name, "tasks": [arn]})["tasks"]
        return task

    def service(self) -> Any:
        """As the emulator describes it, put right by the agent."""
        (service,) = self.ecs.describe_services(cluster=self.name, services=[self.name])["services"]
        self.agent.correct_service(service)
        return service

    def lines(self, arn: str) -> list[str]:
        records = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [record["message"] for record in records if record["request_id"] == arn.rpartition("/")[2]]

    def events(self, stream: str) -> list[str]:
        """The messages in the log group."""
        groups = self.logs.filter_log_events(logGroupName=self.name)["events"]
        return [event["message"] for event in groups if event["logStreamName"] == stream]

    def pid(self, arn: str) -> int:
        assert eventually(lambda: any(line.startswith("started") for line in self.lines(arn)))
        return next(int(line.split()[1]) for line in self.lines(arn) if line.startswith("started"))

    def protect(self, arn: str, enabled: bool, minutes: int | None = None) -> Any:
        """As the task itself does it."""
        environ = psutil.Process(self.pid(arn)).environ()
        body = {"ProtectionEnabled": enabled, **({"ExpiresInMinutes": minutes} if minutes is not None else {})}
        return put(f"{environ['ECS_AGENT_URI']}/task-protection/v1/state", json.dumps(body).encode())


def put(url: str, body: bytes | None) -> Any:
    request = urllib.request.Request(url, body, method="GET" if body is None else "PUT")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


def eventually(look: Callable[[], Any], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def cluster(session: AwsSession, tmp_path: Path, unique: str) -> Iterator[Cluster]:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "Dockerfile").write_text('FROM python:3.12-slim\nCMD ["python3", "worker.py"]\n')
    (folder / "worker.py").write_text(WORKER)
    ecs, groups = session.client("ecs"), session.client("logs")
    ecs.create_cluster(clusterName=unique)
    groups.create_log_group(logGroupName=unique)
    logs = FunctionLogs(tmp_path / "functions.log", LogGroups(session))
    engine = ProcessEngine({"tests/worker": BuildContext(folder)}, tmp_path / "venvs")
    agent = EcsAgent(ecs, engine, logs, {"BASE": "base"})
    yield Cluster(agent, ecs, groups, unique, tmp_path / "functions.log")
    agent.close()
    logs.close()
    for arn in ecs.list_services(cluster=unique)["serviceArns"]:
        ecs.delete_service(cluster=unique, service=arn, force=True)
    ecs.delete_cluster(cluster=unique)
    started = [line.split()[0] for line in (tmp_path / "functions.log").read_text().split('"started ')[1:]]
    assert not [pid for pid in started if psutil.pid_exists(int(pid))]


def test_tasks_follow_the_desired_count(cluster: Cluster, tmp_path: Path) -> None:
    cluster.create(2)
    assert cluster.has_tasks(2)
    service = cluster.service()
    assert (service["runningCount"], service["pendingCount"]) == (2, 0)
    first = cluster.tasks()[0]
    pid = cluster.pid(first)
    assert cluster.lines(first) == [f"started {pid} hello base {tmp_path / 'image'}"]
    task = cluster.describe(first)
    assert (task["lastStatus"], task["group"]) == ("RUNNING", f"service:{cluster.name}")

    stream = f"ecs/worker/{first.rpartition('/')[2]}"
    assert eventually(lambda: cluster.events(stream) == cluster.lines(first))

    cluster.update(desiredCount=0)
    assert cluster.has_tasks(0)
    assert eventually(lambda: cluster.describe(first)["lastStatus"] == "STOPPED")
    assert cluster.lines(first)[1:] == ["stopping"]
    assert cluster.describe(first)["containers"][0]["exitCode"] == 0
    assert cluster.service()["deployments"][0]["rolloutState"] == "COMPLETED"


def test_a_protected_task_is_stopped_only_when_its_protection_ends(cluster: Cluster) -> None:
    cluster.create(2)
    assert cluster.has_tasks(2)
    first, second = cluster.tasks()
    assert cluster.protect(second, True, 5)["protection"]["ProtectionEnabled"] is True
    cluster.update(desiredCount=0)
    assert eventually(lambda: cluster.describe(first)["lastStatus"] == "STOPPED")
    assert cluster.tasks() == [second]
    protected = cluster.agent.get_task_protection({"cluster": cluster.name})["protectedTasks"]
    assert [(item["taskArn"], item["protectionEnabled"]) for item in protected] == [(second, True)]
    assert 0 < protected[0]["expirationDate"] - time.time() <= 300

    assert cluster.protect(second, False)["protection"] == {"ProtectionEnabled": False, "TaskArn": second}
    assert cluster.has_tasks(0)


def test_a_task_that_is_being_stopped_gets_no_protection(cluster: Cluster) -> None:
    cluster.create(1, stop_timeout=60, IGNORE="SIGTERM")
    assert cluster.has_tasks(1)
    (task,) = cluster.tasks()
    cluster.pid(task)
    cluster.update(desiredCount=0)
    assert eventually(lambda: cluster.describe(task)["lastStatus"] == "STOPPING")
    assert cluster.protect(task, True)["failure"] == {"Arn": task, "Reason": "TASK_NOT_VALID"}


def test_a_task_that_ignores_sigterm_is_killed_after_its_stop_timeout(cluster: Cluster) -> None:
    cluster.create(1, stop_timeout=1, IGNORE="SIGTERM")
    assert cluster.has_tasks(1)
    (task,) = cluster.tasks()
    cluster.pid(task)
    cluster.update(desiredCount=0)
    assert eventually(lambda: cluster.describe(task)["lastStatus"] == "STOPPED")
    assert cluster.describe(task)["containers"][0]["reason"] == "signal: SIGKILL"
    assert "stopping" in cluster.lines(task)


def test_a_killed_task_is_replaced(cluster: Cluster) -> None:
    cluster.create(1)
    assert cluster.has_tasks(1)
    (task,) = cluster.tasks()
    os.kill(cluster.pid(task), signal.SIGKILL)
    assert eventually(lambda: cluster.tasks() not in ([], [task]))
    assert cluster.describe(task)["stoppedReason"] == "Essential container in task exited"
    assert cluster.service()["deployments"][0]["failedTasks"] == 1


def test_a_deployment_replaces_tasks_one_after_the_other_and_waits_for_protected_ones(cluster: Cluster) -> None:
    cluster.create(2)
    assert cluster.has_tasks(2)
    first, second = cluster.tasks()
    cluster.protect(first, True)
    cluster.update(taskDefinition=cluster.define(GREETING="new"))
    assert eventually(lambda: cluster.describe(second)["lastStatus"] == "STOPPED")
    assert eventually(lambda: len(cluster.tasks()) == 3)
    assert first in cluster.tasks()
    primary, earlier = cluster.service()["deployments"]
    assert (primary["runningCount"], primary["rolloutState"]) == (2, "IN_PROGRESS")
    assert (earlier["status"], earlier["runningCount"]) == ("ACTIVE", 1)
    assert cluster.protect(first, True)["failure"] == {"Arn": first, "Reason": "DEPLOYMENT_BLOCKED"}

    cluster.protect(first, False)
    assert cluster.has_tasks(2)
    assert first not in cluster.tasks()
    assert [item["rolloutState"] for item in cluster.service()["deployments"]] == ["COMPLETED"]


def test_stop_task_stops_a_protected_task_too(cluster: Cluster) -> None:
    cluster.create(1)
    assert cluster.has_tasks(1)
    (task,) = cluster.tasks()
    cluster.protect(task, True)
    cluster.agent.stop_task({"cluster": cluster.name, "task": task, "reason": "because"})
    assert eventually(lambda: cluster.describe(task)["lastStatus"] == "STOPPED")
    assert cluster.describe(task)["stoppedReason"] == "because"
    with pytest.raises(EcsError, match="not found"):
        cluster.agent.stop_task({"cluster": cluster.name, "task": "unknown"})


def test_a_task_finds_its_metadata(cluster: Cluster) -> None:
    cluster.create(1)
    assert cluster.has_tasks(1)
    (task,) = cluster.tasks()
    environ = psutil.Process(cluster.pid(task)).environ()
    metadata = environ["ECS_CONTAINER_METADATA_URI_V4"]
    answer = put(f"{metadata}/task", None)
    assert (answer["TaskARN"], answer["Family"]) == (task, cluster.name)
    assert put(metadata, None)["Name"] == "worker"
    state = f"{environ['ECS_AGENT_URI']}/task-protection/v1/state"
    assert put(state, None) == {"protection": {"ProtectionEnabled": False, "TaskArn": task}}
    for body in (b"{", b"[]", b'{"ProtectionEnabled": 1}', b'{"ProtectionEnabled": true, "ExpiresInMinutes": 9999}'):
        code, answer = put(state, body)
        assert (code, answer["error"]["Arn"]) == (400, task)
    assert put(metadata.replace("/v4/", "/v4/other"), None)[0] == 404


def test_an_image_of_another_project_is_an_error_in_the_log(cluster: Cluster) -> None:
    cluster.create(1, image="ghcr.io/their/image:v1")
    assert eventually(lambda: "is not an image of this project" in cluster.file.read_text())
    assert cluster.tasks() == []


def test_tasks_of_a_deleted_service_are_stopped(cluster: Cluster) -> None:
    cluster.create(1)
    assert cluster.has_tasks(1)
    cluster.ecs.delete_service(cluster=cluster.name, service=cluster.name, force=True)
    cluster.agent.notice()
    assert cluster.has_tasks(0)
