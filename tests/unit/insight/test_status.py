"""How a status looks: a table, log lines, a live screen."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from refinerctl.app import AppContext
from refinerctl.aws.alarms import Alarm
from refinerctl.config import GlobalFlags
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.insight.stage_status import read_status
from refinerctl.insight.status import COLUMNS, alarm_line, cells, fitted, follow, log_lines, problems, screen
from refinerctl.insight.status_model import (
    DlqStatus,
    FunctionStatus,
    InputsStatus,
    PipelineStatus,
    QueueStatus,
    StageStatus,
)
from tests.unit.fakes import START
from tests.unit.insight.fakes import DIGEST, Account, stage_of

QUIET = StageStatus("One", "One/", QueueStatus("x-One", 0, 0, 0), function=FunctionStatus("x-One"))


def status_of(*stages: StageStatus, release: str | None = None) -> PipelineStatus:
    return PipelineStatus(START, stages, release, is_released=release is not None)


def test_unknown_and_missing_values_are_a_dash() -> None:
    found = status_of(StageStatus("One"))
    assert {text for text, _ in cells(found, found.stages[0])[1:]} == {"-"}
    assert log_lines(found)[0].startswith("2026-03-01T14:00:00Z One waiting=- in_flight=- ")


def test_problems_are_marked() -> None:
    function = FunctionStatus("x-One", digest=DIGEST, runs_release=False, errors=0, throttles=3)
    found = status_of(StageStatus("One", "One/", dlq=DlqStatus("d", 2), function=function), release="v2")
    bad = [text for text, is_bad in cells(found, found.stages[0]) if is_bad]
    assert bad == ["2", "3", f"not v2: {DIGEST[:19]}"]


@pytest.mark.parametrize(
    ("inputs", "cell"),
    [
        (InputsStatus(100, 3, 2), ("3", True)),
        (InputsStatus(100, 3, 0), ("3", False)),
        (InputsStatus(100, 3, None), ("3", False)),
        (InputsStatus(100, 3, 2, all_counted=False), (">=3", True)),
        (InputsStatus(100, 0, 0, all_counted=False), ("-", False)),
    ],
)
def test_incomplete_inputs_are_bad_if_no_message_can_be_theirs(inputs: InputsStatus, cell: tuple[str, bool]) -> None:
    found = status_of(replace(QUIET, inputs=inputs))
    assert cells(found, found.stages[0])[list(COLUMNS).index("INCOMPLETE")] == cell
    told = "One: at least 2 inputs with neither a completion nor a message; to list them, run"
    assert problems(found) == ([f"{told} `refinerctl inputs --incomplete`"] if cell[1] else [])


def test_the_expiry_is_the_first_of_both_dlqs_and_a_bound() -> None:
    stage = StageStatus("One", "One/", dlq=DlqStatus("d", 1, 1000, 90_000), delivery_dlq=DlqStatus("e", 1, 9, 3600))
    assert ("<1h", False) in cells(status_of(stage), stage)


@pytest.mark.parametrize("width", [200, 80, 40, 7, 1])
def test_the_least_important_columns_are_left_out_first(width: int) -> None:
    found = fitted([[("x" * 5, False) for _ in COLUMNS]], width)
    line = "  ".join(text for text, _ in found[0])
    assert len(line) <= width or len(found[0]) == 1
    assert found[0][0][0].strip() == "STAGE"


def test_a_screen_shows_whole_columns_whatever_its_width() -> None:
    from rich.console import Console

    found = status_of(QUIET, StageStatus("Done", "Done/"))
    for width in range(10, 170):
        console = Console(width=width, file=io.StringIO())
        with console.capture() as capture:
            console.print(screen("local", found, None, width, 24))
        lines = capture.get().splitlines()[2:5]
        assert [line.split()[0] for line in lines] == ["STAGE", "One", "Done"]
        assert not any("…" in line for line in lines)


def test_a_screen_shows_an_error_beside_the_last_status_and_no_more_than_fits() -> None:
    found, error = (
        status_of(*(StageStatus(f"S{number}") for number in range(30))),
        RefinerctlError("no response from AWS"),
    )
    lines = screen("local", found, error, 80, 10).renderables
    assert (len(lines), str(lines[-1])) == (10, "… 26 more lines")
    assert "not up to date: no response from AWS" in map(str, screen("local", found, error, 80, 99).renderables)


def test_problems_that_differ_only_in_their_resource_are_reported_once() -> None:
    account = Account((stage_of("One"), stage_of("Done", has_function=False)))
    account.queues.error = AccessDeniedError("access denied: GetQueueUrl on queue q")
    account.metrics.error = AccessDeniedError("access denied: GetMetricData on the metrics")
    assert problems(read_status(account.app, account.stages, START)) == [
        "metrics: access denied: GetMetricData on the metrics",
        "One: access denied: GetQueueUrl on queue q, and 5 more like it",
    ]


def test_alarms_come_first_and_fit_into_a_line() -> None:
    def alarms(count: int) -> PipelineStatus:
        since = START - timedelta(hours=2, minutes=5)
        named = tuple(Alarm(f"x-Lab-results-{n}-dlq-messages", "ALARM", "m", since=since) for n in range(count))
        return replace(status_of(QUIET), alarms=named)

    assert alarm_line(status_of(QUIET)) is None
    assert alarm_line(alarms(1)) == "ALARM  x-Lab-results-0-dlq-messages (2h5m)"
    assert alarm_line(alarms(7)) == "ALARM  x-Lab-results-0-dlq-messages (2h5m), and 6 more"
    assert alarm_line(alarms(2), 100) == (
        "ALARM  x-Lab-results-0-dlq-messages (2h5m), x-Lab-results-1-dlq-messages (2h5m)"
    )
    assert alarm_line(alarms(2), 10) == "ALARM  x-Lab-results-0-dlq-messages (2h5m), and 1 more"
    assert str(screen("local", alarms(1), None, 80, 24).renderables[1]) == alarm_line(alarms(1))
    assert log_lines(alarms(2))[0] == (
        "2026-03-01T14:00:00Z alarms=x-Lab-results-0-dlq-messages,x-Lab-results-1-dlq-messages"
    )


def test_log_lines_continue_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answers: list[Any] = [
        status_of(QUIET),
        RefinerctlError("no response from AWS"),
        status_of(QUIET),
        KeyboardInterrupt(),
    ]

    def read() -> PipelineStatus:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        found: PipelineStatus = answer
        return found

    with pytest.raises(KeyboardInterrupt):
        follow(AppContext(GlobalFlags()), read, 0.01)
    written = capsys.readouterr()
    assert written.out.count(" One waiting=0 ") == 2
    assert "warning: not up to date: no response from AWS" in written.err
