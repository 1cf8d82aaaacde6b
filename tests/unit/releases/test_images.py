"""Which images Lambda and ECS use; and which ledgers count for a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from refinerctl.aws.ecs import task_images
from refinerctl.aws.lambda_ import Functions
from refinerctl.aws.session import AwsSession
from refinerctl.config import GlobalFlags, Settings, load_settings
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.images import ImageReference
from refinerctl.releases.images import may_contain, may_share_registry

URI = "123456789012.dkr.ecr.us-east-1.amazonaws.com/app"
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def session() -> Iterator[AwsSession]:
    with mock_aws():
        yield AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=False)


@pytest.fixture
def functions(session: AwsSession) -> Iterator[Stubber]:
    """Lambda's answers: an image function `f`, and a function without an image."""
    with Stubber(session.client("lambda")) as stubber:
        listed = [{"FunctionName": "f", "PackageType": "Image"}, {"FunctionName": "zip", "PackageType": "Zip"}]
        stubber.add_response("list_functions", {"Functions": listed})
        yield stubber
        stubber.assert_no_pending_responses()


def versions(stubber: Stubber, *names: str) -> None:
    stubber.add_response("list_versions_by_function", {"Versions": [{"Version": name} for name in names]})


def code(stubber: Stubber, version: str, update: str = "Successful", **given: str) -> None:
    answer = {"Code": given, "Configuration": {"LastUpdateStatus": update}}
    stubber.add_response("get_function", answer, {"FunctionName": "f", "Qualifier": version})


class TestFunctions:
    def test_digest_is_the_one_that_lambda_resolved(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        code(functions, "1", ImageUri=f"{URI}:v1.0.0", ResolvedImageUri=f"{URI}@{DIGEST}")
        (use,) = Functions(session).images()
        assert (use.name, use.image.repository, use.image.digest, use.aliases) == ("f:1", "app", DIGEST, ())

    def test_alias_with_weights_counts_for_both_versions(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        code(functions, "1", ResolvedImageUri=f"{URI}@{DIGEST}")
        shifting: dict[str, Any] = {"FunctionVersion": "2", "Name": "live"}
        shifting["RoutingConfig"] = {"AdditionalVersionWeights": {"1": 0.1}}
        functions.add_response("list_aliases", {"Aliases": [{"FunctionVersion": "1", "Name": "old"}, shifting]})
        (use,) = Functions(session).images(aliases=True)
        assert use.aliases == ("old", "live")

    def test_deleted_function_is_skipped(self, session: AwsSession, functions: Stubber) -> None:
        functions.add_client_error("list_versions_by_function", "ResourceNotFoundException")
        assert Functions(session).images() == ()

    def test_deleted_version_is_skipped(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        functions.add_client_error("get_function", "ResourceNotFoundException")
        assert Functions(session).images() == ()

    def test_function_without_an_image_uri_is_an_error(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        code(functions, "1", RepositoryType="ECR")
        with pytest.raises(RefinerctlError, match="the image of function f:1"):
            Functions(session).images()

    @pytest.mark.parametrize(("update", "said"), [("InProgress", "is being updated"), ("Failed", "could not be")])
    def test_function_that_is_being_updated_is_an_error(
        self, session: AwsSession, functions: Stubber, update: str, said: str
    ) -> None:
        versions(functions, "$LATEST")
        code(functions, "$LATEST", update, ResolvedImageUri=f"{URI}@{DIGEST}")
        with pytest.raises(RefinerctlError, match=said):
            Functions(session).images(settled=True)

    def test_version_without_permission_is_an_error(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        functions.add_client_error("get_function", "AccessDeniedException")
        with pytest.raises(AccessDeniedError, match="GetFunction on function f:1"):
            Functions(session).images()


def test_images_of_active_task_definitions(session: AwsSession) -> None:
    ecs = session.client("ecs")
    for image in (f"{URI}:v1", f"{URI}@{DIGEST}"):
        containers: Any = [
            {"name": "a", "image": image, "memory": 128},
            {"name": "b", "image": "Not An Image", "memory": 128},
        ]
        ecs.register_task_definition(family="worker", containerDefinitions=containers)
    found = {use.name: str(use.image) for use in task_images(session)}
    assert found == {"worker:1": f"{URI}:v1", "worker:2": f"{URI}@{DIGEST}"}


def test_images_of_services_and_tasks_with_deregistered_definitions(session: AwsSession) -> None:
    cluster, base = "arn:aws:ecs:us-east-1:1:cluster/c", "arn:aws:ecs:us-east-1:1:task-definition/worker"
    with Stubber(session.client("ecs")) as stubber:
        stubber.add_response("list_task_definitions", {"taskDefinitionArns": []}, {"status": "ACTIVE"})
        stubber.add_response("list_clusters", {"clusterArns": [cluster]})
        stubber.add_response("list_services", {"serviceArns": ["s"]}, {"cluster": cluster})
        service = {"taskDefinition": f"{base}:2", "deployments": [{"taskDefinition": f"{base}:1"}]}
        stubber.add_response("describe_services", {"services": [service]}, {"cluster": cluster, "services": ["s"]})
        stubber.add_response("list_tasks", {"taskArns": ["t"]}, {"cluster": cluster})
        task = {"taskDefinitionArn": f"{base}:2", "containers": [{"image": f"{URI}:v2", "imageDigest": DIGEST}]}
        stubber.add_response("describe_tasks", {"tasks": [task]}, {"cluster": cluster, "tasks": ["t"]})
        for _ in range(2):  # the same answer twice: the two revisions are looked at concurrently
            definition: Any = {"containerDefinitions": [{"image": f"{URI}:v1"}]}
            stubber.add_response("describe_task_definition", {"taskDefinition": definition})
        found = [(use.kind, use.name, str(use.image)) for use in task_images(session)]
    assert sorted(found) == [
        ("task", "worker:2", f"{URI}:v2@{DIGEST}"),
        ("task-definition", "worker:1", f"{URI}:v1"),
        ("task-definition", "worker:2", f"{URI}:v1"),
    ]


CONFIG = """
[environments]
production = { region = "us-east-1" }
staging = { region = "us-east-1" }
other-account = { region = "us-east-1", assume_role = "arn:aws:iam::210987654321:role/deploy" }
other-region = { region = "eu-west-1" }
no-region = {}
local = { embedded = true }
"""


@pytest.mark.parametrize(
    ("name", "may_share", "image", "held"),
    [
        ("production", True, URI, True),
        ("staging", True, URI, True),
        ("other-account", True, URI, True),
        ("other-region", True, URI, True),
        ("other-region", True, URI.replace("us-east-1", "eu-west-1"), False),
        ("other-region", True, "app", True),
        ("no-region", True, URI.replace("us-east-1", "eu-west-1"), True),
        ("local", False, URI, True),
    ],
)
def test_ledgers_that_count_for_a_registry(name: str, may_share: bool, image: str, held: bool, tmp_path: Path) -> None:
    (tmp_path / "refinerctl.toml").write_text(CONFIG)

    def settings(env: str) -> Settings:
        return load_settings(GlobalFlags(env=env), {}, tmp_path)

    one, other = settings("production"), settings(name)
    assert may_share_registry(one, other) is may_share
    assert may_contain(ImageReference.parse(image), one, other) is held
