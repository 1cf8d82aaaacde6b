"""What the page's lists and tables hold: checks, failures, releases, problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from refinerctl.insight.report.page.numbers import cut
from refinerctl.insight.report.types import FailureGroup, Report
from refinerctl.insight.verify.checks import CheckResult, Status
from refinerctl.releases.release import Release, ReleaseAction

MOST_CAUSES, MOST_KEYS, MOST_RELEASES = 30, 20, 20
MOST_NAMES = 8
LONGEST_ERROR, LONGEST_TEXT = 2000, 600
_ORDER = (Status.FAIL, Status.WARN, Status.SKIP, Status.PASS)


@dataclass(frozen=True)
class CheckGroup:
    """Results of one check that have the same fix: what rulesets have in common stands there once."""

    id: str
    status: Status
    seen: tuple[str, ...]
    why: str
    fix: str
    rulesets: tuple[str, ...]

    @property
    def count(self) -> int:
        return max(1, len(self.rulesets))


def check_groups(checks: Iterable[CheckResult]) -> dict[Status, list[CheckGroup]]:
    """By status, the worst first."""
    groups: dict[tuple[Status, str, str], list[CheckResult]] = {}
    for check in checks:
        groups.setdefault((check.status, check.id, check.fix), []).append(check)
    by_status: dict[Status, list[CheckGroup]] = {status: [] for status in _ORDER}
    for (status, identifier, fix), results in groups.items():
        seen = tuple(dict.fromkeys(cut(result.seen, LONGEST_TEXT) for result in results))
        names = tuple(result.stage for result in results if result.stage)
        by_status[status].append(CheckGroup(identifier, status, seen, results[0].why, fix, names))
    return by_status


@dataclass(frozen=True)
class Cause:
    """Failures with the same signature, in one ruleset or several: those with the most of them first."""

    signature: str
    count: int
    rulesets: tuple[tuple[str, int], ...]
    first: datetime
    last: datetime
    example: str
    keys: tuple[str, ...]
    request_ids: tuple[str, ...]


def causes(report: Report) -> tuple[Cause, ...]:
    """The most frequent first."""
    groups: dict[str, list[FailureGroup]] = {}
    for activity in report.activity:
        for group in activity.failures:
            groups.setdefault(group.signature, []).append(group)
    found = [_cause(signature, same) for signature, same in groups.items()]
    return tuple(sorted(found, key=lambda cause: (-cause.count, cause.signature)))


def _cause(signature: str, groups: Sequence[FailureGroup]) -> Cause:
    newest = sorted(groups, key=lambda group: group.last, reverse=True)
    return Cause(
        signature=signature,
        count=sum(group.count for group in groups),
        rulesets=tuple(
            sorted(((group.ruleset, group.count) for group in groups), key=lambda item: (-item[1], item[0]))
        ),
        first=min(group.first for group in groups),
        last=newest[0].last,
        example=newest[0].example,
        keys=tuple(key for group in newest for key in group.keys)[:MOST_KEYS],
        request_ids=tuple(identifier for group in newest for identifier in group.request_ids)[:MOST_KEYS],
    )


@dataclass(frozen=True)
class ReleaseRow:
    """An entry of the ledger, with what it runs that the one before did not; `total` is how many images it has."""

    release: Release
    is_in_place: bool
    changed: tuple[tuple[str, str], ...]
    total: int


def release_rows(releases: Sequence[Release]) -> tuple[ReleaseRow, ...]:
    """Newest first."""
    shown = releases[:MOST_RELEASES]
    rows = []
    for place, (release, before) in enumerate(zip_longest(shown, releases[1 : len(shown) + 1])):
        earlier = before.images if before else {}
        changed = tuple(
            (ruleset, short_image(uri))
            for ruleset, uri in sorted(release.images.items())
            if earlier.get(ruleset) != uri
        )
        in_place = place == 0 and release.action is not ReleaseAction.DESTROY
        rows.append(ReleaseRow(release, in_place, changed, len(release.images)))
    return tuple(rows)


def short_image(uri: str) -> str:
    """The repository's name and twelve digits of the digest: enough to recognize it."""
    name, at, digest = uri.rpartition("@")
    if not at:
        return cut(uri.rpartition("/")[2], 80)
    return f"{cut(name.rpartition('/')[2], 60)}@{digest[:19]}"


def problems(report: Report) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each text once, with the rulesets that it is about."""
    found: dict[str, list[str]] = {}
    for text in (*report.problems, *report.status.problems):
        found.setdefault(cut(text, LONGEST_TEXT), [])
    for ruleset in report.status.rulesets:
        for text in ruleset.problems:
            found.setdefault(cut(text, LONGEST_TEXT), []).append(ruleset.name)
    return tuple((text, tuple(names)) for text, names in found.items())


def named(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """`A, B, C and 47 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(cut(name, 80) for name in names[:most]) + more
