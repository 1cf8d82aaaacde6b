"""A release of stack rnr: four images, copied from the source registry to ECR with one tag."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from refinerctl.aws.session import AwsSession
from tests.command import Command, Finished
from tests.registries.docker_registry import DockerRegistry
from tests.registries.images import Layer, push_image

IMAGES = ("producer", "worker", "autoscaler", "postprocess")
MODULE = """
terraform {
  backend "s3" {}
}
variable "app_name" {}
variable "env" {}
variable "images" {}
variable "release_tag" { default = null }
variable "pinned_images" { default = {} }
"""


@dataclass(frozen=True)
class Stage:
    """A project with the stack, and its repositories in the emulator."""

    run: Command
    session: AwsSession
    source: DockerRegistry
    name: str

    def publish(self, tag: str, seed: int) -> dict[str, str]:
        """The images of a release in the source registry, with their digests by name."""
        return {
            image: push_image(self.source, f"{self.name}/{image}", tag, layers=(Layer(seed=seed + number),)).digest
            for number, image in enumerate(IMAGES)
        }

    def __call__(self, *arguments: str) -> Finished:
        return self.run(*arguments, "--stack", "rnr")


@pytest.fixture
def stage(
    refinerctl: Command,
    session: AwsSession,
    source_registry: DockerRegistry,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    images = "".join(
        f'[images.{image}]\nrepository = "{unique}/{image}"\ncontext = "."\nstack = "rnr"\n'
        f'source = "{source_registry.host}/{unique}/{image}"\n' + ('runs_on = "ecs"\n' if image == "worker" else "")
        for image in IMAGES
    )
    (tmp_path / "refinerctl.toml").write_text(
        f'environment = "test"\n[environments.test]\nregion = "us-east-1"\n{images}'
    )
    module = tmp_path / "terraform" / "stacks" / "rnr"
    module.mkdir(parents=True)
    (module / "main.tf").write_text(MODULE)
    environment = tmp_path / "terraform" / "environments" / "test"
    environment.mkdir(parents=True)
    values = {image: f"{unique}/{image}" for image in IMAGES}
    (environment / "rnr.tfvars").write_text(f'app_name = "{unique}"\nenv = "test"\nimages = {json.dumps(values)}\n')
    (environment / "backend.hcl").write_text(
        f'bucket = "{unique}-state"\nkey = "rnr.tfstate"\nregion = "us-east-1"\nuse_path_style = true\n'
        f'endpoints = {{ s3 = "{session.endpoint_url}" }}\nskip_credentials_validation = true\n'
        "skip_requesting_account_id = true\nskip_metadata_api_check = true\n"
    )
    monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", str(session.endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.chdir(tmp_path)
    session.client("s3").create_bucket(Bucket=f"{unique}-state")
    for image in IMAGES:
        session.client("ecr").create_repository(repositoryName=f"{unique}/{image}")
    return Stage(refinerctl, session, source_registry, unique)


def test_releases_are_copied_and_listed_with_all_four_images(stage: Stage) -> None:
    first, second = stage.publish("v1.0.0", 1), stage.publish("v1.1.0", 11)
    missing = stage("plan", "--tag", "v1.0.0")
    assert missing.code == 4
    assert all(f"{image}: {stage.name}/{image}:v1.0.0 is not in ECR" in missing.err for image in IMAGES)
    assert "Copy a release's images to ECR: `refinerctl sync --tag TAG`." in missing.err

    for tag, digests in (("v1.0.0", first), ("v1.1.0", second)):
        synced = stage("sync", "--tag", tag, "--output", "json")
        assert synced.code == 0, synced.err
        assert {item["name"]: item["target_digest"] for item in synced.json()["images"]} == digests

    known = stage("releases", "--output", "json").json()["releases"]
    assert [item["tag"] for item in known] == ["v1.1.0", "v1.0.0"]
    assert {image["name"]: image["digest"] for image in known[0]["images"]} == second
    listed = stage("images", "list", "--output", "json")
    assert listed.code == 0, listed.err
    assert all(digest in listed.out for digest in (*first.values(), *second.values()))


def test_image_that_is_missing_for_one_stage_is_named(stage: Stage) -> None:
    stage.publish("v1.0.0", 1)
    assert stage("sync", "--tag", "v1.0.0").code == 0
    stage.session.client("ecr").batch_delete_image(
        repositoryName=f"{stage.name}/worker", imageIds=[{"imageTag": "v1.0.0"}]
    )
    planned = stage("plan", "--tag", "v1.0.0")
    assert planned.code == 4
    assert f"worker: {stage.name}/worker:v1.0.0 is not in ECR" in planned.err
    assert "producer:" not in planned.err
