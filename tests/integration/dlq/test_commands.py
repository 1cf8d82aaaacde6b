"""`dlq list|inspect|export|purge` as commands, on queues outside of a stack, against the emulator."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from refinerctl.aws.logs import LogGroups
from refinerctl.aws.messages import MessageAttribute
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.dlq.inspect import TIMES
from refinerctl.dlq.records import read_records
from tests.command import Command


@dataclass
class Pair:
    """A queue with its dead-letter queue, read by a function of the same name."""

    session: AwsSession
    bucket: S3Bucket
    name: str

    def __post_init__(self) -> None:
        self.sqs: Any = self.session.client("sqs")
        self.url: str = self.sqs.create_queue(QueueName=self.dlq)["QueueUrl"]
        self.arn = self.arn_of(self.url)
        policy = json.dumps({"deadLetterTargetArn": self.arn, "maxReceiveCount": 5})
        self.source_url: str = self.sqs.create_queue(QueueName=self.name, Attributes={"RedrivePolicy": policy})[
            "QueueUrl"
        ]
        code: Any = {"ImageUri": "team/refiner:v1"}
        functions = self.session.client("lambda")
        role = "arn:aws:iam::000000000000:role/r"
        functions.create_function(FunctionName=self.name, Role=role, PackageType="Image", Code=code)
        source = self.arn_of(self.source_url)
        functions.create_event_source_mapping(FunctionName=self.name, EventSourceArn=source, Enabled=False)

    @property
    def dlq(self) -> str:
        return f"{self.name}-dlq"

    def arn_of(self, url: str) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])

    def put(self, key: str, **attributes: MessageAttribute) -> str:
        """Send a message about `key`; returns its id."""
        return self.put_body(
            json.dumps({"detail": {"bucket": {"name": self.bucket.name}, "object": {"key": key}}}), **attributes
        )

    def put_body(self, body: str, **attributes: MessageAttribute) -> str:
        given = {
            name: {
                "DataType": item.data_type,
                "BinaryValue" if isinstance(item.value, bytes) else "StringValue": item.value,
            }
            for name, item in attributes.items()
        }
        return str(self.sqs.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=given)["MessageId"])

    def fail(self, ids: Sequence[str], error: str) -> None:
        """Log why the function failed."""
        logs, group = LogGroups(self.session), f"/aws/lambda/{self.name}"
        logs.create_stream(group, "s")
        now = datetime.now(UTC)
        name, _, message = error.partition(": ")
        more = {"requestId": "8f3c2c1e-6a0b-4f7e-9a43-0c7b1d5e2f01", "error": {"name": name, "message": message}}
        logs.put(
            group, "s", [(now, json.dumps({"message": "record failed", "messageId": item, **more})) for item in ids]
        )

    @property
    def depth(self) -> tuple[int, int]:
        """Visible and in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])


@pytest.fixture
def pair(session: AwsSession, bucket: S3Bucket, unique: str) -> Pair:
    return Pair(session, bucket, unique)


