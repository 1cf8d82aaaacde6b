"""Fixtures: registries that all tests of a session share; each test uses its own repositories."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from tests.needs import needs_program
from tests.registries.docker_registry import DockerRegistry, docker_registry
from tests.registries.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from tests.registries.images import MadeImage, digest_at, push_image, whole
from tests.registries.token_server import TokenServer, token_server


@contextlib.contextmanager
def _registry(factory: pytest.TempPathFactory, name: str, **given: Any) -> Iterator[DockerRegistry]:
    needs_program("docker-registry", "docker-registry")
    with docker_registry(factory.mktemp(name), **given) as registry:
        yield registry


@pytest.fixture(scope="session")
def source_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry without accounts."""
    with _registry(tmp_path_factory, "source-registry") as registry:
        yield registry


@pytest.fixture(scope="session")
def target_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Another registry without accounts."""
    with _registry(tmp_path_factory, "target-registry") as registry:
        yield registry


@pytest.fixture(scope="session")
def basic_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry with basic auth, as ECR."""
    with _registry(tmp_path_factory, "basic-registry", accounts=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def tokens() -> Iterator[TokenServer]:
    """The token server that `token_registry` trusts."""
    with token_server() as server:
        yield server


@pytest.fixture(scope="session")
def token_registry(tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry behind a token server, as ghcr.io."""
    with _registry(tmp_path_factory, "token-registry", tokens=tokens) as registry:
        yield registry


class MakeProxy(Protocol):
    def __call__(self, registry: DockerRegistry, *faults: Fault, delay: float = 0.0) -> FaultyProxy: ...


@pytest.fixture
def faulty() -> Iterator[MakeProxy]:
    """Makes proxies to registries, which end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda registry, *faults, delay=0.0: stack.enter_context(
            faulty_proxy(registry.host, *faults, delay=delay)
        )


@dataclass(frozen=True)
class Site:
    """Two registries, and a repository in them that no other test uses. `faulty` makes a proxy to a registry."""

    source: DockerRegistry
    target: DockerRegistry
    repository: str
    faulty: MakeProxy

    @property
    def there(self) -> str:
        """The target's repository."""
        return f"{self.target.host}/{self.repository}"

    def push(self, tag: str = "v1", **given: Any) -> MadeImage:
        """An image in the source."""
        return push_image(self.source, self.repository, tag, **given)

    def digest(self, tag: str = "v1") -> str | None:
        """What the target's tag points at."""
        return digest_at(self.target, self.repository, tag)

    def whole(self, tag: str = "v1") -> str:
        """The digest of the target's image by skopeo, after every blob of it has been read."""
        return whole(self.target, self.repository, tag)


@pytest.fixture
def site(source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str, faulty: MakeProxy) -> Site:
    return Site(source_registry, target_registry, unique, faulty)
