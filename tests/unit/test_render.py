"""What is written, and where: data to standard output, the rest to standard error, nothing that steers a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.console import Renderer, printable
from refinerctl.embedded import LocalStatus
from refinerctl.inputs.follow import Upload, UploadStatus
from refinerctl.inputs.outputs import ListedOutput
from refinerctl.inputs.poll import PolledCompletion, show_completion
from refinerctl.inputs.upload import upload_json
from refinerctl.local.status import status_json
from refinerctl.stacks.base import CompletionStatus

AT = datetime(2026, 3, 1, 14, 2, tzinfo=UTC)
STEERING = "\x1b[31m\x07\r\x9b31m\u202e"


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal, and remembers what it got."""

    def __init__(self) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        return self.raw_bytes.getvalue().decode()


@dataclass
class Terminals:
    out: Terminal
    err: Terminal


@contextmanager
def at_terminal() -> Iterator[Terminals]:
    """Not a fixture: pytest puts its own streams in place between a fixture and its test."""
    pair = Terminals(Terminal(), Terminal())
    with redirect_stdout(pair.out), redirect_stderr(pair.err):
        yield pair


def _steers(text: str) -> bool:
    return any(not char.isprintable() and char not in "\n\t" for char in text)


class TestPrintable:
    @given(st.text())
    def test_nothing_in_it_steers_a_terminal_and_nothing_else_is_changed(self, text: str) -> None:
        shown = printable(text)
        assert shown.isprintable()
        if text.isprintable():
            assert shown == text
        assert shown.encode("utf-8")[:0] == b""  # it can be written: no half surrogate pair is left

    @given(st.text())
    def test_what_is_to_be_kept_is_kept(self, text: str) -> None:
        assert printable(text, keep="\n\t").count("\n") == text.count("\n")

    def test_an_escape_is_shown_by_its_code(self) -> None:
        assert printable("a\x1b[31mb\u202e") == "a\\x1b[31mb\\x202e"


class TestStreams:
    def test_lines_are_data_notes_and_warnings_are_not(self, capsys: pytest.CaptureFixture[str]) -> None:
        render = Renderer("text", 0)
        render.line("data")
        render.note("note")
        render.warning("careful")
        seen = capsys.readouterr()
        assert seen.out == "data\n"
        assert [line[10:] for line in seen.err.splitlines()] == ["note", "warning: careful"]

    def test_lines_for_a_log_carry_the_time(self, capsys: pytest.CaptureFixture[str]) -> None:
        Renderer("text", 0).note("note")
        datetime.strptime(capsys.readouterr().err.split()[0], "%H:%M:%SZ").replace(tzinfo=UTC)

    def test_quiet_leaves_warnings_and_data(self, capsys: pytest.CaptureFixture[str]) -> None:
        render = Renderer("text", -1)
        render.note("note")
        with render.progress(10) as progress:
            progress.step("step")
            progress.advance(10)
            progress.update("update")
        render.warning("careful")
        render.line("data")
        seen = capsys.readouterr()
        assert seen.out == "data\n"
        assert seen.err.count("\n") == 1
        assert "careful" in seen.err

    def test_progress_in_a_log_is_one_line_per_step_on_standard_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        with Renderer("json", 0).progress(2_000_000) as progress:
            progress.step("one\x1b")
            for _ in range(1000):
                progress.advance(1000)
            progress.step("two")
        seen = capsys.readouterr()
        assert seen.out == ""
        assert [line[10:] for line in seen.err.splitlines()] == ["one\\x1b", "two"]

    def test_progress_at_a_terminal_leaves_the_steps_and_nothing_on_standard_output(self) -> None:
        with at_terminal() as terminal, Renderer("text", 0).progress(100) as progress:
            progress.step("step [bold]one[/bold]")
            progress.advance(50)
            progress.update("file [red]")
        assert "step [bold]one[/bold]" in terminal.err.text()
        assert terminal.out.text() == ""

    def test_a_step_cannot_steer_the_terminal(self) -> None:
        with at_terminal() as terminal, Renderer("text", 0).progress() as progress:
            progress.step(f"key {STEERING}")
            progress.update(f"other {STEERING}")
        assert "\x07" not in terminal.err.text()
        assert "\x9b" not in terminal.err.text()
        assert "\\x1b[31m" in terminal.err.text()


