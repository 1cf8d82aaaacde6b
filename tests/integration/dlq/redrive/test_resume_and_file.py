"""`dlq redrive` killed, stopped and resumed, from a queue and from a file."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import pytest

from tests.integration.dlq.redrive.stage import Stage, advised, new_stage, shared_server  # noqa: F401 - fixtures
from tests.sqs.faults import SqsFaults, denied, sqs_faults


def interrupted(stage: Stage, *arguments: str) -> None:
    """Kill a copy when it has sent some."""
    stage.server.latency(0.02)
    try:
        process = stage.start(*arguments, "--yes", "--rate", "100/s", "--force")
        ends = time.monotonic() + 30
        while stage.server.depth(stage.target) < 20 and time.monotonic() < ends:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    finally:
        stage.server.latency(0)


def test_an_unfinished_run_has_to_be_resumed(stage: Stage) -> None:
    stage.fill(80)
    interrupted(stage, stage.dead, "--method", "copy")
    stage.server.advance(130)

    anew = stage.redrive(stage.dead, "--yes")
    dry = stage.redrive(stage.dead, "--dry-run")
    other_options = stage.redrive(stage.dead, "--resume", "--limit", "5", "--yes")
    _, *resume = shlex.split(advised(anew.err))
    resumed = stage.command(*resume, "--yes", "--output", "json", cwd=stage.folder).json()
    again = stage.redrive(stage.dead, "--resume", "--yes")

    assert (anew.code, dry.code) == (4, 4)
    assert other_options.code == 2
    assert (resumed["moved"], resumed["left"]) == (80, 0)
    assert again.code == 1
    assert "no unfinished run" in again.err
    assert set(stage.numbers(stage.target)) == set(range(80))
    assert stage.server.depth(stage.target) - 80 <= resumed["sent_twice"]


def test_force_begins_a_new_run_beside_an_unfinished_one(stage: Stage) -> None:
    stage.fill(80)
    interrupted(stage, stage.dead, "--method", "copy")
    stage.server.advance(130)

    done = stage.redrive(stage.dead, "--yes", "--force", "--method", "copy")

    assert done.code == 0, done.err
    assert "may be sent again" in done.err
    assert set(stage.numbers(stage.target)) == set(range(80))


def export(stage: Stage, path: Path) -> list[bytes]:
    done = stage.command("dlq", "export", stage.dead, str(path), cwd=stage.folder)
    assert done.code == 0, done.err
    return path.read_bytes().splitlines(keepends=True)


def test_an_exported_file_is_sent(stage: Stage, tmp_path: Path) -> None:
    binary = {"raw": {"DataType": "Binary", "BinaryValue": "AP8="}}
    stage.fill(30, attributes=binary)
    lines = export(stage, tmp_path / "messages.jsonl")
    stage.server.clear(stage.dead)

    report = stage.report("--from-file", "messages.jsonl")

    assert len(lines) == 30
    assert (report["method"], report["moved"], report["left"]) == ("copy", 30, 0)
    assert stage.numbers(stage.target) == list(range(30))
    assert all(message.attributes == binary for message in stage.server.messages(stage.target))


def test_a_file_is_sent_again_only_with_force(stage: Stage, tmp_path: Path) -> None:
    stage.fill(4)
    export(stage, tmp_path / "messages.jsonl")
    stage.server.clear(stage.dead)
    stage.report("--from-file", "messages.jsonl")

    again = stage.redrive("--from-file", "messages.jsonl", "--yes")
    planned = stage.redrive("--from-file", "messages.jsonl", "--dry-run")
    forced = stage.redrive("--from-file", "messages.jsonl", "--yes", "--force")

    assert (again.code, planned.code, forced.code) == (4, 4, 0)
    assert "has sent from this file before" in again.err
    assert stage.numbers(stage.target) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_file_can_be_sent_to_the_dlq_with_force(stage: Stage, tmp_path: Path) -> None:
    stage.fill(3)
    export(stage, tmp_path / "messages.jsonl")
    stage.server.clear(stage.dead)

    refused = stage.redrive("--from-file", "messages.jsonl", "--to", stage.dead, "--yes")
    report = stage.report("--from-file", "messages.jsonl", "--to", stage.dead, "--force")

    assert (refused.code, "is itself the DLQ of" in refused.err) == (4, True)
    assert report["moved"] == 3
    assert stage.numbers(stage.dead) == [0, 1, 2]


def test_the_plan_of_a_file_receives_no_message(stage: Stage, tmp_path: Path) -> None:
    stage.fill(10)
    export(stage, tmp_path / "messages.jsonl")
    stage.fill(5, start=10)
    before = [message.receive_count for message in stage.server.messages(stage.dead)]

    plan = stage.redrive("--from-file", "messages.jsonl", "--filter", "body.id < `4`", "--dry-run", "--output", "json")

    assert plan.code == 0, plan.err
    assert (plan.json()["messages"], plan.json()["matching"]) == (10, 4)
    assert "receive counts" not in plan.err
    assert [message.receive_count for message in stage.server.messages(stage.dead)] == before


@pytest.mark.parametrize("way", ["half a line", "not JSON", "twice", "no end"])
def test_a_broken_file_is_refused_before_anything_is_sent(stage: Stage, tmp_path: Path, way: str) -> None:
    stage.fill(3)
    lines = export(stage, tmp_path / "messages.jsonl")
    broken = {
        "half a line": [*lines[:2], lines[2][:40] + b"\n"],
        "not JSON": [lines[0], b"nonsense\n", lines[1]],
        "twice": [*lines, lines[0]],
        "no end": [*lines[:2], lines[2].rstrip(b"\n")],
    }
    (tmp_path / "broken.jsonl").write_bytes(b"".join(broken[way]))

    done = stage.redrive("--from-file", "broken.jsonl", "--yes")

    assert done.code == 2
    place = {"half a line": "line 3", "not JSON": "line 2", "twice": "twice", "no end": "line 3"}
    assert place[way] in done.err
    assert stage.server.depth(stage.target) == 0


def test_a_killed_run_from_a_file_is_resumed(stage: Stage, tmp_path: Path) -> None:
    stage.fill(80)
    export(stage, tmp_path / "messages.jsonl")
    stage.server.clear(stage.dead)
    interrupted(stage, "--from-file", "messages.jsonl")

    anew = stage.redrive("--from-file", "messages.jsonl", "--yes")
    resumed = stage.report("--resume")

    assert anew.code == 4
    assert (resumed["moved"], resumed["left"]) == (80, 0)
    assert set(stage.numbers(stage.target)) == set(range(80))
    assert stage.server.depth(stage.target) - 80 <= resumed["sent_twice"]


def test_a_file_that_changed_is_not_resumed(stage: Stage, tmp_path: Path) -> None:
    stage.fill(80)
    lines = export(stage, tmp_path / "messages.jsonl")
    interrupted(stage, "--from-file", "messages.jsonl")
    (tmp_path / "messages.jsonl").write_bytes(b"".join(reversed(lines)))

    done = stage.redrive("--resume", "--yes")

    assert done.code == 4
    assert "has changed since the run began" in done.err


@pytest.mark.parametrize("action", ["ReceiveMessage", "SendMessage", "DeleteMessage"])
def test_a_denied_action_loses_no_message_and_the_run_is_resumed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    stage.fill(20)
    with sqs_faults(stage.server.url, denied(action, times=None)) as proxy:
        monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
        done = stage.redrive(proxied(stage, proxy), "--yes", "--method", "copy", "--output", "json")
        proxy.faults.clear()
        resumed = stage.continued(done)

    assert done.code == 1, done.err
    assert "access denied" in done.err
    assert done.json()["finished"] is False
    assert (resumed["moved"], resumed["sent_twice"], resumed["left"]) == (20, 0, 0)
    assert stage.numbers(stage.target) == list(range(20))


def proxied(stage: Stage, proxy: SqsFaults) -> str:
    return stage.server.queue_url(stage.dead, proxy.url)
