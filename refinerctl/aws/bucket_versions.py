"""S3: the versions of a bucket's objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from functools import partial
from typing import Any

from refinerctl.aws.errors import about, or_none
from refinerctl.aws.session import AwsSession
from refinerctl.errors import RefinerctlError

# https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
BATCH = 1000
THREADS = 8


class BucketVersions:
    """Object versions and delete markers of any bucket of the account."""

    def __init__(self, session: AwsSession, batch: int = BATCH) -> None:
        self._session = session
        self._batch = batch

    def any_in(self, bucket: str) -> bool:
        """Whether the bucket holds any version or delete marker; a bucket that does not exist holds none."""
        look = partial(self._session.client("s3").list_object_versions, Bucket=bucket, MaxKeys=1)
        with about(f"bucket {bucket}"):
            page = or_none(look, "NoSuchBucket")
        return bool(page and (page.get("Versions") or page.get("DeleteMarkers")))

    def delete_all(self, bucket: str, on_deleted: Callable[[int], None] = lambda _: None) -> int:
        """Delete all versions, several batches at once; returns how many there were. `on_deleted` hears of each batch.

        Looks again at its end, as what is deleted while it is listed may hide something, and somebody may go on
        writing. Raises RefinerctlError with the first key that S3 did not delete.
        """
        deleted = 0
        while count := self._delete_listed(bucket, lambda so_far, before=deleted: on_deleted(before + so_far)):  # type: ignore[misc]
            deleted += count
        return deleted

    def oldest(self, bucket: str, key: str) -> datetime | None:
        """When the oldest version of exactly this key was written, by S3's clock; None if there is none."""
        return min((entry["LastModified"] for entry in self._entries(bucket, key)), default=None)

    def delete_key(self, bucket: str, key: str, since: datetime | None = None) -> int:
        """Delete all versions of exactly this key, or those not written before `since`; returns how many there were."""
        listed = [entry for entry in self._entries(bucket, key) if since is None or entry["LastModified"] >= since]
        for start in range(0, len(listed), self._batch):
            self._delete(bucket, listed[start : start + self._batch])
        return len(listed)

    def _delete_listed(self, bucket: str, on_deleted: Callable[[int], None]) -> int:
        deleted = 0

        def done(futures: set[Future[int]]) -> None:
            nonlocal deleted
            for future in futures:
                deleted += future.result()
                on_deleted(deleted)

        with ThreadPoolExecutor(THREADS) as pool:
            running: set[Future[int]] = set()
            try:
                for batch in filter(None, self._pages(bucket)):
                    running.add(pool.submit(self._delete, bucket, batch))
                    if len(running) > THREADS:
                        finished, running = wait(running, return_when=FIRST_COMPLETED)
                        done(finished)
                done(running)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return deleted

    def _entries(self, bucket: str, key: str) -> list[Any]:
        """The versions and delete markers of exactly this key."""
        return [entry for page in self._pages(bucket, key) for entry in page if entry["Key"] == key]

    def _pages(self, bucket: str, prefix: str = "") -> Iterator[list[Any]]:
        with about(f"bucket {bucket}"):
            pages = self._session.client("s3").get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": self._batch}):
                yield [*page.get("Versions", []), *page.get("DeleteMarkers", [])]

    def _delete(self, bucket: str, entries: Sequence[Any]) -> int:
        objects: Any = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        with about(f"bucket {bucket}"):
            answer = self._session.client("s3").delete_objects(
                Bucket=bucket, Delete={"Objects": objects, "Quiet": True}
            )
        for failure in answer.get("Errors", []):
            reason = f"{failure.get('Code')}: {failure.get('Message')}"
            raise RefinerctlError(f"S3 did not delete {failure.get('Key')} of bucket {bucket}: {reason}")
        return len(objects)
