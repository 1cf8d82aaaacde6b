"""Fixtures: registries that all tests of a session share; each test uses its own repositories."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.needs import needs_program
from tests.registries.docker_registry import DockerRegistry, docker_registry
from tests.registries.faulty_proxy import Fault, FaultyProxy, faulty_proxy
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
