"""Lines that Lambda writes, in both formats, and the patterns that find the lines of an input."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refinerctl.insight.function_lines import MAX_PATTERN, Mark, PlatformLine, pattern_of, platform_line
from refinerctl.stacks.records import error_text

ID = "8f5df350-6a1c-4b2b-9e0e-0a1b2c3d4e5f"


class TestPlatformLine:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (f"START RequestId: {ID} Version: $LATEST\n", PlatformLine(Mark.START, ID)),
            (f"END RequestId: {ID}\n", PlatformLine(Mark.END, ID)),
            (
                f"REPORT RequestId: {ID}\tDuration: 102.25 ms\tBilled Duration: 103 ms\tMemory Size: 128 MB\n",
                PlatformLine(Mark.REPORT, ID, 102.25),
            ),
            (
                f"REPORT RequestId: {ID}\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tStatus: timeout",
                PlatformLine(Mark.REPORT, ID, 3000.0, "timeout"),
            ),
            (
                f"REPORT RequestId: {ID}\tDuration: 9.1 ms\tStatus: error\tError Type: Runtime.ExitError\n",
                PlatformLine(Mark.REPORT, ID, 9.1, "Runtime.ExitError"),
            ),
            (
                f"2026-03-01T14:02:03.000Z {ID} Task timed out after 3.00 seconds\n\n",
                PlatformLine(Mark.ERROR, ID, error="Task timed out after 3.00 seconds"),
            ),
            (
                f"RequestId: {ID} Error: Runtime exited with error: signal: killed\nRuntime.ExitError\n",
                PlatformLine(Mark.ERROR, ID, error="Runtime exited with error: signal: killed"),
            ),
            (
                f'2026-03-01T14:02:03Z\t{ID}\tERROR\tInvoke Error \t{{"errorType":"E","errorMessage":"m","stack":[]}}',
                PlatformLine(Mark.ERROR, ID, error="E: m"),
            ),
            (
                'ERROR {"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 2.00 seconds"}',
                PlatformLine(Mark.ERROR, None, error="Sandbox.Timedout: Task timed out after 2.00 seconds"),
            ),
            (
                "[ERROR] ValueError: no such thing\nTraceback (most recent call last):\n",
                PlatformLine(Mark.ERROR, None, error="ValueError: no such thing"),
            ),
            (
                json.dumps({"time": "t", "type": "platform.start", "record": {"requestId": ID, "version": "1"}}),
                PlatformLine(Mark.START, ID),
            ),
            (
                json.dumps(
                    {
                        "type": "platform.report",
                        "record": {
                            "requestId": ID,
                            "metrics": {"durationMs": 4.5},
                            "status": "error",
                            "errorType": "Runtime.ExitError",
                        },
                    }
                ),
                PlatformLine(Mark.REPORT, ID, 4.5, "Runtime.ExitError"),
            ),
            (
                json.dumps({"type": "platform.runtimeDone", "record": {"requestId": ID, "status": "success"}}),
                PlatformLine(Mark.END, ID),
            ),
        ],
    )
    def test_each_format(self, line: str, expected: PlatformLine) -> None:
        assert platform_line(line) == expected

    @pytest.mark.parametrize(
        "line",
        ["", "hello", '{"level": "ERROR", "message": "x"}', '{"type": "platform.initStart", "record": {}}', "[1, 2]"],
    )
    def test_lines_of_the_code_are_none(self, line: str) -> None:
        assert platform_line(line) is None

    @given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
    @example('{"type": "platform.report", "record": {"metrics": []}}')
    @example('{"type": 5, "record": 6}')
    def test_any_text_is_accepted(self, line: str) -> None:
        platform_line(line)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"name": "NoSuchKey", "message": "gone", "stack": "…"}, "NoSuchKey: gone"),
        ({"name": "S3ServiceException", "code": "AccessDenied", "message": "no"}, "AccessDenied: no"),
        ({"errorType": "E", "errorMessage": ""}, "E"),
        ({}, "no reason given"),
        (" plain ", "plain"),
    ],
)
def test_error_text(error: object, expected: str) -> None:
    assert error_text(error) == expected


def terms(pattern: str) -> list[str]:
    return [term[1:-1] for term in pattern.split(" ")] if pattern else []


class TestPatternOf:
    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("RefinerInput/a.txt", ['"RefinerInput/a.txt"']),
            ("In/with space -x.txt", ['"In/with"', '"-x.txt"', '"space"']),
            ("In/größe.txt", ['"In/gr"', '"e.txt"']),
            ('In/a"b\\c', ['"In/a"', '"b"', '"c"']),
        ],
    )
    def test_terms_are_quoted_and_plain(self, key: str, expected: list[str]) -> None:
        assert sorted(pattern_of(key).split(" ")) == sorted(expected)

    @given(st.text(min_size=1, max_size=1024))
    def test_every_line_that_names_the_key_holds_all_terms(self, key: str) -> None:
        pattern = pattern_of(key)
        assert len(pattern) <= MAX_PATTERN
        for line in (key, json.dumps({"key": key}), json.dumps({"key": key}, ensure_ascii=False)):
            assert all(term in line for term in terms(pattern))
