"""The result of a run, sent to a webhook: as JSON, or as a text for Slack. Never with secrets."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from refinerctl.addresses import is_loopback
from refinerctl.console import as_json, printable
from refinerctl.errors import RefinerctlError, UsageError

# Slack's own hosts; another server that accepts Slack's format is given as slack+https://…
_SLACK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")
_SLACK_SCHEME = "slack+"
_TEXT_LENGTH = 3000

STATUSES = {
    0: "done",
    1: "failed",
    2: "usage error",
    3: "timed out",
    4: "refused",
    5: "differences",
    130: "interrupted",
    143: "interrupted",
}

# Variables whose values are secrets, by their names; a name of a file is none.
_SECRET_NAMES = re.compile(
    r"(TOKEN|SECRET|PASSW|PRIVATE|CREDENTIAL|API_?KEY|WEBHOOK|NOTIFY)(?!.*_FILE$)", re.IGNORECASE
)
_SHORTEST_SECRET = 8
_SECRET_PARTS = (
    (re.compile(r"(?<=://)[^/\s@]+@"), "***@"),
    (
        re.compile(
            r"([?&](?:X-Amz-[\w-]+|[\w-]*(?:token|secret|signature|password|key|sig))=)[^&\s\"']+", re.IGNORECASE
        ),
        r"\1***",
    ),
    (re.compile(r"((?:Authorization|PRIVATE-TOKEN|JOB-TOKEN): *(?:\w+ )?)\S+", re.IGNORECASE), r"\1***"),
)


@dataclass(frozen=True)
class RunReport:
    """The result of a run. `result` is the document that --output json prints, None without one."""

    command: str
    environment: str | None
    stack: str | None
    status: str
    exit_code: int
    error: str | None
    dry_run: bool
    job_url: str | None
    result: Any


def check_url(url: str) -> None:
    """Raises UsageError, without the URL, if it is none to send to."""
    try:
        parts = urlsplit(url.removeprefix(_SLACK_SCHEME))
        usable = parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.netloc)))
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(
            "--notify (REFINERCTL_NOTIFY) must be an https:// URL",
            hint="For another server with Slack's format: slack+https://…",
        )


def post_report(url: str, report: RunReport, tell: Callable[[str], None]) -> None:
    """Post the report. Raises RefinerctlError, without the URL, if the server does not accept it."""
    from refinerctl.transport import Limits, Transport

    document = without_secrets(json.loads(json.dumps(vars(report), default=as_json)), {**os.environ, "NOTIFY": url})
    is_slack = url.startswith(_SLACK_SCHEME) or urlsplit(url).hostname in _SLACK_HOSTS
    content = {"text": slack_text(document)} if is_slack else document
    limits = Limits(attempts=3, connect_timeout_s=5, read_timeout_s=10, give_up_s=20, longest_retry_after_s=10)
    address = url.removeprefix(_SLACK_SCHEME)
    headers = {"Content-Type": "application/json"}
    answer = Transport(limits, tell).fetch("POST", address, headers, json.dumps(content).encode())
    if not 200 <= answer.status < 300:
        raise RefinerctlError(f"{answer.host} returned {answer.status}")


def without_secrets(value: Any, environ: Mapping[str, str]) -> Any:
    """The same document without secrets: values of variables that are named like one, parts of URLs and headers."""
    secrets = [text.strip() for name, text in environ.items() if _SECRET_NAMES.search(name)]
    longest_first = sorted((text for text in secrets if len(text) >= _SHORTEST_SECRET), key=len, reverse=True)

    def clean(item: Any) -> Any:
        if isinstance(item, dict):
            return {clean(key): clean(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [clean(inner) for inner in item]
        if not isinstance(item, str):
            return item
        for secret in longest_first:
            item = item.replace(secret, "***")
        for pattern, instead in _SECRET_PARTS:
            item = pattern.sub(instead, item)
        return item

    return clean(value)


def slack_text(document: Mapping[str, Any]) -> str:
    """One message. Slack's own characters are escaped, so that no name in it can mention or link."""
    where = f"{document['stack']} in {document['environment']}" if document["environment"] else "this project"
    dry = ", dry run" if document["dry_run"] else ""
    lines = [
        f"refinerctl {document['command']} of {where}{dry}: {document['status']} (exit code {document['exit_code']})"
    ]
    if document["error"]:
        lines.append(document["error"])
    if isinstance(document["result"], dict) and (facts := _facts(document["result"])):
        lines.append(", ".join(facts))
    text = "\n".join(printable(line) for line in lines)[:_TEXT_LENGTH]
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped + (f"\n{document['job_url']}" if document["job_url"] else "")


def _facts(result: Mapping[str, Any]) -> list[str]:
    """Words and numbers of the result, and how many there are of what it lists."""
    found = []
    for key, value in result.items():
        name = key.replace("_", " ")
        if isinstance(value, list) and value:
            statuses = Counter(item["status"] for item in value if isinstance(item, dict) and "status" in item)
            parts = [f"{count} {status}" for status, count in statuses.items()]
            found.append(f"{name}: {', '.join(parts) or len(value)}")
        elif isinstance(value, str | int | float) and value != "":
            found.append(f"{name}: {str(value).lower() if isinstance(value, bool) else value}")
    return found
