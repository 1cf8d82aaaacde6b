"""S3: whether an object still exists, in any bucket."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from refinerctl.aws.errors import error_code
from refinerctl.aws.s3 import ObjectEvent
from refinerctl.aws.session import AwsSession

# 405: the version with this id is a delete marker.
_MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchVersion", "NoSuchBucket", "405", "MethodNotAllowed"}


class ObjectState(StrEnum):
    """`replaced`: the version does not exist, but another one of its key does; `unknown`: S3 did not say."""

    EXISTS = "exists"
    REPLACED = "replaced"
    GONE = "gone"
    UNKNOWN = "unknown"


class ObjectStates:
    """Objects of any bucket. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def of(self, about: ObjectEvent) -> ObjectState:
        """By HEAD. Never raises: whatever S3 refuses is `unknown`."""
        try:
            if self._exists(about.bucket, about.key, about.version_id):
                return ObjectState.EXISTS
            if about.version_id is not None and self._exists(about.bucket, about.key, None):
                return ObjectState.REPLACED
        except Exception:  # access denied, expired credentials, a bucket of another region
            return ObjectState.UNKNOWN
        return ObjectState.GONE

    def _exists(self, bucket: str, key: str, version_id: str | None) -> bool:
        given: dict[str, Any] = {"Bucket": bucket, "Key": key}
        if version_id is not None:
            given["VersionId"] = version_id
        try:
            self._session.client("s3").head_object(**given)
        except Exception as error:
            if error_code(error) in _MISSING:
                return False
            raise
        return True
