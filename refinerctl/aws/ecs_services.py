"""ECS: the state of a service, its deployments, its tasks and their protection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from refinerctl.aws.ecs import TASKS_AT_ONCE
from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

# Number of a service's newest events that are kept: ECS returns 100.
EVENTS = 20


@dataclass(frozen=True)
class Deployment:
    """A deployment of a service; `status` (PRIMARY, ACTIVE) and `rollout` (COMPLETED, …) are ECS's own words."""

    task_definition: str
    status: str
    rollout: str
    reason: str = ""
    desired: int = 0
    running: int = 0
    pending: int = 0
    failed: int = 0


@dataclass(frozen=True)
class ServiceState:
    """A service. `events` are the texts of its newest events, newest first."""

    name: str
    arn: str
    cluster: str
    status: str
    desired: int
    running: int
    pending: int
    task_definition: str
    deployments: tuple[Deployment, ...] = ()
    events: tuple[str, ...] = ()
    has_circuit_breaker: bool = False
    rolls_back: bool = False
    security_groups: tuple[str, ...] = ()
    assigns_public_ip: bool = False

    @property
    def primary(self) -> Deployment | None:
        """The deployment that the service moves to, or has moved to."""
        return next((item for item in self.deployments if item.status == "PRIMARY"), None)


@dataclass(frozen=True)
class TaskDefinition:
    """A revision of a task definition, with one of its containers. `stop_timeout_s` None: ECS's default, 30 s."""

    arn: str
    task_role_arn: str
    execution_role_arn: str
    image: str = ""
    stop_timeout_s: int | None = None
    environment: tuple[tuple[str, str], ...] = ()
    log_group: str = ""
    architecture: str = "X86_64"


@dataclass(frozen=True)
class Task:
    """A task; `status` is ECS's own. `protected_until`: it is not stopped by scale-in or a deployment before."""

    arn: str
    task_definition: str
    status: str
    image_digest: str = ""
    is_protected: bool = False
    protected_until: datetime | None = None
    stop_reason: str = ""
    started_at: datetime | None = None

    @property
    def task_id(self) -> str:
        return self.arn.rpartition("/")[2]


class Services:
    """The ECS services of one account and region. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def get(self, cluster: str, name: str) -> ServiceState:
        """Raises NotFoundError without such a service, or without the cluster."""
        with about(f"service {name} of cluster {cluster}"):
            found: list[Any] = self._client().describe_services(cluster=cluster, services=[name])["services"]
        if not found or found[0].get("status") == "INACTIVE":
            raise NotFoundError(f"service {name} of cluster {cluster} does not exist")
        return _state(found[0])

    def definition(self, arn: str, container: str) -> TaskDefinition:
        """A task definition with its container of this name. Raises NotFoundError without either."""
        with about(f"task definition {arn.rpartition('/')[2]}"):
            found: Any = self._client().describe_task_definition(taskDefinition=arn)["taskDefinition"]
        one = next((item for item in found.get("containerDefinitions", []) if item["name"] == container), None)
        if one is None:
            raise NotFoundError(f"task definition {arn.rpartition('/')[2]} has no container {container}")
        return TaskDefinition(
            found["taskDefinitionArn"],
            found.get("taskRoleArn", ""),
            found.get("executionRoleArn", ""),
            image=one.get("image", ""),
            stop_timeout_s=one.get("stopTimeout"),
            environment=tuple(sorted((item["name"], item["value"]) for item in one.get("environment", []))),
            log_group=one.get("logConfiguration", {}).get("options", {}).get("awslogs-group", ""),
            architecture=found.get("runtimePlatform", {}).get("cpuArchitecture", "X86_64"),
        )

    def tasks(self, cluster: str, service: str) -> tuple[Task, ...]:
        """The tasks of a service that are not stopped, with their protection. Raises NotFoundError without it."""
        client = self._client()
        with about(f"tasks of service {service}"):
            pages = client.get_paginator("list_tasks").paginate(cluster=cluster, serviceName=service)
            arns = [arn for page in pages for arn in page["taskArns"]]
            described = list(_in_parts(arns, lambda part: client.describe_tasks(cluster=cluster, tasks=part)["tasks"]))
            protections = {
                item["taskArn"]: item
                for item in _in_parts(
                    arns, lambda part: client.get_task_protection(cluster=cluster, tasks=part)["protectedTasks"]
                )
            }
        return tuple(_task(item, protections.get(item["taskArn"], {})) for item in described)

    def scale(self, cluster: str, name: str, count: int) -> None:
        """Set the number of tasks that a service should have. Raises NotFoundError without the service."""
        with about(f"service {name} of cluster {cluster}"):
            self._client().update_service(cluster=cluster, service=name, desiredCount=count)

    def restart(self, cluster: str, name: str) -> None:
        """Replace a service's tasks by new ones, as a deployment does; protected tasks are stopped last.

        Raises NotFoundError without the service.
        """
        with about(f"service {name} of cluster {cluster}"):
            self._client().update_service(cluster=cluster, service=name, forceNewDeployment=True)

    def _client(self) -> ECSClient:
        return self._session.client("ecs")


def _in_parts(arns: Sequence[str], call: Any) -> Iterator[Any]:
    for start in range(0, len(arns), TASKS_AT_ONCE):
        yield from call(list(arns[start : start + TASKS_AT_ONCE]))


def _state(item: Any) -> ServiceState:
    breaker = item.get("deploymentConfiguration", {}).get("deploymentCircuitBreaker", {})
    network = item.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
    return ServiceState(
        item["serviceName"],
        item["serviceArn"],
        item.get("clusterArn", "").rpartition("/")[2],
        item.get("status", "ACTIVE"),
        desired=item.get("desiredCount", 0),
        running=item.get("runningCount", 0),
        pending=item.get("pendingCount", 0),
        task_definition=item.get("taskDefinition", ""),
        deployments=tuple(map(_deployment, item.get("deployments", []))),
        events=tuple(event.get("message", "") for event in item.get("events", [])[:EVENTS]),
        has_circuit_breaker=breaker.get("enable", False),
        rolls_back=breaker.get("rollback", False),
        security_groups=tuple(network.get("securityGroups", [])),
        assigns_public_ip=network.get("assignPublicIp") == "ENABLED",
    )


def _deployment(item: Any) -> Deployment:
    return Deployment(
        item.get("taskDefinition", ""),
        item.get("status", ""),
        item.get("rolloutState", ""),
        reason=item.get("rolloutStateReason", ""),
        desired=item.get("desiredCount", 0),
        running=item.get("runningCount", 0),
        pending=item.get("pendingCount", 0),
        failed=item.get("failedTasks", 0),
    )


def _task(item: Any, protection: Any) -> Task:
    until: datetime | None = protection.get("expirationDate")
    started: datetime | None = item.get("startedAt") or item.get("createdAt")
    containers = item.get("containers", [])
    return Task(
        item["taskArn"],
        item.get("taskDefinitionArn", ""),
        item.get("lastStatus", ""),
        image_digest=next((one["imageDigest"] for one in containers if one.get("imageDigest")), ""),
        is_protected=bool(protection.get("protectionEnabled")),
        protected_until=until.astimezone(UTC) if until else None,
        stop_reason=item.get("stoppedReason", ""),
        started_at=started.astimezone(UTC) if started else None,
    )
