"""Releases with this repository's .gitlab-ci.yml, from a registry as ghcr.io to the local environment.

In order: each release follows the one before. `dev` is a local environment here. Jobs run in folders of their own, and
have only what is tracked, artifacts, and the work folder, by which they find the environment.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.e2e.project import ROOT, Project, make_project
from tests.gitlab_ci import GitlabRepository
from tests.needs import needs_program, needs_terraform
from tests.registries.docker_registry import DockerRegistry, docker_registry
from tests.registries.images import Layer, push_image

pytestmark = pytest.mark.e2e

REPOSITORY = "dibbs-ecr-refiner/lambda"
SOURCE = "cdcgov/refiner"
FUNCTION = "dibbs-ecr-RefinerInput"
RULESETS = f"""
s3_use_path_style = true
alarms            = {{ enabled = false }} # the emulator forgets their period: docs/local.md
force_destroy     = true
release_tag       = "local"

rulesets = {{
  RefinerInput = {{
    prefix               = "RefinerInput/"
    image_uri            = "{REPOSITORY}"
    timeout_s            = 30
    visibility_timeout_s = 30
  }}
}}
"""
RELEASE_JOBS = ["sync:dev", "plan:dev", "deploy:dev", "verify:dev"]
CHECKS = ["lint", "validate", "test"]


class Site:
    """The environment `dev`, the registry of releases, and the repository with the pipeline."""

    def __init__(self, project: Project, source: DockerRegistry, repository: GitlabRepository) -> None:
        self.project = project
        self.source = source
        self.repository = repository
        status = project.run("local", "status", "--env", "dev", "--output", "json").json()
        self.endpoint: str = status["endpoint_url"]

    def publish(self, tag: str, seed: int) -> str:
        """Publish a release; returns its digest."""
        return push_image(self.source, SOURCE, tag, layers=(Layer(seed=seed),)).digest

    def client(self, service: Any) -> Any:
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
        return session.client(service, endpoint_url=self.endpoint)

    def running_image(self) -> str:
        uri: str = self.client("lambda").get_function(FunctionName=FUNCTION)["Code"]["ImageUri"]
        return uri.partition("@")[2]

    def ledger(self) -> list[tuple[str, str]]:
        body = self.client("s3").get_object(Bucket="terraform-state", Key="refiner/terraform.releases.json")["Body"]
        return [(entry["action"], entry["tag"]) for entry in json.loads(body.read())["releases"]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    needs_terraform()
    needs_program("docker-registry", "docker-registry")
    base = tmp_path_factory.mktemp("gitlab")
    project = make_project(base, rulesets=RULESETS)
    environments = project.folder / "terraform" / "environments"
    shutil.copytree(environments / "local", environments / "dev")
    config = project.folder / "refinerctl.toml"
    with docker_registry(base / "ghcr") as source:
        text = config.read_text().replace("ghcr.io/cdcgov/dibbs-ecr-refiner/lambda", f"{source.host}/{SOURCE}")
        config.write_text(text + "\n[environments.dev]\nembedded = true\n")
        repository = _repository(project, base / "repository")
        started = project.run("local", "up", "--env", "dev", "--detach")
        assert started.code == 0, started.err
        yield Site(project, source, repository)
        ended = project.run("local", "down", "--env", "dev")
        assert ended.code == 0, ended.err
        assert project.processes() == []


def _repository(project: Project, folder: Path) -> GitlabRepository:
    """The project with the real pipeline; only its own checks are replaced: they are these tests."""
    shutil.copytree(project.folder / "terraform", folder / "terraform")
    shutil.copytree(ROOT / "templates", folder / "templates")
    for path in (project.folder / "refinerctl.toml", ROOT / ".gitlab-ci.yml"):
        shutil.copy(path, folder)
    for name in (".refinerctl", "images"):
        (folder / name).symlink_to(project.folder / name)
    (folder / "Makefile").write_text("lint validate:\n\t@echo $@\n")
    (folder / ".ci").mkdir()
    (folder / ".ci" / "run").write_text("echo '<testsuites/>' > junit.xml\n")
    return GitlabRepository.make(folder, project.environment())


@pytest.fixture(scope="module")
def first(site: Site) -> str:
    """The digest of release v1.0.0, which the pipeline of its tag has deployed."""
    digest = site.publish("v1.0.0", 1)
    released = site.repository.run(CI_COMMIT_TAG="v1.0.0")
    assert released.code == 0, released.output
    assert sorted(released.passed) == sorted([*CHECKS, *RELEASE_JOBS, "release"])
    return digest


def test_tag_is_planned_deployed_and_verified(site: Site, first: str) -> None:
    assert site.running_image() == first
    assert site.ledger() == [("deploy", "v1.0.0")]
    report = site.repository.checkout("plan:dev") / "plan.json"
    assert json.loads(report.read_text()) == {"create": 0, "update": 1, "delete": 0}
    assert "<testsuite" in (site.repository.checkout("verify:dev") / "verify.xml").read_text()


@pytest.mark.nightly
def test_schedule_deploys_a_new_release_once_and_rollback_restores_the_previous_release(site: Site, first: str) -> None:
    second = site.publish("v1.1.0", 2)

    detected = site.repository.run(CI_PIPELINE_SOURCE="schedule", SCHEDULE="release")

    assert detected.code == 0, detected.output
    assert sorted(detected.passed) == sorted(["detect:dev", *RELEASE_JOBS])
    assert re.search(rf"deploy:dev +> IMAGE_REFINER=\S+/{REPOSITORY}@{second}", detected.output)  # of job sync
    assert site.running_image() == second

    back = site.repository.run("rollback:dev")

    assert back.code == 0, back.output
    assert site.running_image() == first
    releases = [("deploy", "v1.0.0"), ("deploy", "v1.1.0"), ("rollback", "v1.0.0")]
    assert site.ledger() == releases

    nothing_new = site.repository.run(CI_PIPELINE_SOURCE="schedule", SCHEDULE="release")

    assert nothing_new.code == 0, nothing_new.output
    assert nothing_new.output.count("> There is no new release: nothing to do.") == len(RELEASE_JOBS)
    assert site.ledger() == releases


def test_release_by_hand_takes_the_image_and_the_repository_of_variables(site: Site) -> None:
    digest = site.publish("v0.9.0", 9)
    image = f"{site.source.host}/{SOURCE}"
    copied = site.repository.run("sync:dev", RELEASE_TAG="v0.9.0", GITHUB_IMAGE=image, ECR_REPO="rnr/worker")
    assert copied.code == 0, copied.output
    (found,) = site.client("ecr").describe_images(repositoryName="rnr/worker")["imageDetails"]
    assert (found["imageDigest"], found["imageTags"]) == (digest, ["v0.9.0"])


def test_stack_is_not_destroyed_without_the_name_of_its_environment(site: Site) -> None:
    refused = site.repository.run("destroy:dev")
    assert refused.warned == ["destroy:dev"], refused.output
    assert "'' is not the name of the environment, 'dev'" in refused.output
    assert "`refinerctl doctor` checks" in refused.output
    assert site.running_image()


def test_failed_verify_fails_the_pipeline(site: Site) -> None:
    queue = site.client("sqs").get_queue_url(QueueName=FUNCTION)["QueueUrl"]
    site.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": ""})
    failed = site.repository.run("verify:dev")
    assert (failed.code, failed.failed) == (1, ["verify:dev"]), failed.output
    assert "queue-policy" in failed.output
    assert "refinerctl doctor" not in failed.output  # the answer of a job that works
