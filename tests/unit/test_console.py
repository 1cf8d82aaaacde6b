"""What is written, and where: data to standard output, the rest to standard error, nothing that steers a terminal."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refinerctl.console import PlainProgress, Renderer, can_ask, fitted, printable, seconds
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


@given(st.text())
@example("a\x1b[31mb\u202e")
def test_printable_text_steers_no_terminal_and_nothing_else_is_changed(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()
    assert shown.encode("utf-8").decode() == shown  # it can be written: no half surrogate pair is left
    assert printable(text, keep="\n\t").count("\n") == text.count("\n")
    assert printable("a\x1b[31mb\u202e") == "a\\x1b[31mb\\x202e"


class TestStreams:
    def test_lines_are_data_notes_and_warnings_are_not(self, capsys: pytest.CaptureFixture[str]) -> None:
        """In a log each has its time."""
        render = Renderer("text", 0)
        render.line("data")
        render.note("note")
        render.warning("careful")
        seen = capsys.readouterr()
        assert seen.out == "data\n"
        assert [line[10:] for line in seen.err.splitlines()] == ["note", "warning: careful"]
        for line in seen.err.splitlines():
            datetime.strptime(line[:9], "%H:%M:%SZ").replace(tzinfo=UTC)

    def test_lines_of_threads_do_not_get_mixed(self) -> None:
        """Each is one write."""
        writes: list[str] = []

        class Log(io.StringIO):
            def write(self, text: str) -> int:
                writes.append(text)
                return len(text)

        with redirect_stderr(Log()):
            Renderer("text", 0).note("note")
            PlainProgress(None).step("step")
        assert [text[10:] for text in writes if text] == ["note\n", "step\n"]

    def test_quiet_leaves_warnings_and_data(self, capsys: pytest.CaptureFixture[str]) -> None:
        render = Renderer("text", -1)
        render.note("note")
        with render.progress(10) as progress:
            progress.step("step")
            progress.part("sha256:a", 10, 10)
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

    def test_titled_progress_is_a_section_of_a_gitlab_jobs_log(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections"""
        monkeypatch.setenv("GITLAB_CI", "true")
        render = Renderer("text", 0)
        with suppress(ValueError), render.progress(title="Plan") as progress:
            progress.step("step")
            raise ValueError  # an error inside ends it, too
        with render.section("More\n", collapsed=True):
            pass
        seen = capsys.readouterr()
        assert seen.out == ""
        start, step, end, more, _end = seen.err.split("\n")[:-1]
        name = re.fullmatch(r"\x1b\[0Ksection_start:\d{10}:([\w.-]+)\r\x1b\[0KPlan", start)
        assert name is not None
        assert step.endswith("step")
        assert re.fullmatch(rf"\x1b\[0Ksection_end:\d{{10}}:{name[1]}\r\x1b\[0K", end)
        assert re.search(r":([\w.-]+)\[collapsed=true\]\r\x1b\[0KMore\\x0a$", more)
        assert name[1] not in more

    @pytest.mark.parametrize(
        ("output", "verbosity", "variable"), [("json", 0, "true"), ("text", -1, "true"), ("text", 0, "")]
    )
    def test_no_section_elsewhere_in_json_and_if_quiet(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        output: str,
        verbosity: int,
        variable: str,
    ) -> None:
        monkeypatch.setenv("GITLAB_CI", variable)
        with Renderer(output, verbosity).progress(title="Plan") as progress:
            progress.step("step")
        assert "section" not in capsys.readouterr().err

    def test_terminal_of_a_ci_job_gets_plain_lines_and_no_questions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CI", "true")
        with at_terminal() as terminal:
            Renderer("text", 0).styled([("a", "red")])
            with Renderer("text", 0).progress() as progress:
                progress.update("hidden for ten seconds")
                progress.step("step")
            assert not can_ask()
        assert terminal.out.text() == "a\n"
        assert terminal.err.text()[9:] == " step\n"

    @pytest.mark.parametrize(
        ("variables", "coloured"),
        [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
    )
    def test_log_has_colour_only_if_asked_for(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        variables: dict[str, str],
        coloured: bool,
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        Renderer("text", 0).styled([("a", "red")])
        assert capsys.readouterr().out == ("\x1b[31ma\x1b[0m\n" if coloured else "a\n")

    def test_blob_that_starts_again_counts_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        progress = PlainProgress(110, every_s=0)
        for name, done in (("a", 0), ("a", 60), ("b", 10), ("a", 0), ("a", 100)):
            progress.part(name, done * 1_000_000, 100_000_000)
        megabytes = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
        assert megabytes == ["0.0", "60.0", "70.0", "10.0", "110.0"]

    def test_progress_at_a_terminal_leaves_the_steps_and_steers_nothing(self) -> None:
        with at_terminal() as terminal, Renderer("text", 0).progress(100) as progress:
            progress.step(f"step [bold]one[/bold] {STEERING}")
            progress.advance(50)
            progress.update(f"file [red] {STEERING}")
        said = terminal.err.text()
        assert "step [bold]one[/bold] \\x1b[31m" in said
        assert "\x07" not in said
        assert "\x9b" not in said
        assert terminal.out.text() == ""

    def test_progress_at_a_terminal_breaks_no_command_into_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        advice = f"to continue, run `refinerctl deploy {'--allow-destroy aws_sqs_queue.dlq ' * 5}--env local`"
        with at_terminal() as terminal:
            renderer = Renderer("text", 0)
            with renderer.progress() as progress:
                progress.step(f"step: {advice}")
                renderer.note(f"note: {advice}")
        assert f"step: {advice}" in terminal.err.text()
        assert f"note: {advice}" in terminal.err.text()


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
        document = {"key": f"a{STEERING}\x7f\U000e0001", "half a surrogate pair": "\ud800"}
        with at_terminal() as terminal:
            Renderer("json", 0).json(document, indent=indent)
        assert not _steers(terminal.out.text())
        assert json.loads(terminal.out.text()) == document

    def test_json_lines_are_one_line_each(self, capsys: pytest.CaptureFixture[str]) -> None:
        render = Renderer("json", 0)
        render.json({"a": "x\ny"}, indent=None)
        render.json({"b": 2}, indent=None)
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"a": "x\ny"}, {"b": 2}]


