"""A repository that refinerctl creates has the settings of those of stack registry."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refinerctl.aws.ecr import DEFAULT_EXPIRY_DAYS, EcrRegistry
from refinerctl.aws.session import AwsSession
from refinerctl.terraform.hcl import load_values, variable_defaults
from tests.e2e.project import ROOT, Project

pytestmark = pytest.mark.e2e

BY_TERRAFORM, BY_US = "dibbs-ecr-refiner/lambda", "tests/made-by-refinerctl"


def settings_of(client: Any, name: str) -> dict[str, Any]:
    """All settings of a repository, without its name, ARN and time."""
    (repository,) = client.describe_repositories(repositoryNames=[name])["repositories"]
    for own in ("repositoryArn", "repositoryName", "repositoryUri", "createdAt"):
        repository.pop(own)
    policy = json.loads(client.get_repository_policy(repositoryName=name)["policyText"])
    lifecycle = json.loads(client.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"])
    arn = f"arn:aws:ecr:us-east-1:000000000000:repository/{name}"
    tags = client.list_tags_for_resource(resourceArn=arn)["tags"]
    return {**repository, "policy": policy, "lifecycle": lifecycle, "tags": tags}


def test_repository_has_the_settings_of_the_stack(running: Project) -> None:
    endpoint = running.run("local", "status", "--output", "json").json()["endpoint_url"]
    given = load_values(running.folder / "terraform/environments/local/registry.tfvars")
    session = AwsSession("us-east-1", profile=None, endpoint_url=endpoint, embedded=True)
    EcrRegistry(session, lambda: given).create_repository(BY_US)
    client = running.client("ecr")
    try:
        assert settings_of(client, BY_US) == settings_of(client, BY_TERRAFORM)
    finally:
        client.delete_repository(repositoryName=BY_US)


def test_defaults_are_those_of_the_stack() -> None:
    defaults = variable_defaults(ROOT / "terraform" / "stacks" / "registry")
    given = {name: defaults[name] for name in ("untagged_expiry_days", "kms_key_arn", "tags")}
    assert given == {"untagged_expiry_days": DEFAULT_EXPIRY_DAYS, "kms_key_arn": None, "tags": {}}


def test_images_of_an_environment_without_images(running: Project) -> None:
    """The image's source is not reachable from a test, and nothing is in ECR yet."""
    listed = running.run("images", "list", "--output", "json")
    assert listed.code == 0, listed.err
    assert listed.json() == {"repositories": [{"name": BY_TERRAFORM, "images": []}], "unknown": []}
    assert "ECR repository 'tests/faulty' does not exist" in listed.err
    pruned = running.run("images", "prune")
    assert pruned.code == 0, pruned.err
    assert "0 images (0 B) to remove" in pruned.err
