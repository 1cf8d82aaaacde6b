"""What Terraform says: its machine-readable events, its errors, who holds a state's lock, which version a state has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

LOCKED = "Error acquiring the state lock"
STALE = "Saved plan is stale"

_OTHER_LINES = 40

# As much of a state's document as holds its lineage and serial.
HEAD_BYTES = 4096
_LINEAGE = re.compile(rb'^\s*"lineage": *"([^"]*)"', re.MULTILINE)
_SERIAL = re.compile(rb'^\s*"serial": *(\d+)', re.MULTILINE)
_LOCK_FIELD = re.compile(r"^[│\s]*(ID|Path|Operation|Who|Created):[ \t]*(\S.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class StateVersion:
    """Which state it is and how often it was written. Before the first write it has neither."""

    lineage: str = ""
    serial: int = 0

    @classmethod
    def read(cls, head: bytes) -> StateVersion:
        """From the start of a state document, as Terraform writes it: both stand before its resources."""
        lineage, serial = _LINEAGE.search(head), _SERIAL.search(head)
        return cls(lineage[1].decode() if lineage else "", int(serial[1]) if serial else 0)


@dataclass(frozen=True)
class StateLock:
    """Who holds the state's lock, since when (UTC); `operation` is Terraform's: plan, apply, …

    `id` is None if the backend tells nothing about the lock.
    """

    id: str | None = None
    who: str = ""
    operation: str = ""
    created: datetime | None = None


def parse_lock(text: str) -> StateLock:
    """The lock that an error describes after `Lock Info:`; without an id if it does not."""
    _, found, after = text.partition("Lock Info:")
    fields: dict[str, str] = dict(_LOCK_FIELD.findall(after)) if found else {}
    if "ID" not in fields:
        return StateLock()
    return StateLock(
        id=fields["ID"],
        who=fields.get("Who", ""),
        operation=fields.get("Operation", "").removeprefix("OperationType").lower(),
        created=_created(fields.get("Created", "")),
    )


def lock_text(lock: StateLock) -> str:
    """Who holds the lock since when, for messages."""
    if lock.id is None:
        return "another run holds the state's lock"
    since = f" since {lock.created:%Y-%m-%d %H:%M:%SZ}" if lock.created else ""
    return (
        f"{lock.who or 'an unknown user'} holds the state's lock{since}"
        f" (operation {lock.operation or 'unknown'}, id {lock.id})"
    )


def _created(text: str) -> datetime | None:
    """Go's time: `2026-11-22 05:30:19.41806303 +0000 UTC`."""
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC").replace(" +", "+")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# How far an apply is: resources done, of how many, and the address that finished last.
OnApply = Callable[[int, int, str], None]

# A replacement is a destruction and a creation, each with an event of its own.
_STEPS = {"create": 1, "update": 1, "delete": 1, "replace": 2}


@dataclass
class EventReader:
    """Reads `-json` output: https://developer.hashicorp.com/terraform/internals/machine-readable-ui

    `lock` is set if another run holds the state's lock.
    """

    on_progress: OnApply = lambda *_: None
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
            self.on_progress(0, self.total, "")
        elif kind == "apply_complete" and event["hook"]["action"] != "read":
            self.done += 1
            self.on_progress(self.done, self.total, event["hook"]["resource"]["addr"])
        elif kind == "diagnostic":
            self._diagnostic(event["diagnostic"])

    def why(self) -> str | None:
        """Why the run failed, if Terraform reported it."""
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
