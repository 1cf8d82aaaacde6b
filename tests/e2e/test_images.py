"""`refinerctl image build`: every image of the project, built by a real engine on base images of this machine."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import docker
import pytest

from refinerctl.local.runtime_api import Invocation, RuntimeApi
from refinerctl.terraform.installation import find_provider_mirror
from tests.command import Finished
from tests.e2e.docker_host import (
    import_base_image,
    import_python_base_image,
    import_terraform_image,
    import_terraform_stand_in,
)
from tests.e2e.project import COMMAND, ROOT
from tests.needs import absent, needs_program, needs_terraform, nightly
from tests.registries.docker_registry import PASSWORD, USER, DockerRegistry
from tests.registries.images import skopeo_inspect

# The first test includes the builds: minutes on a busy machine.
pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.timeout(1200)]

TAG = "v9.9.9"
NODE, PYTHON = "refinerctl-test/base:latest", "refinerctl-test/python:latest"
STAND_IN, TERRAFORM = "refinerctl-test/terraform-stand-in:latest", "refinerctl-test/terraform:latest"
# Built in the same way as the worker; tests/e2e/test_docker_engine.py runs the refiner's, too.
FUNCTIONS = (nightly("refiner"), nightly("producer"), nightly("autoscaler"), nightly("postprocess"))
IMAGES = (*FUNCTIONS, "worker", nightly("cli"))
# Lambda's user: none of an image's own.
NOBODY = "993:990"
SANDBOX: dict[str, Any] = {"read_only": True, "tmpfs": {"/tmp": "mode=1777"}}
# What a handler answers to an event without records, without any settings but these.
SETTINGS = {f"REFINER_{name.upper()}_PREFIX": f"{name}/" for name in ("input", "output", "complete")}
ANSWERS = {
    "refiner": b'{"batchItemFailures":[]}',
    "producer": b"environment variables are not set: RNR_NAME",
    "autoscaler": b"'RNR_CLUSTER'",
    "postprocess": b"'RNR_OUTPUT_PREFIX'",
}
VISIBLE = re.compile(r"PATH|HOME|PYTHON\w+|PIP_CERT|NODE_EXTRA_CA_CERTS|LAMBDA_TASK_ROOT|CHECKPOINT_DISABLE")


@dataclass(frozen=True)
class Site:
    """A checkout of the project whose images are published to a registry, and an engine that builds them."""

    folder: Path
    host: str
    registry: DockerRegistry
    config: Path

    def run(self, *arguments: str) -> Finished:
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("REFINERCTL_", "CI"))},
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.config),
        }
        done = subprocess.run(
            [COMMAND, "image", "build", *arguments],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def build(self, *names: str, base: str, more: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
        done = self.run(*names, "--tag", TAG, "--build-arg", f"BASE={base}", "--push", "--output", "json", *more)
        assert done.code == 0, done.err
        return {image["name"]: image for image in done.json()["images"]}


@pytest.fixture(scope="module")
def site(docker_host: str, basic_registry: DockerRegistry, tmp_path_factory: pytest.TempPathFactory) -> Site:
    needs_program("skopeo", "skopeo")
    folder, config = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("docker-config")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com")
    listed = subprocess.run([*git, "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    settings = folder / "refinerctl.toml"
    settings.write_text(re.sub(r'source = "ghcr.io/', f'source = "{basic_registry.host}/', settings.read_text()))
    # What a working copy has besides, and no image may contain.
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("secret.env\n")
    for place in ("images/producer", "images/refiner/src", "images/worker", "refinerctl", "terraform"):
        (folder / place / "secret.env").write_text("TOKEN=s3cret")
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "a release")):
        subprocess.run([*git, *words], cwd=folder, check=True)
    login = {"username": USER, "password": PASSWORD}
    (config / "config.json").write_text(json.dumps({"auths": {basic_registry.host: login}}))
    return Site(folder, docker_host, basic_registry, config)


class Built(dict[str, dict[str, Any]]):
    """The result of `image build` for each image; built when it is first asked for."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site

    def __missing__(self, name: str) -> dict[str, Any]:
        more: tuple[str, ...] = ()
        if name == "cli":
            import_terraform_stand_in(self._site.host, STAND_IN)
            more = ("--build-arg", f"TERRAFORM={STAND_IN}")
        self |= self._site.build(name, base=NODE if name == "refiner" else PYTHON, more=more)
        return self[name]


