"""What a check finds: of `verify`, and of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


# Styles of the console.
STATUS_STYLES = {Status.PASS: "green", Status.WARN: "yellow", Status.FAIL: "red", Status.SKIP: "dim"}


@dataclass(frozen=True)
class Finding:
    """The finding of a check; `fix` is what to do, if the check itself does not say it."""

    status: Status
    seen: str
    fix: str | None = None


def passed(seen: str) -> Finding:
    return Finding(Status.PASS, seen)


def failed(seen: str, fix: str | None = None) -> Finding:
    return Finding(Status.FAIL, seen, fix)


def warned(seen: str, fix: str | None = None) -> Finding:
    return Finding(Status.WARN, seen, fix)


def skipped(seen: str) -> Finding:
    return Finding(Status.SKIP, seen)
