"""ECR: the private registry of one account and region."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from refinerctl.aws.inventory import DeleteFailure, EcrImage, RepositorySettings
from refinerctl.aws.session import AwsSession, error_code, explain
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference
from refinerctl.registry.credentials import Login

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_ecr.type_defs import ImageDetailTypeDef, RepositoryTypeDef

# https://docs.aws.amazon.com/AmazonECR/latest/APIReference/: BatchDeleteImage and BatchGetImage; DescribeImages
BATCH = 100
PAGE = 1000

# A token is renewed this long before it runs out: a request that carries it may take a while.
EARLY = timedelta(minutes=10)


class EcrRegistry:
    """The private registry of the session's account and region. Safe to share between threads.

    `settings` gives what a repository is created with; it is asked when one is.
    """

    def __init__(self, session: AwsSession, settings: Callable[[], RepositorySettings] = RepositorySettings) -> None:
        self._session = session
        self._settings = settings
        self._lock = threading.Lock()
        self._authorization: tuple[Login, str] | None = None

    @property
    def host(self) -> str:
        """Where the OCI API answers, as `host` or `host:port`: another endpoint than AWS's serves it, too."""
        if self._session.endpoint_url:
            return urlsplit(self._session.endpoint_url).netloc
        return self._authorized()[1]

    def login(self) -> Login:
        """User and password for the OCI API, from GetAuthorizationToken; renewed before they expire."""
        return self._authorized()[0]

    def _authorized(self) -> tuple[Login, str]:
        with self._lock:
            known = self._authorization
            if known is None or known[0].expires_at is None or known[0].expires_at - EARLY < datetime.now(UTC):
                self._authorization = known = self._authorize()
            return known

    def _authorize(self) -> tuple[Login, str]:
        try:
            data = self._client().get_authorization_token()["authorizationData"][0]
        except Exception as error:
            raise explain(error, "ECR") or error from error
        username, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return Login(username, password, data["expiresAt"].astimezone(UTC)), urlsplit(data["proxyEndpoint"]).netloc

    def create_repository(self, name: str) -> None:
        """Create `name` as stack `registry` would (terraform/modules/ecr-repository); nothing if it is there already.

        A repository that cannot be given its policies is removed again.
        """
        settings = self._settings()
        encryption = {"encryptionType": "KMS", "kmsKey": settings.kms_key_arn} if settings.kms_key_arn else None
        given: Any = {"encryptionConfiguration": encryption or {"encryptionType": "AES256"}}
        if settings.tags:
            given["tags"] = [{"Key": key, "Value": value} for key, value in settings.tags.items()]
        try:
            created = self._client().create_repository(
                repositoryName=name,
                imageTagMutability="IMMUTABLE",
                imageScanningConfiguration={"scanOnPush": True},
                **given,
            )["repository"]
        except Exception as error:
            if error_code(error) == "RepositoryAlreadyExistsException":
                return
            raise _explained(error, name) from error
        self._put_policies(created, settings)

    def _put_policies(self, created: RepositoryTypeDef, settings: RepositorySettings) -> None:
        client, name = self._client(), created["repositoryName"]
        policy, lifecycle = _lambda_may_pull(created["repositoryArn"]), _untagged_expire(settings.untagged_expiry_days)
        try:
            client.set_repository_policy(repositoryName=name, policyText=json.dumps(policy))
            client.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(lifecycle))
        except BaseException as error:
            with contextlib.suppress(Exception):  # without force: what somebody has pushed meanwhile stays
                client.delete_repository(repositoryName=name)
            if isinstance(error, Exception):
                raise _explained(error, name) from error
            raise

    def find(self, reference: ImageReference) -> str:
        """The digest of an image in this region, of another account's registry if its name says so.

        Raises NotFoundError if it, or its repository, is not there.
        """
        wanted: Any = {"imageDigest": reference.digest} if reference.digest else {"imageTag": reference.tag or "latest"}
        registry: Any = {"registryId": reference.ecr[0]} if reference.ecr else {}
        try:
            found = self._client().describe_images(repositoryName=reference.repository, imageIds=[wanted], **registry)
        except Exception as error:
            if error_code(error) != "ImageNotFoundException":
                raise _explained(error, reference.repository) from error
            found = None
        for detail in found["imageDetails"] if found else []:
            return detail["imageDigest"]
        raise NotFoundError(f"{reference} is not in ECR")

    def images(self, repository: str) -> Iterator[EcrImage]:
        """Everything in `repository`, untagged images, too, in no order. Raises NotFoundError without it."""
        try:
            pages = self._client().get_paginator("describe_images")
            for page in pages.paginate(repositoryName=repository, PaginationConfig={"PageSize": PAGE}):
                for detail in page["imageDetails"]:
                    yield _image(repository, detail)
        except Exception as error:
            raise _explained(error, repository) from error

    def manifests(self, repository: str, digests: Sequence[str]) -> Mapping[str, bytes]:
        """The manifests of `digests`, as they were pushed; one that is not there, or not readable, is left out."""
        found = {}
        for start in range(0, len(digests), BATCH):
            wanted = [{"imageDigest": digest} for digest in digests[start : start + BATCH]]
            try:
                answer = self._client().batch_get_image(repositoryName=repository, imageIds=wanted)  # type: ignore[arg-type]
            except Exception as error:
                raise _explained(error, repository) from error
            for image in answer["images"]:
                if text := image.get("imageManifest"):
                    found[image["imageId"]["imageDigest"]] = text.encode()
        return found

    def delete(self, repository: str, digests: Sequence[str]) -> tuple[DeleteFailure, ...]:
        """Delete by digest, which takes all tags of an image with it; returns what ECR refused.

        An image that is gone already is no failure. ECR keeps an image that an index in the repository refers to. Where
        a request fails, so have all the images that it was about, and those of the requests after it.
        """
        failures: list[DeleteFailure] = []
        for start in range(0, len(digests), BATCH):
            wanted = [{"imageDigest": digest} for digest in digests[start : start + BATCH]]
            try:
                answer = self._client().batch_delete_image(repositoryName=repository, imageIds=wanted)  # type: ignore[arg-type]
            except Exception as error:
                said = _explained(error, repository)
                if not isinstance(said, RefinerctlError):
                    raise
                code = error_code(error) or type(said).__name__
                failures += (DeleteFailure(repository, digest, code, said.message) for digest in digests[start:])
                break
            failures += (
                DeleteFailure(
                    repository,
                    failure.get("imageId", {}).get("imageDigest", ""),
                    failure.get("failureCode", ""),
                    failure.get("failureReason", ""),
                )
                for failure in answer.get("failures", [])
                if failure.get("failureCode") != "ImageNotFound"
            )
        return tuple(failures)

    def _client(self) -> ECRClient:
        return self._session.client("ecr")


