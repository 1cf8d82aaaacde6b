"""One local environment for all end-to-end tests that do not need one of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import needs_rabbitmq, needs_redis
from tests.e2e.docker_host import EngineError, docker_engine, why_not
from tests.e2e.project import CONFIG_BUCKET, RULESETS, Project, make_project
from tests.needs import absent
from tests.registries.fixtures import (  # noqa: F401 - fixtures
    basic_registry,
    faulty,
    site,
    source_registry,
    target_registry,
    token_registry,
    tokens,
)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose local environment is up, with rulesets that fail fast."""
    project = make_project(tmp_path_factory.mktemp("running"), rulesets=RULESETS)
    started = project.run("local", "up", "--detach")
    assert started.code == 0, started.err
    project.client("s3").create_bucket(Bucket=CONFIG_BUCKET)
    yield project
    ended = project.run("local", "down")
    assert ended.code == 0, ended.err
    assert project.processes() == []


@pytest.fixture(scope="session")
def rnr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose local environment is up with stack rnr. Starting it takes a minute: one test file uses it."""
    needs_rabbitmq()
    needs_redis()
    project = make_project(tmp_path_factory.mktemp("rnr"), {"REFINERCTL_STACK": "rnr"})
    values = project.folder / "terraform/environments/local/rnr.tfvars"
    worker = "container_insights = false"  # a message whose job fails is in the DLQ within seconds
    values.write_text(values.read_text().replace(worker, f'{worker}, environment = {{ RNR_RETRY_DELAY_S = "0.1" }}'))
    started = project.run("local", "up", "--detach", timeout=280)
    assert started.code == 0, started.err
    yield project
    ended = project.run("local", "down")
    assert ended.code == 0, ended.err
    assert project.processes() == []


@pytest.fixture(scope="session")
def docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Docker engine of the tests' own: what DOCKER_HOST is to be."""
    if (reason := why_not()) is not None:
        absent(reason)
    with contextlib.ExitStack() as stack:
        try:
            host = stack.enter_context(docker_engine(tmp_path_factory.mktemp("dockerd")))
        except EngineError as error:  # an unprivileged container, for instance
            absent(str(error))
        yield host


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose local environment is down."""
    return make_project(tmp_path)
