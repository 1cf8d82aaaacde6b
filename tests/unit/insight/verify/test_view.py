"""Views of check results: text and JUnit XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from refinerctl.insight.findings import Status
from refinerctl.insight.verify.checks import CheckResult
from refinerctl.insight.verify.view import junit, result_lines

HOSTILE = "a<b>&\"'\x00\x1b[31m\x7f\ud800\ufffe]]> -->\r\n\tü"


def result(status: Status, number: int = 0, stage: str | None = None, check: str = "rule") -> CheckResult:
    return CheckResult(check, status, f"seen {number}", "because", "fix it", stage)


def lines(*results: CheckResult, with_passed: bool = False) -> list[str]:
    found = result_lines(results, "a test", with_passed=with_passed)
    return ["".join(text for text, _ in parts) for parts in found]


def parsed(document: str) -> ET.Element:
    return ET.fromstring(document.encode())  # noqa: S314 - we wrote it


class TestText:
    def test_failures_come_first_and_passes_are_counted(self) -> None:
        shown = lines(
            result(Status.PASS),
            result(Status.SKIP, check="mapping"),
            result(Status.WARN, stage="A", check="loops"),
            result(Status.FAIL, stage="B"),
        )
        assert shown == [
            "FAIL  rule (B)",
            "      seen 0",
            "      why: because",
            "      fix: fix it",
            "WARN  loops (A)",
            "      seen 0",
            "      why: because",
            "      fix: fix it",
            "skip  mapping: seen 0",
            "1 passed, 1 failed, 1 warned, 1 skipped (names from a test)",
        ]

    def test_fifty_stages_with_one_failure_fit_on_a_screen(self) -> None:
        shown = lines(*(result(Status.FAIL, number, f"R{number}") for number in range(50)))
        assert shown[0] == "FAIL  rule (R0, R1, R2 and 47 more)"
        assert shown[1:5] == ["      seen 0", "      seen 1", "      seen 2", "      and 47 more"]
        assert len(shown) == 8

    def test_passes_are_listed_with_verbose_and_canaries_always(self) -> None:
        assert lines(result(Status.PASS), with_passed=True)[0] == "pass  rule: seen 0"
        assert lines(result(Status.PASS, stage="A", check="canary"))[0] == "pass  canary (A): seen 0"

    def test_no_results(self) -> None:
        assert lines() == ["nothing was checked (names from a test)"]


class TestJunit:
    def test_gitlab_finds_failures_skips_and_warnings(self) -> None:
        root = parsed(junit([result(status, stage="A") for status in Status]))
        (suite,) = root
        assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
        assert [case.get("name") for case in suite] == ["rule (A)"] * 4
        assert {case.get("classname") for case in suite} == {"verify.A"}
        failure = suite.find("testcase/failure")
        assert failure is not None
        assert failure.get("message") == "seen 0"
        assert failure.text == "seen 0\nwhy: because\nfix: fix it"
        assert [child.tag for case in suite for child in case] == ["system-out", "failure", "skipped"]

    @given(st.text() | st.just(HOSTILE), st.sampled_from(Status))
    def test_any_text_gives_well_formed_xml(self, text: str, status: Status) -> None:
        document = junit([CheckResult(text, status, text, text, text, text)])
        (case,) = parsed(document).iter("testcase")
        if text.isprintable():
            assert case.get("name") == (f"{text} ({text})" if text else "")

    def test_control_characters_are_replaced_and_the_rest_survives(self) -> None:
        failure = parsed(junit([CheckResult("x", Status.FAIL, HOSTILE, "", "")])).find(".//failure")
        assert failure is not None
        assert failure.get("message") == "a<b>&\"'\ufffd\ufffd[31m\x7f\ufffd\ufffd]]> -->\r\n\tü"
