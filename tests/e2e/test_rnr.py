"""Stack rnr in the local environment, as a user works with it. The tests share one environment, in this order."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pika
import psutil
import pytest
import redis

from tests.e2e.project import Project, eventually, make_project
from tests.registries.docker_registry import DockerRegistry
from tests.registries.images import push_image

pytestmark = pytest.mark.e2e
DLQ = "rnr-local-work-dlq"


def servers(project: Project) -> dict[str, Any]:
    """Servers of the environment by the first word of their name."""
    found = project.run("local", "status", "--output", "json").json()["servers"]
    return {server["name"].partition("-")[0]: server for server in found}


def secret(project: Project, name: str) -> dict[str, str]:
    text = project.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
    content: dict[str, str] = json.loads(text)
    return content


def broker_connection(project: Project) -> pika.BlockingConnection:
    """As a worker connects: the address of DescribeBroker, the credentials of the secret."""
    mq = project.client("mq")
    (summary,) = mq.list_brokers()["BrokerSummaries"]
    broker = mq.describe_broker(BrokerId=summary["BrokerId"])
    (endpoint,) = broker["BrokerInstances"][0]["Endpoints"]
    content = secret(project, summary["BrokerName"])
    parameters = pika.URLParameters(endpoint)
    parameters.credentials = pika.PlainCredentials(content["username"], content["password"])
    return pika.BlockingConnection(parameters)


def hydrograph(hours: int) -> bytes:
    """An input of the bundled processor, which takes some 50 microseconds per hour."""
    lines = ["# k_hours = 2.3", "# x = 0.15", "time,inflow", *(f"{hour},{hour % 72}" for hour in range(hours))]
    return "\n".join(lines).encode()


def upload(project: Project, inputs: Mapping[str, bytes]) -> None:
    folder = project.folder.parent / "inputs"
    folder.mkdir(exist_ok=True)
    for name, content in inputs.items():
        (folder / name).write_bytes(content)
    done = project.run("upload", *(str(folder / name) for name in inputs))
    assert done.code == 0, done.err


def invoke(project: Project, *names: str) -> Any:
    """The result of the last of these functions; the next run of their schedules may be a minute away."""
    api = project.client("lambda")
    for name in names:
        answer = api.invoke(FunctionName=f"rnr-local-{name}")
        result = json.loads(answer["Payload"].read())
    return result


def work_begins(project: Project) -> bool:
    """Whether the autoscaler has found messages and started a worker."""
    return bool(invoke(project, "producer", "autoscaler").get("desired"))


def statuses(project: Project) -> dict[str, str]:
    listed = project.run("inputs", "--output", "json")
    return {item["key"].rpartition("/")[2]: item["status"] for item in listed.lines()}


def completion(project: Project, name: str) -> Any:
    key = f"rnr/complete/{name}.json"
    return json.loads(project.client("s3").get_object(Bucket="rnr-data", Key=key)["Body"].read())


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def push_release(project: Project, tag: str) -> None:
    """Push an image for each stage to the emulator's ECR; tasks run the code of the folders anyway."""
    endpoint = project.run("local", "status", "--output", "json").json()["endpoint_url"]
    registry = DockerRegistry(endpoint.removeprefix("http://"), project.folder)
    for name in ("producer", "worker", "autoscaler", "postprocess"):
        push_image(registry, f"rnr/{name}", tag)


def tasks(project: Project) -> list[Any]:
    ecs = project.client("ecs")
    arns = ecs.list_tasks(cluster="rnr-local")["taskArns"]
    return list(ecs.describe_tasks(cluster="rnr-local", tasks=arns)["tasks"]) if arns else []


def test_plan_after_up_has_no_changes(rnr: Project) -> None:
    planned = rnr.run("plan", "--detailed-exitcode")
    assert planned.code == 0, planned.out + planned.err
    printed = planned.out + planned.err + rnr.run("local", "logs", "--source", "terraform").out
    assert "aws_mq_broker" in printed
    for name, field in (("rnr-local-broker", "password"), ("rnr-local-cache", "token")):
        assert secret(rnr, name)[field] not in printed


def test_inputs_are_processed_and_a_failed_one_again_after_its_redrive(rnr: Project) -> None:
    upload(rnr, {"good +ü.csv": hydrograph(48), "bad.csv": b"no hydrograph"})
    assert eventually(lambda: work_begins(rnr))
    polled = rnr.run("poll", "--expect", "rnr/input/good +ü.csv", "--timeout", "2m", "--output", "json")
    assert polled.code == 0, polled.err
    assert [output["key"] for line in polled.lines() for output in line["outputs"]] == [
        "rnr/output/good +ü.csv/routed.csv"
    ]

    def in_dlq() -> bool:
        return any(queue["depth"] for queue in rnr.run("dlq", "list", "--output", "json").json()["queues"])

    assert eventually(in_dlq, 120)
    inspected = rnr.run("dlq", "inspect", DLQ)
    assert "InvalidHydrographError" in inspected.out
    assert "delivery_limit" in inspected.out
    failed = rnr.run("trace", "rnr/input/bad.csv")
    assert "failed 6 times in worker" in failed.out

    upload(rnr, {"bad.csv": hydrograph(48)})
    moved = rnr.run("dlq", "redrive", DLQ, "--yes", "--output", "json")
    assert (moved.code, moved.json()["moved"], moved.json()["left"]) == (0, 1, 0), moved.err
    assert eventually(lambda: statuses(rnr) == {"good +ü.csv": "completed", "bad.csv": "completed"}, 120)


