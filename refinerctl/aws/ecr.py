"""ECR: the private registry of one account and region."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from refinerctl.aws.errors import about, error_code, or_none
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import INDEX_TYPES, ImageReference
from refinerctl.transport import Login

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_ecr.type_defs import ImageDetailTypeDef

# https://docs.aws.amazon.com/AmazonECR/latest/APIReference/: BatchDeleteImage and BatchGetImage; DescribeImages
BATCH = 100
PAGE = 1000

# The default of the variable of stack `registry`.
DEFAULT_EXPIRY_DAYS = 30

# Time before its expiry at which a token is renewed: a request with it may take long.
RENEW_BEFORE = timedelta(minutes=10)

# Tools without the referrers API attach a signature or an attestation to an image by such a tag:
# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema
_REFERRER_TAG = re.compile(r"sha256-([0-9a-f]{64})(?:\..+)?", re.ASCII)


@dataclass(frozen=True)
class EcrImage:
    """An image, index or artifact of an ECR repository, with times in UTC.

    `subject` is the digest of the image that it is attached to, as a signature is.
    """

    repository: str
    digest: str
    tags: tuple[str, ...] = ()
    pushed_at: datetime = datetime.min
    size_bytes: int = 0
    media_type: str = ""
    last_pull: datetime | None = None
    subject: str | None = None

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def subjects(self) -> frozenset[str]:
        """Digests of the images that this one is attached to: a signature is of no use without its image."""
        by_tag = (_REFERRER_TAG.fullmatch(tag) for tag in self.tags)
        found = {f"sha256:{match[1]}" for match in by_tag if match}
        return frozenset(found | {self.subject}) if self.subject else frozenset(found)


class EcrRegistry:
    """The private registry of the session's account and region. Safe to share between threads.

    `variables` gives those of stack `registry`, when a repository is created.
    """

    def __init__(self, session: AwsSession, variables: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._session = session
        self._variables = variables
        self._lock = threading.Lock()
        # Login, host of the registry, and when the login expires.
        self._authorization: tuple[Login, str, datetime] | None = None

    @property
    def host(self) -> str:
        """Host of the OCI API, maybe with port; an endpoint that replaces AWS serves it too."""
        if self._session.endpoint_url:
            self._session.admit()  # it may be used without a login
            return urlsplit(self._session.endpoint_url).netloc
        return self._authorized()[1]

    @property
    def is_replaced(self) -> bool:
        """Whether another endpoint replaces AWS."""
        return self._session.endpoint_url is not None

    def login(self) -> Login:
        """User and password for the OCI API, from GetAuthorizationToken; renewed before they expire."""
        return self._authorized()[0]

    def _authorized(self) -> tuple[Login, str, datetime]:
        with self._lock:
            if self._authorization is None or self._authorization[2] - RENEW_BEFORE < datetime.now(UTC):
                with about("ECR"):
                    data = self._client().get_authorization_token()["authorizationData"][0]
                username, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
                host = urlsplit(data["proxyEndpoint"]).netloc
                self._authorization = Login(username, password), host, data["expiresAt"].astimezone(UTC)
            return self._authorization

    def missing_repositories(self, names: Sequence[str]) -> list[str]:
        """Those that do not exist. Not from a list of all: the roles of CI jobs may see their own only."""
        describe = self._client().describe_repositories
        with about("ECR"):
            return [
                name
                for name in names
                if or_none(partial(describe, repositoryNames=[name]), "RepositoryNotFoundException") is None
            ]

    def create_repository(self, name: str) -> None:
        """Create `name` as stack `registry` would (terraform/modules/ecr-repository), unless it exists.

        If its policies cannot be set, the repository is deleted again.
        """
        days, key, tags = _settings(self._variables())
        encryption: Any = {"encryptionType": "KMS", "kmsKey": key} if key else {"encryptionType": "AES256"}
        given: Any = {"tags": tags} if tags else {}
        create = partial(
            self._client().create_repository,
            repositoryName=name,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration=encryption,
            **given,
        )
        with _about(name):
            if (answer := or_none(create, "RepositoryAlreadyExistsException")) is None:
                return
            client, policy = self._client(), _lambda_may_pull(answer["repository"]["repositoryArn"])
            try:
                client.set_repository_policy(repositoryName=name, policyText=json.dumps(policy))
                client.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(_untagged_expire(days)))
            except BaseException:
                with contextlib.suppress(Exception):  # without force: keeps images pushed meanwhile
                    client.delete_repository(repositoryName=name)
                raise

    def find(self, reference: ImageReference) -> str:
        """The digest of an image in this region, of another account's registry if its name says so.

        Raises NotFoundError if it or its repository does not exist.
        """
        wanted: Any = {"imageDigest": reference.digest} if reference.digest else {"imageTag": reference.tag or "latest"}
        registry: Any = {"registryId": reference.ecr[0]} if reference.ecr else {}
        name = reference.repository
        describe = partial(self._client().describe_images, repositoryName=name, imageIds=[wanted], **registry)
        with _about(name):
            found = or_none(describe, "ImageNotFoundException")
        if not found or not found["imageDetails"]:
            raise NotFoundError(f"{reference} is not in ECR")
        return found["imageDetails"][0]["imageDigest"]

    def images(self, repository: str) -> Iterator[EcrImage]:
        """All images of `repository`, tagged or not, in no order. Raises NotFoundError without the repository."""
        with _about(repository):
            pages = self._client().get_paginator("describe_images")
            for page in pages.paginate(repositoryName=repository, PaginationConfig={"PageSize": PAGE}):
                for detail in page["imageDetails"]:
                    yield _image(repository, detail)

    def manifests(self, repository: str, digests: Sequence[str]) -> Mapping[str, bytes]:
        """The manifests of `digests`, as they were pushed, without those that do not exist or cannot be read."""
        found = {}
        for start in range(0, len(digests), BATCH):
            wanted = [{"imageDigest": digest} for digest in digests[start : start + BATCH]]
            with _about(repository):
                answer = self._client().batch_get_image(repositoryName=repository, imageIds=wanted)  # type: ignore[arg-type]
            for image in answer["images"]:
                if text := image.get("imageManifest"):
                    found[image["imageId"]["imageDigest"]] = text.encode()
        return found

    def delete(self, repository: str, digests: Sequence[str]) -> dict[str, str]:
        """Delete by digest, with all tags of each image; returns those that ECR did not delete, with ECR's reasons.

        An image that does not exist is no failure. ECR refuses to delete an image that an index in the repository
        refers to. If a request fails, its images and those of the following requests count as failures.
        """
        failures: dict[str, str] = {}
        for start in range(0, len(digests), BATCH):
            wanted = [{"imageDigest": digest} for digest in digests[start : start + BATCH]]
            try:
                with _about(repository):
                    answer = self._client().batch_delete_image(repositoryName=repository, imageIds=wanted)  # type: ignore[arg-type]
            except RefinerctlError as error:
                reason = f"{error_code(error.__cause__) or type(error).__name__}: {error.message}"
                return {**failures, **dict.fromkeys(digests[start:], reason)}
            for failure in answer.get("failures", []):
                if (code := failure.get("failureCode")) != "ImageNotFound":
                    failures[failure["imageId"]["imageDigest"]] = f"{code}: {failure.get('failureReason')}"
        return failures

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


def _settings(variables: Mapping[str, Any]) -> tuple[int, str | None, list[Any]]:
    """Days until an untagged image expires, KMS key (None: AES-256) and tags. Raises RefinerctlError."""
    days, key, tags = (variables.get(name) for name in ("untagged_expiry_days", "kms_key_arn", "tags"))
    try:
        pairs = [{"Key": name, "Value": str(value)} for name, value in (tags or {}).items()]
        return DEFAULT_EXPIRY_DAYS if days is None else int(days), key or None, pairs
    except (ValueError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"the variables of stack registry are invalid: {error}") from error


def _lambda_may_pull(repository_arn: str) -> dict[str, Any]:
    """Lets functions of the repository's account and region pull. Lambda itself would add a statement of this Sid."""
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
    """Untagged images only: a function may run a tagged one."""
    selection = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days}
    rule = {
        "rulePriority": 1,
        "description": f"Remove untagged images after {days} days",
        "selection": selection,
        "action": {"type": "expire"},
    }
    return {"rules": [rule]}


def _about(repository: str) -> contextlib.AbstractContextManager[None]:
    hint = "Create it with `refinerctl deploy --stack registry` or `refinerctl sync --tag TAG --create-repository`."
    return about(f"ECR repository {repository}", hint)
