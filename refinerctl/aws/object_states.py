"""S3: whether an object that somebody was told of is still there, in any bucket."""

from __future__ import annotations

from typing import Any

from refinerctl.aws.objects import ObjectEvent
from refinerctl.aws.session import AwsSession, error_code
from refinerctl.dlq.views import ObjectState

# 405: what has that version id is the marker that deleted the object.
_MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchVersion", "NoSuchBucket", "405", "MethodNotAllowed"}


class ObjectStates:
    """Objects of any bucket. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def of(self, about: ObjectEvent) -> ObjectState:
        """By HEAD. Never raises for what S3 says: who may not look does not know."""
        try:
            if self._is_there(about.bucket, about.key, about.version_id):
                return ObjectState.EXISTS
            if about.version_id is not None and self._is_there(about.bucket, about.key, None):
                return ObjectState.REPLACED
        except Exception:  # denied, expired, another region's bucket: all the same to whoever asks about many
            return ObjectState.UNKNOWN
        return ObjectState.GONE

    def _is_there(self, bucket: str, key: str, version_id: str | None) -> bool:
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
