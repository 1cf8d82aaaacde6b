"""Views of check results: text with failures first, and a JUnit report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence

from refinerctl.insight.verify.checks import CANARY, CheckResult, Status

_SEEN_SHOWN = 3
_ORDER = (Status.FAIL, Status.WARN, Status.SKIP, Status.PASS)
_NOUNS = {Status.PASS: "passed", Status.FAIL: "failed", Status.WARN: "warned", Status.SKIP: "skipped"}

# Characters that XML 1.0 forbids, even escaped: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def result_lines(results: Sequence[CheckResult], source: str, *, with_passed: bool) -> Iterator[str]:
    """Failures, warnings, skips and counts; results of one check with the same fix are one paragraph."""
    for status in _ORDER:
        for group in _groups(results, status):
            # Passes are counted only, except canaries: how long they took is of interest.
            if status is not Status.PASS or with_passed or group[0].id == CANARY:
                yield from _group_lines(group)
    counts = Counter(result.status for result in results)
    total = ", ".join(f"{counts[status]} {_NOUNS[status]}" for status in (Status.PASS, *_ORDER[:3]) if counts[status])
    yield f"{total or 'nothing was checked'} (names from {source})"


def _groups(results: Sequence[CheckResult], status: Status) -> list[list[CheckResult]]:
    """Results of one check that have the same fix."""
    groups: dict[tuple[str, str], list[CheckResult]] = {}
    for result in results:
        if result.status is status:
            groups.setdefault((result.id, result.fix), []).append(result)
    return list(groups.values())


def _group_lines(group: Sequence[CheckResult]) -> Iterator[str]:
    first = group[0]
    label = f"{first.status.upper() if first.status in (Status.FAIL, Status.WARN) else first.status:<4}  {first.id}"
    if first.status in (Status.SKIP, Status.PASS):
        seen = list(dict.fromkeys(result.seen for result in group))
        yield f"{label}{_of(group)}: {'; '.join(seen[:_SEEN_SHOWN])}{_more(seen)}"
        return
    yield f"{label}{_of(group)}"
    seen = list(dict.fromkeys(result.seen for result in group))
    for text in seen[:_SEEN_SHOWN]:
        yield f"      {text}"
    if more := _more(seen):
        yield f"     {more}"
    yield f"      why: {first.why}"
    yield f"      fix: {first.fix}"


def _of(group: Sequence[CheckResult]) -> str:
    names = [result.stage for result in group if result.stage]
    return f" ({', '.join(names[:_SEEN_SHOWN])}{_more(names)})" if names else ""


def _more(items: Sequence[str]) -> str:
    return f" and {len(items) - _SEEN_SHOWN} more" if len(items) > _SEEN_SHOWN else ""


def junit(results: Sequence[CheckResult]) -> str:
    """A JUnit report for GitLab: https://docs.gitlab.com/ci/testing/unit_test_reports/

    A warning is a passed test case with output.
    """
    statuses = Counter(result.status for result in results)
    counts = {"tests": len(results), "failures": statuses[Status.FAIL], "skipped": statuses[Status.SKIP]}
    totals = {name: str(count) for name, count in counts.items()}
    root = ET.Element("testsuites", totals)
    suite = ET.SubElement(root, "testsuite", {"name": "refinerctl verify", **totals, "errors": "0"})
    for result in results:
        _add_case(suite, result)
    ET.indent(root, "")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _add_case(suite: ET.Element, result: CheckResult) -> None:
    check, stage, seen = (_NOT_XML.sub("\ufffd", text) for text in (result.id, result.stage or "", result.seen))
    name = f"{check} ({stage})" if stage else check
    case = ET.SubElement(suite, "testcase", classname=f"verify.{stage or 'pipeline'}", name=name)
    details = _NOT_XML.sub("\ufffd", f"{result.seen}\nwhy: {result.why}\nfix: {result.fix}")
    match result.status:
        case Status.FAIL:
            ET.SubElement(case, "failure", message=seen).text = details
        case Status.SKIP:
            ET.SubElement(case, "skipped", message=seen)
        case Status.WARN:
            ET.SubElement(case, "system-out").text = f"warning: {details}"