@pytest.fixture(scope="module")
def built(site: Site) -> Built:
    """The images that a test asks for, built and published."""
    import_base_image(site.host, NODE)
    import_python_base_image(site.host, PYTHON)
    return Built(site)


@pytest.fixture
def engine(site: Site) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=site.host)
    yield client
    client.close()


@dataclass(frozen=True)
class Ran:
    """How a container ended."""

    code: int
    out: str


def run(engine: docker.DockerClient, image: str, *command: str, **options: Any) -> Ran:
    """Run the image as an unprivileged user that can write to /tmp only."""
    container = engine.containers.run(
        image, list(command) or None, detach=True, network_mode="none", **SANDBOX, **options
    )
    try:
        code = container.wait(timeout=120)["StatusCode"]
        return Ran(code, container.logs().decode())
    finally:
        container.remove(force=True)


def files(engine: docker.DockerClient, image: str, folder: str) -> set[PurePosixPath]:
    """The files below a folder of the image."""
    container = engine.containers.create(image, "none")
    try:
        stream, _ = container.get_archive(folder)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            return {PurePosixPath(entry.name) for entry in tar if entry.isfile()}
    finally:
        container.remove()


@pytest.mark.parametrize("name", IMAGES)
def test_image_is_published_with_its_labels(site: Site, engine: docker.DockerClient, built: Built, name: str) -> None:
    image = built[name]
    assert (image["status"], image["target"]) == ("pushed", f"{image['source']}:{TAG}")
    assert image["digest"] == skopeo_inspect(image["target"], f"{USER}:{PASSWORD}")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=site.folder, capture_output=True, text=True, check=True)
    labels = engine.images.get(image["target"]).labels
    label = "org.opencontainers.image"
    assert (labels[f"{label}.version"], labels[f"{label}.revision"]) == (TAG, commit.stdout.strip())
    assert labels[f"{label}.base.name"] == (NODE if name == "refiner" else PYTHON)
    assert labels[f"{label}.title"] in (name, "refinerctl")


def test_published_tag_is_kept(site: Site, built: Built) -> None:
    target = built["worker"]["target"]

    done = site.run("worker", "--tag", TAG, "--push", "--build-arg", f"BASE={PYTHON}")

    assert done.code == 4
    assert f"{target} already exists" in done.err
    assert "Step " not in done.err, "refused before the build"


def test_login_that_may_not_push_is_refused_before_the_build(site: Site) -> None:
    config = site.config / "config.json"
    before = config.read_text()
    config.write_text(before.replace(PASSWORD, "wrong-secret"))
    try:
        done = site.run("worker", "--tag", "v9.9.10", "--push", "--build-arg", f"BASE={PYTHON}")
    finally:
        config.write_text(before)

    assert done.code == 1
    assert f"{site.registry.host} does not let user '{USER}' pull and push" in done.err
    assert "wrong-secret" not in done.err
    assert "Step " not in done.err


