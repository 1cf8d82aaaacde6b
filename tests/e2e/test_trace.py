"""`refinerctl trace`, `status` and `logs` on a running environment."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.e2e.project import COMMAND, Finished, Project, eventually

pytestmark = pytest.mark.e2e

BUCKET = "data-repository"
PREFIX = "PoisonInput/"


def traced(running: Project, key: str, *arguments: str) -> tuple[int, Any]:
    done = running.run("trace", key, *arguments, "--output", "json")
    return done.code, done.json()


def found(running: Project, key: str, *places: str, timeout_s: float = 60) -> Any:
    """The trace once the input is at one of `places`."""
    seen: list[Any] = []

    def there() -> bool:
        seen.append(traced(running, key))
        return bool(seen[-1][1]["place"] in places)

    assert eventually(there, timeout_s), seen[-1]
    return seen[-1]


@pytest.fixture(scope="module")
def stopped(running: Project) -> Iterator[Any]:
    """The function of PoisonInput gets no messages until this is called."""
    client = running.client("lambda")
    (mapping,) = client.list_event_source_mappings(FunctionName="dibbs-ecr-PoisonInput")["EventSourceMappings"]

    def enable(on: bool = True) -> None:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=on)

    enable(False)
    yield enable
    enable()


def upload(running: Project, folder: Path, name: str, prefix: str = PREFIX) -> str:
    path = folder / name
    path.write_text(f"content of {name}\n")
    done = running.run("upload", str(path), "--prefix", prefix, "--output", "json")
    assert done.code == 0, done.err
    key: str = done.json()["uploads"][0]["key"]
    return key


def receive(running: Project, queue: str, key: str) -> None:
    """Receive the message of `key`, as a function that processes it does; make the others visible again."""
    sqs = running.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]

    def received() -> bool:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=30).get("Messages", [])
        keys = {item["ReceiptHandle"]: json.loads(item["Body"])["detail"]["object"]["key"] for item in found}
        for handle in (handle for handle, found_key in keys.items() if found_key != key):
            sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
        return key in keys.values()

    assert eventually(received)


def test_an_input_is_waiting_or_in_flight_then_completed_or_failing_then_in_the_dlq(
    running: Project, stopped: Any, tmp_path: Path
) -> None:
    good, gone, held = (upload(running, tmp_path, f"trace {name}+ü.txt") for name in ("good", "gone", "held"))

    code, waiting = found(running, good, "waiting")
    assert code == 3
    # A message of an earlier test may be in flight.
    assert re.search(r"which were not received(, \d+ more in flight)?; its .* is Disabled", waiting["verdict"])
    # Of other tests there may be messages in the DLQ; those of the queue itself are not received.
    assert all("-dlq " in note for note in waiting["notes"])
    code, looked = traced(running, good, "--look")
    assert code == 3
    assert looked["verdict"].startswith("waiting in dibbs-ecr-PoisonInput since ")
    assert "received" not in looked["verdict"]  # not by the traces before
    assert any("receive counts increased by 1" in note for note in looked["notes"])

    receive(running, "dibbs-ecr-PoisonInput", held)
    code, in_flight = traced(running, held, "--look")
    assert (code, in_flight["place"]) == (3, "in-flight")

    running.client("s3").delete_object(Bucket=BUCKET, Key=gone)
    stopped()
    found(running, good, "completed")
    code, completed = traced(running, good)  # the one before may have read S3 before the completion was written
    assert code == 0
    assert [attempt["error"] for attempt in completed["attempts"]] == [None]
    assert len(completed["outputs"]) == 2
    components = [hop["component"] for hop in completed["hops"]]
    assert components == ["S3", "EventBridge", "SQS", "Lambda", "S3", "S3", "Lambda", "S3"]

    code, failing = found(running, gone, "failing", "dead")
    if failing["place"] == "failing":  # a busy machine may see only the end
        assert code == 3
        assert "NoSuchKey" in failing["verdict"]
        assert " of 5, " in failing["verdict"]  # again, or to the DLQ: receives of the traces above count
    assert failing["deleted_at"] is not None

    code, dead = found(running, gone, "dead")
    assert code == 1
    assert " receives) in PoisonInput: NoSuchKey" in dead["verdict"]  # those of the traces are no failures
    assert "in dibbs-ecr-PoisonInput-dlq since" in dead["verdict"]
    assert dead["attempts"][-1]["duration_ms"] > 0
    first_line = running.run("trace", f"s3://{BUCKET}/{gone}").out.splitlines()[0]
    assert first_line.startswith(f"{gone}: failed ")


def test_a_function_that_logs_no_keys(running: Project, tmp_path: Path) -> None:
    key = upload(running, tmp_path, "timeout", "FaultyInput/")

    code, dead = found(running, key, "dead")

    assert code == 1
    assert "Task timed out" in dead["verdict"]


def test_an_input_that_no_stage_receives_and_one_that_never_existed(running: Project, tmp_path: Path) -> None:
    key = upload(running, tmp_path, "unmatched.txt", "Elsewhere/")

    code, unmatched = traced(running, key)
    assert (code, unmatched["place"]) == (1, "never-matched")
    assert unmatched["hops"][0]["component"] == "S3"
    code, missing = traced(running, "never.txt", "--prefix", "/RefinerInput/")
    assert (code, missing["place"], missing["key"]) == (1, "never-existed", "RefinerInput/never.txt")
    assert running.run("trace", key, "--version-id", "no-such-version").code == 1
    assert running.run("trace", f"s3://other/{key}").code == 2


def test_logs_of_one_invocation_and_of_all(running: Project, tmp_path: Path) -> None:
    path = tmp_path / "logged.txt"
    path.write_text("logged\n")
    assert running.run("upload", str(path), "--wait").code == 0
    (attempt,) = found(running, "RefinerInput/logged.txt", "completed")[1]["attempts"]

    def of_invocation() -> Finished:
        return running.run("logs", "--request-id", attempt["request_id"], "--output", "json")

    assert eventually(lambda: "REPORT" in of_invocation().out, 60)
    lines = of_invocation().lines()
    messages = [line["record"]["message"] for line in lines if "record" in line]
    assert messages[0] == "record received"
    assert messages[-1] == "record done"
    assert all(attempt["request_id"] in line["message"] for line in lines)

    assert running.run("logs", "--since", "1h", "--until", "2026-01-01").code == 2
    assert "does not support patterns in braces" in running.run("logs", "--since", "1s", "--filter", "{ $.x = 1 }").err
    everything = running.run("logs", "--output", "json").lines()
    assert [line["timestamp"] for line in everything] == sorted(line["timestamp"] for line in everything)
    ids = [line["event_id"] for line in everything if line["event_id"]]  # the emulator's own lines have none
    assert len(set(ids)) == len(ids)
    assert {"RefinerInput"} == {
        line["stage"] for line in running.run("logs", "--stage", "RefinerInput", "--output", "json").lines()
    }


def test_followed_logs_show_every_line_once(running: Project, tmp_path: Path) -> None:
    only = ("--ruleset", "RefinerInput", "--filter", '"record done"')  # so few that they all fit into a pipe
    following = running.start("logs", *only, "--since", "0s", "--follow", "--output", "json", "-q")
    paths = []
    for number in range(20):
        paths.append(tmp_path / f"follow-{number}.txt")
        paths[-1].write_text("x\n")
    assert running.run("upload", *map(str, paths), "--wait").code == 0
    time.sleep(3)  # it reads every two seconds
    following.send_signal(signal.SIGINT)
    out, _ = following.communicate(timeout=20)

    records = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    done = [item["record"]["key"] for item in records if item.get("record", {}).get("message") == "record done"]
    assert sorted(done) == sorted(f"RefinerInput/{path.name}" for path in paths)
    assert following.returncode == 130


def test_status_counts_messages_and_names_completions(running: Project) -> None:
    done = running.run("status", "--output", "json")

    assert done.code == 0, done.err
    stages = {stage["name"]: stage for stage in done.json()["stages"]}
    assert set(stages) == {"RefinerInput", "RefinerComplete", "PoisonInput", "FaultyInput", "DibbsInput"}
    assert stages["FaultyInput"]["dlq"]["depth"] >= 1  # the one above that timed out
    assert stages["RefinerInput"]["queue"]["oldest_age_s"] is None  # the emulator has no such metric
    assert stages["RefinerInput"]["last_completion"]["key"].startswith("RefinerComplete/")
    assert stages["RefinerComplete"]["function"] is None


def test_the_live_status_leaves_the_terminal_as_it_was(running: Project) -> None:
    child = pexpect.spawn(
        "/bin/sh",
        ["-c", f"stty -a; '{COMMAND}' status --watch --interval 0.5s; echo code $?; stty -a"],
        cwd=str(running.folder),
        env={**running.environment(), "TERM": "xterm-256color"},
        dimensions=(24, 150),
        timeout=20,
        encoding="utf-8",
    )
    child.expect("speed.*\n")
    child.expect_exact("\x1b[?1049h")  # the alternate screen
    child.expect("RefinerInput")
    child.setwinsize(24, 60)
    child.expect("STAGE *WAITING")
    child.send("q")
    child.expect_exact("\x1b[?1049l")
    child.expect_exact("code 0")
    child.expect(pexpect.EOF)

    assert " icanon" in child.before
    assert " echo " in child.before


def test_watching_without_a_terminal_prints_log_lines(running: Project) -> None:
    watching = running.start("status", "--watch", "--interval", "0.5s", "-q", "--stage", "RefinerInput")
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(2)]
    watching.send_signal(signal.SIGTERM)
    watching.communicate(timeout=20)

    assert all(" RefinerInput waiting=0 in_flight=0 " in line for line in lines)
    assert watching.returncode == 143


def test_watching_on_a_dumb_terminal_prints_log_lines(running: Project) -> None:
    child = pexpect.spawn(
        str(COMMAND),
        ["status", "--watch", "--interval", "0.5s"],
        cwd=str(running.folder),
        env={**running.environment(), "TERM": "dumb"},
        timeout=20,
        encoding="utf-8",
    )
    for _ in range(2):
        child.expect(" RefinerInput waiting=0 ")
    child.sendintr()
    child.expect(pexpect.EOF)
    assert "\x1b" not in (child.before or "")
