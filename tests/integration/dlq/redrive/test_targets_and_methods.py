"""`dlq redrive` as a command: where messages go, by which method, and what is refused."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from tests.integration.dlq.redrive.stage import Stage, attribute, new_stage, shared_server  # noqa: F401 - fixtures
from tests.sqs.faults import denied, sqs_faults


def undelivered(target_arn: str) -> dict[str, Any]:
    arn = "arn:aws:events:us-east-1:000000000000:rule/bus/rule"
    return {"RULE_ARN": attribute(arn), "TARGET_ARN": attribute(target_arn), "ERROR_CODE": attribute("NO_PERMISSIONS")}


def test_sqs_moves_a_queue_given_by_name_url_or_arn(stage: Stage) -> None:
    for queue in (stage.dead, stage.server.queue_url(stage.dead), stage.server.arn(stage.dead)):
        stage.fill(20)

        report = stage.report(queue)

        assert (report["method"], report["moved"], report["left"]) == ("move-task", 20, 0)
    assert stage.server.depth(stage.target) == 60


@pytest.mark.parametrize("method", ["move-task", "copy"])
def test_a_dry_run_shows_the_plan_and_changes_nothing(stage: Stage, method: str) -> None:
    stage.fill(7)
    before = stage.server.messages(stage.dead)

    text = stage.redrive(stage.dead, "--dry-run", "--method", method)
    document = stage.redrive(stage.dead, "--dry-run", "--method", method, "--output", "json").json()

    assert text.code == 0, text.err
    assert "7 messages" in text.out
    assert f"method    {method}: --method" in text.out
    assert (document["method"], document["messages"], document["kind"]) == (method, 7, "processing")
    assert [target["name"] for target in document["targets"]] == [stage.target]
    assert stage.server.messages(stage.dead) == before


def test_a_dry_run_with_a_filter_counts_matching_messages(stage: Stage) -> None:
    stage.fill(20)

    done = stage.redrive(stage.dead, "--dry-run", "--filter", "body.id < `5`")

    assert done.code == 0, done.err
    assert "matching  5 messages" in done.out
    assert "receive counts of 20 messages increased by 1" in done.err
    assert {message.receive_count for message in stage.server.messages(stage.dead)} == {4}


def test_without_a_terminal_yes_is_required(stage: Stage) -> None:
    stage.fill(3)

    done = stage.redrive(stage.dead)

    assert done.code == 2
    assert "--yes" in done.err
    assert stage.server.depth(stage.dead) == 3


def test_filter_limit_and_another_queue(stage: Stage, unique: str) -> None:
    other = stage.server.create(f"{unique}-other").rpartition("/")[2]
    stage.fill(20)

    report = stage.report(stage.dead, "--filter", "body.id >= `10`", "--limit", "4", "--to", other)

    assert (report["method"], report["moved"], report["left"]) == ("copy", 4, 16)
    assert len(stage.numbers(other)) == 4
    assert set(stage.numbers(other)) <= set(range(10, 20))
    assert stage.server.depth(stage.target) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--limit", "3"], "a move task does not support --limit"),
        (["--filter", "body.id == `1`"], "a move task does not support filters"),
        (["--max-redrives", "2"], "a move task does not support --max-redrives"),
        (["--rate", "600/s"], "at most 500 messages/s"),
    ],
)
def test_options_that_a_move_task_does_not_support(stage: Stage, arguments: list[str], reason: str) -> None:
    stage.fill(1)

    done = stage.redrive(stage.dead, "--method", "move-task", "--yes", *arguments)

    assert done.code == 2
    assert reason in done.err
    assert stage.server.depth(stage.dead) == 1


def test_undelivered_events_go_to_their_target_queue(stage: Stage, unique: str) -> None:
    dead = stage.server.create(f"{unique}-delivery-dlq").rpartition("/")[2]
    own = {**undelivered(stage.server.arn(stage.target)), "own": attribute("kept")}
    stage.server.fill(dead, 5, attributes=own, trace="Root=1-5759e988-bd862e3fe1be46a994272793")
    lost = undelivered("arn:aws:events:us-east-1:000000000000:event-bus/bus")
    stage.server.fill(dead, 2, start=5, attributes=lost)

    report = stage.report(dead, code=1)

    assert (report["method"], report["moved"], report["failed"], report["left"]) == ("copy", 5, 2, 2)
    assert any("event bus bus" in reason for reason in report["reasons"])
    arrived = stage.server.messages(stage.target)
    assert [message.attributes for message in arrived] == [{"own": attribute("kept")}] * 5
    assert {message.trace for message in arrived} == {"Root=1-5759e988-bd862e3fe1be46a994272793"}


def test_a_deleted_target_of_undelivered_events_is_refused(stage: Stage, unique: str) -> None:
    """Nothing but the messages themselves knows where they came from."""
    dead = stage.server.create(f"{unique}-orphans").rpartition("/")[2]
    stage.server.fill(dead, 2, attributes=undelivered(stage.server.arn("nowhere")))

    done = stage.redrive(dead, "--yes")

    assert done.code == 4
    assert "nowhere" in done.err
    assert "--to QUEUE" in done.err
    assert stage.server.depth(dead) == 2


def test_impossible_targets(stage: Stage, unique: str) -> None:
    stage.fill(2)
    _, other_dead = stage.server.create_pair(f"{unique}-b")
    stage.server.create(f"{unique}-c.fifo")

    itself = stage.redrive(stage.dead, "--yes", "--to", stage.dead)
    dead = stage.redrive(stage.dead, "--yes", "--to", other_dead)
    fifo = stage.redrive(stage.dead, "--yes", "--to", f"{unique}-c.fifo")
    missing = stage.redrive(stage.dead, "--yes", "--to", "nowhere")
    nothing = stage.redrive("nowhere", "--yes")

    assert (itself.code, dead.code, fifo.code, missing.code, nothing.code) == (2, 4, 2, 1, 1)
    assert f"the messages are already in {stage.dead}" in itself.err
    assert f"is itself the DLQ of {unique}-b" in dead.err
    assert "have no group" in fifo.err
    assert "nowhere" in missing.err
    assert "nowhere" in nothing.err
    assert stage.server.depth(stage.dead) == 2
    assert stage.report(stage.dead, "--to", other_dead, "--force")["moved"] == 2


def test_a_queue_that_has_a_dlq_is_refused(stage: Stage) -> None:
    stage.server.fill(stage.target, 1)

    done = stage.redrive(stage.target, "--yes", "--to", stage.dead)

    assert done.code == 4
    assert "has a DLQ itself" in done.err


def test_max_redrives_skips_messages(stage: Stage) -> None:
    stage.fill(1)
    once = stage.report(stage.dead, "--max-redrives", "1")
    (message,) = stage.server.messages(stage.target)
    stage.server.clear(stage.target)
    stage.fill(1, attributes=message.attributes)
    again = stage.report(stage.dead, "--max-redrives", "1")
    full = {f"a{number}": attribute("x") for number in range(10)}
    stage.fill(1, start=1, attributes=full)
    refused = stage.report(stage.dead, "--max-redrives", "5", code=1)

    assert once["moved"] == 1
    assert message.attributes["refinerctl.redrives"]["StringValue"] == "1"
    assert (again["moved"], again["skipped"], again["left"]) == (0, 1, 1)
    assert (refused["moved"], refused["failed"]) == (1, 1)
    assert any("10 attributes" in reason for reason in refused["reasons"])


def test_a_message_over_the_targets_size_limit_fails(stage: Stage, unique: str) -> None:
    small = stage.server.create(f"{unique}-small", MaximumMessageSize="1024").rpartition("/")[2]
    stage.fill(3)
    stage.fill(1, start=3, body='{"id": {n}, "large": "' + "x" * 2000 + '"}')

    report = stage.report(stage.dead, "--to", small, "--method", "copy", code=1)

    assert (report["moved"], report["failed"], report["left"]) == (3, 1, 1)
    assert stage.numbers(stage.dead) == [3]


def test_fifo_duplicates_within_five_minutes_stay(stage: Stage, unique: str) -> None:
    target, dead = stage.server.create_pair(f"{unique}-f.fifo", max_receive_count=1)
    sqs, url = stage.sqs(), stage.server.queue_url(f"{unique}-f.fifo")
    sqs.send_message(QueueUrl=url, MessageBody='{"id": 0}', MessageGroupId="g", MessageDeduplicationId="d")
    for _ in range(2):
        sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    stage.server.fill(dead, 1, start=3, source=target, group="h", deduplication="other")

    done = stage.redrive(dead, "--yes", "--output", "json")

    report = done.json()
    assert done.code == 1
    assert (report["method"], report["moved"], report["dropped_duplicates"], report["left"]) == ("copy", 1, 1, 1)
    assert "drops duplicates" in done.err
    assert stage.numbers(target) == [3]


def test_a_running_task_is_followed_and_a_copy_beside_it_refused(stage: Stage) -> None:
    stage.fill(60)
    stage.sqs().start_message_move_task(SourceArn=stage.server.arn(stage.dead), MaxNumberOfMessagesPerSecond=10)

    beside = stage.redrive(stage.dead, "--yes", "--limit", "5")
    report = stage.report(stage.dead)

    assert beside.code == 4
    assert "a move task of SQS is moving messages" in beside.err
    assert (report["method"], report["moved"], report["left"]) == ("move-task", 60, 0)


def test_a_running_task_with_other_options_is_not_followed(stage: Stage, unique: str) -> None:
    stage.fill(60)
    other = stage.server.create(f"{unique}-other").rpartition("/")[2]
    task = stage.sqs().start_message_move_task(SourceArn=stage.server.arn(stage.dead), MaxNumberOfMessagesPerSecond=1)

    elsewhere = stage.redrive(stage.dead, "--yes", "--to", other)
    faster = stage.redrive(stage.dead, "--yes", "--rate", "100/s")
    stage.sqs().cancel_message_move_task(TaskHandle=task["TaskHandle"])

    assert (elsewhere.code, faster.code) == (4, 4)
    assert "is moving the messages of" in elsewhere.err
    assert "to their source queues" in elsewhere.err
    assert "at 1/s" in faster.err


def test_unreadable_errors_are_not_null(stage: Stage) -> None:
    """This server has no Lambda and no logs: of no message is known what killed it."""
    stage.fill(3)

    for more in ([], ["--dry-run"]):
        done = stage.redrive(stage.dead, "--yes", "--filter", "error == null", *more)
        assert done.code == 1
        assert "the filter uses `error`, but errors cannot be read" in done.err

    assert stage.server.depth(stage.target) == 0
    assert not (stage.folder / ".refinerctl").exists()


def test_ctrl_c_cancels_the_task_and_reports_its_count(stage: Stage) -> None:
    stage.fill(500)
    process = stage.start(stage.dead, "--yes", "--rate", "50/s", "--output", "json")
    ends = time.monotonic() + 30
    while stage.server.depth(stage.target) < 20 and time.monotonic() < ends:
        time.sleep(0.02)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130, err
    report = json.loads(out)
    assert 0 < report["moved"] < 500
    assert report["finished"] is False
    time.sleep(0.1)
    assert abs(stage.server.depth(stage.target) - report["moved"]) <= 5
    assert stage.server.depth(stage.target) + stage.server.depth(stage.dead) == 500


def test_an_empty_queue(stage: Stage) -> None:
    done = stage.redrive(stage.dead, "--yes", "--output", "json")

    assert done.code == 0, done.err
    assert (done.json()["moved"], done.json()["left"]) == (0, 0)
    assert "is empty" in done.err


def test_a_deleted_source_queue_is_refused_without_to(stage: Stage, unique: str) -> None:
    policy = {"redrivePermission": "byQueue", "sourceQueueArns": [stage.server.arn("deleted")]}
    dead = stage.server.create(f"{unique}-left-dlq", RedriveAllowPolicy=json.dumps(policy)).rpartition("/")[2]
    stage.server.fill(dead, 2)

    refused = stage.redrive(dead, "--yes")
    elsewhere = stage.report(dead, "--to", stage.target)

    assert refused.code == 4
    assert "has messages of deleted, which does not exist" in refused.err
    assert elsewhere["moved"] == 2


def test_messages_of_a_deleted_source_queue_fail(stage: Stage, unique: str) -> None:
    other = stage.server.create(f"{unique}-other").rpartition("/")[2]
    stage.fill(3)
    stage.fill(2, start=3, source=other)
    stage.sqs().delete_queue(QueueUrl=stage.server.queue_url(other))

    report = stage.report(stage.dead, "--method", "copy", code=1)

    assert (report["moved"], report["failed"], report["left"]) == (3, 2, 2)
    assert list(report["reasons"]) == [f"its target is {other}: queue {other} does not exist"]


def test_sqs_moves_to_another_queue(stage: Stage, unique: str) -> None:
    other = stage.server.create(f"{unique}-other").rpartition("/")[2]
    stage.fill(5)

    report = stage.report(stage.dead, "--to", other)

    assert (report["method"], report["moved"]) == ("move-task", 5)
    assert stage.numbers(other) == list(range(5))


def test_without_access_to_move_tasks_messages_are_copied(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.fill(5)
    with sqs_faults(stage.server.url, denied("ListMessageMoveTasks", times=None)) as proxy:
        monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
        report = stage.report(stage.server.queue_url(stage.dead, proxy.url))

    assert (report["method"], report["moved"]) == ("copy", 5)


def test_a_denied_move_task_suggests_a_copy(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.fill(5)
    with sqs_faults(stage.server.url, denied("StartMessageMoveTask", times=None)) as proxy:
        monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
        done = stage.redrive(stage.server.queue_url(stage.dead, proxy.url), "--yes")

    assert done.code == 1
    assert "Use --method copy" in done.err
    assert stage.server.depth(stage.dead) == 5
