"""`inputs` and `replay` as commands, against the emulator: listings, DLQs, messages in the stage's queue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from tests.command import Command, Finished

NAME = "dibbs-ecr-RefinerInput"


@dataclass(frozen=True)
class Account:
    """A bucket, and the queues of stage RefinerInput, which exist during one test."""

    run: Command
    bucket: S3Bucket
    session: AwsSession

    def write(self, *keys: str) -> None:
        client = self.session.client("s3")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: client.put_object(Bucket=self.bucket.name, Key=key, Body=b"hello"), keys))

    def event(self, key: str) -> str:
        return json.dumps({"detail": {"bucket": {"name": self.bucket.name}, "object": {"key": key}}})

    def send(self, queue: str, key: str) -> None:
        self.sqs.send_message(QueueUrl=self.url(queue), MessageBody=self.event(key))

    def bodies(self) -> list[Any]:
        """The messages in the stage's queue; they are deleted."""
        found = []
        while messages := self.sqs.receive_message(QueueUrl=self.url(NAME), MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.url(NAME), ReceiptHandle=message["ReceiptHandle"])
        return found

    @property
    def sqs(self) -> Any:
        return self.session.client("sqs")

    def url(self, queue: str) -> str:
        return str(self.sqs.get_queue_url(QueueName=queue)["QueueUrl"])


