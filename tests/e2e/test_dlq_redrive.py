"""`refinerctl dlq redrive` on a pipeline with failed inputs, some of which have been repaired."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.poison import BUCKET, DELIVERY_DLQ, DLQ, SOURCE, event, url_of
from tests.e2e.project import Project, eventually

pytestmark = pytest.mark.e2e

PREFIX = "PoisonInput/redrive "
ONLY_OURS = ("--key-prefix", PREFIX)


def completion(running: Project, name: str) -> str | None:
    """The version of an input's completion, if there is one."""
    key = f"RefinerComplete/{PREFIX}{name}.completion"
    found = running.client("s3").list_object_versions(Bucket=BUCKET, Prefix=key).get("Versions", [])
    return next((item["VersionId"] for item in found if item["IsLatest"]), None)


def depth(running: Project, queue: str) -> int:
    asked = ["ApproximateNumberOfMessages"]
    answer = running.client("sqs").get_queue_attributes(QueueUrl=url_of(running, queue), AttributeNames=asked)
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@pytest.fixture(scope="module")
def hasty(running: Project) -> Iterator[None]:
    """What fails is dead within seconds."""
    sqs, url = running.client("sqs"), url_of(running, SOURCE)
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
    yield
    sqs.set_queue_attributes(QueueUrl=url, Attributes=before)
    running.run("dlq", "purge", DLQ, *ONLY_OURS, "--yes", "--no-export")


@pytest.fixture(scope="module")
def dead(running: Project, hasty: None) -> list[str]:
    """The names of two inputs whose objects are missing, each until it was dead."""
    names, before = ["repaired.txt", "lost.txt"], depth(running, DLQ)
    for name in names:
        body = event(f"{PREFIX}{name}")
        running.client("sqs").send_message(QueueUrl=url_of(running, SOURCE), MessageBody=body)
    assert eventually(lambda: depth(running, DLQ) == before + len(names), 90)
    return names


def test_a_dry_run_knows_the_consumer(running: Project, dead: list[str]) -> None:
    done = running.run("dlq", "redrive", DLQ, "--dry-run", "--output", "json")

    assert done.code == 0, done.err
    plan = done.json()
    assert (plan["kind"], plan["method"]) == ("processing", "copy")
    assert "does not support move tasks" in plan["reason"]
    assert [(target["name"], target["consumers"], target["broken"]) for target in plan["targets"]] == [
        (SOURCE, [SOURCE], [])
    ]


def test_a_disabled_consumer_is_refused(running: Project, dead: list[str]) -> None:
    functions = running.client("lambda")
    (mapping,) = functions.list_event_source_mappings(FunctionName=SOURCE)["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        refused = running.run("dlq", "redrive", DLQ, *ONLY_OURS, "--yes")
    finally:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    assert refused.code == 4
    assert f"the event source mapping from {SOURCE} to {SOURCE} is Disabl" in refused.err
    assert refused.out == ""


def test_a_repaired_input_is_completed_and_another_one_fails_again(running: Project, dead: list[str]) -> None:
    running.client("s3").put_object(Bucket=BUCKET, Key=f"{PREFIX}repaired.txt", Body=b"here now\n")
    # The object's own event completes it, too: only a second completion comes from the redrive.
    before = eventually(lambda: completion(running, "repaired.txt"))
    assert before

    done = running.run("dlq", "redrive", DLQ, *ONLY_OURS, "--yes", "--wait", "90s", "--output", "json")

    assert done.code == 1, done.err
    report = done.json()
    assert (report["method"], report["moved"], report["failed"], report["sent_twice"]) == ("copy", 2, 0, 0)
    assert (report["came_back"], report["same_error"]) == (1, 1), done.err
    assert "1 of 2 failed again the same way: NoSuchKey" in done.err
    assert completion(running, "repaired.txt") not in (None, before)
    assert completion(running, "lost.txt") is None
    left = running.run("dlq", "redrive", DLQ, *ONLY_OURS, "--dry-run", "--output", "json").json()
    assert left["matching"] == 1


def test_an_undelivered_event_is_delivered(running: Project, hasty: None) -> None:
    key = f"{PREFIX}undelivered.txt"
    running.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"x\n")
    before = eventually(lambda: completion(running, "undelivered.txt"))
    sqs = running.client("sqs")
    target = sqs.get_queue_attributes(QueueUrl=url_of(running, SOURCE), AttributeNames=["QueueArn"])["Attributes"]
    said = {
        "RULE_ARN": f"arn:aws:events:us-east-1:000000000000:rule/data-repository-bus/{SOURCE}",
        "TARGET_ARN": target["QueueArn"],
        "ERROR_CODE": "NO_PERMISSIONS",
    }
    sqs.send_message(
        QueueUrl=url_of(running, DELIVERY_DLQ),
        MessageBody=event(key),
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in said.items()},
    )

    done = running.run("dlq", "redrive", DELIVERY_DLQ, "--yes", "--wait", "30s", "--output", "json")

    assert done.code == 0, done.err
    assert (done.json()["moved"], done.json()["left"], done.json()["came_back"]) == (1, 0, 0)
    assert eventually(lambda: completion(running, "undelivered.txt") not in (None, before))
