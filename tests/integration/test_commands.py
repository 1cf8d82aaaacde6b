"""upload and poll as commands, against a bucket of the emulator: streams, JSON, exit codes."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from tests.command import Command, Finished


@pytest.fixture
def run(
    refinerctl: Command, bucket: S3Bucket, session: AwsSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command line in an empty project, with the emulator and this test's bucket in its variables."""
    (tmp_path / "refinerctl.toml").write_text(
        'environment = "account"\n[environments.account]\nregion = "us-east-1"\n[environments.local]\nembedded = true\n'
    )
    monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", str(session.endpoint_url))
    monkeypatch.setenv("REFINERCTL_BUCKET", bucket.name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.chdir(tmp_path)
    return refinerctl


def write(bucket: S3Bucket, session: AwsSession, key: str, body: bytes | str, **metadata: str) -> None:
    content = body.encode() if isinstance(body, str) else body
    session.client("s3").put_object(Bucket=bucket.name, Key=key, Body=content, Metadata=metadata)


def complete_soon(
    bucket: S3Bucket, session: AwsSession, name: str, body: str, *, overwrite: bool = False
) -> threading.Thread:
    """Do what the function would: once the input is there; with `overwrite` after somebody else has overwritten it."""

    def work() -> None:
        for _ in range(500):
            if (info := bucket.head(f"RefinerInput/{name}")) is not None:
                if overwrite:
                    write(bucket, session, f"RefinerInput/{name}", "other content")
                    info = bucket.head(f"RefinerInput/{name}") or info
                versions = {"source-version": str(info.version_id)}
                write(bucket, session, f"RefinerComplete/{name}.json", body, **versions)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


class TestUpload:
    def test_as_json(self, run: Command, bucket: S3Bucket, tmp_path: Path) -> None:
        (tmp_path / "a b+ü.txt").write_text("hello")
        done = run("upload", "a b+ü.txt", "--output", "json")
        assert done.code == 0, done.err
        (item,) = done.json()["uploads"]
        info = bucket.head("RefinerInput/a b+ü.txt")
        assert info is not None
        assert item == {
            "key": "RefinerInput/a b+ü.txt",
            "size": 5,
            "version_id": info.version_id,
            "status": "uploaded",
            "completion_key": None,
            "outputs": [],
            "error": None,
        }
        assert "uploading 1 input to" in done.err

    def test_waiting_for_the_completion(
        self, run: Command, bucket: S3Bucket, session: AwsSession, tmp_path: Path
    ) -> None:
        (tmp_path / "x").write_text("hello")
        write(bucket, session, "RefinerOutput/1", "one")
        worker = complete_soon(bucket, session, "x", '["/RefinerOutput/1"]')
        done = run("upload", "x", "--wait", "--timeout", "30s", "--output", "json")
        worker.join()
        assert done.code == 0, done.err
        (item,) = done.json()["uploads"]
        assert (item["status"], item["completion_key"]) == ("completed", "RefinerComplete/x.json")
        assert item["outputs"] == ["RefinerOutput/1"]

    def test_a_failure_exits_1_with_a_message_on_standard_error(
        self, run: Command, bucket: S3Bucket, session: AwsSession, tmp_path: Path
    ) -> None:
        (tmp_path / "x").write_text("hello")
        worker = complete_soon(bucket, session, "x", '{"RefinerSkip": true, "Error": "no condition"}')
        done = run("upload", "x", "--wait", "--output", "json")
        worker.join()
        assert done.code == 1
        assert done.json()["uploads"][0]["status"] == "failed"
        assert "warning: RefinerInput/x: no condition" in done.err
        assert "1 of 1 input failed" in done.err

    def test_an_input_that_is_overwritten_before_it_is_processed_exits_1(
        self, run: Command, bucket: S3Bucket, session: AwsSession, tmp_path: Path
    ) -> None:
        (tmp_path / "x").write_text("hello")
        worker = complete_soon(bucket, session, "x", "[]", overwrite=True)
        done = run("upload", "x", "--wait", "--timeout", "30s", "--output", "json")
        worker.join()
        newest = bucket.head("RefinerInput/x")
        assert newest is not None
        (item,) = done.json()["uploads"]
        assert (done.code, item["status"], item["completion_key"]) == (1, "superseded", None)
        assert f"RefinerInput/x: overwritten by version {newest.version_id} before it was processed" in done.err
        assert "1 of 1 input superseded" in done.err

    def test_a_timeout_exits_3(self, run: Command, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("hello")
        done = run("upload", "x", "--wait", "--timeout", "0", "--output", "json")
        assert done.code == 3
        assert done.json()["uploads"][0]["status"] == "pending"
        assert "1 of 1 input timed out without a completion" in done.err

    def test_a_timeout_reports_the_depths_of_the_queues(
        self, run: Command, session: AwsSession, tmp_path: Path
    ) -> None:
        names = ("dibbs-ecr-RefinerInput", "dibbs-ecr-RefinerInput-dlq")
        for name in names:
            session.client("sqs").create_queue(QueueName=name)
        (tmp_path / "x").write_text("hello")
        done = run("upload", "x", "--wait", "--timeout", "0")
        assert done.code == 3
        depths = (
            f"{name}: 0 messages, 0 in flight" for name in ("dibbs-ecr-RefinerInput", "dibbs-ecr-RefinerInput-dlq")
        )
        assert "; ".join(depths) in done.err

    def test_a_timeout_reports_that_no_stage_receives_the_key(self, run: Command, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("hello")
        done = run("upload", "x", "--prefix", "/Elsewhere/", "--wait", "--timeout", "0")
        assert done.code == 3
        assert (
            "No stage has a queue for Elsewhere/x. Prefixes of the stages: RefinerComplete/, RefinerInput/." in done.err
        )

    def test_without_the_bucket(self, run: Command, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("hello")
        done = run("upload", "x", "--bucket", "no-such-bucket")
        assert (done.code, done.out) == (1, "")
        assert "bucket 'no-such-bucket' does not exist" in done.err


def keys(done: Finished) -> list[str]:
    return [line["key"].removeprefix("RefinerComplete/") for line in done.lines()]


class TestPoll:
    def test_json_lines_with_contents(self, run: Command, bucket: S3Bucket, session: AwsSession) -> None:
        write(bucket, session, "RefinerOutput/1", "héllo")
        write(bucket, session, "RefinerOutput/2", b"\xff\x00")
        write(bucket, session, "RefinerComplete/a.json", '["/RefinerOutput/1", "/RefinerOutput/2"]')
        done = run("poll", "--content", "--output", "json")
        assert done.code == 0, done.err
        (line,) = done.lines()
        assert (line["key"], line["status"], line["error"]) == ("RefinerComplete/a.json", "completed", None)
        assert line["outputs"][0] == {"key": "RefinerOutput/1", "size": 6, "content": "héllo", "truncated": False}
        assert line["outputs"][1]["content_base64"] == "/wA="

    @pytest.mark.parametrize("output", ["text", "json"])
    def test_contents_are_printed_only_if_asked_for(
        self, run: Command, bucket: S3Bucket, session: AwsSession, output: str
    ) -> None:
        write(bucket, session, "RefinerOutput/1", "secret")
        write(bucket, session, "RefinerComplete/a", '["RefinerOutput/1"]')
        done = run("poll", "--output", output)
        assert done.code == 0, done.err
        assert "RefinerOutput/1" in done.out
        assert "secret" not in done.out + done.err

    def test_binary_content_is_never_printed(self, run: Command, bucket: S3Bucket, session: AwsSession) -> None:
        write(bucket, session, "RefinerOutput/1.pdf", b"%PDF\xff\x00")
        write(bucket, session, "RefinerComplete/a", '["RefinerOutput/1.pdf"]')
        done = run("poll", "--content")
        assert done.out.splitlines()[1].strip() == "RefinerOutput/1.pdf (6 B, application/pdf)"
        assert "--download DIR saves it" in done.err

    def test_a_failure_exits_1_after_all_have_been_shown(
        self, run: Command, bucket: S3Bucket, session: AwsSession
    ) -> None:
        write(bucket, session, "RefinerComplete/a", "{")
        write(bucket, session, "RefinerComplete/b", "[]")
        done = run("poll", "--once", "--output", "json")
        assert done.code == 1
        assert [line["status"] for line in done.lines()] == ["malformed", "completed"]
        assert "1 of 2 completions" in done.err

    def test_text_keeps_warnings_out_of_the_data(self, run: Command, bucket: S3Bucket, session: AwsSession) -> None:
        write(bucket, session, "RefinerOutput/1", "hello")
        write(bucket, session, "RefinerComplete/a", '["RefinerOutput/1", "RefinerOutput/gone"]')
        done = run("poll", "--content")
        assert done.code == 1
        assert done.out.splitlines()[1:] == ["==> RefinerOutput/1 (5 B) <==", "hello"]
        assert "listed output RefinerOutput/gone does not exist" in done.err

    def test_download(self, run: Command, bucket: S3Bucket, session: AwsSession, tmp_path: Path) -> None:
        write(bucket, session, "RefinerOutput/1", "hello")
        write(bucket, session, "RefinerComplete/a", '["RefinerOutput/1"]')
        write(bucket, session, "RefinerComplete/b", '["../outside"]')
        write(bucket, session, "../outside", "bad")
        done = run("poll", "--download", "out", "--output", "json")
        assert done.code == 1
        assert [line["status"] for line in done.lines()] == ["completed", "failed"]
        assert done.lines()[0]["outputs"] == [{"key": "RefinerOutput/1", "size": 5, "path": "out/RefinerOutput/1"}]
        assert (tmp_path / "out" / "RefinerOutput" / "1").read_text() == "hello"
        assert not (tmp_path / "outside").exists()

    def test_at_most_so_much_is_printed(self, run: Command, bucket: S3Bucket, session: AwsSession) -> None:
        write(bucket, session, "RefinerOutput/1", "aé")
        write(bucket, session, "RefinerComplete/a", '["RefinerOutput/1"]')
        (line,) = run("poll", "--content", "--max-content", "2", "--output", "json").lines()
        assert line["outputs"] == [{"key": "RefinerOutput/1", "size": 3, "content": "a", "truncated": True}]

    def test_expected_ones_exit_0_or_3(self, run: Command, bucket: S3Bucket, session: AwsSession) -> None:
        write(bucket, session, "RefinerComplete/a.json", "[]")
        done = run("poll", "--expect", "RefinerInput/a", "--output", "json")
        assert (done.code, keys(done)) == (0, ["a.json"])
        done = run("poll", "--expect", "a", "--expect", "b", "--timeout", "0", "--output", "json")
        assert (done.code, keys(done)) == (3, ["a.json"])
        assert "timed out without a completion: RefinerInput/b" in done.err

    def test_counting(self, run: Command, bucket: S3Bucket, session: AwsSession) -> None:
        for name in "abc":
            write(bucket, session, f"RefinerComplete/{name}", "[]")
        done = run("poll", "--count", "2", "--since", "1h", "--timeout", "10s", "--output", "json")
        assert (done.code, len(done.lines())) == (0, 2)
        done = run("poll", "--count", "5", "--since", "1h", "--timeout", "0", "--output", "json")
        assert (done.code, len(done.lines())) == (3, 3)

    def test_an_empty_bucket_has_no_completions(self, run: Command, bucket: S3Bucket) -> None:
        done = run("poll", "--output", "json")
        assert (done.code, done.out) == (0, "")
        assert f"no completions in s3://{bucket.name}/RefinerComplete/" in done.err

    def test_json_with_control_characters_is_valid(self, run: Command, bucket: S3Bucket, session: AwsSession) -> None:
        write(bucket, session, "RefinerOutput/1", json.dumps({"a": "\x1b[31m"}))
        write(bucket, session, "RefinerComplete/報告 🧪", '["RefinerOutput/1"]')
        (line,) = run("poll", "--content", "--output", "json").lines()
        assert line["key"] == "RefinerComplete/報告 🧪"
        assert json.loads(line["outputs"][0]["content"]) == {"a": "\x1b[31m"}
