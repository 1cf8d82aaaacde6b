"""ECS: which images its task definitions run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.clients.aws.session import AwsSession, error_code, explain
from refinerctl.clients.registry.parallel import concurrently
from refinerctl.errors import UsageError
from refinerctl.models.images import ImageReference
from refinerctl.models.inventory import ImageUse, UseKind

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

# ECS answers 20 reads a second: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html
THREADS = 8


class TaskDefinitions:
    """The task definitions of one account and region."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def images(self) -> tuple[ImageUse, ...]:
        """The images of all containers of all ACTIVE revisions."""
        try:
            pages = self._client().get_paginator("list_task_definitions")
            arns = [arn for page in pages.paginate(status="ACTIVE") for arn in page["taskDefinitionArns"]]
        except Exception as error:
            raise explain(error, "the account's task definitions") or error from error
        found = concurrently([partial(self._images_of, arn) for arn in arns], THREADS)
        return tuple(use for uses in found for use in uses)

    def _images_of(self, arn: str) -> tuple[ImageUse, ...]:
        name = arn.rpartition("/")[2]
        try:
            definition = self._client().describe_task_definition(taskDefinition=arn)["taskDefinition"]
        except Exception as error:
            if error_code(error) == "ClientException":  # "Unable to describe task definition": deleted meanwhile
                return ()
            raise explain(error, f"task definition {name}") or error from error
        containers: Iterable[Any] = definition.get("containerDefinitions", [])
        references = (_reference(container.get("image", "")) for container in containers)
        return tuple(ImageUse(UseKind.TASK_DEFINITION, name, reference) for reference in references if reference)

    def _client(self) -> ECSClient:
        return self._session.client("ecs")


def _reference(image: str) -> ImageReference | None:
    """None for what no registry can serve: ECS accepts any text in a definition."""
    try:
        return ImageReference.parse(image)
    except UsageError:
        return None