def test_merged_input_is_traced_and_nothing_is_wrong(rnr: Project) -> None:
    ran = rnr.run("rnr", "postprocess", "--yes")  # its schedule may have merged them already
    assert ran.code == 0, ran.err

    def is_merged() -> bool:
        return "merged in rnr/merged/" in rnr.run("trace", "rnr/input/bad.csv").out

    assert eventually(is_merged)
    traced = rnr.run("trace", "rnr/input/good +ü.csv", "--output", "json").json()
    assert [hop["component"] for hop in traced["hops"]] == ["S3", "Lambda", "RabbitMQ", "ECS", "S3", "ECS", "S3", "S3"]
    status = rnr.run("status", "--output", "json").json()
    assert [stage["name"] for stage in status["stages"]] == ["producer", "worker", "autoscaler", "postprocess"]
    verified = rnr.run("verify")
    assert verified.code == 0, verified.out


def test_a_deployment_replaces_workers_and_loses_no_job(rnr: Project) -> None:
    names = [f"long-{number}.csv" for number in range(3)]
    upload(rnr, {name: hydrograph(60_000 + number) for number, name in enumerate(names)})
    assert eventually(lambda: work_begins(rnr))
    assert eventually(lambda: tasks(rnr))
    before = {task["taskArn"] for task in tasks(rnr)}
    push_release(rnr, "v1.0.0")
    deployed = rnr.run("deploy", "--tag", "v1.0.0", "--yes", timeout=400)
    assert deployed.code == 0, deployed.err
    assert not before & {task["taskArn"] for task in tasks(rnr)}

    def all_completed() -> bool:
        found = statuses(rnr)
        return all(found[name] == "completed" for name in names)

    assert eventually(all_completed, 180)
    assert [completion(rnr, name)["attempt"] for name in names] == [1, 1, 1]


@pytest.mark.nightly
def test_broker_is_a_rabbitmq_server_that_is_restarted_after_a_crash(rnr: Project) -> None:
    assert broker_connection(rnr).is_open
    before = servers(rnr)["rabbitmq"]
    os.kill(before["pid"], signal.SIGKILL)
    assert eventually(lambda: servers(rnr)["rabbitmq"]["pid"] not in (before["pid"], None))
    assert servers(rnr)["rabbitmq"]["address"] == before["address"]
    assert broker_connection(rnr).is_open
    assert "starting it again" in rnr.run("local", "logs", "--source", "supervisor").out
    assert "rabbit" in rnr.run("local", "logs", "--source", "rabbitmq").out


def test_cache_is_a_redis_server_with_the_token_of_the_secret(rnr: Project) -> None:
    (group,) = rnr.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    endpoint = group["NodeGroups"][0]["PrimaryEndpoint"]
    token = secret(rnr, group["ReplicationGroupId"])["token"]
    assert redis.Redis(endpoint["Address"], endpoint["Port"], password=token).ping()
    assert servers(rnr)["redis"]["address"] == f"redis://127.0.0.1:{endpoint['Port']}"


@pytest.mark.nightly
def test_stack_refiner_is_added_to_the_same_environment(rnr: Project) -> None:
    added = rnr.run("local", "up", "--detach", "--stack", "refiner", timeout=280)
    assert added.code == 0, added.err
    assert rnr.run("local", "status", "--output", "json").json()["stacks"] == ["registry", "rnr", "refiner"]
    report = rnr.folder.parent / "report.txt"
    report.write_text("a report")
    done = rnr.run("upload", str(report), "--wait", "--timeout", "2m", "--stack", "refiner")
    assert done.code == 0, done.err
    assert rnr.run("status").code == 0


def test_a_killed_supervisor_leaves_nothing_behind(rnr: Project) -> None:
    """The last test: it ends the environment. Servers, tasks and epmd are processes of their own."""
    status = rnr.run("local", "status", "--output", "json").json()
    children = psutil.Process(status["supervisor_pid"]).children(recursive=True)
    assert "epmd" in [child.name() for child in children]
    os.kill(status["supervisor_pid"], signal.SIGKILL)
    assert rnr.processes()
    ended = rnr.run("local", "down")
    assert ended.code == 0, ended.err
    assert eventually(lambda: rnr.processes() == [])
    assert eventually(lambda: not any(lives(child) for child in children))


def test_up_without_servers_says_how_to_install_them(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    project = make_project(tmp_path / "other", {"REFINERCTL_STACK": "rnr", "PATH": str(tmp_path / "bin")})
    done = project.run("local", "up", "--detach")
    assert done.code == 1
    assert "Install it: `apt-get install" in done.err
    assert project.processes() == []
