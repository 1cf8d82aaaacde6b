"""The S3 client against the emulator, and against servers that fail in the middle."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.s3_upload import MAX_PARTS, MIB, MIN_PART_BYTES, STREAM_PART_BYTES, part_size
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.inputs.outputs import read_outputs, save_outputs
from refinerctl.inputs.poll import Poller
from tests.integration.servers import RESET, Answer, Request, error, multipart, serving
from tests.unit.fakes import completions_of

ODD_KEY = "RefinerInput/50% a+b & c=d/Übergröße 報告 🧪'\"<>#?.txt"
STEP = MIN_PART_BYTES


@pytest.fixture
def bucket(bucket: S3Bucket) -> S3Bucket:
    """A bucket that was reached with boto3: after that, its objects are read and written without it."""
    bucket.check()
    return bucket


class Zeros:
    """So many zeros, made as they are read, at most `at_once` in one read as from a pipe."""

    def __init__(self, size: int, at_once: int = 1 << 30, breaks: tuple[int, BaseException] | None = None) -> None:
        self._left = size
        self._done = 0
        self._at_once = at_once
        self._breaks = breaks

    def read(self, size: int, /) -> bytes:
        if self._breaks and self._done >= self._breaks[0]:
            raise self._breaks[1]
        chunk = bytes(min(size, self._left, self._at_once))
        self._left -= len(chunk)
        self._done += len(chunk)
        return chunk


def unfinished(session: AwsSession, bucket: S3Bucket) -> list[str]:
    found = session.client("s3").list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return [item["Key"] for item in found]


class TestPut:
    @pytest.mark.parametrize(
        ("size", "parts"), [(0, 0), (1, 0), (STEP - 1, 0), (STEP, 1), (STEP + 1, 2), (2 * STEP, 2), (3 * STEP + 5, 4)]
    )
    def test_objects_around_the_size_of_a_part(self, bucket: S3Bucket, size: int, parts: int) -> None:
        content = os.urandom(1000) * (size // 1000 + 1)
        done: list[int] = []
        version = bucket.put("k", io.BytesIO(content[:size]), size, done.append)
        found = bucket.read("k")
        assert found is not None
        info, body = found
        assert body == content[:size]
        assert (info.size, info.version_id) == (size, version)
        assert sum(done) == size
        _, _, count = info.etag.strip('"').partition("-")
        assert count == (str(parts) if parts else "")

    def test_a_stream_of_unknown_size_in_small_reads(self, bucket: S3Bucket) -> None:
        size = STREAM_PART_BYTES + 3
        version = bucket.put("k", Zeros(size, at_once=100_000), None)
        info = bucket.head("k")
        assert info is not None
        assert (info.size, info.version_id) == (size, version)
        assert info.etag.endswith('-2"')

    @pytest.mark.parametrize("size", [5, STEP])
    def test_concurrent_writes_of_one_key_have_versions_of_their_own(
        self, session: AwsSession, bucket: S3Bucket, size: int
    ) -> None:
        def put(number: int) -> tuple[str | None, bytes]:
            content = f"{number:05}".encode() * (size // 5) + b"x" * (size % 5)
            return bucket.put("k", io.BytesIO(content), size), content

        with ThreadPoolExecutor(4) as pool:
            written = list(pool.map(put, range(4)))
        assert len({version for version, _ in written}) == 4
        for version, content in written:
            assert version is not None
            answer = session.client("s3").get_object(Bucket=bucket.name, Key="k", VersionId=version)
            assert answer["Body"].read() == content

    def test_a_bucket_without_versioning_has_no_version(self, session: AwsSession, unique: str) -> None:
        plain = S3Bucket(session, f"plain-{unique}")
        plain.create()
        assert plain.put("k", io.BytesIO(b"x"), 1) is None
        found = plain.head("k")
        assert found is not None
        assert found.version_id is None

    @pytest.mark.parametrize("failure", [OSError("disk is gone"), KeyboardInterrupt()])
    def test_a_source_that_fails_leaves_no_object(
        self, session: AwsSession, bucket: S3Bucket, failure: BaseException
    ) -> None:
        with pytest.raises(type(failure)):
            bucket.put("k", Zeros(5 * STEP, breaks=(2 * STEP, failure)), 5 * STEP)
        assert unfinished(session, bucket) == []
        assert bucket.head("k") is None

    def test_an_error_in_the_progress_callback_aborts_the_upload(self, session: AwsSession, bucket: S3Bucket) -> None:
        def refuse(_size: int) -> None:
            raise RefinerctlError("interrupted")

        with pytest.raises(RefinerctlError, match="interrupted"):
            bucket.put("k", Zeros(3 * STEP), 3 * STEP, refuse)
        assert unfinished(session, bucket) == []

    @pytest.mark.parametrize("size", [5, STEP])
    def test_a_missing_bucket_is_reported(self, session: AwsSession, size: int) -> None:
        with pytest.raises(NotFoundError, match="bucket 'no-such-bucket' does not exist"):
            S3Bucket(session, "no-such-bucket").put("k", Zeros(size), size)

    def test_memory_does_not_grow_with_the_object(self) -> None:
        size = 200 * MIB
        with serving(multipart()) as server:
            sink = S3Bucket(server.session(), "b")
            sink.put("warm-up", Zeros(2 * STEP), 2 * STEP)
            tracemalloc.start()
            try:
                sink.put("k", Zeros(size), size)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert sum(request.size for request in server.requests if request.path == "/b/k") >= size
        assert peak < 64 * MIB

    @pytest.mark.parametrize("size", [0, 1, 80 * 1024 * MIB, 500 * 1024 * MIB, 5 * 1024 * 1024 * MIB])
    def test_any_object_size_of_s3_fits_in_10_000_parts(self, size: int) -> None:
        assert part_size(size) * MAX_PARTS >= size
        assert MIN_PART_BYTES <= part_size(size) <= 5 * 1024 * MIB


class TestFaults:
    """What a network does while an upload is under way."""

    def put(self, fault: dict[int, list[Answer]], size: int = 3 * STEP) -> tuple[Counter[str], str | None]:
        """Upload in three parts; `fault` has the answers that a part's attempts get before it succeeds."""

        def answer(request: Request) -> Answer | None:
            waiting = fault.get(int(request.query.get("partNumber", 0)), [])
            return waiting.pop(0) if waiting and request.method == "PUT" else None

        with serving(multipart(answer)) as server:
            try:
                version = S3Bucket(server.session(), "b").put("k", Zeros(size), size)
            finally:
                self.count = server.count()
        return server.count(), version

    def test_the_version_is_from_the_answer_to_the_write(self) -> None:
        assert self.put({})[1] == "made-by-complete"
        assert self.put({}, size=5)[1] == "made-by-put"
        assert set(self.count) == {"PUT"}

    @pytest.mark.parametrize("bad", [error(503, "SlowDown"), error(500, "InternalError"), RESET])
    def test_a_part_that_fails_sometimes_is_sent_again(self, no_backoff: list[float], bad: Answer) -> None:
        count, version = self.put({1: [bad], 3: [bad, bad, bad]})
        assert version == "made-by-complete"
        assert count == {"POST": 2, "PUT": 3 + 4}
        assert len(no_backoff) == 4

    @pytest.mark.parametrize("bad", [error(503, "SlowDown", "Reduce your rate"), RESET])
    def test_a_part_that_always_fails_aborts_the_upload(self, no_backoff: list[float], bad: Answer) -> None:
        with pytest.raises(RefinerctlError):
            self.put({2: [bad] * 50})
        assert self.count["DELETE"] == 1
        assert self.count["POST"] == 1
        assert self.count["PUT"] <= 2 + 8

    def test_a_denied_part_is_not_sent_again(self) -> None:
        with pytest.raises(RefinerctlError, match="access denied: UploadPart on s3://b/k"):
            self.put({1: [error(403, "AccessDenied")] * 9})
        assert self.count["DELETE"] == 1

    def test_a_failed_abort_does_not_hide_the_first_error(self) -> None:
        def answer(request: Request) -> Answer | None:
            if request.method == "DELETE":
                return error(403, "AccessDenied", "no abort for you")
            return error(400, "EntityTooSmall", "the real reason") if "partNumber" in request.query else None

        with serving(multipart(answer)) as server, pytest.raises(RefinerctlError, match="the real reason"):
            S3Bucket(server.session(), "b").put("k", Zeros(STEP), STEP)


