"""S3: one bucket's objects, streamed; their versions, and EventBridge's events about them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 1024 * 1024
# S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
MIN_PART_BYTES = 8 * MIB
# Standard input has no size to derive the parts from: 10,000 of these are 160 GB.
STREAM_PART_BYTES = 16 * MIB
# Uploads in parts at once, and parts of each that are sent at once: so many parts are in memory.
LARGE_AT_ONCE = 2
PARTS_AT_ONCE = 4

# Of one key, in a look at its history.
MAX_VERSIONS = 5000

_MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchVersion"}

OnBytes = Callable[[int], None]


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
        """Equal for the same write, different after the object was written again."""
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


class Readable(Protocol):
    """What is uploaded: a file, or anything that gives b"" at its end."""

    def read(self, size: int, /) -> bytes: ...


def part_size(size: int | None) -> int:
    """Bytes per part so that an object of `size` bytes (None: unknown) fits in S3's number of parts."""
    if size is None:
        return STREAM_PART_BYTES
    return max(MIN_PART_BYTES, -(-size // MAX_PARTS))


class S3Bucket:
    """The objects of one bucket. Safe to share between threads."""

    def __init__(self, session: AwsSession, name: str) -> None:
        self.name = name
        self._session = session
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)

    def head(self, key: str) -> ObjectInfo | None:
        """The newest version of `key`, None if there is none. Raises NotFoundError without the bucket."""
        try:
            answer = self._session.client("s3").head_object(Bucket=self.name, Key=key)
        except Exception as error:
            if error_code(error) in _MISSING:
                return None
            raise self._explained(error, key) from error
        return _info(key, answer)

    def check(self) -> None:
        """Raise NotFoundError unless the bucket exists, AccessDeniedError if it may not be used."""
        try:
            self._session.client("s3").head_bucket(Bucket=self.name)
        except Exception as error:
            if error_code(error) in _MISSING:
                raise self._no_bucket() from error
            raise self._explained(error) from error

    def create(self) -> None:
        """Create the bucket; it may already exist in this account."""
        client = self._session.client("s3")
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            if self._session.region in (None, "us-east-1"):  # the one region that S3 does not accept as a constraint
                client.create_bucket(Bucket=self.name)
            else:
                constraint: Any = {"LocationConstraint": self._session.region}
                client.create_bucket(Bucket=self.name, CreateBucketConfiguration=constraint)

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below `prefix`, page by page, in the order of their keys."""
        pages = self._session.client("s3").get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield ObjectInfo(item["Key"], item["Size"], item["ETag"], item["LastModified"])
        except Exception as error:
            raise self._explained(error, f"{prefix}*") from error

    def versions(self, key: str) -> list[ObjectVersion]:
        """The versions of `key` and the markers that deleted it, newest first; at most some thousands of them."""
        found: list[ObjectVersion] = []
        pages = self._session.client("s3").get_paginator("list_object_versions")
        try:
            for page in pages.paginate(Bucket=self.name, Prefix=key, PaginationConfig={"MaxItems": MAX_VERSIONS}):
                entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                found.extend(_object_version(entry) for entry in entries if entry.get("Key") == key)
                if any(entry.get("Key") != key for entry in entries):  # keys are in order: no more versions of this one
                    break
        except Exception as error:
            raise self._explained(error, key) from error
        return sorted(found, key=lambda version: (version.is_latest, version.last_modified), reverse=True)

    def read(self, key: str, limit: int | None = None) -> tuple[ObjectInfo, bytes] | None:
        """The object with its first `limit` bytes (all: None); None if there is no such object."""
        opened = self.open(key)
        if opened is None:
            return None
        info, body = opened
        with body:
            return info, body.read(limit)

    def open(self, key: str) -> tuple[ObjectInfo, Any] | None:
        """The object with its body as a stream that the caller closes; None if there is no such object."""
        try:
            answer = self._session.client("s3").get_object(Bucket=self.name, Key=key)
        except Exception as error:
            if error_code(error) in _MISSING:
                return None
            raise self._explained(error, key) from error
        return _info(key, answer), _Body(answer["Body"], lambda error: self._explained(error, key))

    def put(self, key: str, body: Readable, size: int | None, on_bytes: OnBytes = lambda _: None) -> str | None:
        """Write `key` from `body`, in parts where it is large; return the new version's id.

        The version's id comes from the answer to the very request that made it, so it is this write's even when
        others write the same key. Memory stays at a few parts, whatever the size. An upload that fails or is
        interrupted leaves nothing behind.
        """
        step = part_size(size)
        with contextlib.nullcontext() if size is not None and size < step else self._large:
            return self._put(key, body, step, on_bytes)

    def _put(self, key: str, body: Readable, step: int, on_bytes: OnBytes) -> str | None:
        first = _read_fully(body, step)
        if len(first) < step:
            version = self._put_whole(key, first)
            on_bytes(len(first))
            return version
        return self._put_parts(key, first, body, step, on_bytes)

    def _put_whole(self, key: str, content: bytes) -> str | None:
        try:
            return _version(self._session.client("s3").put_object(Bucket=self.name, Key=key, Body=content))
        except Exception as error:
            raise self._explained(error, key) from error

    def _put_parts(self, key: str, first: bytes, body: Readable, step: int, on_bytes: OnBytes) -> str | None:
        client = self._session.client("s3")
        try:
            upload_id = client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"]
        except Exception as error:
            raise self._explained(error, key) from error
        try:
            parts = self._send_parts(key, upload_id, first, body, step, on_bytes)
            answer = client.complete_multipart_upload(
                Bucket=self.name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        except BaseException as error:  # Ctrl-C, too, must not leave parts, which cost money and are not visible
            with contextlib.suppress(Exception):  # report the first error
                client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
            if isinstance(error, Exception):
                raise self._explained(error, key) from error
            raise
        return _version(answer)

    def _send_parts(
        self, key: str, upload_id: str, first: bytes, body: Readable, step: int, on_bytes: OnBytes
    ) -> list[CompletedPartTypeDef]:
        def send(number: int, chunk: bytes) -> CompletedPartTypeDef:
            answer = self._session.client("s3").upload_part(
                Bucket=self.name, Key=key, UploadId=upload_id, PartNumber=number, Body=chunk
            )
            on_bytes(len(chunk))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        waiting: set[Future[CompletedPartTypeDef]] = set()
        sent: list[CompletedPartTypeDef] = []
        with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="s3-part") as pool:
            try:
                number, chunk = 1, first
                while chunk:
                    waiting.add(pool.submit(send, number, chunk))
                    if len(waiting) >= PARTS_AT_ONCE:  # bounds the memory: read only what can be sent
                        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        sent.extend(future.result() for future in done)
                    number, chunk = number + 1, _read_fully(body, step)
                sent.extend(future.result() for future in waiting)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return sorted(sent, key=lambda part: part.get("PartNumber", 0))

    def _no_bucket(self) -> NotFoundError:
        return NotFoundError(
            f"bucket {self.name!r} does not exist",
            hint="Check --env, --region and the stack's `bucket` in refinerctl.toml.",
        )

    def _explained(self, error: Exception, key: str | None = None) -> Exception:
        if error_code(error) == "NoSuchBucket":
            return self._no_bucket()
        resource = f"s3://{self.name}/{key}" if key else f"s3://{self.name}"
        return explain(error, resource) or error


class _Body:
    """An object's stream, whose errors are ours: the connection may be lost long after S3 has answered."""

    def __init__(self, stream: Any, explained: Callable[[Exception], Exception]) -> None:
        self._stream = stream
        self._explained = explained

    def read(self, size: int | None = None) -> bytes:
        try:
            content: bytes = self._stream.read(size)
        except Exception as error:
            raise self._explained(error) from error
        return content

    def __enter__(self) -> _Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _read_fully(body: Readable, size: int) -> bytes:
    """A pipe may return less: read until `size` bytes or the end are reached."""
    chunks: list[bytes] = []
    missing = size
    while missing and (chunk := body.read(missing)):
        chunks.append(chunk)
        missing -= len(chunk)
    return b"".join(chunks)


def _version(answer: Any) -> str | None:
    """The version's id; where versioning is suspended S3 says "null", which names no version in particular."""
    version: str | None = answer.get("VersionId")
    return None if version == "null" else version


def _object_version(entry: Any) -> ObjectVersion:
    return ObjectVersion(
        entry["Key"],
        _version(entry),
        entry["LastModified"],
        size=entry.get("Size", 0),
        is_latest=entry.get("IsLatest", False),
        is_delete_marker="Size" not in entry,
    )


def _info(key: str, answer: Any) -> ObjectInfo:
    modified: datetime = answer["LastModified"]
    return ObjectInfo(
        key=key,
        size=answer["ContentLength"],
        etag=answer["ETag"],
        last_modified=modified,
        version_id=_version(answer),
        metadata=dict(answer.get("Metadata", {})),
    )
