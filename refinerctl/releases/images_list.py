"""What is in ECR, and who uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from refinerctl.aws.inventory import EcrImage, ImageUsage, ListedImage
from refinerctl.errors import NotFoundError
from refinerctl.parallel import concurrently

THREADS = 8


class Registry(Protocol):
    def images(self, repository: str) -> Iterable[EcrImage]: ...


def list_images(
    registry: Registry, repositories: Sequence[str], usage: ImageUsage
) -> Mapping[str, tuple[ListedImage, ...]]:
    """The images of each repository that ECR has, newest first. Raises NotFoundError if it has none of them."""
    answers = concurrently([partial(_images, registry, repository) for repository in repositories], THREADS)
    missing = [answer for answer in answers if isinstance(answer, NotFoundError)]
    if len(missing) == len(repositories):
        raise missing[0]
    return {
        repository: tuple(ListedImage(image, usage.of(image)) for image in answer)
        for repository, answer in zip(repositories, answers, strict=True)
        if not isinstance(answer, NotFoundError)
    }


def _images(registry: Registry, repository: str) -> list[EcrImage] | NotFoundError:
    try:
        return sorted(registry.images(repository), key=lambda image: image.pushed_at, reverse=True)
    except NotFoundError as error:
        return error
