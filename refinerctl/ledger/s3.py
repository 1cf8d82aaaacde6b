"""The ledger of releases in S3, beside the Terraform state."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.ledger.entries import Release, dump_releases, load_releases

if TYPE_CHECKING:
    from refinerctl.terraform.backend import Backend

# Of several concurrent writers one succeeds in each round; the others retry.
ATTEMPTS = 30
LONGEST_PAUSE_S = 1.0

_MISSING = {"NoSuchKey", "404", "NotFound"}
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
_OVERTAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


class S3Ledger:
    """`<state>.releases.json` beside the state `<state>.tfstate` of a backend of kind "s3".

    It is replaced only if it is still the version that was read.
    """

    def __init__(self, backend: Backend, session: AwsSession, *, attempts: int = ATTEMPTS) -> None:
        settings = backend.settings
        # The state may be in another account, in which Terraform, too, uses this role.
        given = settings.get("assume_role") or settings
        self._session = session.in_region(settings.get("region"), given.get("role_arn"), given.get("external_id"))
        self._bucket = str(settings["bucket"])
        self._key = f"{str(settings['key']).removesuffix('.tfstate')}.releases.json"
        self._put_arguments: dict[str, Any] = _encryption(settings)
        self._attempts = attempts

    @property
    def place(self) -> str:
        return f"s3://{self._bucket}/{self._key}"

    def read(self) -> tuple[Release, ...]:
        return self._read()[0]

    def append(self, release: Release) -> None:
        """Raises RefinerctlError if other writers come first in every attempt."""
        for attempt in range(self._attempts):
            releases, etag = self._read()
            if release in releases:  # an earlier attempt succeeded, but its response was lost
                return
            if self._write((*releases, release), etag):
                return
            time.sleep(random.uniform(0, min(LONGEST_PAUSE_S, 0.05 * 2**attempt)))  # noqa: S311
        raise RefinerctlError(
            f"cannot add the release to {self.place}: it changed during each of {self._attempts} attempts"
        )

    def _read(self) -> tuple[tuple[Release, ...], str | None]:
        """The entries and the ETag of the object; None if it does not exist."""
        try:
            answer = self._session.client("s3").get_object(Bucket=self._bucket, Key=self._key)
            body = answer["Body"].read()
        except Exception as error:
            if error_code(error) in _MISSING:
                return (), None
            raise self._explained(error) from error
        return load_releases(body, self.place), answer["ETag"]

    def _write(self, releases: tuple[Release, ...], etag: str | None) -> bool:
        """Whether the object was still the version that was read, and is replaced."""
        condition: Any = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            self._session.client("s3").put_object(
                Bucket=self._bucket,
                Key=self._key,
                Body=dump_releases(releases),
                ContentType="application/json",
                **condition,
                **self._put_arguments,
            )
        except Exception as error:
            # 404: it was removed since it was read
            if error_code(error) in _OVERTAKEN | _MISSING:
                return False
            raise self._explained(error) from error
        return True

    def _explained(self, error: Exception) -> Exception:
        if error_code(error) == "NoSuchBucket":
            return NotFoundError(
                f"bucket {self._bucket} of the Terraform state and the ledger does not exist",
                hint="environments/<env>/backend.hcl names it.",
            )
        return explain(error, self.place) or error


def _encryption(settings: Mapping[str, Any]) -> dict[str, str]:
    """As Terraform's S3 backend encrypts the state: a bucket's policy may require it."""
    if key := settings.get("kms_key_id"):
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": str(key)}
    return {"ServerSideEncryption": "AES256"} if settings.get("encrypt") else {}
