"""How it is going, in one sentence and a few numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from refinerctl.insight.report.page.lanes import Lane
from refinerctl.insight.report.page.numbers import UNKNOWN, Count, counted, share, span, total
from refinerctl.insight.report.page.sections import problems
from refinerctl.insight.report.types import Report
from refinerctl.insight.verify.checks import Status

# What is added to a word that sounds calm.
_AFTER = {"warn": ", with warnings", "bad": ", with trouble"}
_CALM = ("Flowing", "Idle", "Starting", "Unknown")

MARKS = {"good": "✓", "warn": "!", "bad": "✗", "neutral": "○"}


@dataclass(frozen=True)
class Verdict:
    """`tone` is one of MARKS; `word` says the same, for who sees no colour."""

    tone: str
    word: str
    sentence: str


@dataclass(frozen=True)
class Tile:
    """A number that stands out, and what it is."""

    label: str
    number: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Sums:
    """All rulesets together."""

    completed: Count
    failed: Count
    waiting: Count
    in_flight: Count
    dead: Count
    window: str


def sums(report: Report, lanes: Sequence[Lane]) -> Sums:
    with_function = [lane for lane in lanes if lane.has_function]
    return Sums(
        completed=total(lane.completed for lane in with_function),
        failed=total(lane.failed for lane in with_function),
        waiting=total(lane.waiting for lane in with_function),
        in_flight=total(lane.in_flight for lane in with_function),
        dead=total(count for lane in lanes for count in (lane.dead, lane.delivery_dead)),
        window=span((report.status.at - report.since).total_seconds()),
    )


def verdict(report: Report, seen: Sums) -> Verdict:
    """What to think of it. Messages in the completions' queue wait for others: they do not count."""
    checks = Counter(check.status for check in report.checks or ())
    word, tone = _flow(seen)
    parts = [_done(seen)]
    if seen.waiting and not seen.completed:
        parts.append(f"{counted(seen.waiting.value or 0, 'message')} waiting")
    if seen.dead:
        parts.append(f"{_counted(seen.dead, 'message')} in dead-letter queues")
        tone = "bad"
    if checks[Status.FAIL]:
        parts.append(f"{counted(checks[Status.FAIL], 'check')} {'fails' if checks[Status.FAIL] == 1 else 'fail'}")
        tone = "bad"
    elif checks[Status.WARN]:
        parts.append(f"{counted(checks[Status.WARN], 'check')} {'warns' if checks[Status.WARN] == 1 else 'warn'}")
        tone = "warn" if tone == "good" else tone
    if unread := problems(report):
        parts.append(f"{counted(len(unread), 'thing')} could not be looked at")
        tone = "warn" if tone == "good" else tone
    return Verdict(tone, word + _AFTER.get(tone, "") * (word in _CALM), "; ".join(parts))


def _flow(seen: Sums) -> tuple[str, str]:
    if seen.completed:
        return "Flowing", "warn" if seen.failed else "good"
    if seen.failed:
        return "Failing", "bad"
    if seen.completed.value is None:
        return "Unknown", "neutral"
    if seen.waiting:
        return ("Starting", "neutral") if seen.in_flight else ("Standing still", "bad")
    return "Idle", "neutral"


def _done(seen: Sums) -> str:
    if seen.completed.value is None and seen.failed.value is None:
        return f"nothing tells what was processed in {seen.window}"
    if not seen.completed and not seen.failed:
        return f"nothing was processed in {seen.window}"
    return f"{seen.completed.text} completed, {seen.failed.text} failed in {seen.window}"


def _counted(number: Count, noun: str) -> str:
    text = counted(number.value or 0, noun)
    return f"at least {text}" if number.at_least else text


def tiles(report: Report, seen: Sums, latency: Sequence[str] = ()) -> tuple[Tile, ...]:
    """`latency`: p50, p95 and p99 of all, where they are known."""
    completed, failed = seen.completed.value, seen.failed.value
    of_all = "" if completed is None or failed is None else f"{share(failed, completed + failed)} of attempts"
    return (
        Tile("Completed", seen.completed.text, f"in {seen.window}"),
        Tile("Failed attempts", seen.failed.text, of_all if failed else "", "bad" if failed else ""),
        Tile("Waiting now", seen.waiting.text, f"{seen.in_flight.text} in flight"),
        Tile("Dead letters", seen.dead.text, "", "bad" if seen.dead else ""),
        Tile("p95 latency", f"≤ {latency[1]}", f"p50 ≤ {latency[0]}") if latency else Tile("p95 latency", UNKNOWN),
        _checks_tile(report),
    )


def _checks_tile(report: Report) -> Tile:
    if report.checks is None:
        return Tile("Checks", UNKNOWN, "verify was not run")
    counts = Counter(check.status for check in report.checks)
    if counts[Status.FAIL]:
        return Tile("Checks", f"{counts[Status.FAIL]:,} failed", f"{counts[Status.PASS]:,} passed", "bad")
    if counts[Status.WARN]:
        return Tile("Checks", f"{counts[Status.WARN]:,} warned", f"{counts[Status.PASS]:,} passed", "warn")
    return Tile("Checks", f"{counts[Status.PASS]:,} passed")