class TestFaultsOfSmallRequests:
    """After an unexpected response, boto3 sends the request again."""

    def put(self, *faults: Answer) -> tuple[int, str | None]:
        """The number of requests, and the version."""
        left = [*faults]

        def answer(request: Request) -> Answer | None:
            return left.pop(0) if left and request.method == "PUT" else None

        with serving(multipart(answer)) as server:
            bucket = S3Bucket(server.session(), "b")
            bucket.check()
            version = bucket.put("a b", io.BytesIO(b"x"), 1)
            return server.count()["PUT"], version

    @pytest.mark.parametrize("bad", [error(503, "SlowDown"), error(500, "InternalError"), RESET])
    def test_a_request_that_fails_is_repeated(self, no_backoff: list[float], bad: Answer) -> None:
        assert self.put(bad) == (2, "made-by-put")
        assert self.put(bad, bad, bad) == (4, "made-by-put")
        assert len(no_backoff) == 2

    def test_a_denied_request_is_explained(self) -> None:
        with pytest.raises(RefinerctlError, match="access denied: PutObject on s3://b/a b"):
            self.put(*[error(403, "AccessDenied")] * 2)

    def test_an_invalid_listing_is_requested_again_with_boto3(self, no_backoff: list[float]) -> None:
        with serving(lambda _: Answer(200, b"<html>")) as server:
            bucket = S3Bucket(server.session(), "b")
            bucket.check()
            with pytest.raises(RefinerctlError):
                list(bucket.objects("p/"))
            assert server.count() == {"HEAD": 1, "GET": 1 + 8}