@pytest.fixture
def account(
    refinerctl: Command, bucket: S3Bucket, session: AwsSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    (tmp_path / "refinerctl.toml").write_text('environment = "test"\n[environments.test]\nregion = "us-east-1"\n')
    monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", str(session.endpoint_url))
    monkeypatch.setenv("REFINERCTL_BUCKET", bucket.name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.chdir(tmp_path)
    account = Account(refinerctl, bucket, session)
    urls = [account.sqs.create_queue(QueueName=f"{NAME}{end}")["QueueUrl"] for end in ("", "-dlq", "-delivery-dlq")]
    yield account
    for url in urls:
        account.sqs.delete_queue(QueueUrl=url)


def statuses(done: Finished) -> dict[str, str]:
    assert done.code == 0, done.err
    return {line["key"].removeprefix("RefinerInput/"): line["status"] for line in done.lines()}


class TestInputs:
    def test_statuses_as_json_lines(self, account: Account) -> None:
        names = [f"{number:04}" for number in range(1003)]  # more than a page
        account.write(*(f"RefinerInput/{name}" for name in names), "RefinerInput/dead ü+%.txt")
        account.write(*(f"RefinerComplete/{name}.json" for name in names[1:]))
        account.send(f"{NAME}-dlq", "RefinerInput/dead ü+%.txt")
        done = account.run("inputs", "--output", "json")
        assert statuses(done) == {
            "0000": "under-way",
            "dead ü+%.txt": "failed",
            **dict.fromkeys(names[1:], "completed"),
        }
        assert "1,004 inputs: 1,002 completed, 1 failed, 1 under-way" in done.err
        assert f"messages of {NAME}-dlq were received" in done.err
        state = account.sqs.get_queue_attributes(QueueUrl=account.url(f"{NAME}-dlq"), AttributeNames=["All"])
        assert state["Attributes"]["ApproximateNumberOfMessages"] == "1"  # it was released

    def test_text_below_a_prefix(self, account: Account) -> None:
        account.write("RefinerInput/2025/a", "RefinerInput/2026/a")
        account.write("RefinerComplete/2026/a.json")  # not before its input
        done = account.run("inputs", "/RefinerInput/2026/")
        assert done.code == 0
        (line,) = done.out.splitlines()
        assert line.startswith("completed   20")
        assert line.endswith("5 B  RefinerInput/2026/a")

    def test_a_prefix_without_stage(self, account: Account) -> None:
        done = account.run("inputs", "Elsewhere/")
        assert (done.code, done.out) == (2, "")
        assert "Prefixes of such stages: RefinerInput/." in done.err

    def test_without_the_bucket(self, account: Account) -> None:
        done = account.run("inputs", "--bucket", "no-such-bucket")
        assert (done.code, done.out) == (1, "")


class TestReplay:
    def test_a_message_about_the_current_version_is_sent(self, account: Account) -> None:
        account.write("RefinerInput/a")
        account.write("RefinerInput/a", "RefinerInput/b ü+%.txt")
        done = account.run("replay", "RefinerInput/a", "/RefinerInput/b ü+%.txt", "--yes", "--output", "json")
        assert done.code == 0, done.err
        assert [(line["key"], line["status"], line["queue"]) for line in done.lines()] == [
            ("RefinerInput/a", "sent", NAME),
            ("RefinerInput/b ü+%.txt", "sent", NAME),
        ]
        events = {event["detail"]["object"]["key"]: event for event in account.bodies()}
        assert set(events) == {"RefinerInput/a", "RefinerInput/b ü+%.txt"}
        newest = account.bucket.head("RefinerInput/a")
        assert newest is not None
        sent = events["RefinerInput/a"]["detail"]["object"]
        assert (sent["version-id"], sent["etag"], sent["size"]) == (newest.version_id, newest.etag.strip('"'), 5)
        assert events["RefinerInput/a"]["detail"]["bucket"] == {"name": account.bucket.name}
        assert done.lines()[0]["version_id"] == newest.version_id
        assert len(account.bucket.versions("RefinerInput/a")) == 2  # no version was added

    def test_an_input_that_does_not_exist_does_not_stop_the_others(self, account: Account) -> None:
        account.write("RefinerInput/a")
        done = account.run("replay", "RefinerInput/gone", "RefinerInput/a", "--yes")
        assert done.code == 1
        assert "warning: RefinerInput/gone: the object does not exist" in done.err
        assert "1 of 2 inputs could not be sent" in done.err
        assert [event["detail"]["object"]["key"] for event in account.bodies()] == ["RefinerInput/a"]

    def test_a_dry_run_sends_nothing(self, account: Account) -> None:
        account.write("RefinerInput/a")
        done = account.run("replay", "RefinerInput/a", "--dry-run", "--output", "json")
        assert (done.code, [line["status"] for line in done.lines()]) == (0, ["would-send"])
        assert account.bodies() == []

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupted_replay_prints_what_was_sent(
        self, account: Account, tmp_path: Path, number: signal.Signals
    ) -> None:
        keys = [f"RefinerInput/{name}" for name in "abcdefgh"]
        account.write(*keys)
        process = subprocess.Popen(
            [sys.executable, "-m", "refinerctl", "replay", *keys, "--yes", "--rate", "2/s", "--output", "json"],
            cwd=tmp_path,
            env=dict(os.environ),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.send_signal(number)
        lines, err = [first, *process.stdout], process.stderr.read()
        sent = [json.loads(line)["key"] for line in lines]
        assert process.wait(20) == 128 + number, err
        assert f"stopped: {len(sent)} of 8 inputs sent" in err
        assert 2 <= len(sent) < 8
        assert sorted(event["detail"]["object"]["key"] for event in account.bodies()) == sent

    def test_it_ends_if_nothing_can_be_sent_any_more(self, account: Account, tmp_path: Path) -> None:
        keys = [f"RefinerInput/{name}" for name in "abcdefgh"]
        account.write(*keys)
        with subprocess.Popen(
            [sys.executable, "-m", "refinerctl", "replay", *keys, "--yes", "--rate", "2/s", "--output", "json"],
            cwd=tmp_path,
            env=dict(os.environ),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            account.sqs.delete_queue(QueueUrl=account.url(NAME))
            statuses = [json.loads(line)["status"] for line in (first, *process.stdout)]
            err = process.stderr.read()
        account.sqs.create_queue(QueueName=NAME)
        assert (process.returncode, statuses[:2], statuses.count("failed")) == (1, ["sent", "sent"], 2), err
        assert f"no message of a batch could be sent to {NAME}" in err

    def test_recent_inputs_are_not_incomplete(self, account: Account) -> None:
        account.write("RefinerInput/a")
        done = account.run("replay", "--incomplete", "--yes")
        assert (done.code, done.out) == (0, "")
        assert "no incomplete inputs: nothing to send" in done.err

    def test_a_rule_that_changes_events_is_refused(self, account: Account) -> None:
        events = account.session.client("events")
        events.create_event_bus(Name="data-repository-bus")
        events.put_rule(Name=NAME, EventBusName="data-repository-bus", EventPattern='{"source": ["aws.s3"]}')
        arn = f"arn:aws:sqs:us-east-1:000000000000:{NAME}"
        events.put_targets(
            Rule=NAME,
            EventBusName="data-repository-bus",
            Targets=[{"Id": "queue", "Arn": arn, "InputPath": "$.detail"}],
        )
        account.write("RefinerInput/a")
        try:
            done = account.run("replay", "RefinerInput/a", "--yes")
        finally:
            events.remove_targets(Rule=NAME, EventBusName="data-repository-bus", Ids=["queue"])
            events.delete_rule(Name=NAME, EventBusName="data-repository-bus")
            events.delete_event_bus(Name="data-repository-bus")
        assert done.code == 4
        assert f"rule {NAME} changes the events that it sends to {NAME}" in done.err
        assert account.bodies() == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "pass either keys or --incomplete"),
            (("RefinerInput/a", "--incomplete"), "pass either keys or --incomplete"),
            (("RefinerInput/a", "--since", "1h"), "--prefix and --since need --incomplete"),
            (("RefinerInput/a",), "stdin is not a terminal; pass --yes"),
            (("Elsewhere/a", "--yes"), "no stage with a queue receives Elsewhere/a"),
        ],
    )
    def test_usage_errors(self, account: Account, arguments: tuple[str, ...], message: str) -> None:
        done = account.run("replay", *arguments)
        assert done.code == 2
        assert message in done.err

    def test_without_the_stack(self, account: Account) -> None:
        account.write("RefinerInput/a")
        done = account.run("replay", "RefinerComplete/a", "--yes")
        assert done.code == 1
        assert "queue dibbs-ecr-RefinerComplete does not exist" in done.err
