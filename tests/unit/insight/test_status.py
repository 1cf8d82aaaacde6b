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
from refinerctl.console import fitted
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.insight.health import PipelineHealth, health, health_line, reasons
from refinerctl.insight.stage_status import read_status
from refinerctl.insight.status import COLUMNS, cells, follow, log_lines, screen
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


def test_missing_parts_are_a_dash_and_what_could_not_be_read_is_unknown() -> None:
    found = status_of(StageStatus("One"), StageStatus("Two", unread={"queue": "access denied", "dlq": "access denied"}))
    assert {text for text, _ in cells(found, found.stages[0])[1:]} == {"-"}
    row = dict(zip(COLUMNS, cells(found, found.stages[1]), strict=True))
    assert {title for title, (text, _) in row.items() if text == "unknown"} == {
        "WAITING",
        "IN FLIGHT",
        "DELAYED",
        "OLDEST",
        "DLQ",
    }
    assert log_lines(found)[1].startswith("2026-03-01T14:00:00Z One waiting=- in_flight=- ")


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
        (InputsStatus(100, 0, 0, all_counted=False), ("unknown", False)),
    ],
)
def test_incomplete_inputs_are_bad_if_no_message_can_be_theirs(inputs: InputsStatus, cell: tuple[str, bool]) -> None:
    found = status_of(replace(QUIET, inputs=inputs))
    assert cells(found, found.stages[0])[list(COLUMNS).index("INCOMPLETE")] == cell
    told = "One: at least 2 inputs with neither a completion nor a message; to list them, run"
    assert reasons(found) == ([f"{told} `refinerctl inputs --incomplete`"] if cell[1] else [])


def test_the_expiry_is_the_first_of_both_dlqs_and_a_bound() -> None:
    stage = StageStatus("One", "One/", dlq=DlqStatus("d", 1, 1000, 90_000), delivery_dlq=DlqStatus("e", 1, 9, 3600))
    assert ("<1h", False) in cells(status_of(stage), stage)


@pytest.mark.parametrize("width", [200, 80, 40, 7, 1])
def test_the_least_important_columns_are_left_out_first(width: int) -> None:
    found = fitted(COLUMNS, [[("x" * 5, False) for _ in COLUMNS]], width)
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
        lines = capture.get().splitlines()[3:6]
        assert [line.split()[0] for line in lines] == ["STAGE", "One", "Done"]
        assert not any("…" in line for line in lines)


def test_a_screen_shows_an_error_beside_the_last_status_and_no_more_than_fits() -> None:
    found, error = (
        status_of(*(StageStatus(f"S{number}") for number in range(30))),
        RefinerctlError("no response from AWS"),
    )
    lines = screen("local", found, error, 80, 10).renderables
    assert (len(lines), str(lines[-1])) == (10, "… 27 more lines")
    assert "not up to date: no response from AWS" in map(str, screen("local", found, error, 80, 99).renderables)


def test_reasons_that_differ_only_in_their_resource_are_combined() -> None:
    account = Account((stage_of("One"), stage_of("Done", has_function=False)))
    account.queues.error = AccessDeniedError("access denied: GetQueueUrl on queue q")
    account.metrics.error = AccessDeniedError("access denied: GetMetricData on the metrics")
    found = read_status(account.app, account.stages, START)
    assert health(found) is PipelineHealth.UNKNOWN
    assert reasons(found) == [
        "metrics: access denied: GetMetricData on the metrics",
        "One: access denied: GetQueueUrl on queue q, and 5 similar",
    ]


def test_the_first_line_has_as_many_reasons_as_fit_but_at_least_one() -> None:
    since = START - timedelta(hours=2, minutes=5)
    alarms = tuple(Alarm(f"x-One-{number}", "ALARM", "m", since=since) for number in range(5))
    lost = replace(QUIET, inputs=InputsStatus(9, 2, 2), dlq=DlqStatus("x-One-dlq", 1200))
    found = replace(status_of(lost), alarms=alarms)
    named = "5 alarms: x-One-0 (2h5m), x-One-1 (2h5m), x-One-2 (2h5m), and 2 more"
    assert health_line(status_of(QUIET), 80) == ("healthy", True)
    assert health_line(found, 10) == (f"unhealthy: {named}; 2 more reasons", False)
    line, has_all = health_line(found, None)
    assert line.endswith("; One: 1,200 messages in DLQ x-One-dlq")
    assert has_all
    assert str(screen("local", found, None, 100, 24).renderables[1]) == health_line(found, 100)[0]
    assert log_lines(found)[0].startswith("2026-03-01T14:00:00Z health=unhealthy alarms=x-One-0,x-One-1,")


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (replace(QUIET, problems=("the event source mapping of its function is disabled",)), "is disabled"),
        (replace(QUIET, delivery_dlq=DlqStatus("d", 1)), "1 message in DLQ d"),
        (replace(QUIET, queue=QueueStatus("q", 1, 0, 0, 7300)), "the oldest message of queue q is 2h1m old"),
        (replace(QUIET, function=FunctionStatus("f", runs_release=False)), "does not run the image of v2"),
    ],
)
def test_each_of_these_makes_a_pipeline_unhealthy(stage: StageStatus, reason: str) -> None:
    found = status_of(stage, release="v2")
    assert health(found) is PipelineHealth.UNHEALTHY
    assert [text.partition(": ")[0] for text in reasons(found)] == ["One"]
    assert reasons(found)[0].endswith(reason)


def test_a_backlog_for_a_consumer_outside_of_the_pipeline_is_healthy() -> None:
    assert health(status_of(StageStatus("Done", queue=QueueStatus("q", 1, 0, 0, 7300)))) is PipelineHealth.HEALTHY


def test_log_lines_continue_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def old(age_s: float) -> PipelineStatus:
        return status_of(replace(QUIET, queue=QueueStatus("q", 0, 1, 0, age_s)))

    answers: list[Any] = [
        old(7300),
        RefinerctlError("no response from AWS"),
        old(7400),
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
    assert written.err.count("the oldest message of queue q is ") == 1  # and not again because it got older
