"""`refinerctl dlq` on a pipeline in which inputs failed."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator

import pexpect
import pytest

from tests.e2e.poison import DELIVERY_DLQ, DLQ, SOURCE, event, url_of
from tests.e2e.project import COMMAND, Project, eventually

pytestmark = pytest.mark.e2e

PREFIX = "PoisonInput/dlq "
ONLY_OURS = ("--key-prefix", PREFIX)


@pytest.fixture(scope="module")
def dead(running: Project) -> Iterator[list[str]]:
    """The ids of two messages about objects that do not exist, once they are in the DLQ."""
    sqs, url = running.client("sqs"), url_of(running, SOURCE)
    ids = [
        sqs.send_message(QueueUrl=url, MessageBody=event(f"{PREFIX}{name}.txt"))["MessageId"] for name in ("a", "b+ü")
    ]

    def all_dead() -> bool:
        seen = running.run("dlq", "inspect", DLQ, *ONLY_OURS, "--jsonl").lines()
        return {item["id"] for item in seen} == set(ids)

    # Messages of other files may be in the DLQ already, so its depth says nothing about these two.
    assert eventually(all_dead, 120)
    yield ids
    running.run("dlq", "purge", DLQ, *ONLY_OURS, "--yes", "--no-export")


def test_list_has_all_dlqs_of_the_stack(running: Project, dead: list[str]) -> None:
    done = running.run("dlq", "list", "--output", "json")

    assert done.code == 0, done.err
    queues = {queue["name"]: queue for queue in done.json()["queues"]}
    assert len(queues) == 11  # two for each of five rulesets, and that of the forwarding rule
    found = queues[DLQ]
    assert (found["kind"], [source["name"] for source in found["sources"]]) == ("processing", [SOURCE])
    assert found["depth"] >= 2
    assert found["oldest_age_s"] is None  # the emulator has no such metric
    delivery = queues[DELIVERY_DLQ]
    assert (delivery["kind"], [source["name"] for source in delivery["sources"]]) == ("delivery", [SOURCE])
    assert queues["dibbs-ecr-forward-delivery-dlq"]["kind"] == "delivery"


def test_inspect_has_errors_and_objects(running: Project, dead: list[str]) -> None:
    done = running.run("dlq", "inspect", DLQ, *ONLY_OURS, "--output", "json")

    assert done.code == 0, done.err
    messages = {item["id"]: item for item in done.json()["messages"]}
    assert set(messages) == set(dead)
    for item in messages.values():
        assert item["error"].startswith("NoSuchKey: ")
        assert item["request_id"]
        assert item["object"] == "gone"
        assert item["receive_count"] > 5
    groups = running.run("dlq", "inspect", DLQ, *ONLY_OURS, "--group").out.splitlines()
    assert len(groups) == 1
    assert groups[0].split()[0] == "2"
    assert "NoSuchKey" in groups[0]
    filtered = running.run("dlq", "inspect", DLQ, "--filter", f"error && key == '{PREFIX}b+ü.txt'", "--jsonl").lines()
    assert [item["id"] for item in filtered] == dead[1:]


def test_undelivered_event(running: Project) -> None:
    """The emulator delivers all events: the test sends a message as EventBridge writes it."""
    rule = f"arn:aws:events:us-east-1:000000000000:rule/data-repository-bus/{SOURCE}"
    attributes = {"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "not allowed", "RULE_ARN": rule}
    given = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    url = url_of(running, DELIVERY_DLQ)
    running.client("sqs").send_message(QueueUrl=url, MessageBody=event(f"{PREFIX}lost.txt"), MessageAttributes=given)

    (item,) = running.run("dlq", "inspect", url, *ONLY_OURS, "--jsonl").lines()

    assert item["error"] == "NO_PERMISSIONS: not allowed"
    done = running.run("dlq", "purge", DELIVERY_DLQ, "--yes", "--no-export", "--filter", f"id == '{item['id']}'")
    assert (done.code, done.out.split(": ")[1].split(",")[0]) == (0, "1 deleted")


def test_export_and_purge(running: Project, dead: list[str]) -> None:
    file = running.folder / ".refinerctl" / "dead.jsonl"
    done = running.run("dlq", "export", DLQ, str(file), *ONLY_OURS)
    assert done.code == 0, done.err
    assert {json.loads(line)["id"] for line in file.read_text().splitlines()} == set(dead)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    which = ("--filter", f"id == '{dead[0]}'")
    assert "1 of" in running.run("dlq", "purge", DLQ, *which, "--dry-run").out

    def typed(name: str) -> tuple[str, int]:
        child = pexpect.spawn(
            str(COMMAND),
            ["dlq", "purge", DLQ, *which],
            cwd=str(running.folder),
            env={name: value for name, value in running.environment().items() if name != "CI"},
            timeout=30,
            encoding="utf-8",
        )
        child.expect(r"Delete 1 of \d+ messages? in .* Type the name of the queue")
        child.sendline(name)
        child.expect(pexpect.EOF)
        child.close()
        return child.before, child.exitstatus

    said, code = typed("something")
    assert code == 4
    assert "is not the name of the queue" in said
    said, code = typed(DLQ)
    assert code == 0, said
    assert "1 deleted, saved to " in said
    (kept,) = (running.folder / ".refinerctl" / "dlq").glob(f"purged-{DLQ}-*.jsonl")
    assert json.loads(kept.read_text())["id"] == dead[0]
    left = running.run("dlq", "inspect", DLQ, *ONLY_OURS, "--jsonl").lines()
    assert [item["id"] for item in left] == dead[1:]