def _image(repository: str, detail: ImageDetailTypeDef) -> EcrImage:
    pulled = detail.get("lastRecordedPullTime")
    return EcrImage(
        repository=repository,
        digest=detail["imageDigest"],
        tags=tuple(detail.get("imageTags", [])),
        pushed_at=detail["imagePushedAt"].astimezone(UTC),
        size_bytes=detail.get("imageSizeInBytes", 0),
        media_type=detail.get("imageManifestMediaType", ""),
        last_pull=pulled.astimezone(UTC) if pulled else None,
        subject=detail.get("subjectManifestDigest"),
    )


def _lambda_may_pull(repository_arn: str) -> dict[str, Any]:
    """Functions of the repository's account and region may pull. Lambda itself would write a statement of this Sid."""
    _, partition, _, region, account, _ = repository_arn.split(":", 5)
    statement = {
        "Sid": "LambdaECRImageRetrievalPolicy",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Condition": {
            "StringEquals": {"aws:SourceAccount": account},
            "ArnLike": {"aws:SourceArn": f"arn:{partition}:lambda:{region}:{account}:function:*"},
        },
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _untagged_expire(days: int) -> dict[str, Any]:
    """Untagged images only: expiring a tagged one could take what a function runs."""
    selection = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days}
    rule = {
        "rulePriority": 1,
        "description": f"Remove untagged images after {days} days",
        "selection": selection,
        "action": {"type": "expire"},
    }
    return {"rules": [rule]}


def _explained(error: Exception, repository: str) -> Exception:
    if error_code(error) == "RepositoryNotFoundException":
        return NotFoundError(
            f"there is no ECR repository {repository!r}",
            hint="`refinerctl deploy --stack registry` makes it, or `refinerctl sync --create-repository`.",
        )
    return explain(error, f"ECR repository {repository}") or error
