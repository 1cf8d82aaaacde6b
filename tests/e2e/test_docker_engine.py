"""`refinerctl local up --engine docker`: functions as the built image, in containers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import redis as client_of_redis

from refinerctl.embedded import MARKER, Instance
from refinerctl.local.launcher import stop
from refinerctl.local.redis import start_redis
from refinerctl.local.server_programs import VALKEY_IMAGE
from tests.e2e.docker_host import import_base_image, import_program
from tests.e2e.project import FAULTY_RULESET, Project, eventually, make_project
from tests.needs import absent, nightly

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

BASE = "refinerctl-test/base:latest"


@pytest.fixture(scope="module")
def engine(docker_host: str) -> str:
    import_base_image(docker_host, BASE)
    return docker_host


@pytest.fixture(scope="module")
def in_containers(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = make_project(tmp_path_factory.mktemp("docker"), environ={"DOCKER_HOST": engine}, rulesets=FAULTY_RULESET)
    started = project.run("local", "up", "--detach", "--engine", "docker", "--build-arg", f"BASE={BASE}", timeout=300)
    assert started.code == 0, started.err
    yield project
    ended = project.run("local", "down")
    assert ended.code == 0, ended.err
    client = docker.DockerClient(base_url=engine)
    assert client.containers.list(all=True) == []
    client.close()
    assert project.processes() == []


@pytest.mark.nightly
def test_an_input_is_processed_by_the_built_image(in_containers: Project) -> None:
    done = in_containers.run(
        "upload", "-", "--name", "in-a-container.txt", "--wait", "--output", "json", input=b"boxed\n"
    )

    assert done.code == 0, done.err
    (upload,) = done.json()["uploads"]
    polled = in_containers.run("poll", "--expect", upload["completion_key"], "--content", "--output", "json")
    assert [output["content"] for output in polled.lines()[0]["outputs"]] == ["boxed\n"] * 2
    assert "completion written" in in_containers.run("local", "logs").out


@pytest.mark.nightly
def test_a_built_image_says_what_it_was_built_on(in_containers: Project, engine: str) -> None:
    client = docker.DockerClient(base_url=engine)
    labels = [image.labels for image in client.images.list() if any("dibbs-ecr-refiner" in tag for tag in image.tags)]
    client.close()
    assert [item["org.opencontainers.image.base.name"] for item in labels] == [BASE]


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        nightly("exit", "exit status 3"),
        nightly("timeout", "Task timed out"),
        nightly("memory", "exited with error"),
        nightly("throw", "on purpose"),
    ],
)
def test_a_failing_container_leaves_its_message_in_the_dlq(in_containers: Project, way: str, reason: str) -> None:
    done = in_containers.run(
        "upload",
        "-",
        "--name",
        way,
        "--prefix",
        "FaultyInput/",
        "--wait",
        "--timeout",
        "90s",
        "--output",
        "json",
        input=b"x",
    )

    assert done.code == 1, done.err
    assert "dibbs-ecr-FaultyInput-dlq" in done.json()["uploads"][0]["error"]
    assert eventually(lambda: reason in in_containers.run("local", "logs").out, 60)


def test_a_missing_docker_engine_is_reported(project: Project, tmp_path: Path) -> None:
    nobody = Project(project.folder, {"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"})

    done = nobody.run("local", "up", "--detach", "--engine", "docker")

    assert done.code == 1
    assert "cannot connect to the Docker engine" in done.err
    assert nobody.processes() == []


def test_a_server_whose_program_is_not_installed_runs_in_a_container(
    docker_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        absent("neither Redis nor Valkey is installed")
    import_program(docker_host, VALKEY_IMAGE, Path(program), "valkey-server")
    nothing = tmp_path / "bin"
    for name, value in {"PATH": nothing, MARKER: tmp_path, "DOCKER_HOST": docker_host}.items():
        monkeypatch.setenv(name, str(value))
    server = start_redis(tmp_path / "redis", password="a test's password")
    try:
        assert client_of_redis.Redis.from_url(server.url).ping()
        # As `local down` after the supervisor was killed.
        assert stop(Instance(tmp_path))
        assert eventually(lambda: server.pid is None, 30)
        server.start()
        assert client_of_redis.Redis.from_url(server.url).ping()
    finally:
        server.stop()
    assert not stop(Instance(tmp_path))
