"""The clients behind `dlq`, against servers that answer as AWS does."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from refinerctl.aws.messages import QueueAddress
from refinerctl.aws.s3 import ObjectEvent, ObjectState, S3Bucket, object_state
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import Queues
from refinerctl.dlq.records import MessageFile
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError, UsageError
from tests.command import Command
from tests.integration.servers import Answer, Request, serving


def refused(code: str) -> Answer:
    return Answer(400, json.dumps({"__type": code, "message": "no"}).encode())


class TestQueues:
    @pytest.mark.parametrize(
        ("code", "error", "message"),
        [
            ("com.amazonaws.sqs#PurgeQueueInProgress", RefusedError, "a-dlq was purged less than 60 seconds ago"),
            ("AWS.SimpleQueueService.PurgeQueueInProgress", RefusedError, "a-dlq was purged less than 60 seconds ago"),
            ("com.amazonaws.sqs#QueueDoesNotExist", NotFoundError, "queue a-dlq does not exist"),
            ("AccessDeniedException", AccessDeniedError, "access denied: PurgeQueue on queue a-dlq"),
        ],
    )
    def test_purge_that_sqs_refuses(self, code: str, error: type[RefinerctlError], message: str) -> None:
        def answer(_request: Request) -> Answer:
            return refused(code)

        with serving(answer) as server:
            queues = Queues(server.session())
            with pytest.raises(error, match=message):
                queues.purge(QueueAddress("a-dlq", f"{server.url}/0/a-dlq", "arn:aws:sqs:us-east-1:0:a-dlq"))


class TestObjectState:
    def test_version_that_exists_was_replaced_or_deleted(self, session: AwsSession, bucket: S3Bucket) -> None:
        s3 = session.client("s3")
        first = s3.put_object(Bucket=bucket.name, Key="a b+ü", Body=b"1")["VersionId"]
        about = ObjectEvent(bucket.name, "a b+ü", first)
        s3.put_object(Bucket=bucket.name, Key="a b+ü", Body=b"2")
        assert object_state(session, about) is ObjectState.EXISTS
        s3.delete_object(Bucket=bucket.name, Key="a b+ü", VersionId=first)
        assert object_state(session, about) is ObjectState.REPLACED
        s3.delete_object(Bucket=bucket.name, Key="a b+ü")
        assert object_state(session, about) is ObjectState.GONE
        assert object_state(session, ObjectEvent(bucket.name, "a b+ü", None)) is ObjectState.GONE
        assert object_state(session, ObjectEvent("no-such-bucket-anywhere", "a", None)) is ObjectState.GONE

    @pytest.mark.parametrize("status", [403, 400])
    def test_denied_read_is_unknown(self, status: int) -> None:
        def answer(_request: Request) -> Answer:
            return Answer(status, b"")

        with serving(answer) as server:
            assert object_state(server.session(), ObjectEvent("b", "k", "v")) is ObjectState.UNKNOWN


class TestMessageFile:
    def test_appends_to_a_private_file(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folder" / "out.jsonl"
        with MessageFile(path) as file:
            file.append(["a", "ü"])
            assert path.read_text() == "a\nü\n"
            file.append(["b"])
        assert path.read_text() == "a\nü\nb\n"
        assert path.stat().st_mode & 0o777 == 0o600

    def test_existing_file_is_not_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_text("mine")
        with pytest.raises(UsageError, match="already exists"):
            MessageFile(path)
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UsageError, match="already exists"):
            MessageFile(tmp_path / "link")
        assert path.read_text() == "mine"

    def test_folder_that_cannot_be_created(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RefinerctlError, match="cannot write"):
            MessageFile(tmp_path / "file" / "out")

    def test_full_disk_leaves_complete_lines_and_the_file_can_be_closed(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with MessageFile(path) as file:
                file.append(["a" * 50])
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
                with pytest.raises(RefinerctlError, match="cannot write"):
                    file.append(["b" * 50, "c" * 50])
                assert path.read_text() == "a" * 50 + "\n"
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
                file.append(["d"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.read_text() == "a" * 50 + "\nd\n"

    def test_empty_file_is_removed(self, tmp_path: Path) -> None:
        with MessageFile(tmp_path / "out"):
            pass
        assert list(tmp_path.iterdir()) == []


class TestAnotherRegion:
    @mock_aws
    def test_queue_of_another_region_has_its_sources_from_there(
        self, refinerctl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        for region in ("us-east-1", "eu-west-1"):
            session = AwsSession(region, profile=None, endpoint_url=None, embedded=False)
            sqs: Any = session.client("sqs")
            url = sqs.create_queue(QueueName="a-dlq")["QueueUrl"]
            arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
            sqs.create_queue(QueueName=f"from-{region}", Attributes={"RedrivePolicy": policy})

        done = refinerctl(
            *("dlq", "list", "a-dlq", "arn:aws:sqs:eu-west-1:123456789012:a-dlq"),
            *("--env", "aws", "--region", "us-east-1", "--output", "json"),
            cwd=tmp_path,
        )

        assert done.code == 0, done.err
        seen = [[source["name"] for source in queue["sources"]] for queue in done.json()["queues"]]
        assert seen == [["from-us-east-1"], ["from-eu-west-1"]]
