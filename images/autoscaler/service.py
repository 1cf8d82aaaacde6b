"""The worker's ECS service: how many tasks it has, how many are protected, how many it should have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoscaler.management import ReadingError

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient


@dataclass(frozen=True)
class TaskCounts:
    """Tasks of the service; `protected` ones have a job."""

    desired: int
    running: int
    pending: int
    protected: int


class EcsService:
    """A service in a cluster."""

    def __init__(self, client: ECSClient, cluster: str, name: str) -> None:
        self._client, self.cluster, self.name = client, cluster, name

    def counts(self) -> TaskCounts:
        """Return the numbers of now."""
        answer = self._client.describe_services(cluster=self.cluster, services=[self.name])
        service = next(iter(answer["services"]), None)
        if service is None or service.get("status") != "ACTIVE":
            raise ReadingError(f"service {self.name} in cluster {self.cluster} does not exist or is not active")
        return TaskCounts(service["desiredCount"], service["runningCount"], service["pendingCount"], self._protected())

    def scale(self, desired: int) -> None:
        """Set the desired count."""
        self._client.update_service(cluster=self.cluster, service=self.name, desiredCount=desired)

    def _protected(self) -> int:
        pages = self._client.get_paginator("list_tasks").paginate(
            cluster=self.cluster, serviceName=self.name, desiredStatus="RUNNING"
        )
        arns = [arn for page in pages for arn in page["taskArns"]]
        protected = 0
        for start in range(0, len(arns), 100):  # as many as one call takes
            answer = self._client.get_task_protection(cluster=self.cluster, tasks=arns[start : start + 100])
            reasons = {failure.get("reason", "") for failure in answer["failures"]} - {"MISSING"}  # ended just now
            if reasons:
                raise ReadingError(f"protection of tasks of service {self.name}: {', '.join(sorted(reasons))}")
            protected += sum(task["protectionEnabled"] for task in answer["protectedTasks"])
        return protected
