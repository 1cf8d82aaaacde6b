"""Views of check results: text with failures first, and a JUnit report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

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
    counts = Counter(result.status for result in results)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites tests="{len(results)}" failures="{counts[Status.FAIL]}" skipped="{counts[Status.SKIP]}">',
        f'<testsuite name="refinerctl verify" tests="{len(results)}" failures="{counts[Status.FAIL]}" errors="0" '
        f'skipped="{counts[Status.SKIP]}">',
    ]
    lines += [_testcase(result) for result in results]
    return "\n".join([*lines, "</testsuite>", "</testsuites>", ""])


def _testcase(result: CheckResult) -> str:
    name = f"{result.id} ({result.stage})" if result.stage else result.id
    where = _attribute(f"verify.{result.stage or 'pipeline'}")
    opened = f"<testcase classname={where} name={_attribute(name)}"
    if result.status is Status.PASS:
        return f"{opened}/>"
    body = _text(f"{result.seen}\nwhy: {result.why}\nfix: {result.fix}")
    inside = {
        Status.FAIL: f"<failure message={_attribute(result.seen)}>{body}</failure>",
        Status.SKIP: f"<skipped message={_attribute(result.seen)}/>",
        Status.WARN: f"<system-out>warning: {body}</system-out>",
    }[result.status]
    return f"{opened}>{inside}</testcase>"


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text), {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})
