"""Who runs which image, as Lambda and ECS tell it; and whose ledgers count for a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from refinerctl.cli.images import has_same_identity, may_share_registry
from refinerctl.clients.aws.ecs import TaskDefinitions
from refinerctl.clients.aws.lambda_ import Functions
from refinerctl.clients.aws.session import AwsSession
from refinerctl.config import GlobalFlags, Settings, load_settings
from refinerctl.errors import AccessDeniedError, RefinerctlError

URI = "123456789012.dkr.ecr.us-east-1.amazonaws.com/app"
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def session() -> Iterator[AwsSession]:
    with mock_aws():
        yield AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=False)


@pytest.fixture
def functions(session: AwsSession) -> Iterator[Stubber]:
    """Lambda's answers: there is an image function `f`, and one that is none."""
    with Stubber(session.client("lambda")) as stubber:
        listed = [{"FunctionName": "f", "PackageType": "Image"}, {"FunctionName": "zip", "PackageType": "Zip"}]
        stubber.add_response("list_functions", {"Functions": listed})
        yield stubber
        stubber.assert_no_pending_responses()


def versions(stubber: Stubber, *names: str) -> None:
    stubber.add_response("list_versions_by_function", {"Versions": [{"Version": name} for name in names]})


def code(stubber: Stubber, version: str, **given: str) -> None:
    stubber.add_response("get_function", {"Code": given}, {"FunctionName": "f", "Qualifier": version})


class TestFunctions:
    def test_by_the_digest_that_lambda_resolved(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        code(functions, "1", ImageUri=f"{URI}:v1.0.0", ResolvedImageUri=f"{URI}@{DIGEST}")
        (use,) = Functions(session).images()
        assert (use.name, use.image.repository, use.image.digest, use.aliases) == ("f:1", "app", DIGEST, ())

    def test_an_alias_that_shifts_traffic_names_both_versions(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        code(functions, "1", ResolvedImageUri=f"{URI}@{DIGEST}")
        shifting: dict[str, Any] = {"FunctionVersion": "2", "Name": "live"}
        shifting["RoutingConfig"] = {"AdditionalVersionWeights": {"1": 0.1}}
        functions.add_response("list_aliases", {"Aliases": [{"FunctionVersion": "1", "Name": "old"}, shifting]})
        (use,) = Functions(session).images(aliases=True)
        assert use.aliases == ("old", "live")

    def test_one_that_is_gone_since_it_was_listed_runs_nothing(self, session: AwsSession, functions: Stubber) -> None:
        functions.add_client_error("list_versions_by_function", "ResourceNotFoundException")
        assert Functions(session).images() == ()

    def test_a_version_that_is_gone_since_it_was_listed_runs_nothing(
        self, session: AwsSession, functions: Stubber
    ) -> None:
        versions(functions, "1")
        functions.add_client_error("get_function", "ResourceNotFoundException")
        assert Functions(session).images() == ()

    def test_an_image_that_is_not_told_is_an_error(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        code(functions, "1", RepositoryType="ECR")
        with pytest.raises(RefinerctlError, match="the image of function f:1"):
            Functions(session).images()

    def test_a_version_that_may_not_be_read_is_an_error(self, session: AwsSession, functions: Stubber) -> None:
        versions(functions, "1")
        functions.add_client_error("get_function", "AccessDeniedException")
        with pytest.raises(AccessDeniedError, match="GetFunction on function f:1"):
            Functions(session).images()


def test_containers_of_active_task_definitions(session: AwsSession) -> None:
    ecs = session.client("ecs")
    for image in (f"{URI}:v1", f"{URI}@{DIGEST}"):
        containers: Any = [
            {"name": "w", "image": image, "memory": 8},
            {"name": "s", "image": "Not An Image", "memory": 8},
        ]
        ecs.register_task_definition(family="worker", containerDefinitions=containers)
    ecs.register_task_definition(family="gone", containerDefinitions=[{"name": "w", "image": "app", "memory": 8}])
    ecs.deregister_task_definition(taskDefinition="gone:1")
    found = {use.name: str(use.image) for use in TaskDefinitions(session).images()}
    assert found == {"worker:1": f"{URI}:v1", "worker:2": f"{URI}@{DIGEST}"}


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
    ("name", "may_share", "same_identity"),
    [
        ("production", True, True),
        ("staging", True, True),
        ("other-account", True, False),
        ("other-region", False, True),
        ("no-region", True, True),
        ("local", False, True),
    ],
)
def test_whose_ledgers_count(name: str, may_share: bool, same_identity: bool, tmp_path: Path) -> None:
    (tmp_path / "refinerctl.toml").write_text(CONFIG)

    def settings(env: str) -> Settings:
        return load_settings(GlobalFlags(env=env), {}, tmp_path)

    one, other = settings("production"), settings(name)
    assert may_share_registry(one, other) is may_share
    assert has_same_identity(one, other) is same_identity
