"""S3: the input, the outputs, the completion."""

from __future__ import annotations

import json
import mimetypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from rnr_common.log import Logger
from worker.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPLOADS = 4  # files at the same time; a large one is sent in parts by ten threads more
_DOWNLOADS = 3  # attempts: the SDK retries requests, not a body that breaks off
_CHUNK_BYTES = 1 << 20
_ONE_REQUEST_BYTES = 8 << 20  # upload_file would not send it in parts, either, but takes twice the time
_LONGEST_SOURCE = 1500  # bytes; S3 takes 2 KB of user metadata
# What metadata may hold as it is: visible ASCII without the percent sign that the others are written with.
_PLAIN = "".join(chr(code) for code in range(33, 127) if chr(code) != "%")


class NoObjectError(Exception):
    """The object does not exist."""


class IncompleteDownloadError(Exception):
    """Another number of bytes arrived than S3 announced."""


@dataclass(frozen=True)
class Source:
    """The version of the input that was read."""

    version_id: str | None
    etag: str
    size: int


@dataclass(frozen=True)
class Output:
    """One file in S3."""

    key: str
    etag: str
    size: int


def s3_client() -> S3Client:
    """Return a client that retries for about a minute."""
    retries: Any = {"mode": "standard", "total_max_attempts": 8}
    config = Config(retries=retries, connect_timeout=5, read_timeout=60, max_pool_connections=10 * UPLOADS + 10)
    return boto3.client("s3", config=config)


class Storage:
    """Reads inputs and writes results; keys are derived from the input's name: a second delivery writes the same."""

    def __init__(self, client: S3Client, settings: Settings, log: Logger) -> None:
        self._client, self._settings, self._log = client, settings, log

    def completed_etag(self, name: str) -> str | None:
        """Return the ETag of the input that the present completion is of."""
        try:
            body = self._client.get_object(Bucket=self._settings.output_bucket, Key=self._completion_key(name))["Body"]
            completion = json.loads(body.read())
            return str(completion["input"]["etag"])
        except ClientError as error:
            if _is_missing(error):
                return None
            raise
        except (ValueError, KeyError, TypeError):
            return None  # written by something else: it is overwritten

    def download(self, bucket: str, key: str, path: Path) -> Source:
        """Write the newest version of an object to a file. Raises `NoObjectError`."""
        for attempt in range(1, _DOWNLOADS + 1):
            try:
                return self._download(bucket, key, path)
            except (HTTPClientError, IncompleteReadError, IncompleteDownloadError) as error:
                if attempt == _DOWNLOADS:
                    raise
                self._log.warn("download interrupted", key=key, reason=str(error))
        raise AssertionError("unreachable")

    def _download(self, bucket: str, key: str, path: Path) -> Source:
        try:
            found = self._client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if _is_missing(error):
                raise NoObjectError(key) from error
            raise
        received = 0
        with path.open("wb") as file:
            for chunk in found["Body"].iter_chunks(_CHUNK_BYTES):
                received += file.write(chunk)
        if received != found["ContentLength"]:
            raise IncompleteDownloadError(f"{received} of {found['ContentLength']} bytes")
        version_id = found.get("VersionId")
        return Source(None if version_id == "null" else version_id, found["ETag"].strip('"'), received)

    def upload_outputs(self, name: str, files: list[Path], metadata: dict[str, str]) -> list[Output]:
        """Upload files, several at the same time; return them in the order of `files`."""
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload") as pool:
            return list(pool.map(lambda path: self._upload(name, path, metadata), files))

    def _upload(self, name: str, path: Path, metadata: dict[str, str]) -> Output:
        bucket, key = self._settings.output_bucket, f"{self._settings.output_prefix}{name}/{path.name}"
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        described: Any = {"ContentType": kind, "Metadata": encoded(metadata)}
        size = path.stat().st_size
        if size <= _ONE_REQUEST_BYTES:
            with path.open("rb") as file:
                written = self._client.put_object(Bucket=bucket, Key=key, Body=file, **described)
            return Output(key, written["ETag"].strip('"'), size)
        self._client.upload_file(str(path), bucket, key, ExtraArgs=described)
        found = self._client.head_object(Bucket=bucket, Key=key)  # upload_file does not return the ETag
        if found["ContentLength"] != size:
            raise OSError(f"{key} has {found['ContentLength']} bytes in S3 instead of {size}")
        return Output(key, found["ETag"].strip('"'), size)

    def write_completion(self, name: str, completion: dict[str, Any], metadata: dict[str, str]) -> str:
        """Write the completion; return its key."""
        key = self._completion_key(name)
        self._client.put_object(
            Bucket=self._settings.output_bucket,
            Key=key,
            Body=json.dumps(completion, ensure_ascii=False).encode(),
            ContentType="application/json",
            Metadata=encoded(metadata),
        )
        return key

    def _completion_key(self, name: str) -> str:
        return f"{self._settings.complete_prefix}{name}.json"


def encoded(metadata: dict[str, str]) -> dict[str, str]:
    """Return user metadata as S3 takes it: white space, `%` and what is not ASCII percent-encoded.

    A `source-bucket-key` that is too long is left out.
    """
    quoted = {name: quote(value, safe=_PLAIN) for name, value in metadata.items()}
    if len(quoted.get("source-bucket-key", "")) > _LONGEST_SOURCE:
        del quoted["source-bucket-key"]
    return quoted


def _is_missing(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404")
