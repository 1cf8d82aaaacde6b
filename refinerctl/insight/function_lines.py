"""Lines of a function's log group that Lambda itself writes, in text and JSON format, and patterns to find lines."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from refinerctl.stacks.records import error_text

_ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"
_START = re.compile(rf"START RequestId: ({_ID})")
_END = re.compile(rf"END RequestId: ({_ID})")
_REPORT = re.compile(rf"REPORT RequestId: ({_ID})\s+Duration: ([\d.]+) ms")
_REPORT_ERROR = re.compile(r"\bStatus: (error|timeout)(?:\s+Error Type: (\S+))?")
_TIMED_OUT = re.compile(rf"({_ID}) (Task timed out after [\d.]+ seconds)")
_EXITED = re.compile(rf"RequestId: ({_ID}) Error: (.+)")
_NODE_ERROR = re.compile(rf"\t({_ID})\tERROR\t(?:Invoke Error|Uncaught Exception)\s+(\{{.*)", re.DOTALL)
_OWN_ERROR = re.compile(r"(?:ERROR|\[ERROR\]) (.+)", re.DOTALL)
# How Lambda's runtimes begin a line that the function's code has written: time, tab, request id, tab.
_CODE_LINE = re.compile(rf"\S+\t({_ID})\t")

# FilterLogEvents takes patterns of up to 1,024 characters.
MAX_PATTERN = 1000


class Mark(StrEnum):
    """What a line says of an invocation."""

    START = "start"
    END = "end"
    REPORT = "report"
    ERROR = "error"


@dataclass(frozen=True)
class PlatformLine:
    """A line of Lambda's own about one invocation. `request_id` None: only the lines around it tell which one."""

    mark: Mark
    request_id: str | None
    duration_ms: float | None = None
    error: str | None = None


def json_line(line: str) -> dict[str, Any] | None:
    """The JSON object that a line holds; None for plain text."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def platform_line(line: str) -> PlatformLine | None:
    """A line of Lambda's own, in text or JSON format; None for a line of the function's code.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
    """
    record = json_line(line)
    return platform_text(line) if record is None else platform_record(record)


def platform_text(line: str) -> PlatformLine | None:
    """A line of Lambda's own in text format."""
    if match := _START.match(line):
        return PlatformLine(Mark.START, match[1])
    if match := _END.match(line):
        return PlatformLine(Mark.END, match[1])
    if match := _REPORT.match(line):
        return PlatformLine(Mark.REPORT, match[1], float(match[2]), _report_error(line))
    return _error_line(line)


def _report_error(line: str) -> str | None:
    match = _REPORT_ERROR.search(line)
    return (match[2] or match[1]) if match else None


def _error_line(line: str) -> PlatformLine | None:
    if (match := _TIMED_OUT.search(line)) or (match := _EXITED.match(line)):
        return PlatformLine(Mark.ERROR, match[1], error=match[2].strip())
    if match := _NODE_ERROR.search(line):
        return PlatformLine(Mark.ERROR, match[1], error=error_text(json_line(match[2]) or {}))
    if match := _OWN_ERROR.match(line):
        record = json_line(match[1])
        return PlatformLine(Mark.ERROR, None, error=error_text(record) if record else match[1].splitlines()[0])
    return None


def platform_record(record: dict[str, Any]) -> PlatformLine | None:
    """A line of Lambda's own in JSON format, or an exception that its runtime logged."""
    kind, inner = record.get("type"), record.get("record")
    if not isinstance(kind, str) or not kind.startswith("platform.") or not isinstance(inner, dict):
        return _exception(record)
    mark = {"platform.start": Mark.START, "platform.runtimeDone": Mark.END, "platform.report": Mark.REPORT}.get(kind)
    if mark is None:
        return None
    metrics = inner.get("metrics")
    duration = metrics.get("durationMs") if isinstance(metrics, dict) else None
    failed = mark is not Mark.START and inner.get("status") not in (None, "success")
    error = str(inner.get("errorType") or inner.get("status")) if failed else None
    return PlatformLine(
        mark, str(inner.get("requestId")), float(duration) if isinstance(duration, int | float) else None, error
    )


def _exception(record: dict[str, Any]) -> PlatformLine | None:
    request_id, message = record.get("requestId"), record.get("message")
    error = message if isinstance(message, dict) else record
    if not isinstance(request_id, str) or not error.get("errorType"):
        return None
    return PlatformLine(Mark.ERROR, request_id, error=error_text(error))


def request_id_of(line: str) -> str | None:
    """The request ID in a line of the function's code, in text or JSON format; None if it has none."""
    record = json_line(line)
    if record is None:
        match = _CODE_LINE.match(line)
        return match[1] if match else None
    found = record.get("requestId")
    return found if isinstance(found, str) else None


def pattern_of(text: str) -> str:
    """A filter pattern for the lines that hold `text`, raw or within JSON: all of its terms must occur.

    Terms are the parts that JSON does not escape, so other lines may match, too: check each line that is returned.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    """
    terms = sorted(set(re.findall(r"[!#-\[\]-~]+", text)), key=lambda term: (-len(term), term))
    pattern = ""
    for term in terms:
        quoted = f'"{term[: MAX_PATTERN - 2]}"'
        if len(pattern) + 1 + len(quoted) <= MAX_PATTERN:
            pattern = f"{pattern} {quoted}".strip()
    return pattern
