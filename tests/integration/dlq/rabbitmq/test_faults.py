"""A redrive on RabbitMQ that is killed, and a broker that restarts in the middle: no message is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refinerctl.local.rabbitmq import RabbitMQServer
from tests.command import Command
from tests.integration.dlq.rabbitmq.stage import Stage

COUNT, KILLED_AT = 200, 40
LARGE, LARGE_BYTES = 600, 100_000


def numbers(stage: Stage) -> list[int]:
    return sorted(json.loads(body)["n"] for _, body in stage.taken(stage.work))


def journal(stage: Stage) -> str:
    return "".join(path.read_text() for path in (stage.folder / ".refinerctl" / "redrives").glob("*.jsonl"))


def test_killed_redrive_resumes(run: Command, stage: Stage) -> None:
    stage.fill(COUNT)
    process = stage.start("dlq", "redrive", stage.dlq, "--to", stage.work, "--yes")
    try:
        stage.wait(lambda: stage.depth(stage.work) > KILLED_AT or process.poll() is not None)
    finally:
        process.kill()
        process.communicate()

    done = run("dlq", "redrive", "--resume", "--yes", "--output", "json")

    assert done.code == 0, done.err
    found = numbers(stage)
    assert sorted(set(found)) == list(range(COUNT))
    # Twice only what left and was not confirmed, or was confirmed and not written down.
    assert len(found) - COUNT <= done.json()["sent_twice"]
    assert done.json()["moved"] == COUNT
    assert stage.depth(stage.dlq) == 0


def test_sent_and_not_acknowledged_is_only_acknowledged(run: Command, stage: Stage) -> None:
    """The journal of a run that was killed after the confirm and before the ack."""
    stage.fill(3)
    first = run("dlq", "redrive", stage.dlq, "--to", stage.work, "--limit", "2", "--yes", "--output", "json")
    assert first.code == 0, first.err
    path = next((stage.folder / ".refinerctl" / "redrives").glob("*.jsonl"))
    lines = path.read_text().splitlines(keepends=True)
    sent = [line for line in lines if not line.startswith(('{"deleted"', '{"finished"', '{"released"'))]
    path.write_text("".join(sent))
    with stage.channel() as channel:  # what the killed run had not acknowledged is in the DLQ again
        for body in (json.dumps({"n": n, "x": "x" * 600}) for n in range(2)):
            channel.basic_publish("", stage.dlq, body)

    done = run("dlq", "redrive", "--resume", "--yes", "--output", "json")

    assert done.code == 0, done.err
    assert (done.json()["moved"], done.json()["sent_twice"]) == (2, 0)
    assert numbers(stage) == [0, 1]
    assert stage.depth(stage.dlq) == 1


@pytest.mark.nightly
def test_broker_restarts_in_the_middle(run: Command, stage: Stage, rabbitmq: RabbitMQServer) -> None:
    stage.fill(COUNT)
    process = stage.start("dlq", "redrive", stage.dlq, "--to", stage.work, "--yes", "--output", "json")
    try:
        stage.wait(lambda: stage.depth(stage.work) > 50 or process.poll() is not None)
        rabbitmq.kill()
        rabbitmq.start()
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    done = json.loads(out) if out else {}
    if process.returncode:  # the machine may be too slow for its patience
        resumed = run("dlq", "redrive", "--resume", "--yes", "--output", "json")
        assert resumed.code == 0, (err, resumed.err)
        done = resumed.json()

    found = numbers(stage)
    assert sorted(set(found)) == list(range(COUNT)), err
    # A killed broker may lose acknowledgements: these messages are in the DLQ again, and are sent again.
    assert COUNT <= len(found) <= done["moved"] + done["sent_twice"]
    assert stage.depth(stage.dlq) == 0


def test_memory_does_not_grow_with_the_queue(stage: Stage, tmp_path: Path) -> None:
    stage.fill(LARGE, size=LARGE_BYTES)
    launcher = tmp_path / "peak.py"
    launcher.write_text(
        "import re, sys\nfrom refinerctl.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)\n"
    )
    arguments = ["dlq", "redrive", stage.dlq, "--to", stage.work, "--yes", "--output", "json"]
    process = stage.start(*arguments, program=[str(launcher)])
    out, err = process.communicate(timeout=280)

    assert process.returncode == 0, err
    assert json.loads(out)["moved"] == LARGE
    assert int(err.splitlines()[-1]) / 1000 < 110  # the messages have 60 MB
