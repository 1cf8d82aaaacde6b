"""`dlq redrive --wait`: messages that fail again."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.integration.dlq.redrive.stage import Stage, new_stage, shared_server  # noqa: F401 - fixtures


class Poison(threading.Thread):
    """A consumer that fails with each message that `kills` names, at once, and is done with any other."""

    def __init__(self, stage: Stage, kills: set[int]) -> None:
        super().__init__(daemon=True)
        self._stage, self._kills = stage, kills
        self._ended = threading.Event()

    def run(self) -> None:
        sqs, url = self._stage.sqs(), self._stage.server.queue_url(self._stage.target)
        while not self._ended.is_set():
            found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            for message in found:
                handle = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
                if json.loads(message["Body"])["id"] in self._kills:
                    sqs.change_message_visibility(**handle, VisibilityTimeout=0)
                else:
                    sqs.delete_message(**handle)
            time.sleep(0.05)

    def __enter__(self) -> Poison:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def test_wait_reports_messages_that_fail_again(stage: Stage) -> None:
    stage.fill(20)

    with Poison(stage, {3, 7}):
        done = stage.redrive(stage.dead, "--yes", "--wait", "30s", "--output", "json")

    assert done.code == 1, done.err
    report = done.json()
    assert (report["method"], report["moved"], report["came_back"]) == ("copy", 20, 2)
    assert "2 of 20 returned to a DLQ" in done.err
    assert stage.numbers(stage.dead) == [3, 7]
    assert {message.state for message in stage.server.messages(stage.dead)} == {"visible"}


def test_wait_ends_when_all_is_processed(stage: Stage) -> None:
    stage.fill(10)

    with Poison(stage, set()):
        done = stage.redrive(stage.dead, "--yes", "--output", "json", "--wait")

    assert done.code == 0, done.err
    assert (done.json()["moved"], done.json()["came_back"]) == (10, 0)


def test_wait_that_is_too_short_exits_with_3(stage: Stage) -> None:
    stage.fill(2)

    done = stage.redrive(stage.dead, "--yes", "--wait", "1s", "--output", "json")

    assert done.code == 3, done.err
    assert done.json()["came_back"] == 0


@pytest.mark.parametrize("order", ["before", "duration", "after"])
def test_a_word_after_wait_that_is_no_duration_is_the_queue(stage: Stage, order: str) -> None:
    stage.fill(3)
    words = {
        "before": ["--wait", stage.dead],
        "duration": ["--wait", "5s", stage.dead],
        "after": [stage.dead, "--wait"],
    }

    with Poison(stage, set()):
        done = stage.redrive("--yes", "--output", "json", *words[order])

    assert done.code == 0, done.err
    assert (done.json()["moved"], done.json()["came_back"]) == (3, 0)


def test_wait_is_not_possible_with_a_move_task(stage: Stage) -> None:
    stage.fill(3)

    done = stage.redrive(stage.dead, "--yes", "--method", "move-task", "--wait", "5s")

    assert done.code == 2
    assert "new message ids" in done.err
    assert stage.server.depth(stage.dead) == 3