@pytest.fixture
def run(refinerctl: Command, session: AwsSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in an empty project."""
    (tmp_path / "refinerctl.toml").write_text('environment = "account"\n[environments.account]\nregion = "us-east-1"\n')
    monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", str(session.endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(tmp_path)
    return refinerctl


class TestList:
    def test_list_by_name_url_and_arn(self, run: Command, pair: Pair) -> None:
        pair.put("a.txt")
        done = run("dlq", "list", pair.dlq, pair.url, pair.arn, "--output", "json")
        assert done.code == 0, done.err
        queues = done.json()["queues"]
        assert [queue["url"] for queue in queues] == [pair.url] * 3
        assert {(queue["kind"], queue["depth"], queue["oldest_age_s"]) for queue in queues} == {("processing", 1, None)}
        assert [source["name"] for source in queues[0]["sources"]] == [pair.name]

    def test_list_as_text_with_a_missing_queue(self, run: Command, pair: Pair) -> None:
        done = run("dlq", "list", pair.dlq, "nix-dlq")
        assert done.code == 1
        header, there, missing = done.out.splitlines()
        assert header.split() == ["QUEUE", "KIND", "FROM", "DEPTH", "IN", "FLIGHT", "OLDEST", "EXPIRES"]
        assert there.split() == [pair.dlq, "processing", pair.name, "0", "0", "-", "-"]
        assert missing.split() == ["nix-dlq", *["unknown"] * 6]
        assert "queue nix-dlq does not exist" in done.err

    def test_deleted_source_queue(self, run: Command, pair: Pair) -> None:
        allow = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [pair.arn_of(pair.source_url)]})
        pair.sqs.set_queue_attributes(QueueUrl=pair.url, Attributes={"RedriveAllowPolicy": allow})
        pair.sqs.delete_queue(QueueUrl=pair.source_url)
        assert f"{pair.name} (deleted)" in run("dlq", "list", pair.dlq).out


class TestInspect:
    def test_message_as_json(self, run: Command, pair: Pair) -> None:
        ids = [pair.put("there.txt", who=MessageAttribute("String", "me")), pair.put("gone.txt")]
        ids.append(pair.put_body("no \u202eevent", raw=MessageAttribute("Binary", b"\x00\xff")))
        pair.session.client("s3").put_object(Bucket=pair.bucket.name, Key="there.txt", Body=b"x")
        pair.fail(ids[1:2], "NoSuchKey: The specified key does not exist.")

        done = run("dlq", "inspect", pair.dlq, "--output", "json")

        assert done.code == 0, done.err
        document = done.json()
        assert (document["received"], document["matched"], document["is_complete"]) == (3, 3, True)
        there, gone, odd = (next(item for item in document["messages"] if item["id"] == id_) for id_ in ids)
        assert (there["key"], there["object"], there["error"]) == ("there.txt", "exists", None)
        assert there["attributes"] == {"who": {"type": "String", "value": "me"}}
        assert there["body"]["detail"]["object"]["key"] == "there.txt"
        assert (gone["object"], gone["error"]) == ("gone", "NoSuchKey: The specified key does not exist.")
        assert gone["request_id"] == "8f3c2c1e-6a0b-4f7e-9a43-0c7b1d5e2f01"
        assert (odd["key"], odd["object"], odd["body"]) == (None, None, "no \u202eevent")
        assert odd["attributes"]["raw"] == {"type": "Binary", "base64": "AP8="}
        assert "receive counts of 3 messages increased by 1" in done.err
        assert pair.depth == (3, 0)

    def test_long_and_binary_values_as_text(self, run: Command, pair: Pair) -> None:
        pair.put_body("no \u202eevent\nat all", long=MessageAttribute("String", "y" * 600))
        pair.put_body("z" * 5000, raw=MessageAttribute("Binary", b"\x00\xff"))
        out = run("dlq", "inspect", pair.dlq).out
        assert "no \\x202eevent\n    at all" in out
        assert "y… (600 characters)" in out
        assert "z… (5000 characters; `dlq export` writes all of them)" in out
        assert "raw: 2 bytes, base64 AP8=" in out

    def test_control_characters_are_escaped(self, run: Command, pair: Pair) -> None:
        pair.put("a\x1b[31m.txt", bell=MessageAttribute("String", "\x07"))
        done = run("dlq", "inspect", pair.dlq)
        assert done.code == 0, done.err
        assert "\x1b" not in done.out
        assert "\x07" not in done.out
        assert "error: unknown" in done.out
        assert "received once (this receive included)" in done.out

    def test_jsonl_groups_filters_and_limits(self, run: Command, pair: Pair) -> None:
        first, second, third = (pair.put(f"team/{name}.txt") for name in "abc")
        pair.fail([first, second], "NoSuchKey: The specified key does not exist.")
        pair.fail([third], "OutOfMemory: more than 192 MB")

        lines = run("dlq", "inspect", pair.dlq, "--jsonl", "--filter", "contains(error, 'NoSuchKey')").lines()
        assert {line["id"] for line in lines} == {first, second}
        text = run("dlq", "inspect", pair.dlq, "--group").out.splitlines()
        assert [line.split(":")[0] for line in text] == [f"2 {TIMES} NoSuchKey", f"1 {TIMES} OutOfMemory"]
        (group,) = run("dlq", "inspect", pair.dlq, "--group", "--key-prefix", "/team/c", "--output", "json").json()[
            "groups"
        ]
        assert (group["count"], group["example_id"], group["example_key"]) == (1, third, "team/c.txt")
        assert len(run("dlq", "inspect", pair.dlq, "--limit", "2", "--jsonl").lines()) == 2
        assert "only the first 1 message;" in run("dlq", "inspect", pair.dlq, "--limit", "1").err
        assert "only the first 2 messages" in run("dlq", "inspect", pair.dlq, "--limit", "2").err
        assert "only the first" not in run("dlq", "inspect", pair.dlq, "--limit", "3").err

    def test_empty_queue(self, run: Command, pair: Pair) -> None:
        assert run("dlq", "inspect", pair.dlq, "--output", "json").json()["messages"] == []
        done = run("dlq", "inspect", pair.dlq)
        assert (done.code, done.out) == (0, "")
        assert f"{pair.dlq}: no visible message" in done.err
        pair.put("a")
        assert "none of 1 messages matches" in run("dlq", "inspect", pair.dlq, "--until", "1d").err

    def test_queue_with_a_dlq_is_refused(self, run: Command, pair: Pair) -> None:
        pair.sqs.send_message(QueueUrl=pair.source_url, MessageBody="x")
        done = run("dlq", "inspect", pair.name)
        assert done.code == 4
        assert "has a DLQ itself: a message that is received 5 times moves there" in done.err
        assert run("dlq", "inspect", pair.name, "--force", "--jsonl").lines()[0]["body"] == "x"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--filter", "a["], "--filter: incomplete expression at column 3"),
            (["--since", "1h", "--until", "2h"], "--until"),
            (["--since", "soon"], "'soon' is neither a time"),
            (["--limit", "0"], "0 is not in the range"),
        ],
    )
    def test_invalid_options(self, run: Command, arguments: list[str], message: str) -> None:
        done = run("dlq", "inspect", "any", *arguments)
        assert done.code == 2
        assert message in done.err

    def test_missing_queue(self, run: Command) -> None:
        done = run("dlq", "inspect", "nix-dlq")
        assert done.code == 1
        assert "queue nix-dlq does not exist" in done.err
        assert "Queues: RefinerComplete, RefinerInput, dibbs-ecr-" in done.err

    @pytest.mark.parametrize("command", [("inspect",), ("redrive", "--dry-run"), ("purge", "--dry-run")])
    def test_the_name_of_a_stage_selects_its_dlq(self, run: Command, command: tuple[str, ...]) -> None:
        done = run("dlq", command[0], "/RefinerInput/", *command[1:])
        assert (done.code, done.out) == (1, "")
        assert "queue dibbs-ecr-RefinerInput-dlq does not exist" in done.err
        assert "Did you mean RefinerInput?" in run("dlq", command[0], "RefinerInpt", *command[1:]).err


class TestExport:
    def test_exported_messages_are_read_back(self, run: Command, pair: Pair, tmp_path: Path) -> None:
        attributes = {"raw": MessageAttribute("Binary.png", b"\x00\xff"), "n": MessageAttribute("Number", "12")}
        ids = [pair.put(f"ü {number}", **attributes) for number in range(23)]
        ids.append(pair.put_body("x" * 200_000 + "\u2028\t"))

        done = run("dlq", "export", pair.dlq, "out.jsonl", "--output", "json")

        assert done.code == 0, done.err
        counts = {"exported": 24, "received": 24, "is_complete": True}
        assert done.json() == {"queue": pair.dlq, "file": "out.jsonl", **counts}
        file = tmp_path / "out.jsonl"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with file.open("rb") as lines:
            records = {record.message.id: record for record in read_records(lines)}
        assert set(records) == set(ids)
        assert records[ids[0]].message.attributes == attributes
        assert records[ids[0]].queue.arn == pair.arn
        assert records[ids[-1]].message.body == "x" * 200_000 + "\u2028\t"
        assert pair.depth == (24, 0)

    def test_stdout_with_filter_and_limit(self, run: Command, pair: Pair) -> None:
        for number in range(12):
            pair.put(f"team/{number}")
        done = run("dlq", "export", pair.dlq, "-", "--key-prefix", "team/1")
        assert done.code == 0
        assert {json.loads(line["body"])["detail"]["object"]["key"] for line in done.lines()} == {
            "team/1",
            "team/10",
            "team/11",
        }
        assert f"{pair.dlq}: exported 3 of 12 received messages" in done.err
        assert len(run("dlq", "export", pair.dlq, "-", "--limit", "5").lines()) == 5

    def test_existing_file_is_replaced_only_with_force(self, run: Command, pair: Pair, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        done = run("dlq", "export", pair.dlq, "out")
        assert done.code == 2
        assert "out already exists" in done.err
        assert (tmp_path / "out").read_text() == "mine"
        assert run("dlq", "export", pair.dlq, "out", "--force").code == 0
        assert (tmp_path / "out").read_text() == ""

    def test_failed_export_leaves_no_file(self, run: Command, tmp_path: Path) -> None:
        before = sorted(tmp_path.iterdir())
        assert run("dlq", "export", "nix-dlq", "out").code == 1
        assert run("dlq", "export", "nix-dlq", "no/such/folder/out").code == 1
        assert sorted(tmp_path.iterdir()) == before


class TestPurge:
    def test_all_messages_are_saved_and_deleted(self, run: Command, pair: Pair, tmp_path: Path) -> None:
        ids = {pair.put(f"{number}") for number in range(25)}
        done = run("dlq", "purge", pair.dlq, "--yes", "--output", "json")
        assert done.code == 0, done.err
        found = done.json()
        assert {name: found[name] for name in ("deleted", "exported", "skipped", "failed", "left", "method")} == {
            "deleted": 25,
            "exported": 25,
            "skipped": 0,
            "failed": 0,
            "left": 0,
            "method": "delete",
        }
        file = Path(found["file"])
        assert file.is_relative_to(tmp_path / ".refinerctl" / "dlq")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert {json.loads(line)["id"] for line in file.read_text().splitlines()} == ids
        assert pair.depth == (0, 0)

    def test_dry_run_and_then_only_matching_messages(self, run: Command, pair: Pair, tmp_path: Path) -> None:
        ids = {name: pair.put(f"team/{name}") for name in ("a", "b", "c")}
        pair.fail([ids["b"]], "NoSuchKey: x")
        which = ("--filter", "contains(error, 'NoSuchKey')", "--export", "kept.jsonl")
        plan = run("dlq", "purge", pair.dlq, *which, "--dry-run", "--output", "json").json()
        assert (plan["would_delete"], [item["id"] for item in plan["messages"]]) == (1, [ids["b"]])
        assert (plan["method"], plan["file"]) == ("delete", "kept.jsonl")
        assert pair.depth == (3, 0)
        assert not (tmp_path / "kept.jsonl").exists()

        done = run("dlq", "purge", pair.dlq, *which, "--yes")

        assert done.code == 0, done.err
        assert done.out == f"{pair.dlq}: 1 deleted, saved to kept.jsonl, 2 skipped, 0 failed, 2 left\n"
        assert json.loads((tmp_path / "kept.jsonl").read_text())["id"] == ids["b"]
        assert pair.depth == (2, 0)
        assert run("dlq", "purge", pair.dlq, *which, "--yes").code == 2  # the file is there

    def test_without_export_sqs_purges(self, run: Command, pair: Pair, tmp_path: Path) -> None:
        pair.put("a")
        done = run("dlq", "purge", pair.dlq, "--no-export", "--yes")
        assert done.code == 0, done.err
        assert done.out == f"{pair.dlq}: about 1 deleted, 0 skipped, 0 failed, 0 left\n"
        assert pair.depth == (0, 0)
        assert not (tmp_path / ".refinerctl").exists()

    def test_queue_that_is_no_dlq_is_refused(self, run: Command, pair: Pair) -> None:
        pair.sqs.send_message(QueueUrl=pair.source_url, MessageBody="x")
        done = run("dlq", "purge", pair.name, "--yes")
        assert done.code == 4
        assert f"{pair.name} is not a dead-letter queue" in done.err
        assert run("dlq", "purge", pair.name, "--yes", "--force", "--no-export", "--filter", "body").code == 0

    def test_without_a_terminal_yes_is_needed(self, run: Command, pair: Pair) -> None:
        done = run("dlq", "purge", pair.dlq)
        assert done.code == 2
        assert "stdin is not a terminal; pass --yes" in done.err
        assert run("dlq", "purge", pair.dlq, "--yes", "--export", "x", "--no-export").code == 2

    def test_purge_of_an_empty_queue_leaves_no_file(self, run: Command, pair: Pair, tmp_path: Path) -> None:
        done = run("dlq", "purge", pair.dlq, "--yes", "--export", "kept.jsonl")
        assert done.out == f"{pair.dlq}: 0 deleted, 0 skipped, 0 failed, 0 left\n"
        assert not (tmp_path / "kept.jsonl").exists()
