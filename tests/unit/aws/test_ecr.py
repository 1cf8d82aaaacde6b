"""ECR in process: logins, repositories, listings and deletions; canned answers where moto has no pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto import mock_aws

from refinerctl.aws.ecr import EcrRegistry
from refinerctl.aws.session import AwsSession
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.images import OCI_INDEX, OCI_MANIFEST

KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
PUSHED = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def session() -> Iterator[AwsSession]:
    with mock_aws():
        yield AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=False)


@pytest.fixture
def ecr(session: AwsSession) -> EcrRegistry:
    return EcrRegistry(session)


@pytest.fixture
def canned(session: AwsSession) -> Iterator[Stubber]:
    """ECR's answers as the test gives them, each to the very request that it expects."""
    with Stubber(session.client("ecr")) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def put(session: AwsSession, repository: str, number: int, *tags: str) -> str:
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": [], "number": number}
    text = json.dumps(manifest)
    for tag in tags:
        session.client("ecr").put_image(
            repositoryName=repository, imageManifest=text, imageTag=tag, imageDigest=digest(number)
        )
    return digest(number)


def authorization(expires: datetime, password: str) -> dict[str, Any]:
    token = base64.b64encode(f"AWS:{password}".encode()).decode()
    return {
        "authorizationData": [
            {
                "authorizationToken": token,
                "expiresAt": expires,
                "proxyEndpoint": "https://123456789012.dkr.ecr.x",
            },
        ]
    }


class TestLogin:
    def test_is_cached(self, ecr: EcrRegistry, canned: Stubber) -> None:
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=12)
        canned.add_response("get_authorization_token", authorization(expires, "one:two"), {})
        login = ecr.login()
        assert (login.username, login.password) == ("AWS", "one:two")
        assert ecr.login() is login
        assert ecr.host == "123456789012.dkr.ecr.x"

    def test_is_renewed_before_it_expires(self, ecr: EcrRegistry, canned: Stubber) -> None:
        soon = datetime.now(UTC) + timedelta(minutes=6)
        canned.add_response("get_authorization_token", authorization(soon, "old"), {})
        canned.add_response("get_authorization_token", authorization(soon + timedelta(hours=12), "new"), {})
        assert [ecr.login().password for _ in range(3)] == ["old", "new", "new"]

    def test_repr_hides_the_password(self, ecr: EcrRegistry, canned: Stubber) -> None:
        canned.add_response("get_authorization_token", authorization(PUSHED, "hidden"), {})
        assert "hidden" not in repr(ecr.login())

    def test_without_permission(self, ecr: EcrRegistry, canned: Stubber) -> None:
        canned.add_client_error("get_authorization_token", "AccessDeniedException")
        with pytest.raises(AccessDeniedError, match="GetAuthorizationToken on ECR"):
            ecr.login()

    def test_another_region_has_another_registry(self, session: AwsSession) -> None:
        assert EcrRegistry(session.in_region("eu-west-1")).host == "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

    def test_another_endpoint_is_the_registry(self) -> None:
        emulated = AwsSession("us-east-1", profile=None, endpoint_url="http://127.0.0.1:4567/", embedded=True)
        assert EcrRegistry(emulated).host == "127.0.0.1:4567"


class TestCreateRepository:
    def test_settings_of_the_environment(self, session: AwsSession) -> None:
        variables = {"untagged_expiry_days": 7, "kms_key_arn": KEY, "tags": {"Service": "refiner"}, "region": "x"}
        EcrRegistry(session, lambda: variables).create_repository("team/app")
        client = session.client("ecr")
        (made,) = client.describe_repositories(repositoryNames=["team/app"])["repositories"]
        assert made["imageTagMutability"] == "IMMUTABLE"
        assert made["encryptionConfiguration"] == {"encryptionType": "KMS", "kmsKey": KEY}
        lifecycle = json.loads(client.get_lifecycle_policy(repositoryName="team/app")["lifecyclePolicyText"])
        assert lifecycle["rules"][0]["selection"]["countNumber"] == 7
        tags = client.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"]
        assert tags == [{"Key": "Service", "Value": "refiner"}]

    def test_null_is_the_default(self, session: AwsSession) -> None:
        variables = dict.fromkeys(("untagged_expiry_days", "kms_key_arn", "tags"))
        EcrRegistry(session, lambda: variables).create_repository("app")
        client = session.client("ecr")
        (made,) = client.describe_repositories(repositoryNames=["app"])["repositories"]
        assert made["encryptionConfiguration"] == {"encryptionType": "AES256"}
        assert '"countNumber": 30' in client.get_lifecycle_policy(repositoryName="app")["lifecyclePolicyText"]

    def test_invalid_variables_are_an_error(self, session: AwsSession) -> None:
        with pytest.raises(RefinerctlError, match="stack registry"):
            EcrRegistry(session, lambda: {"tags": ["a"]}).create_repository("app")

    def test_functions_of_the_account_may_pull(self, ecr: EcrRegistry, session: AwsSession) -> None:
        ecr.create_repository("app")
        policy = json.loads(session.client("ecr").get_repository_policy(repositoryName="app")["policyText"])
        assert policy["Statement"][0]["Condition"] == {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnLike": {"aws:SourceArn": "arn:aws:lambda:us-east-1:123456789012:function:*"},
        }

    def test_existing_repository_is_not_changed(self, ecr: EcrRegistry, session: AwsSession) -> None:
        session.client("ecr").create_repository(repositoryName="app", imageTagMutability="MUTABLE")
        ecr.create_repository("app")
        (found,) = session.client("ecr").describe_repositories(repositoryNames=["app"])["repositories"]
        assert found["imageTagMutability"] == "MUTABLE"

    def test_missing_repositories_are_asked_for_by_name(self, ecr: EcrRegistry, session: AwsSession) -> None:
        """A role that may see only its own is refused a list of all."""
        asked: list[Any] = []
        session.client("ecr").meta.events.register(
            "provide-client-params.ecr.DescribeRepositories", lambda params, **_: asked.append(dict(params))
        )
        ecr.create_repository("app")

        assert ecr.missing_repositories(["app", "team/other"]) == ["team/other"]
        assert asked == [{"repositoryNames": ["app"]}, {"repositoryNames": ["team/other"]}]

    def test_repository_without_policies_is_deleted(self, ecr: EcrRegistry, session: AwsSession) -> None:
        def refuse(**_: Any) -> None:
            raise RefinerctlError("no such permission")

        session.client("ecr").meta.events.register("before-call.ecr.PutLifecyclePolicy", refuse)
        with pytest.raises(RefinerctlError, match="no such permission"):
            ecr.create_repository("app")
        assert session.client("ecr").describe_repositories()["repositories"] == []

    def test_tags_are_immutable(self, ecr: EcrRegistry, session: AwsSession) -> None:
        ecr.create_repository("app")
        put(session, "app", 1, "v1.0.0")
        with pytest.raises(ClientError, match="already exists"):
            put(session, "app", 2, "v1.0.0")
        assert [image.digest for image in ecr.images("app")] == [digest(1)]


