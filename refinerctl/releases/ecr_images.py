"""The images that functions can run: those in ECR, through its registry API."""

from __future__ import annotations

from collections.abc import Callable

from refinerctl.errors import NotFoundError
from refinerctl.images import ImageReference
from refinerctl.registry.manifests import Descriptor, Manifest
from refinerctl.registry.repository import Repository


class EcrImages:
    """Images by reference; one without a registry is in the account's own. Safe to share between threads."""

    def __init__(self, repository: Callable[[ImageReference], Repository]) -> None:
        self._repository = repository

    def find(self, reference: ImageReference) -> Manifest | None:
        """The manifest of the reference's digest, else of its tag; None if it, or its repository, is not there."""
        try:
            return self._repository(reference).find(reference.digest or reference.tag or "latest")
        except NotFoundError:
            return None

    def blob(self, reference: ImageReference, descriptor: Descriptor) -> bytes:
        """A small blob of the image's repository. Raises NotFoundError without it."""
        repository = self._repository(reference)
        if not repository.has_blob(descriptor.digest):
            raise NotFoundError(f"there is no blob {descriptor.digest} in {repository.name}")
        return repository.blob(descriptor)

    def tags(self, reference: ImageReference) -> list[str]:
        """All tags of the image's repository; none if that is not there."""
        try:
            return self._repository(reference).tags()
        except NotFoundError:
            return []
