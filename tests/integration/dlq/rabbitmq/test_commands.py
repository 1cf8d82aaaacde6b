"""`dlq` on the dead-letter queue of a real RabbitMQ."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

from tests.command import Command
from tests.integration.dlq.rabbitmq.stage import Stage


def job(number: int) -> str:
    return json.dumps({"bucket": "data", "key": f"rnr/input/{number}.csv", "version_id": None, "etag": "e", "size": 3})


def test_list_and_inspect(run: Command, stage: Stage) -> None:
    stage.fail([job(0), job(1)])
    stage.account.log_events = [
        {
            "timestamp": int(datetime.now(UTC).timestamp() * 1000),
            "message": json.dumps(
                {
                    "message": "record failed",
                    "taskId": "t",
                    "messageId": "claim-1",
                    "error": {"name": "ValueError", "message": "no flow in row 3"},
                }
            ),
            "logStreamName": "s",
            "eventId": "1",
        }
    ]

    listed = run("dlq", "list", stage.dlq, "--output", "json")
    inspected = run("dlq", "inspect", stage.dlq, "--output", "json")
    shown = run("dlq", "inspect", stage.dlq)

    assert listed.code == 0, listed.err
    (queue,) = listed.json()["queues"]
    assert (queue["name"], queue["kind"], queue["depth"], queue["expires_in_s"]) == (stage.dlq, "processing", 2, None)
    assert queue["sources"] == [{"name": stage.work, "arn": "", "exists": True}]
    assert inspected.code == 0, inspected.err
    first, second = inspected.json()["messages"]
    assert (first["key"], first["sent"], first["receive_count"]) == ("rnr/input/0.csv", "2023-11-14T22:13:20+00:00", 1)
    (death,) = json.loads(first["system"]["x-death"])
    assert (death["queue"], death["reason"], death["count"]) == (stage.work, "rejected", 1)
    assert first["attributes"] == {"traceparent": {"type": "String", "value": "00-1"}}
    assert (first["error"], second["error"]) == (None, "ValueError: no flow in row 3")
    assert inspected.json()["is_complete"]
    assert "received 2 times" in shown.out
    assert stage.depth(stage.dlq) == 2


def test_redrive_keeps_content_and_drops_the_broker_s_headers(run: Command, stage: Stage) -> None:
    headers = {"traceparent": "00-1", "n": 7, "raw": b"\x00\xff", "on": True, "list": [1, {"a": "b"}]}
    stage.fail(
        [job(0), "\N{SNOWMAN}"], headers=headers, content_type="application/json", correlation_id="c", priority=3
    )

    done = run("dlq", "redrive", stage.dlq, "--yes", "--output", "json")

    assert done.code == 0, done.err
    result = done.json()
    assert (result["method"], result["moved"], result["left"], result["sent_twice"]) == ("copy", 2, 0, 0)
    assert result["finished"]
    (first, body), (_, other) = sorted(stage.taken(stage.work), key=lambda item: item[0].message_id)
    assert (body, other) == (job(0), "\N{SNOWMAN}")
    assert first.headers.keys() - {"x-delivery-count"} == headers.keys()
    assert {name: first.headers[name] for name in headers} == headers
    assert (first.content_type, first.correlation_id, first.priority) == ("application/json", "c", 3)
    assert (first.message_id, first.timestamp, first.delivery_mode) == ("claim-0", 1_700_000_000, 2)


def test_equal_messages_are_all_moved(run: Command, stage: Stage) -> None:
    with stage.channel() as channel:
        for _ in range(30):
            channel.basic_publish("", stage.dlq, "same")

    done = run("dlq", "redrive", stage.dlq, "--yes", "--output", "json")

    assert done.code == 0, done.err
    assert done.json()["moved"] == 30
    assert [body for _, body in stage.taken(stage.work)] == ["same"] * 30


def test_filters_limit_and_rate(run: Command, stage: Stage) -> None:
    stage.fail([job(number) for number in range(30)])

    plan = run("dlq", "redrive", stage.dlq, "--key-prefix", "rnr/input/1", "--dry-run", "--output", "json")
    some = run("dlq", "redrive", stage.dlq, "--key-prefix", "rnr/input/1", "--yes", "--output", "json")
    few = run("dlq", "redrive", stage.dlq, "--limit", "5", "--rate", "50/s", "--yes", "--output", "json")

    assert plan.code == 0, plan.err
    assert (plan.json()["messages"], plan.json()["matching"]) == (30, 11)
    assert plan.json()["targets"][0]["name"] == stage.work
    assert (some.code, some.json()["moved"], some.json()["skipped"], some.json()["left"]) == (0, 11, 19, 19), some.err
    assert (few.code, few.json()["moved"]) == (0, 5), few.err
    assert (stage.depth(stage.work), stage.depth(stage.dlq)) == (16, 14)


def test_export_purge_and_redrive_from_the_file(run: Command, stage: Stage, tmp_path: Path) -> None:
    stage.fail([job(number) for number in range(12)])
    file, deleted = tmp_path / "all.jsonl", tmp_path / "deleted.jsonl"

    exported = run("dlq", "export", stage.dlq, str(file))
    purged = run("dlq", "purge", stage.dlq, "--filter", "ends_with(key, '1.csv')", "--export", str(deleted), "--yes")
    again = run("dlq", "redrive", "--from-file", str(deleted), "--yes", "--output", "json")
    rest = run("dlq", "purge", stage.dlq, "--no-export", "--yes", "--output", "json")

    assert exported.code == 0, exported.err
    assert len(file.read_text().splitlines()) == 12
    assert purged.code == 0, purged.err
    assert "2 deleted" in purged.out
    assert again.code == 0, again.err
    assert sorted(body for _, body in stage.taken(stage.work)) == [job(1), job(11)]
    assert rest.code == 0, rest.err
    assert (rest.json()["method"], rest.json()["left"], stage.depth(stage.dlq)) == ("purge", 0, 0)


def test_what_cannot_be_sent_stays(run: Command, stage: Stage) -> None:
    """The target takes a few messages, and then rejects."""
    stage.fill(120)
    with stage.channel() as channel:
        channel.queue_declare(
            f"{stage.name}-small",
            durable=True,
            arguments={"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": 3},
        )

    full = run("dlq", "redrive", stage.dlq, "--to", f"{stage.name}-small", "--yes", "--output", "json")
    missing = run("dlq", "redrive", stage.dlq, "--to", "nowhere", "--yes")

    assert full.code == 1
    assert full.json()["moved"] + full.json()["failed"] == 120
    assert full.json()["failed"] >= 1
    assert "rejects messages" in next(iter(full.json()["reasons"]))
    assert stage.depth(stage.dlq) == full.json()["failed"]
    assert missing.code == 1
    assert "queue nowhere does not exist" in missing.err


def test_messages_that_fail_again_are_reported(run: Command, stage: Stage) -> None:
    stage.fail([job(0)])
    with stage.channel() as channel:
        channel.basic_consume(
            stage.work, lambda channel, method, _properties, _body: channel.basic_reject(method.delivery_tag, False)
        )
        stop = threading.Event()

        def consume() -> None:
            while not stop.is_set():
                channel.connection.process_data_events(0.1)

        consumer = threading.Thread(target=consume)
        consumer.start()
        try:
            done = run("dlq", "redrive", stage.dlq, "--yes", "--wait", "60s", "--output", "json")
        finally:
            stop.set()
            consumer.join()

    assert done.code == 1
    assert (done.json()["moved"], done.json()["came_back"]) == (1, 1), done.err
    assert stage.depth(stage.dlq) == 1


def test_a_broker_that_cannot_be_reached(run: Command, stage: Stage) -> None:
    stage.account.amqp_url = "amqps://b-1.mq.us-east-1.amazonaws.com:5671"
    stage.account.api_url = "https://b-1.mq.us-east-1.amazonaws.com"

    done = run("dlq", "inspect", stage.dlq, "--broker-url", "amqps://localhost:1")
    insecure = run("dlq", "inspect", stage.dlq, "--broker-url", stage.account.broker.endpoint)
    leaking = run("dlq", "inspect", stage.dlq, "--broker-url", "amqps://me:secret@localhost:5671")

    assert done.code == 1
    assert f"broker {stage.name}-broker cannot be reached at localhost:1: Connection refused" in done.err
    assert "host=b-1.mq.us-east-1.amazonaws.com,portNumber=5671" in done.err
    assert insecure.code == 2
    assert "without TLS" in insecure.err
    assert leaking.code == 2
    assert "secret" not in leaking.err.replace("from its secret", "")
