"""S3: writing a large object, in parts.

boto3's own upload keeps the version's id of the request that made it to itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 1024 * 1024
# S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
MIN_PART_BYTES = 8 * MIB
# Standard input has no size to derive the parts from: 10,000 of these are 160 GB.
STREAM_PART_BYTES = 16 * MIB
# Parts of an upload that are sent at once: so many are in memory.
PARTS_AT_ONCE = 4

OnBytes = Callable[[int], None]


class Readable(Protocol):
    """What is uploaded: a file, or anything that gives b"" at its end."""

    def read(self, size: int, /) -> bytes: ...


def part_size(size: int | None) -> int:
    """Bytes per part so that an object of `size` bytes (None: unknown) fits in S3's number of parts."""
    if size is None:
        return STREAM_PART_BYTES
    return max(MIN_PART_BYTES, -(-size // MAX_PARTS))


def put_parts(
    client: S3Client, bucket: str, key: str, first: bytes, body: Readable, step: int, on_bytes: OnBytes
) -> Any:
    """Write an object in parts of `step` bytes, the first of which is `first`; S3's response to the last request."""
    upload: Any = {"Bucket": bucket, "Key": key}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]

    def send(number: int, chunk: bytes) -> CompletedPartTypeDef:
        answer = client.upload_part(**upload, PartNumber=number, Body=chunk)
        on_bytes(len(chunk))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        parts = _send_parts(send, first, body, step)
        return client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    except BaseException:  # Ctrl-C, too, must not leave parts, which cost money and are not visible
        with contextlib.suppress(Exception):  # report the first error
            client.abort_multipart_upload(**upload)
        raise


def _send_parts(
    send: Callable[[int, bytes], CompletedPartTypeDef], first: bytes, body: Readable, step: int
) -> list[CompletedPartTypeDef]:
    sent: list[Future[CompletedPartTypeDef]] = []
    with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="s3-part") as pool:
        try:
            waiting: set[Future[CompletedPartTypeDef]] = set()
            chunk = first
            while chunk:
                sent.append(pool.submit(send, len(sent) + 1, chunk))
                waiting.add(sent[-1])
                if len(waiting) >= PARTS_AT_ONCE:  # bounds the memory: read only what can be sent
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                chunk = read_fully(body, step)
            return [future.result() for future in sent]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_fully(body: Readable, size: int) -> bytes:
    """A pipe may return less: read until `size` bytes or the end are reached."""
    chunks: list[bytes] = []
    while size and (chunk := body.read(size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