class TestContent:
    def test_a_pipe_gets_an_output_byte_for_byte(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        Renderer("text", 0).content(b"\x00\xff\x1b[31m\n")
        assert capfdbinary.readouterr().out == b"\x00\xff\x1b[31m\n"

    def test_the_next_line_begins_on_a_line_of_its_own(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        render = Renderer("text", 0)
        render.line("before")
        render.content(b"no newline")
        render.content(b"")
        render.line("after")
        assert capfdbinary.readouterr().out == b"before\nno newline\nafter\n"

    def test_a_terminal_gets_it_without_what_would_steer_it(self) -> None:
        with at_terminal() as terminal:
            Renderer("text", 0).content(f"a\tb\n{STEERING}\xff".encode() + b"\xff\n")
        assert not _steers(terminal.out.text())
        assert terminal.out.text().startswith("a\tb\n\\x1b[31m")


class TestJson:
    def test_it_is_one_document_with_readable_unicode(self, capsys: pytest.CaptureFixture[str]) -> None:
        Renderer("json", 0).json({"key": "報告", "at": AT, "path": Path("a/b"), "status": UploadStatus.FAILED})
        text = capsys.readouterr().out
        assert "報告" in text
        assert json.loads(text) == {
            "key": "報告",
            "at": "2026-03-01T14:02:00+00:00",
            "path": "a/b",
            "status": "failed",
        }

    @pytest.mark.parametrize("indent", [None, 2])
    def test_a_terminal_gets_no_character_that_steers_it(self, indent: int | None) -> None:
        document = {"key": f"a{STEERING}\x7f\U000e0001"}
        with at_terminal() as terminal:
            Renderer("json", 0).json(document, indent=indent)
        assert not _steers(terminal.out.text())
        assert json.loads(terminal.out.text()) == document

    def test_half_a_surrogate_pair_in_somebodys_error_is_written_like_any_other(self) -> None:
        with at_terminal() as terminal:
            Renderer("json", 0).json({"error": "\ud800"})
        assert json.loads(terminal.out.text()) == {"error": "\ud800"}

    def test_json_lines_are_one_line_each(self, capsys: pytest.CaptureFixture[str]) -> None:
        render = Renderer("json", 0)
        render.json({"a": "x\ny"}, indent=None)
        render.json({"b": 2}, indent=None)
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"a": "x\ny"}, {"b": 2}]


def _completion(**given: Any) -> PolledCompletion:
    return PolledCompletion("RefinerComplete/x.json", given.pop("status", CompletionStatus.COMPLETED), AT, **given)


