"""ECS: the images of task definitions, services and running tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import about, or_none
from refinerctl.aws.session import AwsSession
from refinerctl.errors import UsageError
from refinerctl.images import ImageReference, ImageUse, UseKind, is_digest
from refinerctl.parallel import concurrently

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

# ECS answers 20 reads a second: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html
THREADS = 8

# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/: DescribeServices, DescribeTasks
SERVICES_AT_ONCE = 10
TASKS_AT_ONCE = 100


class TaskDefinitions:
    """The task definitions of one account and region, and their services and tasks."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def images(self) -> tuple[ImageUse, ...]:
        """The images of all containers of ACTIVE revisions, of revisions that services start, and of running tasks.

        A service starts tasks of its revision even after that was deregistered. A task runs the digest that its tag
        had when the task started.
        """
        active = self._listed("list_task_definitions", "taskDefinitionArns", status="ACTIVE")
        clusters = self._listed("list_clusters", "clusterArns")
        started = {arn for found in _all(self._started_in, clusters) for arn in found}
        running = [use for found in _all(self._running_in, clusters) for use in found]
        named = [use for found in _all(self._images_of, sorted({*active, *started})) for use in found]
        return tuple(dict.fromkeys([*named, *running]))

    def _listed(self, operation: str, field: str, **arguments: Any) -> list[str]:
        """Nothing of a cluster that was deleted meanwhile."""

        def read() -> list[str]:
            pages = self._client().get_paginator(operation).paginate(**arguments)  # type: ignore[call-overload]
            return [arn for page in pages for arn in page[field]]

        with about("the account's ECS"):
            return or_none(read, "ClusterNotFoundException") or []

    def _started_in(self, cluster: str) -> set[str]:
        """ARNs of the task definitions that a cluster's services start tasks of, before and after a deployment."""
        services = self._listed("list_services", "serviceArns", cluster=cluster)
        found: set[str] = set()
        for some in _slices(services, SERVICES_AT_ONCE):
            for service in self._described("describe_services", "services", cluster=cluster, services=some):
                parts = (service, *service.get("deployments", []), *service.get("taskSets", []))
                found |= {part["taskDefinition"] for part in parts if part.get("taskDefinition")}
        return found

    def _running_in(self, cluster: str) -> list[ImageUse]:
        found = []
        for some in _slices(self._listed("list_tasks", "taskArns", cluster=cluster), TASKS_AT_ONCE):
            for task in self._described("describe_tasks", "tasks", cluster=cluster, tasks=some):
                name = task["taskDefinitionArn"].rpartition("/")[2]
                for container in task.get("containers", []):
                    reference = _reference(container.get("image") or "")
                    digest = container.get("imageDigest") or ""
                    if reference and is_digest(digest):
                        found.append(ImageUse(UseKind.TASK, name, replace(reference, digest=digest)))
        return found

    def _described(self, operation: str, field: str, **arguments: Any) -> list[Any]:
        call = partial(getattr(self._client(), operation), **arguments)
        with about(f"cluster {arguments['cluster'].rpartition('/')[2]}"):
            answer = or_none(call, "ClusterNotFoundException") or {}
        found: list[Any] = answer.get(field, [])
        return found

    def _images_of(self, arn: str) -> tuple[ImageUse, ...]:
        name = arn.rpartition("/")[2]
        describe = partial(self._client().describe_task_definition, taskDefinition=arn)
        with about(f"task definition {name}"):
            answer = or_none(describe, "ClientException")  # "Unable to describe task definition": deleted meanwhile
        containers: Iterable[Any] = answer["taskDefinition"].get("containerDefinitions", []) if answer else ()
        references = (_reference(container.get("image", "")) for container in containers)
        return tuple(ImageUse(UseKind.TASK_DEFINITION, name, reference) for reference in references if reference)

    def _client(self) -> ECSClient:
        return self._session.client("ecs")


def _all(look: Callable[[str], Iterable[Any]], arns: Iterable[str]) -> list[Iterable[Any]]:
    return concurrently([partial(look, arn) for arn in arns], THREADS)


def _slices(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _reference(image: str) -> ImageReference | None:
    """None for other text: ECS accepts any in a definition."""
    try:
        return ImageReference.parse(image)
    except UsageError:
        return None