def test_failed_build_shows_its_last_lines(site: Site, built: Built) -> None:
    done = site.run("worker", "--tag", "v9.9.10", "--build-arg", f"BASE={NODE}")

    assert (done.code, done.out) == (1, "")
    assert "RUN pip install" in done.err
    assert "pip: not found" in done.err
    assert f"building the image of {site.folder}/images/worker failed" in done.err


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_runs_its_handler(engine: docker.DockerClient, built: Built, name: str) -> None:
    api = RuntimeApi()
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    invocation = Invocation("request-1", b'{"Records": []}', int(time.time() * 1000) + 60_000, arn)
    api.submit(invocation)
    image = engine.images.get(built[name]["target"])
    options: dict[str, Any] = {"network_mode": "host", "user": NOBODY, "command": image.attrs["Config"]["Cmd"]}
    if name != "refiner":  # AWS's base image for Python has this entry point; that for Node.js is the test's own
        options["entrypoint"] = ["python", "-m", "awslambdaric"]
    environment = {"AWS_LAMBDA_RUNTIME_API": api.address, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    container = engine.containers.run(image, detach=True, environment=environment | SETTINGS, **SANDBOX, **options)
    try:
        answer = invocation.answer.result(120)
    except TimeoutError:
        pytest.fail(f"no answer:\n{container.logs().decode()}")
    finally:
        container.remove(force=True)
        api.close()
    assert ANSWERS[name] in answer.payload


def test_worker_runs_without_privileges(engine: docker.DockerClient, built: Built) -> None:
    image = built["worker"]["target"]
    assert engine.images.get(image).attrs["Config"]["User"] == "65532:65532"

    started = run(engine, image)

    assert started.code == 1
    assert "worker cannot start" in started.out
    assert "RNR_" in started.out


@pytest.mark.nightly
def test_cli_runs_the_script_of_a_job(engine: docker.DockerClient, built: Built) -> None:
    image = built["cli"]["target"]
    config = engine.images.get(image).attrs["Config"]
    assert (config["User"], config["Entrypoint"]) == ("65532:65532", None)
    script = """
    set -e
    python -c 'import os, docker, sigstore; print(os.getuid())'
    refinerctl --version
    terraform
    refinerctl init /tmp/project
    cd /tmp/project
    refinerctl sync --dry-run --tag v1
    """

    done = run(engine, image, "sh", "-c", script)

    assert done.out.startswith("65532\nrefinerctl, version ")
    assert "stand-in for terraform" in done.out
    assert "/tmp/project" in done.out
    assert "the local environment of /tmp/project is down" in done.out  # its settings were read
    assert done.code == 1


@pytest.mark.parametrize("name", IMAGES)
def test_image_has_neither_secrets_nor_tests(engine: docker.DockerClient, built: Built, name: str) -> None:
    folder = {"worker": "/app", "cli": "/usr/local/lib"}.get(name, "/var/task")
    found = files(engine, built[name]["target"], folder)
    own = {path for path in found if name != "refiner" or "node_modules" not in path.parts}
    if name == "cli":
        own = {path for path in found if "refinerctl" in path.parts}
    assert own
    assert {path for path in own if {"test", "tests", "test-support", ".git"} & set(path.parts)} == set()
    assert {path for path in found if path.suffix in (".env", ".tfstate") or path.name == "config.json"} == set()
    image = engine.images.get(built[name]["target"])
    variables = [item.partition("=")[0] for item in image.attrs["Config"]["Env"]]
    assert [item for item in variables if not VISIBLE.fullmatch(item)] == []
    assert not any("s3cret" in str(step) for step in image.history())


@pytest.mark.nightly
def test_cli_has_terraform_and_its_provider(site: Site, engine: docker.DockerClient) -> None:
    needs_terraform()
    mirror = find_provider_mirror()
    if mirror is None:
        absent("there is no mirror of the AWS provider")
    import_python_base_image(site.host, PYTHON)
    import_terraform_image(site.host, TERRAFORM, mirror)
    images = site.build("cli", base=PYTHON, more=("--build-arg", f"TERRAFORM={TERRAFORM}", "--tag", "v9.9.11"))
    site.folder.chmod(0o755)  # the image's user is not the folder's owner
    script = """
    set -e
    cd /tmp && python -c 'import shutil; shutil.copytree("/project/terraform", "terraform")'
    cd terraform/stacks/rnr
    terraform init -backend=false -input=false -lockfile=readonly
    terraform validate -no-color
    """
    project = {str(site.folder): {"bind": "/project", "mode": "ro"}}

    done = run(engine, images["cli"]["target"], "sh", "-c", script, volumes=project)

    assert "Success! The configuration is valid" in done.out, done.out