def _as_json(item: PolledCompletion, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    show_completion(Renderer("json", 0), item)
    (line,) = capsys.readouterr().out.splitlines()
    document: dict[str, Any] = json.loads(line)
    return document


class TestContract:
    """The field names that others script against: docs/architecture.md, the contract."""

    def test_an_upload(self) -> None:
        item = Upload(
            "RefinerInput/x", 12, "v1", UploadStatus.COMPLETED, AT, "RefinerComplete/x.json", ("RefinerOutput/1",)
        )
        document = json.loads(json.dumps(upload_json(item)))
        assert document == {
            "key": "RefinerInput/x",
            "size": 12,
            "version_id": "v1",
            "status": "completed",
            "completion_key": "RefinerComplete/x.json",
            "outputs": ["RefinerOutput/1"],
            "error": None,
        }

    @pytest.mark.parametrize("status", list(UploadStatus))
    def test_the_states_of_an_upload(self, status: UploadStatus) -> None:
        assert upload_json(Upload("k", 1, None, status, AT))["status"] in {
            "uploaded",
            "completed",
            "failed",
            "pending",
        }

    def test_a_completion_with_its_outputs_contents(self, capsys: pytest.CaptureFixture[str]) -> None:
        outputs = (ListedOutput("RefinerOutput/1", 5, "héé".encode()), ListedOutput("RefinerOutput/2", 0, b""))
        assert _as_json(_completion(outputs=outputs), capsys) == {
            "key": "RefinerComplete/x.json",
            "status": "completed",
            "last_modified": "2026-03-01T14:02:00+00:00",
            "outputs": [
                {"key": "RefinerOutput/1", "size": 5, "content": "héé", "truncated": False},
                {"key": "RefinerOutput/2", "size": 0, "content": "", "truncated": False},
            ],
            "error": None,
        }

    def test_a_completion_with_saved_outputs(self, capsys: pytest.CaptureFixture[str]) -> None:
        document = _as_json(_completion(outputs=(ListedOutput("o", 5, path=Path("dir/o")),)), capsys)
        assert document["outputs"] == [{"key": "o", "size": 5, "path": "dir/o"}]

    def test_a_failed_one_says_why(self, capsys: pytest.CaptureFixture[str]) -> None:
        document = _as_json(_completion(status=CompletionStatus.FAILED, error="no condition"), capsys)
        assert (document["status"], document["error"], document["outputs"]) == ("failed", "no condition", [])

    def test_a_missing_output_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        document = _as_json(
            _completion(status=CompletionStatus.FAILED, outputs=(ListedOutput("o", error="o is not there"),)), capsys
        )
        assert document["outputs"] == [{"key": "o", "size": None, "error": "o is not there"}]

    def test_content_that_is_not_text_is_base64(self, capsys: pytest.CaptureFixture[str]) -> None:
        (output,) = _as_json(_completion(outputs=(ListedOutput("o", 2, b"\xff\xfe"),)), capsys)["outputs"]
        assert output["content"] is None
        assert output["content_base64"] == "//4="

    def test_text_cut_in_the_middle_of_a_character_is_still_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        (output,) = _as_json(_completion(outputs=(ListedOutput("o", 9, "aé".encode()[:2], True),)), capsys)["outputs"]
        assert (output["content"], output["truncated"]) == ("a", True)

    def test_the_local_status(self, capsys: pytest.CaptureFixture[str]) -> None:
        state = LocalStatus("up", Path("/x"), "http://127.0.0.1:4566", "process", 7, 8, "http://f", AT, ("refiner",))
        Renderer("json", 0).json(status_json(state))
        document = json.loads(capsys.readouterr().out)
        assert document["state"] == "up"
        assert document["endpoint_url"] == "http://127.0.0.1:4566"
        assert document["stacks"] == ["refiner"]

    def test_a_status_that_is_down(self, capsys: pytest.CaptureFixture[str]) -> None:
        Renderer("json", 0).json(status_json(LocalStatus("down", Path("/x"))))
        document = json.loads(capsys.readouterr().out)
        assert (document["state"], document["endpoint_url"]) == ("down", None)


class TestText:
    def test_a_completion_as_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        outputs = (
            ListedOutput("o/1", 5, b"hello"),
            ListedOutput("o/2", 7, path=Path("d/o")),
            ListedOutput("o/3", error="gone"),
        )
        show_completion(
            Renderer("text", 0), _completion(status=CompletionStatus.FAILED, outputs=outputs, error="o/3 gone")
        )
        seen = capsys.readouterr()
        assert seen.out.splitlines() == [
            "failed     RefinerComplete/x.json  2026-03-01T14:02:00Z",
            "==> o/1 (5 bytes) <==",
            "hello",
            "           o/2 saved as d/o (7 bytes)",
        ]
        assert "o/3 gone" in seen.err

    def test_a_truncated_output_is_said_to_be_on_standard_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        show_completion(Renderer("text", 0), _completion(outputs=(ListedOutput("o", 99, b"abc", truncated=True),)))
        seen = capsys.readouterr()
        assert "--download" in seen.err
        assert "--download" not in seen.out

    def test_keys_and_errors_cannot_steer_the_terminal(self) -> None:
        item = PolledCompletion(
            f"k{STEERING}",
            CompletionStatus.FAILED,
            AT,
            (ListedOutput(f"o{STEERING}", 1, STEERING.encode()), ListedOutput(f"p{STEERING}", 1, path=Path(STEERING))),
            f"e{STEERING}",
        )
        with at_terminal() as terminal:
            show_completion(Renderer("text", 0), item)
        assert not _steers(terminal.out.text())
        assert not _steers(terminal.err.text())
