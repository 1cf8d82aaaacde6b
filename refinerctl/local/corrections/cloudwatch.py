"""CloudWatch: alarms in the query protocol, which Terraform's provider speaks.

The emulator loses most of an alarm in this protocol, and nothing in its JSON protocol: requests are translated to it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from refinerctl.local.corrections.server import AwsAnswer, AwsRequest, CorrectingServer, Forward

_TARGET = "GraniteServiceVersion20100801"
_NAMESPACE = "http://monitoring.amazonaws.com/doc/2010-08-01/"
_TIMES = ("StateUpdatedTimestamp", "AlarmConfigurationUpdatedTimestamp", "StateTransitionedTimestamp")
_NOT_STRINGS = {
    "Period": int,
    "EvaluationPeriods": int,
    "DatapointsToAlarm": int,
    "MaxRecords": int,
    "Threshold": float,
}
_BOOLEANS = ("ActionsEnabled", "ReturnData")


def correct_alarms(corrections: CorrectingServer) -> None:
    """Register the corrections of PutMetricAlarm and DescribeAlarms."""
    for operation in ("PutMetricAlarm", "DescribeAlarms"):
        corrections.correct("monitoring", operation, _in_json)


def _in_json(request: AwsRequest, forward: Forward) -> AwsAnswer:
    if "form" not in request.headers.get("content-type", ""):
        return forward(request)
    parameters = {name: value for name, value in request.form.items() if name not in ("Action", "Version")}
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"{_TARGET}.{request.operation}"}
    answer = forward(request.with_json(nested(parameters), **headers))
    if not answer.ok:
        return _xml(answer.status, "ErrorResponse", f"<Error>{_error(answer.json)}</Error>")
    result = f"<{request.operation}Result>{_elements(answer.json)}</{request.operation}Result>"
    return _xml(answer.status, f"{request.operation}Response", result)


def nested(parameters: dict[str, str]) -> dict[str, Any]:
    """`{"Dimensions.member.1.Name": "Queue"}` as `{"Dimensions": [{"Name": "Queue"}]}`."""
    tree: dict[str, Any] = {}
    for name, value in sorted(parameters.items(), key=lambda item: _numbers(item[0])):
        *parents, last = re.sub(r"\.member\.", ".", name).split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = _typed(last, value)
    lists = _lists(tree)
    assert isinstance(lists, dict)  # noqa: S101 - parameters have names, not numbers
    return lists


def _numbers(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in name.split(".")]


def _typed(name: str, value: str) -> Any:
    if name in _BOOLEANS:
        return value == "true"
    return _NOT_STRINGS.get(name, str)(value)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(name.isdigit() for name in node):
        return [_lists(child) for child in node.values()]
    return {name: _lists(child) for name, child in node.items()}


def _elements(value: Any, name: str = "") -> str:
    if isinstance(value, dict):
        items = ((key, _elements(item, key)) for key, item in value.items() if item is not None)
        return "".join(f"<{key}>{content}</{key}>" for key, content in items)
    if isinstance(value, list):
        return "".join(f"<member>{_elements(item, name)}</member>" for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if name in _TIMES and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).isoformat()
    return escape(str(value))


def _error(document: dict[str, Any]) -> str:
    code = str(document.get("__type", "InternalFailure")).rpartition("#")[2]
    return f"<Code>{escape(code)}</Code><Message>{escape(str(document.get('message', '')))}</Message>"


def _xml(status: int, root: str, content: str) -> AwsAnswer:
    metadata = "<ResponseMetadata><RequestId>local</RequestId></ResponseMetadata>"
    body = f'<{root} xmlns="{_NAMESPACE}">{content}{metadata}</{root}>'
    return AwsAnswer(status, body.encode(), {"Content-Type": "text/xml"})
