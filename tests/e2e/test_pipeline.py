"""Inputs through the local environment, end to end, driven by the installed command."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import COMMAND, CONFIG_BUCKET, Project, eventually
from tests.needs import nightly

pytestmark = pytest.mark.e2e

BUCKET = "data-repository"


def write_inputs(folder: Path, names: list[str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {path.name}\n")
    return paths


def outputs_of(running: Project, upload: dict[str, Any]) -> list[bytes]:
    s3 = running.client("s3")
    return [s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in upload["outputs"]]


def keys_below(running: Project, prefix: str) -> set[str]:
    pages = running.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return {item["Key"] for page in pages for item in page.get("Contents", [])}


def test_two_hundred_inputs_at_once(running: Project, tmp_path: Path) -> None:
    write_inputs(tmp_path / "many", [f"{number:03}/input-{number:03}.txt" for number in range(200)])

    before = keys_below(running, "RefinerOutput/")

    done = running.run("upload", str(tmp_path / "many"), "--recursive", "--wait", "--output", "json")

    assert done.code == 0, done.err
    uploads = done.json()["uploads"]
    assert [item["status"] for item in uploads] == ["completed"] * 200
    assert {item["key"] for item in uploads} == {f"RefinerInput/{n:03}/input-{n:03}.txt" for n in range(200)}
    outputs = [key for item in uploads for key in item["outputs"]]
    assert len(outputs) == len(set(outputs)) == 400
    assert keys_below(running, "RefinerOutput/") - before == set(outputs)
    for item in uploads[::50]:
        name = item["key"].rsplit("/", 1)[1]
        assert outputs_of(running, item) == [f"content of {name}\n".encode()] * 2


def test_a_poison_input_among_good_ones_ends_in_the_dlq(running: Project, tmp_path: Path) -> None:
    # The completion's key would be longer than S3 allows: this input can never be completed.
    poison = "/".join(["x" * 200] * 5)[: 1024 - len("PoisonInput/")]
    write_inputs(tmp_path / "mixed", [*(f"good-{number}.txt" for number in range(9)), poison])

    done = running.run(
        "upload", str(tmp_path / "mixed"), "-r", "--prefix", "PoisonInput/", "--wait", "--output", "json"
    )

    assert done.code == 1, done.err
    by_key = {item["key"]: item for item in done.json()["uploads"]}
    dead = by_key.pop(f"PoisonInput/{poison}")
    assert dead["status"] == "failed"
    assert "dibbs-ecr-PoisonInput-dlq" in dead["error"]
    assert [item["status"] for item in by_key.values()] == ["completed"] * 9
    assert receives_logged(running, dead["key"]) == 5


def receives_logged(running: Project, key: str) -> int:
    """How often the function was given this input, from the log group."""
    pages = running.client("logs").get_paginator("filter_log_events")
    count = 0
    for page in pages.paginate(logGroupName="/aws/lambda/dibbs-ecr-PoisonInput"):
        for event in page["events"]:
            record = json.loads(event["message"]) if event["message"].startswith("{") else {}
            count += record.get("message") == "record received" and record.get("key") == key
    return count


def test_an_input_that_is_replayed_writes_the_same_two_keys(running: Project, tmp_path: Path) -> None:
    """A replay's message is one that the image processes like S3's own."""
    (path,) = write_inputs(tmp_path, ["twice +%.txt"])
    done = running.run("upload", str(path), "--wait", "--output", "json")
    (first,) = done.json()["uploads"]
    before = keys_below(running, "RefinerOutput/")
    s3 = running.client("s3")
    completion = s3.head_object(Bucket=BUCKET, Key=first["completion_key"])["VersionId"]

    replayed = running.run("replay", first["key"], "--yes", "--output", "json")

    assert replayed.code == 0, replayed.err
    assert [(line["status"], line["version_id"]) for line in replayed.lines()] == [("sent", first["version_id"])]

    def written_again() -> bool:
        return bool(s3.head_object(Bucket=BUCKET, Key=first["completion_key"])["VersionId"] != completion)

    assert eventually(written_again)
    assert keys_below(running, "RefinerOutput/") == before
    again = s3.get_object(Bucket=BUCKET, Key=first["completion_key"])
    assert json.loads(again["Body"].read()) == [f"/{key}" for key in first["outputs"]]
    recorded = {again["Metadata"][name] for name in ("source-version", "source-event-version")}
    assert recorded == {first["version_id"]}
    listed = running.run("inputs", first["key"], "--output", "json").lines()
    assert [(line["status"], line["completion_key"]) for line in listed] == [("completed", first["completion_key"])]


def test_odd_keys(running: Project, tmp_path: Path) -> None:
    names = ["with space.txt", "a+b.txt", "100%.txt", "%2F.txt", "größe-日本-🚀.txt", "q?x=1&y#z.txt", "a'b\"c.txt"]
    paths = write_inputs(tmp_path, names)

    done = running.run("upload", *map(str, paths), "--wait", "--output", "json")

    assert done.code == 0, done.err
    uploads = {upload["key"]: upload for upload in done.json()["uploads"]}
    assert set(uploads) == {f"RefinerInput/{name}" for name in names}
    expected = [argument for name in names for argument in ("--expect", f"/RefinerInput/{name}")]
    polled = running.run("poll", *expected, "--content", "--output", "json")
    assert polled.code == 0, polled.err
    contents = {line["key"]: [output["content"] for output in line["outputs"]] for line in polled.lines()}
    for name, path in zip(names, paths, strict=True):
        upload = uploads[f"RefinerInput/{name}"]
        assert upload["completion_key"] == f"RefinerComplete/{name}.json"
        assert outputs_of(running, upload) == [path.read_bytes()] * 2
        assert contents[upload["completion_key"]] == [path.read_text()] * 2


@pytest.mark.nightly
def test_two_hundred_megabytes(running: Project, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    block = bytes(range(256)) * 4096
    path.write_bytes(block * 200)

    done = running.run("upload", str(path), "--wait", "--output", "json")

    assert done.code == 0, done.err
    (upload,) = done.json()["uploads"]
    downloads = tmp_path / "downloads"
    polled = running.run("poll", "--expect", upload["completion_key"], "--download", str(downloads), "--output", "json")
    assert polled.code == 0, polled.err
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    for output in polled.lines()[0]["outputs"]:
        assert output["size"] == 200 * len(block)
        saved = Path(output["path"])
        assert saved.is_relative_to(downloads)
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == wanted


@pytest.mark.parametrize("way", ["throw", nightly("exit"), "timeout", nightly("memory")])
def test_a_failing_function_leaves_its_message_in_the_dlq(running: Project, tmp_path: Path, way: str) -> None:
    (path,) = write_inputs(tmp_path, [way])

    done = running.run(
        "upload", str(path), "--prefix", "FaultyInput/", "--wait", "--timeout", "60s", "--output", "json"
    )

    assert done.code == 1, done.err
    (upload,) = done.json()["uploads"]
    assert upload["status"] == "failed"
    assert "dibbs-ecr-FaultyInput-dlq" in upload["error"]
    reason = {
        "throw": "thrown on purpose",
        "exit": "exit status 3",
        "timeout": "Task timed out after 2.00 seconds",
        "memory": "of 192 MB",
    }[way]
    logs = running.run("local", "logs").out
    assert f"about to: {way}" in logs
    assert reason in logs
    events = running.client("logs").filter_log_events(logGroupName="/aws/lambda/dibbs-ecr-FaultyInput")["events"]
    assert any(f"about to: {way}" in event["message"] for event in events)


def test_standard_input(running: Project) -> None:
    done = running.run("upload", "-", "--name", "piped.txt", "--wait", "--output", "json", input=b"from a pipe\n")

    assert done.code == 0, done.err
    assert outputs_of(running, done.json()["uploads"][0]) == [b"from a pipe\n"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, nightly(signal.SIGTERM)])
def test_an_interrupted_pipe_leaves_no_object(running: Project, number: signal.Signals) -> None:
    name = f"half-{number.name}.sql"
    process = subprocess.Popen(
        [COMMAND, "upload", "-", "--name", name],
        cwd=running.folder,
        env=running.environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"half of it")
    process.stdin.flush()
    process.stderr.readline()  # "uploading …"
    time.sleep(1)

    process.send_signal(number)
    _, err = process.communicate(timeout=20)  # closes standard input, as the death of its other end would

    assert process.returncode == 128 + number, err
    assert f"RefinerInput/{name}" not in keys_below(running, "RefinerInput/")


def test_an_earlier_completion_is_ignored(running: Project, tmp_path: Path) -> None:
    (path,) = write_inputs(tmp_path, ["again.txt"])
    first = running.run("upload", str(path), "--wait", "--output", "json").json()["uploads"][0]
    path.write_text("changed\n")

    second = running.run("upload", str(path), "--wait", "--output", "json").json()["uploads"][0]

    assert set(first["outputs"]).isdisjoint(second["outputs"])
    assert outputs_of(running, second) == [b"changed\n"] * 2


def test_inputs_of_one_name_in_two_rulesets_have_completions_of_their_own(running: Project, tmp_path: Path) -> None:
    inputs = {"RefinerInput/": "same.txt", "PoisonInput/": "same.txt", "RefinerInput/PoisonInput/": "same.txt"}
    completions = {}
    for prefix, name in inputs.items():
        path = tmp_path / name
        path.write_text(f"below {prefix}\n")
        done = running.run("upload", str(path), "--prefix", prefix, "--wait", "--output", "json")
        assert done.code == 0, done.err
        completions[prefix] = done.json()["uploads"][0]["completion_key"]
    assert completions == {
        "RefinerInput/": "RefinerComplete/same.txt.json",
        "PoisonInput/": "RefinerComplete/PoisonInput/same.txt.completion",
        "RefinerInput/PoisonInput/": "RefinerComplete/PoisonInput/same.txt.json",
    }
    for prefix, name in inputs.items():
        polled = running.run("poll", "--expect", f"{prefix}{name}", "--content", "--output", "json")
        assert polled.code == 0, polled.err
        assert [output["content"] for output in polled.lines()[0]["outputs"]] == [f"below {prefix}\n"] * 2
    head = running.client("s3").head_object(Bucket=BUCKET, Key=completions["PoisonInput/"])
    assert head["Metadata"]["source-bucket-key"] == f"{BUCKET}/PoisonInput/same.txt"


def test_an_image_with_the_contract_of_the_production_refiner(running: Project, tmp_path: Path) -> None:
    """It uses its prefixes as they are, and reads a second object for each input and another bucket."""
    s3 = running.client("s3")
    active = {"CA": ["Zika", "COVID19"], "NY": ["Zika"]}
    s3.put_object(Bucket=CONFIG_BUCKET, Key="configurations/active.json", Body=json.dumps(active).encode())
    s3.put_object(Bucket=BUCKET, Key="EicrInput/2026/case 1", Body=b"an eICR\n")
    (path,) = write_inputs(tmp_path, ["2026/case 1"])
    command = ("upload", str(path), "--prefix", "DibbsInput/", "--wait", "--output", "json", "--name")

    done = running.run(*command, "2026/case 1")

    assert done.code == 0, done.err
    (upload,) = done.json()["uploads"]
    assert upload["completion_key"] == "RefinerComplete/DibbsInput/2026/case 1"
    polled = running.run("poll", "--expect", "DibbsInput/2026/case 1", "--content", "--output", "json")
    assert polled.code == 0, polled.err
    contents = {output["key"]: output["content"] for output in polled.lines()[0]["outputs"]}
    assert contents == {
        f"RefinerOutput/2026/case 1/{jurisdiction}/{condition}/refined_{name}.xml": f"{condition}: {content}\n"
        for jurisdiction, conditions in active.items()
        for condition in conditions
        for name, content in (("eICR", "an eICR"), ("RR", "content of case 1"))
    }
    done = running.run(*command, "case without eICR")
    assert done.code == 1, done.err
    (upload,) = done.json()["uploads"]
    assert (upload["status"], upload["completion_key"]) == ("failed", "RefinerComplete/DibbsInput/case without eICR")
    assert "NoSuchKey" in upload["error"]


def test_a_completion_that_times_out_exits_with_3(running: Project, tmp_path: Path) -> None:
    (path,) = write_inputs(tmp_path, ["nobody-listens.txt"])

    done = running.run("upload", str(path), "--prefix", "Elsewhere/", "--wait", "--timeout", "3s", "--output", "json")

    assert done.code == 3, done.err
    assert done.json()["uploads"][0]["status"] == "pending"
    polled = running.run("poll", "--expect", "RefinerInput/never.txt", "--timeout", "1s")
    assert polled.code == 3
    assert "RefinerInput/never.txt" in polled.err


def test_poll_reads_both_forms_and_reports_failures(running: Project) -> None:
    s3 = running.client("s3")
    documents = {
        "form-object": b'{"RefinerSkip": false, "RefinerMetadata": {}, "RefinerOutputFiles": ["RefinerOutput/f.txt"]}',
        "form-error": b'{"RefinerSkip": true, "Error": "no such condition"}',
        "form-half": b'["/RefinerOutput/fo',
        "form-missing": b'["/RefinerOutput/is-not-there.txt"]',
    }
    s3.put_object(Bucket=BUCKET, Key="RefinerOutput/f.txt", Body=b"the output\n")
    for name, body in documents.items():
        s3.put_object(Bucket=BUCKET, Key=f"RefinerComplete/{name}", Body=body)

    expected = [argument for name in documents for argument in ("--expect", f"RefinerComplete/{name}")]
    done = running.run("poll", *expected, "--content", "--output", "json")

    assert done.code == 1
    seen = {line["key"].rpartition("/")[2]: line for line in done.lines()}
    assert seen["form-object"]["status"] == "completed"
    assert seen["form-object"]["outputs"][0]["content"] == "the output\n"
    assert (seen["form-error"]["status"], seen["form-error"]["error"]) == ("failed", "no such condition")
    assert seen["form-half"]["status"] == "malformed"
    assert seen["form-missing"]["status"] == "failed"
    assert "RefinerOutput/is-not-there.txt" in seen["form-missing"]["error"]
    for name in documents:
        s3.delete_object(Bucket=BUCKET, Key=f"RefinerComplete/{name}")


def test_poll_follows_new_completions_and_receives_no_messages(running: Project, tmp_path: Path) -> None:
    sqs = running.client("sqs")
    queue = sqs.get_queue_url(QueueName="dibbs-ecr-RefinerComplete")["QueueUrl"]

    def depth() -> int:
        answer = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    before = depth()
    following = running.start("poll", "--count", "2", "--interval", "0.5s", "--timeout", "60s", "--output", "json")
    paths = write_inputs(tmp_path, ["followed-1.txt", "followed-2.txt"])
    # Only what comes after the first look is new: give it the time for that look.
    eventually(lambda: following.poll() is not None, 4)
    assert running.run("upload", *map(str, paths), "--wait").code == 0
    out, _ = following.communicate(timeout=70)

    assert following.returncode == 0, out
    assert "waiting for completions in" in out
    assert {json.loads(line)["key"] for line in out.splitlines() if line.startswith("{")} == {
        "RefinerComplete/followed-1.txt.json",
        "RefinerComplete/followed-2.txt.json",
    }
    assert eventually(lambda: depth() == before + 2), depth()
    (message, *_) = sqs.receive_message(
        QueueUrl=queue, VisibilityTimeout=0, MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"  # nobody else has received it


def test_a_bucket_that_does_not_exist(running: Project, tmp_path: Path) -> None:
    (path,) = write_inputs(tmp_path, ["x.txt"])

    for arguments in (("upload", str(path)), ("poll",)):
        done = running.run(*arguments, "--bucket", "no-such-bucket")
        assert done.code == 1
        assert "bucket 'no-such-bucket' does not exist" in done.err
        assert done.out == ""
