"""What Terraform says while it runs: its machine-readable events, its errors, who holds a lock."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from refinerctl.releases.model import StateLock

LOCKED = "Error acquiring the state lock"
STALE = "Saved plan is stale"

_OTHER_LINES = 40


@dataclass(frozen=True)
class ApplyProgress:
    """How far an apply is: resources done of those planned, and the address last finished."""

    done: int
    total: int
    address: str


OnApply = Callable[[ApplyProgress], None]

# A replacement is a destruction and a creation, each with an event of its own.
_STEPS = {"create": 1, "update": 1, "delete": 1, "replace": 2}


@dataclass
class EventReader:
    """Reads `-json` output: https://developer.hashicorp.com/terraform/internals/machine-readable-ui"""

    on_progress: OnApply = lambda _: None
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    lock: StateLock | None = None
    is_locked: bool = False
    is_stale: bool = False
    total: int = 0
    done: int = 0

    def line(self, line: str) -> None:
        """Take one line. What is no event, a crash for instance, is kept in `other`, its end."""
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            self.other = [*self.other[-_OTHER_LINES:], line]
            return
        kind = event.get("type")
        if kind == "planned_change":
            self.total += _STEPS.get(event["change"]["action"], 0)
        elif kind == "change_summary" and event["changes"]["operation"] == "plan":
            changes = event["changes"]
            self.total = changes["add"] + changes["change"] + changes["remove"]
            self.on_progress(ApplyProgress(0, self.total, ""))
        elif kind == "apply_complete" and event["hook"]["action"] != "read":
            self.done += 1
            self.on_progress(ApplyProgress(self.done, self.total, event["hook"]["resource"]["addr"]))
        elif kind == "diagnostic" and event["diagnostic"]["severity"] == "error":
            self._error(event["diagnostic"])
        elif kind == "diagnostic":
            self.warnings.append(_diagnostic_text(event["diagnostic"]))

    def why(self) -> str | None:
        """Why the run failed, as far as Terraform says."""
        return "; ".join(self.errors) or (last_error("".join(self.other)) if self.other else None)

    def _error(self, diagnostic: dict[str, Any]) -> None:
        self.errors.append(_diagnostic_text(diagnostic))
        if diagnostic["summary"] == LOCKED:
            self.is_locked = True
            self.lock = parse_lock(diagnostic.get("detail", ""))
        self.is_stale = self.is_stale or diagnostic["summary"] == STALE


def _diagnostic_text(diagnostic: dict[str, str]) -> str:
    detail = " ".join(diagnostic.get("detail", "").split())
    return f"{diagnostic['summary']}: {detail}" if detail else diagnostic["summary"]


def last_error(text: str) -> str:
    """The sentences after the last `Error:` of Terraform's text output."""
    _, found, after = text.rpartition("Error: ")
    return " ".join((after if found else text).replace("│", " ").replace("╵", " ").split())[:600] or "no output"


_LOCK_FIELD = re.compile(r"^[│\s]*(ID|Path|Operation|Who|Created):[ \t]*(\S.*?)\s*$", re.MULTILINE)


def parse_lock(text: str) -> StateLock | None:
    """The lock that an error's `Lock Info:` is about; None where the backend told nothing of it."""
    _, found, after = text.partition("Lock Info:")
    fields: dict[str, str] = dict(_LOCK_FIELD.findall(after)) if found else {}
    if "ID" not in fields:
        return None
    return StateLock(
        id=fields["ID"],
        who=fields.get("Who", ""),
        operation=fields.get("Operation", "").removeprefix("OperationType").lower(),
        created=_created(fields.get("Created", "")),
    )


def _created(text: str) -> datetime | None:
    """Go's time: `2026-11-22 05:30:19.41806303 +0000 UTC`; its nanoseconds are more than Python reads."""
    match = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d+)? ([+-]\d{4})", text)
    if match is None:
        return None
    try:
        return datetime.strptime(" ".join(match.groups()), "%Y-%m-%d %H:%M:%S %z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
