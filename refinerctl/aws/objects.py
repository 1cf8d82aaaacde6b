"""S3 objects, their versions and the events about them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class ObjectInfo:
    """One version of an S3 object. `size` is in bytes; `version_id` is None in a bucket without versioning."""

    key: str
    size: int
    etag: str
    last_modified: datetime
    version_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str | None, str, datetime]:
        """Equal for two looks at the same write, different once it has been written again."""
        return (self.version_id, self.etag, self.last_modified)


@dataclass(frozen=True)
class ObjectVersion:
    """A version of an S3 object, or the marker that deleted it. `version_id` is None in a bucket without versioning."""

    key: str
    version_id: str | None
    last_modified: datetime
    size: int = 0
    is_latest: bool = True
    is_delete_marker: bool = False


@dataclass(frozen=True)
class ObjectEvent:
    """The S3 object that an EventBridge event is about."""

    bucket: str
    key: str
    version_id: str | None


def object_event(body: str) -> ObjectEvent | None:
    """The object of an S3 event from EventBridge; None for any other text.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    """
    try:
        detail = json.loads(body)["detail"]
        version = detail["object"].get("version-id")
        return ObjectEvent(detail["bucket"]["name"], detail["object"]["key"], None if version == "null" else version)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
