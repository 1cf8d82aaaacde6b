"""The state of a root module: which version of it, and who holds its lock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

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
    """Go's time: `2026-11-22 05:30:19.41806303 +0000 UTC`; its nanoseconds are more than Python reads."""
    match = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d+)? ([+-]\d{4})", text)
    if match is None:
        return None
    try:
        return datetime.strptime(" ".join(match.groups()), "%Y-%m-%d %H:%M:%S %z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