def _object(body: bytes, cut_after: int | None = None) -> Answer:
    headers = {"ETag": '"e"', "Last-Modified": "Sun, 01 Mar 2026 14:00:00 GMT"}
    return Answer(200, body, headers, cut_after)


class TestBrokenBody:
    """S3 has answered, and the connection is lost in the middle of the object."""

    def test_a_lost_connection_is_a_refinerctl_error(self) -> None:
        with (
            serving(lambda _: _object(b"x" * 100_000, cut_after=1000)) as server,
            pytest.raises(RefinerctlError, match=r"no response from AWS|b/k"),
        ):
            S3Bucket(server.session(), "b").read("k")

    def test_a_lost_connection_fails_the_completion_and_leaves_no_file(self, tmp_path: Path) -> None:
        listing = (
            b"<ListBucketResult><Contents><Key>RefinerComplete/a</Key><Size>2</Size><ETag>e</ETag>"
            b"<LastModified>2026-03-01T14:00:00.000Z</LastModified></Contents></ListBucketResult>"
        )

        def answer(request: Request) -> Answer:
            if "list-type" in request.query:
                return Answer(200, listing)
            if "RefinerComplete" in request.path:
                return _object(b'["RefinerOutput/1"]')
            return _object(b"x" * 3_000_000, cut_after=2_000_000)

        with serving(answer) as server:
            bucket = S3Bucket(server.session(), "b")
            completions = completions_of(bucket)
            for read in (save_outputs(bucket, tmp_path), read_outputs(bucket, 5_000_000)):
                (found,) = Poller(completions, read).existing()
                assert found.status == "failed"
                assert "RefinerOutput/1" in str(found.error)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class TestRead:
    def test_an_unusual_key_is_not_changed(self, bucket: S3Bucket) -> None:
        version = bucket.put(ODD_KEY, io.BytesIO(b"content"), 7)
        (listed,) = bucket.objects("RefinerInput/")
        assert listed.key == ODD_KEY
        found = bucket.read(ODD_KEY)
        assert found is not None
        assert found[0].version_id == version
        assert found[1] == b"content"
        assert bucket.head(ODD_KEY) == found[0]

    def test_a_key_that_does_not_exist_is_none(self, bucket: S3Bucket) -> None:
        assert bucket.head("nothing") is None
        assert bucket.open("nothing") is None
        assert bucket.read("nothing") is None

    def test_a_deleted_key_is_none(self, session: AwsSession, bucket: S3Bucket) -> None:
        bucket.put("k", io.BytesIO(b"x"), 1)
        session.client("s3").delete_object(Bucket=bucket.name, Key="k")
        assert bucket.head("k") is None
        assert bucket.read("k") is None

    @pytest.mark.parametrize("limit", [0, 3, 7, 8, None])
    def test_a_limit_reads_the_first_bytes(self, bucket: S3Bucket, limit: int | None) -> None:
        bucket.put("k", io.BytesIO(b"content"), 7)
        found = bucket.read("k", limit)
        assert found is not None
        assert (found[0].size, found[1]) == (7, b"content"[:limit])

    def test_metadata_is_read(self, session: AwsSession, bucket: S3Bucket) -> None:
        session.client("s3").put_object(Bucket=bucket.name, Key="c", Body=b"[]", Metadata={"source-version": "v7"})
        completion = completions_of(bucket).get("c")
        assert completion is not None
        assert completion.source_versions == {"v7"}

    def test_a_listing_of_several_pages_is_complete_and_sorted(self, session: AwsSession, bucket: S3Bucket) -> None:
        client = session.client("s3")
        keys = [f"p/{number:04}" for number in range(1003)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: client.put_object(Bucket=bucket.name, Key=key), reversed([*keys, "q/other"])))
        assert [info.key for info in bucket.objects("p/")] == keys

    def test_two_writes_of_the_same_content_have_different_versions(self, bucket: S3Bucket) -> None:
        versions = set()
        for _ in range(2):
            bucket.put("k", io.BytesIO(b"same"), 4)
            info = bucket.head("k")
            assert info is not None
            versions.add(info.version_id)
        assert len(versions) == 2


class TestBucket:
    def test_create_is_idempotent(self, bucket: S3Bucket) -> None:
        bucket.create()
        bucket.check()

    def test_create_in_another_region(self, emulator: object, session: AwsSession, unique: str) -> None:
        elsewhere = AwsSession("eu-west-1", profile=None, endpoint_url=session.endpoint_url, embedded=True)
        bucket = S3Bucket(elsewhere, f"elsewhere-{unique}")
        bucket.create()
        bucket.check()

    def test_every_operation_reports_a_missing_bucket(self, session: AwsSession) -> None:
        missing = S3Bucket(session, "no-such-bucket")
        settings = (missing.check, missing.sends_events, missing.policy, missing.kms_key)
        for ask in (
            *settings,
            lambda: missing.read("k"),
            lambda: list(missing.objects("p/")),
            lambda: missing.versions("a"),
        ):
            with pytest.raises(NotFoundError, match="bucket 'no-such-bucket' does not exist") as caught:
                ask()
            assert "--env" in str(caught.value.hint)