def detail(number: int, *tags: str, **more: Any) -> dict[str, Any]:
    return {"imageDigest": digest(number), "imageTags": list(tags), "imagePushedAt": PUSHED, **more}


class TestImages:
    def test_images_of_several_pages(self, ecr: EcrRegistry, canned: Stubber) -> None:
        first = [detail(number, f"v1.0.{number}") for number in range(1000)]
        asked = {"repositoryName": "app", "maxResults": 1000}
        canned.add_response("describe_images", {"imageDetails": first, "nextToken": "more"}, asked)
        canned.add_response("describe_images", {"imageDetails": [detail(1000)]}, {**asked, "nextToken": "more"})
        found = list(ecr.images("app"))
        assert len(found) == 1001
        assert found[999].tags == ("v1.0.999",)
        assert found[1000].tags == ()

    def test_all_fields_of_an_image(self, ecr: EcrRegistry, canned: Stubber) -> None:
        pulled = PUSHED + timedelta(days=1)
        more = {
            "imageSizeInBytes": 5,
            "imageManifestMediaType": OCI_INDEX,
            "lastRecordedPullTime": pulled,
            "subjectManifestDigest": digest(9),
        }
        canned.add_response("describe_images", {"imageDetails": [detail(1, "a", "b", **more)]})
        (image,) = ecr.images("app")
        assert (image.repository, image.digest, image.tags) == ("app", digest(1), ("a", "b"))
        assert (image.size_bytes, image.pushed_at, image.last_pull) == (5, PUSHED, pulled)
        assert image.is_index
        assert image.subjects == {digest(9)}

    def test_missing_repository_is_an_error(self, ecr: EcrRegistry) -> None:
        with pytest.raises(NotFoundError, match="ECR repository app does not exist") as caught:
            list(ecr.images("app"))
        assert caught.value.hint is not None
        assert "refinerctl deploy --stack registry" in caught.value.hint
        assert "refinerctl sync --tag TAG --create-repository" in caught.value.hint

    def test_manifests_of_several_batches(self, ecr: EcrRegistry, canned: Stubber) -> None:
        for numbers in (range(100), range(100, 150)):
            found = [{"imageId": {"imageDigest": digest(n)}, "imageManifest": str(n)} for n in numbers if n != 120]
            asked = {"repositoryName": "app", "imageIds": [{"imageDigest": digest(n)} for n in numbers]}
            canned.add_response("batch_get_image", {"images": found}, asked)
        manifests = ecr.manifests("app", [digest(number) for number in range(150)])
        assert len(manifests) == 149
        assert manifests[digest(149)] == b"149"


class TestDelete:
    def test_all_tags_of_an_image_are_deleted(self, ecr: EcrRegistry, session: AwsSession) -> None:
        ecr.create_repository("app")
        gone, stays = put(session, "app", 1, "a", "b"), put(session, "app", 2, "c")
        assert ecr.delete("app", [gone]) == {}
        assert [image.digest for image in ecr.images("app")] == [stays]

    def test_several_batches_and_failures(self, ecr: EcrRegistry, canned: Stubber) -> None:
        for numbers in (range(100), range(100, 101)):
            failures = [
                {"imageId": {"imageDigest": digest(7)}, "failureCode": code, "failureReason": "reason"}
                for code in ("ImageReferencedByManifestList", "ImageNotFound")
                if 7 in numbers
            ]
            asked = {"repositoryName": "app", "imageIds": [{"imageDigest": digest(n)} for n in numbers]}
            canned.add_response("batch_delete_image", {"failures": failures}, asked)
        assert ecr.delete("app", [digest(number) for number in range(101)]) == {
            digest(7): "ImageReferencedByManifestList: reason",
        }

    def test_without_permission(self, ecr: EcrRegistry, canned: Stubber) -> None:
        canned.add_client_error("batch_delete_image", "AccessDeniedException")
        reason = ecr.delete("app", [digest(1)])[digest(1)]
        assert reason == "AccessDeniedException: access denied: BatchDeleteImage on ECR repository app"

    def test_failed_request_keeps_earlier_deletions(self, ecr: EcrRegistry, canned: Stubber) -> None:
        canned.add_response("batch_delete_image", {"failures": []})
        canned.add_client_error("batch_delete_image", "ServerException")
        failures = ecr.delete("app", [digest(number) for number in range(150)])
        assert list(failures) == [digest(number) for number in range(100, 150)]
