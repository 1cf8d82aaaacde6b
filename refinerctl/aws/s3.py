"""S3: one bucket's objects, their versions and its settings; EventBridge's events about objects."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import uuid4

from refinerctl.aws.errors import about, error_code, or_none
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.s3_upload import OnBytes, Readable, part_size, put_parts, read_fully
from refinerctl.aws.s3_wire import S3Wire
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError

# Uploads in parts at once.
LARGE_AT_ONCE = 2
# Of one key, in a look at its history.
MAX_VERSIONS = 5000

_MISSING = ("NoSuchKey", "404", "NotFound", "NoSuchVersion")


@dataclass(frozen=True)
class ObjectInfo:
    """One version of an S3 object. `size` is in bytes; `version_id` is None in a bucket without versioning."""

    key: str
    size: int
    etag: str
    last_modified: datetime
    version_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectVersion:
    """A version of an S3 object, or the marker that deleted it. `version_id` is None in a bucket without versioning."""

    key: str
    version_id: str | None
    last_modified: datetime
    size: int = 0
    is_delete_marker: bool = False


@dataclass(frozen=True)
class ObjectEvent:
    """The S3 object that an EventBridge event is about."""

    bucket: str
    key: str
    version_id: str | None


def object_event(body: str) -> ObjectEvent | None:
    """The object of an S3 event from EventBridge, or of JSON with `bucket` and `key`; None for any other text.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    """
    try:
        found = json.loads(body)
        if "detail" not in found:
            bucket, key, version = found["bucket"], found["key"], found.get("version_id")
        else:
            detail = found["detail"]
            bucket, key = detail["bucket"]["name"], detail["object"]["key"]
            version = detail["object"].get("version-id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(bucket, str) or not isinstance(key, str):
        return None
    return ObjectEvent(bucket, key, version if isinstance(version, str) and version != "null" else None)


# In place of a request id and an address that S3 does not keep. The id has the form of S3's.
NO_REQUEST_ID, NO_ADDRESS = "REFINERCTLREPLAY", "0.0.0.0"  # noqa: S104 - no address that anything listens on


def created_event(
    bucket: str, info: ObjectInfo, *, partition: str, region: str, account: str, reason: str | None = None
) -> dict[str, Any]:
    """The event about a version of an object as EventBridge delivers it; without `reason` that is what the ETag tells.

    S3 does not tell the sequencer of a version: this one comes after those of all events about the object up to the
    second in which the version was written, and before those of later ones.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    """
    etag = info.etag.strip('"')
    written = info.last_modified.astimezone(UTC)
    version = {"version-id": info.version_id} if info.version_id else {}
    return {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": account,
        "time": f"{written:%Y-%m-%dT%H:%M:%SZ}",
        "region": region,
        "resources": [f"arn:{partition}:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {
                "key": info.key,
                "size": info.size,
                "etag": etag,
                **version,
                "sequencer": f"00{int(written.timestamp()):08X}FFFFFFFF",
            },
            "request-id": NO_REQUEST_ID,
            "requester": account,
            "source-ip-address": NO_ADDRESS,
            "reason": reason or ("CompleteMultipartUpload" if "-" in etag else "PutObject"),
        },
    }


class ObjectState(StrEnum):
    """`replaced`: the version does not exist, but another one of its key does; `unknown`: S3 did not say."""

    EXISTS = "exists"
    REPLACED = "replaced"
    GONE = "gone"
    UNKNOWN = "unknown"


def object_state(session: AwsSession, event: ObjectEvent) -> ObjectState:
    """Whether an object of any bucket exists, by HEAD. Never raises: whatever S3 refuses is `unknown`."""

    def exists(**version: str) -> bool:
        head = partial(session.client("s3").head_object, Bucket=event.bucket, Key=event.key, **version)  # type: ignore[arg-type]
        # 405: the version with this id is a delete marker.
        return or_none(head, *_MISSING, "NoSuchBucket", "405", "MethodNotAllowed") is not None

    try:
        if event.version_id is None:
            return ObjectState.EXISTS if exists() else ObjectState.GONE
        if exists(VersionId=event.version_id):
            return ObjectState.EXISTS
        return ObjectState.REPLACED if exists() else ObjectState.GONE
    except Exception:  # access denied, expired credentials, a bucket of another region
        return ObjectState.UNKNOWN


class S3Bucket:
    """One bucket, maybe one that does not exist. Safe to share between threads."""

    def __init__(self, session: AwsSession, name: str) -> None:
        self.name = name
        self._session = session
        self._wire = S3Wire(session, name)
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)

    def check(self) -> None:
        """Raise NotFoundError unless the bucket exists, AccessDeniedError if it may not be used."""
        with self._about():
            self._wire.learning(self._session.client("s3")).head_bucket(Bucket=self.name)

    def create(self) -> None:
        """Create the bucket; it may already exist in this account."""
        client = self._session.client("s3")
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            if self._session.region in (None, "us-east-1"):  # the one region that S3 does not accept as a constraint
                client.create_bucket(Bucket=self.name)
            else:
                constraint: Any = {"LocationConstraint": self._session.region}
                client.create_bucket(Bucket=self.name, CreateBucketConfiguration=constraint)

    def sends_events(self) -> bool:
        """Whether the bucket sends its events to EventBridge. Raises NotFoundError without the bucket."""
        with self._about():
            found = self._session.client("s3").get_bucket_notification_configuration(Bucket=self.name)
        return "EventBridgeConfiguration" in found

    def policy(self) -> Policy:
        """The bucket's policy; one without statements if it has none. Raises NotFoundError without the bucket."""
        return parse_policy(self.policy_text())

    def policy_text(self) -> str | None:
        """The bucket's policy as JSON, None without one. Raises NotFoundError without the bucket."""
        get = partial(self._session.client("s3").get_bucket_policy, Bucket=self.name)
        with self._about():
            found = or_none(get, "NoSuchBucketPolicy")
        return found["Policy"] if found else None

    def put_policy(self, text: str) -> None:
        """Replace the bucket's policy. Raises NotFoundError without the bucket, RefinerctlError if S3 rejects it."""
        with self._about():
            self._session.client("s3").put_bucket_policy(Bucket=self.name, Policy=text)

    def kms_key(self) -> str | None:
        """The key that new objects are encrypted with; None for S3's own. Raises NotFoundError without the bucket."""
        get = partial(self._session.client("s3").get_bucket_encryption, Bucket=self.name)
        with self._about():
            found = or_none(get, "ServerSideEncryptionConfigurationNotFoundError")
        for rule in found["ServerSideEncryptionConfiguration"]["Rules"] if found else ():
            given = rule.get("ApplyServerSideEncryptionByDefault", {})
            if "kms" in given.get("SSEAlgorithm", ""):
                return given.get("KMSMasterKeyID") or "alias/aws/s3"
        return None

    def head(self, key: str) -> ObjectInfo | None:
        """The newest version of `key`, None if there is none."""
        answer: Any = self._wire.head_object(key)
        if answer is None:
            with self._about(key):
                answer = or_none(lambda: self._session.client("s3").head_object(Bucket=self.name, Key=key), *_MISSING)
        return _info(key, answer) if answer else None

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below `prefix`, page by page, in the order of their keys."""
        after, has_more = "", True
        while has_more:
            found, has_more = self.page(prefix, after)
            yield from found
            after = found[-1].key if found else ""

    def page(self, prefix: str, after: str = "") -> tuple[list[ObjectInfo], bool]:
        """The first 1,000 objects below `prefix` whose keys come after `after`, and whether there are more."""
        if (answer := self._wire.list_objects_v2(prefix, after)) is not None:
            return list(_listed(answer)), answer["IsTruncated"]
        start = {"StartAfter": after} if after else {}
        with self._about(f"{prefix}*"):
            pages = self._wire.learning(self._session.client("s3")).get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.name, Prefix=prefix, **start):  # type: ignore[arg-type]
                if found := list(_listed(page)):
                    return found, bool(page.get("IsTruncated"))
        return [], False

    def versions(self, key: str) -> list[ObjectVersion]:
        """The versions of `key` and the markers that deleted it, newest first; at most some thousands of them."""
        found: list[Any] = []
        with self._about(key):
            pages = self._session.client("s3").get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self.name, Prefix=key, PaginationConfig={"MaxItems": MAX_VERSIONS}):
                entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                found += (entry for entry in entries if entry.get("Key") == key)
                if any(entry.get("Key") != key for entry in entries):  # keys are in order: no more versions of this one
                    break
        found.sort(key=lambda entry: (entry.get("IsLatest", False), entry["LastModified"]), reverse=True)
        return [
            ObjectVersion(key, _version(entry), entry["LastModified"], entry.get("Size", 0), "Size" not in entry)
            for entry in found
        ]

    def read(self, key: str, limit: int | None = None) -> tuple[ObjectInfo, bytes] | None:
        """The object with its first `limit` bytes (all: None); None if there is no such object."""
        if (answer := self._wire.get_object(key, limit)) is not None:
            return (_info(key, answer), answer["Body"][:limit]) if answer else None
        opened = self.open(key)
        if opened is None:
            return None
        info, body = opened
        with body:
            return info, body.read(limit)

    def open(self, key: str) -> tuple[ObjectInfo, Any] | None:
        """The object with its body as a stream that the caller closes; None if there is no such object."""
        with self._about(key):
            answer = or_none(lambda: self._session.client("s3").get_object(Bucket=self.name, Key=key), *_MISSING)
        return (_info(key, answer), _Body(answer["Body"], partial(self._about, key))) if answer else None

    def put(self, key: str, body: Readable, size: int | None, on_bytes: OnBytes = lambda _: None) -> str | None:
        """Write `key` from `body`, in parts where it is large; return the new version's id.

        The version's id comes from the answer to the very request that made it, so it is this write's even when
        others write the same key. Memory stays at a few parts, whatever the size. An upload that fails or is
        interrupted leaves nothing behind.
        """
        step = part_size(size)
        is_small = size is not None and size < step
        with contextlib.nullcontext() if is_small else self._large, self._about(key):
            content = read_fully(body, step)
            if len(content) == step:
                client = self._session.client("s3")
                return _version(put_parts(client, self.name, key, content, body, step, on_bytes))
            answer: Any = self._wire.put_object(key, content)
            answer = answer or self._session.client("s3").put_object(Bucket=self.name, Key=key, Body=content)
            on_bytes(len(content))
            return _version(answer)

    @contextlib.contextmanager
    def _about(self, key: str | None = None) -> Iterator[None]:
        with about(f"s3://{self.name}/{key}" if key else f"s3://{self.name}"):
            try:
                yield
            except Exception as error:
                if error_code(error) == "NoSuchBucket" or (key is None and error_code(error) == "404"):
                    raise NotFoundError(
                        f"bucket {self.name!r} does not exist",
                        hint="Check --env, --region and the stack's `bucket` in refinerctl.toml.",
                    ) from error
                raise


class _Body:
    """An object's stream, whose errors are ours: the connection may be lost long after S3 has answered."""

    def __init__(self, stream: Any, explained: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._stream = stream
        self._explained = explained

    def read(self, size: int | None = None) -> bytes:
        with self._explained():
            content: bytes = self._stream.read(size)
        return content

    def __enter__(self) -> _Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _listed(page: Any) -> Iterator[ObjectInfo]:
    """The objects of a page: a listing has neither versions nor metadata."""
    for item in page.get("Contents", []):
        yield ObjectInfo(item["Key"], item["Size"], item["ETag"], item["LastModified"])


def _version(answer: Any) -> str | None:
    """The version's id; where versioning is suspended S3 says "null", which names no version in particular."""
    version: str | None = answer.get("VersionId")
    return None if version == "null" else version


def _info(key: str, answer: Any) -> ObjectInfo:
    return ObjectInfo(
        key,
        answer["ContentLength"],
        answer["ETag"],
        answer["LastModified"],
        version_id=_version(answer),
        metadata=dict(answer.get("Metadata", {})),
    )
