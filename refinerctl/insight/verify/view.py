"""Views of check results: text with failures first, and a JUnit report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from refinerctl.insight.findings import STATUS_STYLES, Status
from refinerctl.insight.verify.checks import CANARY, CheckResult

Parts: TypeAlias = list[tuple[str, str]]

_SEEN_SHOWN = 3
_ORDER = (Status.FAIL, Status.WARN, Status.SKIP, Status.PASS)
_NOUNS = {Status.PASS: "passed", Status.FAIL: "failed", Status.WARN: "warned", Status.SKIP: "skipped"}

# Characters that XML 1.0 forbids, even escaped: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def result_lines(results: Sequence[CheckResult], source: str, *, with_passed: bool) -> Iterator[Parts]:
    """Failures, warnings, skips and counts, as parts of lines with their styles.

    Results of one check with the same fix are one paragraph.
    """
    groups: dict[tuple[Status, str, str], list[CheckResult]] = {}
    for result in sorted(results, key=lambda result: _ORDER.index(result.status)):
        groups.setdefault((result.status, result.id, result.fix), []).append(result)
    for (status, check, _), group in groups.items():
        # Passes are counted only, except canaries: how long they took is of interest.
        if status is not Status.PASS or with_passed or check == CANARY:
            yield from _paragraph(group)
    counts = Counter(result.status for result in results)
    total = ", ".join(f"{counts[status]} {noun}" for status, noun in _NOUNS.items() if counts[status])
    yield [(f"{total or 'nothing was checked'} (names from {source})", "")]


def _paragraph(group: Sequence[CheckResult]) -> Iterator[Parts]:
    first, seen = group[0], list(dict.fromkeys(result.seen for result in group))
    names, shown = [result.stage for result in group if result.stage], seen[:_SEEN_SHOWN]
    where = f" ({', '.join(names[:_SEEN_SHOWN])}{_more(names)})" if names else ""
    style = STATUS_STYLES[first.status]
    if first.status in (Status.SKIP, Status.PASS):
        yield [(str(first.status), style), (f"  {first.id}{where}: {'; '.join(shown)}{_more(seen)}", "")]
        return
    yield [(first.status.upper(), style), (f"  {first.id}{where}", "")]
    lines = [*(f"      {text}" for text in shown), *([f"     {more}"] if (more := _more(seen)) else [])]
    lines += [f"      why: {first.why}", f"      fix: {first.fix}"]
    yield from ([(line, "")] for line in lines)


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
