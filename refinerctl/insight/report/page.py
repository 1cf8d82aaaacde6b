"""The page of `report --html`: one HTML document without requests and without JavaScript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, TypeAlias

from refinerctl.console import counted
from refinerctl.insight.findings import Status
from refinerctl.insight.report import charts, text
from refinerctl.insight.report.activity import Activity
from refinerctl.insight.report.pipeline import StageLane, shared_components, shown_lanes, stage_lane
from refinerctl.insight.report.tally import FailureGroup, merged
from refinerctl.insight.report.text import Count, cut, harmless, total
from refinerctl.insight.status_model import PipelineStatus
from refinerctl.insight.verify.checks import CheckResult
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.stacks.base import Pipeline

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_KEYS, MOST_RELEASES = 20, 20
MARKS = {"good": "✓", "warn": "!", "bad": "✗", "neutral": "○"}


@dataclass(frozen=True)
class PipelineReport:
    """Everything at `status.at` and over the period since `since`. `problems`: what could not be read.

    `pipeline` has the chosen stages. `releases` newest first. `checks` None: verify was not run.
    """

    env: str
    stack: str
    pipeline: Pipeline
    since: datetime
    status: PipelineStatus
    activity: Activity
    releases: tuple[Release, ...] = ()
    checks: tuple[CheckResult, ...] | None = None
    problems: tuple[str, ...] = ()
    has_completions: bool = True


def page(report: PipelineReport) -> str:
    """The document as text, to be written as UTF-8. Pure: the same report gives the same page."""
    return _environment().get_template("page.html").render(_context(report)) + "\n"


@cache
def _environment() -> Environment:
    # Loaded only when a page is made.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("refinerctl.insight.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    functions = (text.ago, text.count, counted, text.cut, text.duration, text.named, text.share, text.utc)
    environment.filters |= {function.__name__: function for function in functions} | {"at": _at}
    environment.globals |= {"marks": MARKS, "Status": Status}
    return environment


def _harmless(value: Any) -> Any:
    """Applied to the value of every expression before it is escaped."""
    # Markup consists of values that were escaped here.
    return harmless(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _at(value: Any, path: str) -> Any:
    """What is at `path` (`queue.visible`) below a value; None if it or anything on the way is None."""
    return reduce(lambda found, name: None if found is None else getattr(found, name), path.split("."), value)


def _context(report: PipelineReport) -> dict[str, Any]:
    now = report.status.at
    statuses = {item.name: item for item in report.status.stages}
    activities = {item.stage: item for item in report.activity.stages}
    lanes = tuple(
        stage_lane(stage, statuses.get(stage.name), activities.get(stage.name), has_completions=report.has_completions)
        for stage in report.pipeline.stages
    )
    together, each = charts.distributions(report.activity.stages)
    sums, problems = _sums(lanes), all_problems(report)
    window = text.span((now - report.since).total_seconds())
    return {
        "report": report,
        "now": now,
        "window": window,
        "verdict": _verdict(report, sums, window, len(problems)),
        "sums": sums,
        "latency": next((plot.quantiles for plot in together if plot.what == charts.LATENCY), ()),
        "lanes": lanes,
        "shown": shown_lanes(lanes),
        "shared": shared_components(report.pipeline),
        "events": total(lane["matched"] for lane in lanes if "matched" in lane.counts),
        "most_plotted": charts.MOST_PLOTTED,
        "throughput": charts.throughput(report.activity.stages, report.since, now, report.activity.interval),
        "together": together,
        "each": each,
        "causes": failure_causes(report.activity),
        "cut_stages": tuple(item.stage for item in report.activity.stages if item.is_cut),
        "checks": check_groups(report.checks or ()),
        "releases": release_rows(report.releases),
        "problems": problems,
    }


def _sums(lanes: Sequence[StageLane]) -> dict[str, Count]:
    """Of all stages. Messages in the queue of a stage without function wait for others: they do not count."""
    sums = {
        name: total(lane[name] for lane in lanes if lane.has_consumer and name in lane.counts)
        for name in ("completed", "failed", "waiting", "in_flight")
    }
    return sums | {
        "dead": total(lane[name] for lane in lanes for name in ("dlq", "delivery_dlq") if name in lane.counts)
    }


def _verdict(report: PipelineReport, sums: Mapping[str, Count], window: str, problems: int) -> tuple[str, str, str]:
    """A tone (one of MARKS), a word that says the same without colour, and a sentence."""
    checks = Counter(check.status for check in report.checks or ())
    word, tone = _flow(sums)
    is_calm = tone != "bad"
    completed, failed, dead = sums["completed"], sums["failed"], sums["dead"]
    if completed.value is None and failed.value is None:
        parts = [f"no data about what was processed in {window}"]
    elif not completed and not failed:
        parts = [f"nothing was processed in {window}"]
    else:
        parts = [f"{completed.text} completed, {failed.text} failed in {window}"]
    if sums["waiting"] and not completed:
        parts.append(f"{counted(sums['waiting'].value or 0, 'message')} waiting")
    if dead:
        parts.append(f"{'at least ' * dead.at_least}{counted(dead.value or 0, 'message')} in dead-letter queues")
        tone = "bad"
    if checks[Status.FAIL]:
        parts.append(f"{counted(checks[Status.FAIL], 'check')} failed")
        tone = "bad"
    elif checks[Status.WARN]:
        parts.append(f"{counted(checks[Status.WARN], 'check')} with a warning")
        tone = "warn" if tone == "good" else tone
    if problems:
        parts.append(f"{counted(problems, 'source')} could not be read")
        tone = "warn" if tone == "good" else tone
    more = {"warn": ", with warnings", "bad": ", with problems"}.get(tone, "") if is_calm else ""
    return tone, word + more, "; ".join(parts)


def _flow(sums: Mapping[str, Count]) -> tuple[str, str]:
    if sums["completed"]:
        return "Processing", "warn" if sums["failed"] else "good"
    if sums["failed"]:
        return "Failing", "bad"
    if sums["completed"].value is None:
        return "Unknown", "neutral"
    if sums["waiting"]:
        return ("Starting", "neutral") if sums["in_flight"] else ("Stalled", "bad")
    return "Idle", "neutral"


CheckGroup: TypeAlias = tuple[CheckResult, tuple[str, ...], tuple[str, ...]]
"""Results of one check with the same fix: one of them, what all have seen, and their stages."""


def check_groups(checks: Iterable[CheckResult]) -> dict[Status, list[CheckGroup]]:
    """What stages have in common is shown once."""
    groups: dict[tuple[Status, str, str], list[CheckResult]] = {}
    for check in checks:
        groups.setdefault((check.status, check.id, check.fix), []).append(check)
    by_status: dict[Status, list[CheckGroup]] = {status: [] for status in Status}
    for (status, _, _), results in groups.items():
        seen = tuple(dict.fromkeys(result.seen for result in results))
        by_status[status].append((results[0], seen, tuple(result.stage for result in results if result.stage)))
    return by_status


def failure_causes(activity: Activity) -> list[tuple[FailureGroup, list[tuple[str, int]]]]:
    """Failures of one cause in all stages together, and how many each stage has; the most frequent first."""
    groups: dict[str, list[FailureGroup]] = {}
    for group in (group for item in activity.stages for group in item.failures):
        groups.setdefault(group.signature, []).append(group)
    causes = [
        (
            merged(same, MOST_KEYS),
            sorted(((group.stage, group.count) for group in same), key=lambda one: (-one[1], one)),
        )
        for same in groups.values()
    ]
    return sorted(causes, key=lambda cause: (-cause[0].count, cause[0].signature))


def release_rows(releases: Sequence[Release]) -> list[tuple[Release, bool, list[tuple[str, str]]]]:
    """Newest first: a release, whether it is the current one, and the images that the previous one did not have."""
    rows = []
    for place, release in enumerate(releases[:MOST_RELEASES]):
        before = releases[place + 1].images if place + 1 < len(releases) else {}
        changed = [
            (stage, short_image(uri)) for stage, uri in sorted(release.images.items()) if before.get(stage) != uri
        ]
        rows.append((release, place == 0 and release.action is not ReleaseAction.DESTROY, changed))
    return rows


def short_image(uri: str) -> str:
    """The repository's name and twelve digits of the digest."""
    name, at, digest = uri.rpartition("@")
    if not at:
        return cut(uri.rpartition("/")[2], 80)
    return f"{cut(name.rpartition('/')[2], 60)}@{digest[:19]}"


def all_problems(report: PipelineReport) -> dict[str, list[str]]:
    """What could not be read, each text once, with the stages that it is about."""
    found: dict[str, list[str]] = {}
    for problem in (*report.problems, *report.activity.problems, *report.status.problems):
        found.setdefault(problem, [])
    for stage in report.status.stages:
        for problem in (*stage.problems, *stage.unread.values()):
            found.setdefault(problem, []).append(stage.name)
    return found