def _completion(**given: Any) -> PolledCompletion:
    return PolledCompletion("RefinerComplete/x.json", given.pop("status", CompletionStatus.COMPLETED), AT, **given)


class TestContract:
    """The field names that others script against: docs/architecture.md, the contract."""

    @pytest.mark.parametrize("status", list(UploadStatus))
    def test_an_upload(self, status: UploadStatus) -> None:
        item = Upload("RefinerInput/x", 12, "v1", status, AT, "RefinerComplete/x.json", ("RefinerOutput/1",))
        assert json.loads(json.dumps(upload_json(item))) == {
            "key": "RefinerInput/x",
            "size": 12,
            "version_id": "v1",
            "status": status.value,
            "completion_key": "RefinerComplete/x.json",
            "outputs": ["RefinerOutput/1"],
            "error": None,
        }
        assert status.value in ("uploaded", "completed", "failed", "pending", "superseded")

    @pytest.mark.parametrize(
        ("output", "expected"),
        [
            (
                ListedOutput("o", 5, "héé".encode()),
                {"key": "o", "size": 5, "content": "héé", "truncated": False},
            ),
            (ListedOutput("o", 0, b""), {"key": "o", "size": 0, "content": "", "truncated": False}),
            (ListedOutput("o", 5, path=Path("dir/o")), {"key": "o", "size": 5, "path": "dir/o"}),
            (ListedOutput("o", error="not there"), {"key": "o", "size": None, "error": "not there"}),
            (  # not text
                ListedOutput("o", 2, b"\xff\xfe"),
                {"key": "o", "size": 2, "content": None, "content_base64": "//4=", "truncated": False},
            ),
            (  # cut in the middle of a character
                ListedOutput("o", 9, "aé".encode()[:2], True),
                {"key": "o", "size": 9, "content": "a", "truncated": True},
            ),
        ],
    )
    def test_a_completion_and_its_output(
        self, output: ListedOutput, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        item = _completion(status=CompletionStatus.FAILED, outputs=(output,), error="no condition")
        show_completion(Renderer("json", 0), item)
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line) == {
            "key": "RefinerComplete/x.json",
            "status": "failed",
            "last_modified": "2026-03-01T14:02:00+00:00",
            "outputs": [expected],
            "error": "no condition",
        }

    def test_the_local_status(self, capsys: pytest.CaptureFixture[str]) -> None:
        up = LocalStatus("up", Path("/x"), "http://127.0.0.1:4566", "process", 7, 8, "http://f", AT, ("refiner",))
        for state, expected in ((up, ("up", up.endpoint_url)), (LocalStatus("down", Path("/x")), ("down", None))):
            Renderer("json", 0).json(status_json(state))
            document = json.loads(capsys.readouterr().out)
            assert (document["state"], document["endpoint_url"]) == expected
            assert document["stacks"] == list(state.stacks)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((None, "-"), (0, "0s"), (59.6, "1m"), (192, "3m12s"), (7500, "2h5m")),
        *((1138000, "13d4h"), (86400, "1d"), (-5, "0s")),
    ],
)
def test_durations(value: float | None, expected: str) -> None:
    assert seconds(value) == expected


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
            "==> o/1 (5 B) <==",
            "hello",
            "           o/2 saved as d/o (7 B)",
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


