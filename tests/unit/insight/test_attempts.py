"""A function's log read as attempts: pairing of lines, lookups of one input, bounded memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refinerctl.aws.logs import LogEvent
from refinerctl.insight.attempts import Attempt, FunctionLog, read_attempts
from refinerctl.stacks.refiner import STACK
from tests.unit.fakes import START, FakeLogGroups
from tests.unit.function_logs import Lines, request_id

LINES = Lines()
HOUR = timedelta(hours=1)
Summary = tuple[str | None, str | None, bool]


def read(*lines: LogEvent) -> list[Attempt]:
    return list(read_attempts(lines, STACK.read_log_line))


def summary(*lines: LogEvent) -> list[Summary]:
    """Message, error and whether it has ended, of each attempt."""
    return [(attempt.message_id, attempt.error, attempt.ended is not None) for attempt in read(*lines)]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class TestFunctionsThatLogTheirInputs:
    def test_everything_that_the_lines_say(self) -> None:
        received: dict[str, Any] = {"key": "In/a", "versionId": "v1", "receiveCount": 2, "eventTime": at(0).isoformat()}
        received["sentTimestamp"] = at(0.5).timestamp() * 1000
        (attempt,) = read(
            LINES.start(1),
            LINES.record(1, "record received", **received),
            LINES.record(2, "output written", outputKey="Out/1"),
            LINES.record(3, "completion written", completionKey="Done/a.json"),
            LINES.done(4, duration_ms=40),
            LINES.report(5, duration_ms=50),
        )
        assert (attempt.request_id, attempt.message_id) == (request_id(1), "m1")
        assert (attempt.key, attempt.version_id) == ("In/a", "v1")
        assert (attempt.event_at, attempt.sent_at, attempt.started, attempt.ended) == (at(0), at(0.5), at(1), at(4))
        assert (attempt.receive_count, attempt.duration_ms, attempt.completion_key) == (2, 40, "Done/a.json")
        assert [(output.key, output.at) for output in attempt.outputs] == [("Out/1", at(2))]
        assert attempt.error is None

    def test_the_end_is_from_the_function_the_report_or_unknown(self) -> None:
        assert summary(LINES.received(1), LINES.failed(2)) == [("m1", "NoSuchKey: broke", True)]
        assert summary(LINES.received(1), LINES.report(3)) == [("m1", None, True)]
        assert summary(LINES.received(1)) == [("m1", None, False)]

    def test_a_timeout_fails_only_the_inputs_that_were_not_done(self) -> None:
        lines = [LINES.received(1), LINES.received(1, message_id="m2"), LINES.done(2), LINES.timed_out(4)]
        expected = [("m1", None, True), ("m2", "Task timed out after 3.00 seconds", True)]
        assert summary(*lines, LINES.report(4, more="Status: timeout")) == expected
        assert summary(*lines[:-1], LINES.report(4, more="Status: timeout"), LINES.timed_out(4)) == expected

    def test_an_input_stays_done_if_the_invocation_fails_afterwards(self) -> None:
        lines = [LINES.received(1), LINES.done(2), LINES.report(3, more="Status: error\tError Type: E")]
        assert summary(*lines) == [("m1", None, True)]

    def test_an_ignored_input(self) -> None:
        (attempt,) = read(LINES.received(1), LINES.record(2, "record ignored", reason="a folder"))
        assert (attempt.ignored, attempt.ended) == ("a folder", at(2))

    @pytest.mark.parametrize("stream", ["s", "elsewhere"])
    def test_an_error_without_a_request_id_is_that_of_the_invocation_in_its_stream(self, stream: str) -> None:
        """The emulator writes reports into streams of their own, in either order."""
        error = LINES.text(3, 'ERROR {"errorType":"Runtime.ExitError","errorMessage":"exit 3"}')
        report = Lines(stream).report(3)
        expected = [("m2", None, True), ("m1", "Runtime.ExitError: exit 3", True)]
        for order in ([error, report], [report, error]):
            other = Lines("other")
            assert summary(LINES.received(1), other.received(1, 2, "m2"), *order, other.done(4, 2, "m2")) == expected

    def test_the_error_of_the_next_invocation_is_not_this_ones(self) -> None:
        lines = [LINES.received(1), LINES.received(3, 2, "m2"), LINES.text(4, "ERROR of the next")]
        assert summary(*lines) == [("m1", None, False), ("m2", "of the next", True)]


class TestOtherFunctions:
    def test_each_invocation_is_an_attempt(self) -> None:
        attempts = read(
            *(LINES.start(1, 1), LINES.text(1, '{"message": "something else"}'), LINES.report(2, 1, 90)),
            *(LINES.start(3, 2), LINES.text(4, "[ERROR] ValueError: no: 7\nTraceback"), LINES.report(4, 2, 70)),
            *(LINES.start(5, 3), LINES.timed_out(8, 3), LINES.report(8, 3, 3000, "Status: timeout")),
        )
        assert [(attempt.request_id, attempt.error, attempt.duration_ms) for attempt in attempts] == [
            (request_id(1), None, 90),
            (request_id(2), "ValueError: no: 7", 70),
            (request_id(3), "Task timed out after 3.00 seconds", 3000),
        ]
        assert {attempt.message_id for attempt in attempts} == {None}

    def test_without_start_lines_an_error_is_that_of_the_next_report(self) -> None:
        attempts = read(LINES.report(2, 1), LINES.text(4, "ERROR broke"), LINES.report(4, 2))
        assert [(item.request_id, item.error) for item in attempts] == [(request_id(1), None), (request_id(2), "broke")]

    def test_an_error_without_a_report_in_its_stream_names_no_invocation(self) -> None:
        attempts = read(LINES.text(2, "ERROR broke"), Lines("emulator").report(2, 1), LINES.received(3, 2))
        found = [(item.request_id, item.error) for item in attempts]
        assert found == [("", "broke"), (request_id(1), None), (request_id(2), None)]

    @pytest.mark.parametrize(
        "said", [{"message": {"errorType": "E", "errorMessage": "m"}}, {"errorType": "E", "errorMessage": "m"}]
    )
    def test_exceptions_in_lambdas_json_format(self, said: dict[str, Any]) -> None:
        line = json.dumps({"level": "ERROR", "requestId": request_id(1), **said})
        assert summary(LINES.text(1, line), LINES.report(2, more="Status: error\tError Type: E")) == [
            (None, "E: m", True)
        ]


MESSAGES = st.one_of(
    st.builds(
        lambda record, message: json.dumps({**record, "message": message}),
        st.dictionaries(
            st.sampled_from(["timestamp", "requestId", "messageId", "key", "eventTime", "durationMs", "error"]),
            st.none() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["m1", request_id(1)]),
        ),
        st.sampled_from(["record received", "output written", "record done", "record failed", "other", {}, None]),
    ),
    st.builds(
        lambda text, number: text.format(request_id(number)),
        st.sampled_from(
            ["START RequestId: {}", "REPORT RequestId: {}\tDuration: 3 ms", "{} Task timed out after 1 seconds"]
        ),
        st.integers(1, 3),
    ),
    st.text(max_size=20).map(lambda text: f"ERROR {text}"),
    st.text(max_size=20),
)


@given(st.lists(st.tuples(st.sampled_from("ab"), MESSAGES), max_size=30), st.sampled_from([1, 2, 5000]))
@example([("a", '{"message": "record received"}'), ("a", "ERROR \r")], 5000)
def test_no_line_makes_it_fail_and_none_makes_two_attempts(lines: list[tuple[str, str]], max_open: int) -> None:
    events = [Lines(stream).text(number, message) for number, (stream, message) in enumerate(lines)]
    attempts = list(read_attempts(events, STACK.read_log_line, max_open))
    assert len(attempts) <= len(lines)
    assert all(attempt.ended for attempt in attempts if attempt.error is not None)


def test_memory_does_not_grow_with_the_log() -> None:
    def lines(count: int) -> Iterator[LogEvent]:
        """No invocation ends, and every stream is new."""
        for number in range(count):
            stream = Lines(f"stream {number}")
            yield stream.received(number, number, key=f"In/{number}")
            yield stream.failed(number, number, "other", key=f"In/{number}")
            yield Lines(f"other {number}").text(number, "ERROR before any input")

    def memory(count: int) -> int:
        tracemalloc.start()
        assert sum(1 for _ in read_attempts(lines(count), STACK.read_log_line, max_open=50)) == 3 * count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert memory(4000) < memory(400) + 300_000  # other threads of this process may allocate, too


def log_of(*lines: LogEvent) -> FunctionLog:
    return FunctionLog(FakeLogGroups(*lines), "g", STACK.read_log_line, START, START + HOUR)


class TestAbout:
    def test_attempts_by_key_and_by_message_id(self) -> None:
        log = log_of(
            *(LINES.received(1, 1, "m1", key="In/a"), LINES.failed(2, 1, "m1", key="In/a")),
            *(LINES.received(1, 1, "m2", key="In/ab"), LINES.record(2, "record done", 1, "m2", key="In/ab")),
            *(LINES.received(9, 2, "m1", key="In/a"), LINES.record(9, "record done", 2, "m1", key="In/a")),
        )
        for text in ("In/a", "m1"):
            assert [attempt.error for attempt in log.about(text)] == ["NoSuchKey: broke", None]

    def test_nothing_more_is_read_of_attempts_that_say_how_they_ended(self) -> None:
        logs = FakeLogGroups(LINES.received(1), LINES.failed(2))
        FunctionLog(logs, "g", STACK.read_log_line, START, START + HOUR).about("m1")
        assert logs.patterns == ['"m1"']

    def test_the_platform_says_how_an_invocation_ended_that_could_not_tell(self) -> None:
        lines = [LINES.received(1), LINES.timed_out(4), LINES.report(4, duration_ms=3000, more="Status: timeout")]
        (attempt,) = log_of(*lines).about("In/a")
        assert (attempt.error, attempt.duration_ms) == ("Task timed out after 3.00 seconds", 3000)

    def test_an_error_that_names_no_invocation_is_found_in_its_stream(self) -> None:
        error = 'ERROR {"errorType": "Runtime.OutOfMemory", "errorMessage": "killed"}'
        (attempt,) = log_of(LINES.received(1), LINES.text(4, error), Lines("other").report(4)).about("In/a")
        assert attempt.error == "Runtime.OutOfMemory: killed"

    @pytest.mark.parametrize(
        "line",
        [
            f"2026-03-01T14:01:08.000Z\t{request_id(7)}\tINFO\tworking on In/a",
            json.dumps({"requestId": request_id(7), "message": "working", "objectKey": "In/a"}),
        ],
    )
    def test_a_function_whose_lines_the_stack_cannot_read(self, line: str) -> None:
        exited = f"RequestId: {request_id(7)} Error: Runtime exited with error: exit status 3"
        (attempt,) = log_of(LINES.text(1, line), LINES.text(2, exited)).about("In/a")
        assert (attempt.request_id, attempt.error) == (request_id(7), "Runtime exited with error: exit status 3")

    def test_only_the_last_invocations_are_looked_up(self) -> None:
        lines = [LINES.received(number, number, key="In/a") for number in range(20)]
        logs = FakeLogGroups(*lines)
        attempts = FunctionLog(logs, "g", STACK.read_log_line, START, START + HOUR).about("In/a", most=2)
        assert len(attempts) == 20
        assert {pattern for pattern in logs.patterns if pattern} == {
            '"In/a"',
            f'"{request_id(18)}"',
            f'"{request_id(19)}"',
        }


def test_the_last_errors_of_a_function_each_once() -> None:
    log = log_of(
        LINES.text(1, "ERROR first"),
        *(LINES.text(number, 'ERROR {"errorType": "E", "errorMessage": "often"}') for number in range(2, 9)),
        LINES.timed_out(9),
    )
    assert log.last_errors(2) == ("E: often", "Task timed out after 3.00 seconds")
