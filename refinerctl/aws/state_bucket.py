"""The bucket of Terraform's states: whose it is, and how it is protected."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from refinerctl.aws.errors import about, error_code, or_none
from refinerctl.aws.session import AwsSession
from refinerctl.errors import AccessDeniedError, NotFoundError, RefusedError

# The region that S3 takes no LocationConstraint for.
_FIRST_REGION = "us-east-1"
_PUBLIC_ACCESS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_OTHER_NAME = "Choose another name: bucket names are unique in all of AWS."


def find_bucket(session: AwsSession, name: str) -> str | None:
    """The region of a bucket; None if it does not exist.

    Raises AccessDeniedError if it belongs to another account, or if the credentials may not list it.
    """
    try:
        with about(f"bucket {name}"):
            answer = session.client("s3").head_bucket(Bucket=name)
    except NotFoundError:
        return None
    except AccessDeniedError as error:
        if error_code(error.__cause__) not in ("403", "Forbidden", "AccessDenied"):
            raise  # credentials that cannot be used
        raise AccessDeniedError(
            f"bucket {name} belongs to another account, or these credentials may not list it", hint=_OTHER_NAME
        ) from error
    headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
    return answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or session.region_name()


class StateBucket:
    """A bucket for states in `region`: with versions, encrypted, not public, over TLS only.

    What exists already is kept: another encryption, a bucket policy.
    """

    def __init__(self, session: AwsSession, name: str, region: str) -> None:
        self.name = name
        self.region = region
        self._client = session.in_region(region).client("s3")
        self._steps: dict[str, tuple[Callable[[], bool], Callable[[], object]]] = {
            "versioning": (self._has_versioning, self._enable_versioning),
            "encryption": (self._has_encryption, self._encrypt),
            "public access block": (self._has_access_block, self._block_public_access),
            "policy that denies access without TLS": (self._has_tls_policy, self._require_tls),
        }

    def missing(self, *, exists: bool) -> tuple[str, ...]:
        """What `ensure` will do."""
        if not exists:
            return (f"bucket {self.name} in {self.region}", *self._steps)
        return tuple(step for step, (is_done, _) in self._steps.items() if not is_done())

    def ensure(self) -> tuple[str, ...]:
        """Create the bucket if it does not exist, and what it lacks; returns that.

        Can be repeated after any failure. Raises RefusedError if it belongs to another account.
        """
        done = [f"bucket {self.name} in {self.region}"] if self._create() else []
        for step, (is_done, take) in self._steps.items():
            if not is_done():
                with about(f"bucket {self.name}"):
                    take()
                done.append(step)
        return tuple(done)

    def _create(self) -> bool:
        given: Any = {}
        if self.region != _FIRST_REGION:
            given["CreateBucketConfiguration"] = {"LocationConstraint": self.region}
        if self._read(partial(self._client.head_bucket, Bucket=self.name), "404", "NoSuchBucket") is not None:
            return False
        try:
            with about(f"bucket {self.name}"):
                self._client.create_bucket(Bucket=self.name, **given)
        except Exception as error:
            code = error_code(error.__cause__)
            if code == "BucketAlreadyOwnedByYou":
                return False
            if code == "BucketAlreadyExists":
                raise RefusedError(f"bucket {self.name} belongs to another account", hint=_OTHER_NAME) from error
            raise
        return True

    def _read(self, call: Callable[..., Any], *missing: str) -> Any:
        """What AWS answers; None for these error codes."""
        with about(f"bucket {self.name}"):
            return or_none(call, *missing)

    def _has_versioning(self) -> bool:
        answer = self._read(partial(self._client.get_bucket_versioning, Bucket=self.name))
        return bool(answer.get("Status") == "Enabled")

    def _enable_versioning(self) -> None:
        self._client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    def _has_encryption(self) -> bool:
        missing = "ServerSideEncryptionConfigurationNotFoundError"
        return self._read(partial(self._client.get_bucket_encryption, Bucket=self.name), missing) is not None

    def _encrypt(self) -> None:
        rule: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        self._client.put_bucket_encryption(Bucket=self.name, ServerSideEncryptionConfiguration={"Rules": [rule]})

    def _has_access_block(self) -> bool:
        get = partial(self._client.get_public_access_block, Bucket=self.name)
        answer = self._read(get, "NoSuchPublicAccessBlockConfiguration")
        found = answer["PublicAccessBlockConfiguration"] if answer else {}
        return all(found.get(name) for name in _PUBLIC_ACCESS)

    def _block_public_access(self) -> None:
        settings: Any = dict.fromkeys(_PUBLIC_ACCESS, True)
        self._client.put_public_access_block(Bucket=self.name, PublicAccessBlockConfiguration=settings)

    def _policy(self) -> dict[str, Any]:
        answer = self._read(partial(self._client.get_bucket_policy, Bucket=self.name), "NoSuchBucketPolicy")
        found: dict[str, Any] = json.loads(answer["Policy"]) if answer else {"Version": "2012-10-17", "Statement": []}
        if isinstance(found["Statement"], dict):  # a single statement may stand without a list
            found["Statement"] = [found["Statement"]]
        return found

    def _has_tls_policy(self) -> bool:
        return any(
            statement.get("Effect") == "Deny"
            and str(statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport", "")).lower() == "false"
            for statement in self._policy()["Statement"]
        )

    def _require_tls(self) -> None:
        partition = self._client.meta.partition
        arn = f"arn:{partition}:s3:::{self.name}"
        policy = self._policy()
        policy["Statement"].append(
            {
                "Sid": "DenyAccessWithoutTLS",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        )
        self._client.put_bucket_policy(Bucket=self.name, Policy=json.dumps(policy))
