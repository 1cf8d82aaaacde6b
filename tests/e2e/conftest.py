"""One embedded environment for all end-to-end tests that do not need one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.project import RULESETS, Project, make_project


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose embedded environment is up, with rulesets that fail fast."""
    project = make_project(tmp_path_factory.mktemp("running"), rulesets=RULESETS)
    started = project.run("local", "up", "--detach")
    assert started.code == 0, started.err
    yield project
    ended = project.run("local", "down")
    assert ended.code == 0, ended.err
    assert project.processes() == []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose embedded environment is down."""
    return make_project(tmp_path)
