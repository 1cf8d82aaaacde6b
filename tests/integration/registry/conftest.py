"""Two registries, and a repository in them that no other test uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.registry.copying import whole
from tests.registries.docker_registry import DockerRegistry
from tests.registries.fixtures import MakeProxy
from tests.registries.images import MadeImage, digest_at, push_image


@dataclass(frozen=True)
class Site:
    """`there` is the target's repository, `faulty` makes a proxy to a registry."""

    source: DockerRegistry
    target: DockerRegistry
    repository: str
    faulty: MakeProxy

    @property
    def there(self) -> str:
        return f"{self.target.host}/{self.repository}"

    def push(self, tag: str = "v1", **given: Any) -> MadeImage:
        """An image in the source."""
        return push_image(self.source, self.repository, tag, **given)

    def digest(self, tag: str = "v1") -> str | None:
        """What the target's tag points at."""
        return digest_at(self.target, self.repository, tag)

    def whole(self) -> str:
        """The digest of the target's image, after every blob of it has been read."""
        return whole(self.target, self.repository)


@pytest.fixture
def site(source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str, faulty: MakeProxy) -> Site:
    return Site(source_registry, target_registry, unique, faulty)
