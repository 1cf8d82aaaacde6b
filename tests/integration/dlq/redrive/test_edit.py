"""`dlq redrive` at a terminal, and with an editor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.integration.dlq.redrive.stage import REFINERCTL, Stage, new_stage, shared_server  # noqa: F401 - fixtures

EDITOR = """
import sys
from pathlib import Path
path = Path(sys.argv[-1])
lines = path.read_text().splitlines(keepends=True)
assert path.stat().st_mode & 0o077 == 0
{body}
"""


def editor(stage: Stage, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    script = stage.folder / "editor.py"
    script.write_text(EDITOR.replace("{body}", body))
    monkeypatch.setenv("VISUAL", f"'{sys.executable}' '{script}'")


def test_the_output_of_an_editor_goes_to_stderr(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.fill(2)
    editor(stage, monkeypatch, "print('Hello from your editor')\npath.write_text(lines[0].replace('0}', '99}'))")

    process = stage.start(stage.dead, "--edit", "--yes", "--output", "json")
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert json.loads(out)["moved"] == 1
    assert "Hello from your editor" in err


def edits(stage: Stage) -> list[Path]:
    return list((stage.folder / ".refinerctl" / "edits").glob("*"))


def test_edited_messages_are_sent_and_the_others_stay(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.fill(4)
    change = (
        'path.write_text(lines[0].replace("{\\\\\\"id\\\\\\": 0}", "{\\\\\\"id\\\\\\": 99}") + lines[1] + lines[3])'
    )
    editor(stage, monkeypatch, change)

    done = stage.redrive(stage.dead, "--edit", "--yes")

    assert done.code == 0, done.err
    assert '+    "id": 99' in done.out
    assert "1 edited messages will be sent; 2 unchanged and 1 removed messages stay" in done.err
    assert "moved 1, skipped " in done.out
    assert stage.numbers(stage.target) == [99]
    assert stage.numbers(stage.dead) == [1, 2, 3]
    assert edits(stage) == []


@pytest.mark.parametrize(
    ("body", "code", "said", "kept"),
    [
        ("", 0, "no message was edited", 0),
        ('path.write_text("")', 1, "the edited file is empty", 0),
        ("sys.exit(3)", 1, "ended with exit code 3", 1),
        ('path.write_text(lines[0][:50] + "\\n")', 2, "line 1: not JSON", 1),
        (
            'path.write_text(lines[0].replace("\\"id\\": \\"", "\\"id\\": \\"x", 1))',
            2,
            "was not in the file before",
            1,
        ),
    ],
)
def test_unusable_edits_send_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, body: str, code: int, said: str, kept: int
) -> None:
    stage.fill(2)
    editor(stage, monkeypatch, body)

    done = stage.redrive(stage.dead, "--edit", "--yes")

    assert done.code == code, done.err
    assert said in done.err
    assert "more left" not in done.err
    assert len(edits(stage)) == kept
    assert all(str(path) in done.err for path in edits(stage))
    assert stage.server.depth(stage.target) == 0
    assert {message.state for message in stage.server.messages(stage.dead)} == {"visible"}


def test_a_missing_editor(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.fill(1)
    monkeypatch.setenv("VISUAL", "/no/such/editor")

    missing = stage.redrive(stage.dead, "--edit", "--yes")
    monkeypatch.delenv("VISUAL")
    monkeypatch.delenv("EDITOR", raising=False)
    none = stage.redrive(stage.dead, "--edit", "--yes")

    assert (missing.code, none.code) == (1, 2)
    assert "cannot start the editor /no/such/editor" in missing.err
    assert "no editor found" in none.err


def terminal_of(stage: Stage, *arguments: str) -> Any:
    return pexpect.spawn(
        REFINERCTL[0],
        [*REFINERCTL[1:], "dlq", "redrive", *arguments],
        cwd=str(stage.folder),
        encoding="utf-8",
        timeout=60,
        dimensions=(40, 200),
    )


@pytest.mark.parametrize(("answer", "code", "moved"), [("n", 1, 0), ("y", 0, 3)])
def test_a_run_on_a_terminal_asks(stage: Stage, answer: str, code: int, moved: int) -> None:
    stage.fill(3)
    terminal = terminal_of(stage, stage.dead, "--method", "copy")

    terminal.expect(rf"Send 3 messages from {stage.dead} to {stage.target} in the account at .*\? \[y/N\]")
    terminal.sendline(answer)
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == code
    assert stage.server.depth(stage.target) == moved


def test_the_prompt_counts_the_messages_that_match_a_filter(stage: Stage) -> None:
    stage.fill(3)
    terminal = terminal_of(stage, stage.dead, "--filter", "body.id == `1`")

    terminal.expect(rf"Send 1 of 3 messages from {stage.dead} to {stage.target} in the account at .*\? \[y/N\]")
    terminal.sendline("y")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 0
    assert stage.server.depth(stage.target) == 1


def test_an_invalid_edit_can_be_opened_again_on_a_terminal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.fill(1)
    break_then_mend = (
        "text = lines[0]\n"
        'path.write_text(text.replace("0}", "42}") if "nonsense" not in text else text.replace("nonsense", ""))\n'
        'marker = path.with_name("opened")\n'
        'path.write_text(path.read_text() + "nonsense\\n") if not marker.exists() else None\n'
        'path.write_text("".join(path.read_text().splitlines(True)[:1])) if marker.exists() else None\n'
        "marker.touch()"
    )
    editor(stage, monkeypatch, break_then_mend)
    terminal = terminal_of(stage, stage.dead, "--edit")

    terminal.expect("line 2: not JSON")
    terminal.expect(r"Open the file again\? \[Y/n\]")
    terminal.sendline("")
    terminal.expect(r'\+    "id": 42')
    terminal.expect(r"Send the edited messages")
    terminal.sendline("y")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 0
    assert stage.numbers(stage.target) == [42]
