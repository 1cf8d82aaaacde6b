"""What Terraform says while it runs: its machine-readable events and its errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from refinerctl.terraform.state import StateLock, parse_lock

LOCKED = "Error acquiring the state lock"
STALE = "Saved plan is stale"

_OTHER_LINES = 40


@dataclass(frozen=True)
class ApplyProgress:
    """How far an apply is: resources done of those planned, and the address that finished last."""

    done: int
    total: int
    address: str


OnApply = Callable[[ApplyProgress], None]

# A replacement is a destruction and a creation, each with an event of its own.
_STEPS = {"create": 1, "update": 1, "delete": 1, "replace": 2}


@dataclass
class EventReader:
    """Reads `-json` output: https://developer.hashicorp.com/terraform/internals/machine-readable-ui

    `lock` is set if another run holds the state's lock.
    """

    on_progress: OnApply = lambda _: None
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    lock: StateLock | None = None
    is_stale: bool = False
    total: int = 0
    done: int = 0

    def line(self, line: str) -> None:
        """Read one line. The last lines that are not events, such as a crash, are kept in `other`."""
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
        elif kind == "diagnostic":
            self._diagnostic(event["diagnostic"])

    def why(self) -> str | None:
        """Why the run failed, if Terraform said so."""
        return "; ".join(self.errors) or (last_error("".join(self.other)) if self.other else None)

    def _diagnostic(self, diagnostic: dict[str, Any]) -> None:
        summary, detail = diagnostic["summary"], diagnostic.get("detail", "")
        text = ": ".join(filter(None, [summary, " ".join(detail.split())]))
        if diagnostic["severity"] != "error":
            self.warnings.append(text)
            return
        self.errors.append(text)
        if summary == LOCKED:
            self.lock = parse_lock(detail)
        self.is_stale = self.is_stale or summary == STALE


def last_error(text: str) -> str:
    """The sentences after the last `Error:` of Terraform's text output."""
    _, found, after = text.rpartition("Error: ")
    return " ".join((after if found else text).replace("│", " ").replace("╵", " ").split())[:600] or "no output"
