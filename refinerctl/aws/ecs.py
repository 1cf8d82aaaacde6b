"""ECS: the images of task definitions, services and running tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.session import AwsSession
from refinerctl.errors import UsageError
from refinerctl.images import ImageReference, ImageUse, is_digest
from refinerctl.parallel import concurrently

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

# ECS answers 20 reads a second: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html
THREADS = 8

# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/: DescribeServices, DescribeTasks
SERVICES_AT_ONCE = 10
TASKS_AT_ONCE = 100

Found = TypeVar("Found")


def task_images(session: AwsSession) -> tuple[ImageUse, ...]:
    """The images of all containers of ACTIVE revisions, of revisions that services start, and of running tasks.

    A service starts tasks of its revision even after that was deregistered. A task runs the digest that its tag had
    when the task started.
    """
    ecs = session.client("ecs")

    def each(look: Callable[[ECSClient, str], Iterable[Found]], arns: Iterable[str]) -> list[Found]:
        tasks = [partial(lambda arn: list(look(ecs, arn)), arn) for arn in arns]
        return [one for found in concurrently(tasks, THREADS) for one in found]

    active = _listed(ecs, "list_task_definitions", "taskDefinitionArns", status="ACTIVE")
    clusters = _listed(ecs, "list_clusters", "clusterArns")
    started, running = each(_started_in, clusters), each(_running_in, clusters)
    return tuple(dict.fromkeys([*each(_images_of, sorted({*active, *started})), *running]))


def _listed(ecs: ECSClient, operation: str, field: str, **arguments: Any) -> list[str]:
    try:
        pages = ecs.get_paginator(operation).paginate(**arguments)  # type: ignore[call-overload]
        return [arn for page in pages for arn in page[field]]
    except Exception as error:
        if error_code(error) == "ClusterNotFoundException":  # deleted meanwhile
            return []
        raise explain(error, "the account's ECS") or error from error


def _started_in(ecs: ECSClient, cluster: str) -> Iterator[str]:
    """ARNs of the task definitions that a cluster's services start tasks of, before and after a deployment."""
    services = _listed(ecs, "list_services", "serviceArns", cluster=cluster)
    for service in _described(ecs, cluster, "services", services, SERVICES_AT_ONCE):
        for part in (service, *service.get("deployments", []), *service.get("taskSets", [])):
            if part.get("taskDefinition"):
                yield part["taskDefinition"]


def _running_in(ecs: ECSClient, cluster: str) -> Iterator[ImageUse]:
    for task in _described(
        ecs, cluster, "tasks", _listed(ecs, "list_tasks", "taskArns", cluster=cluster), TASKS_AT_ONCE
    ):
        name = task["taskDefinitionArn"].rpartition("/")[2]
        for container in task.get("containers", []):
            reference, digest = _reference(container.get("image") or ""), container.get("imageDigest") or ""
            if reference and is_digest(digest):
                yield ImageUse("task", name, replace(reference, digest=digest))


def _described(ecs: ECSClient, cluster: str, kind: str, arns: Sequence[str], at_once: int) -> Iterator[Any]:
    describe = getattr(ecs, f"describe_{kind}")
    for start in range(0, len(arns), at_once):
        try:
            yield from describe(cluster=cluster, **{kind: arns[start : start + at_once]})[kind]
        except Exception as error:
            if error_code(error) == "ClusterNotFoundException":
                return
            raise explain(error, f"cluster {cluster.rpartition('/')[2]}") or error from error


def _images_of(ecs: ECSClient, arn: str) -> Iterator[ImageUse]:
    name = arn.rpartition("/")[2]
    try:
        definition = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    except Exception as error:
        if error_code(error) == "ClientException":  # "Unable to describe task definition": deleted meanwhile
            return
        raise explain(error, f"task definition {name}") or error from error
    for container in definition.get("containerDefinitions", []):
        if reference := _reference(container.get("image", "")):
            yield ImageUse("task-definition", name, reference)


def _reference(image: str) -> ImageReference | None:
    """None for other text: ECS accepts any in a definition."""
    try:
        return ImageReference.parse(image)
    except UsageError:
        return None