COLUMNS = {"NAME": 0, "SIZE": 2, "COUNT": 1, "USED BY": 0}
ROW = [("some-queue", False), ("1.2 kB", False), ("3", True), ("a function with a long name", False)]


@pytest.mark.parametrize(
    ("width", "row"),
    [
        (None, "some-queue  1.2 kB  3      a function with a long name"),
        (52, "some-queue  1.2 kB  3      a function with a long n…"),
        (45, "some-queue  3      a function with a long na…"),
        (33, "some-queue  a function with a lo…"),
        (5, "some-queue"),
    ],
)
def test_columns_with_the_highest_number_are_left_out_first_and_names_stay_whole(width: int | None, row: str) -> None:
    assert ["  ".join(text for text, _ in line) for line in fitted(COLUMNS, [ROW], width)][1] == row


@pytest.mark.parametrize(
    ("width", "rows"),
    [
        (None, [f"10:00  +1s  SQS  output {'k' * 30} and {'l' * 12}"]),
        (57, [f"10:00  +1s  SQS  output {'k' * 30}", f"{'':17}and {'l' * 12}"]),
        (56, [f"10:00  SQS  output {'k' * 30} and", f"{'':12}{'l' * 12}"]),
        (32, [f"10:00  SQS  output {'k' * 13}", f"{'':12}{'k' * 17}", f"{'':12}and {'l' * 12}"]),
    ],
)
def test_wrapped_table_fits_and_has_all_of_its_last_column(width: int | None, rows: list[str]) -> None:
    columns = {"AT": 0, "+": 1, "HOP": -1, "DETAIL": -1}
    row = [(text, False) for text in ("10:00", "+1s", "SQS", f"output {'k' * 30} and {'l' * 12}")]
    lines = ["  ".join(text for text, _ in line) for line in fitted(columns, [row], width, wrap=True)]
    assert lines[1:] == rows


def test_cell_with_a_newline_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Renderer("text", 0).table({"AT": 0, "KEY": 0}, [["10:00", "a\nb"]])
    assert capsys.readouterr().out.splitlines()[1:] == ["10:00  a\\x0ab"]


def test_a_pipe_has_all_columns_and_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    render = Renderer("text", 0)
    render.table(COLUMNS, [["x", "", ("9", True), "y" * 200]])
    render.fields([("completed", 0), ("10 B", 1), ("k" * 200, 0)])
    assert capsys.readouterr().out.splitlines() == [
        "NAME  SIZE  COUNT  USED BY",
        f"x     -     9      {'y' * 200}",
        f"completed  10 B  {'k' * 200}",
    ]
