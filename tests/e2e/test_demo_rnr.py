"""`refinerctl demo --stack rnr`, as a new user runs it."""

from __future__ import annotations

import pytest

from refinerctl.local.demo_workers import INPUTS, ROWS, WORKERS
from tests.brokers import needs_rabbitmq, needs_redis
from tests.e2e.project import Project, make_project

pytestmark = [pytest.mark.e2e, pytest.mark.nightly]  # test_rnr.py has the same parts in one environment


@pytest.fixture(scope="module")
def demo_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    needs_rabbitmq()
    needs_redis()
    return make_project(tmp_path_factory.mktemp("demo-rnr"))


def test_every_input_has_one_result_although_a_worker_is_killed_and_an_input_is_invalid(demo_project: Project) -> None:
    before = demo_project.files()

    done = demo_project.run("demo", "--stack", "rnr", "--output", "json")

    assert done.code == 0, done.err
    found = done.json()
    assert found["inputs"] == found["published"] == found["completed"] == INPUTS
    assert (found["workers"][0], max(found["workers"]), found["workers"][-1]) == (0, WORKERS, 0)
    assert found["attempts_after_kill"] >= 2
    assert "line 28: inflow '?117.00' is not a number" in found["error_of_invalid_input"]
    assert (found["redrive"]["moved"], found["redrive"]["failed"]) == (1, 0)
    assert found["merged"]["merged"] == INPUTS
    assert found["merged"]["setAside"] == 0
    assert found["merged"]["rows"] == ROWS
    assert found["first_rows"][0].endswith("time,inflow,outflow")
    components = [hop["component"] for hop in found["trace"]]
    assert components[0] == "S3"
    assert components.count("RabbitMQ") == 1
    attempts = [hop["detail"] for hop in found["trace"] if hop["detail"].startswith("attempt ")]
    assert any(found["killed_task"] in attempt for attempt in attempts[:-1])
    assert found["killed_task"] not in attempts[-1]
    assert found["trace"][-1]["detail"].startswith("merged rnr/merged/")
    assert demo_project.processes() == []
    assert demo_project.files() == before
