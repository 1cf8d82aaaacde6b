"""The page of `report --html`: one HTML document that needs nothing else, not even JavaScript."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from refinerctl.insight.report.page import numbers, pipeline, plots, sections, status_rows
from refinerctl.insight.report.page.headline import MARKS, sums, tiles, verdict
from refinerctl.insight.report.page.lanes import drawn, lanes
from refinerctl.insight.report.page.palette import style_variables
from refinerctl.insight.report.page.text import harmless
from refinerctl.insight.report.types import Report
from refinerctl.insight.verify.checks import Status

if TYPE_CHECKING:
    from jinja2 import Environment


def page(report: Report) -> str:
    """The whole document as text, to be written as UTF-8. Pure: the same report gives the same page."""
    return _environment().get_template("page.html").render(_context(report)) + "\n"


@cache
def _environment() -> Environment:
    # Whoever makes no page does not load it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("refinerctl.insight.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters.update(
        count=numbers.count,
        counted=numbers.counted,
        cut=numbers.cut,
        duration=numbers.duration,
        named=sections.named,
        slot_text=plots.slot_text,
        utc=numbers.utc,
    )
    environment.globals["marks"] = MARKS
    return environment


def _harmless(value: Any) -> Any:
    """What every expression's value goes through before it is escaped."""
    # What is markup already consists of values that came through here.
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return harmless(value)
    return value


def _context(report: Report) -> dict[str, Any]:
    from markupsafe import Markup

    now = numbers.utc(report.status.at) or datetime.min
    all_lanes = lanes(report)
    seen = sums(report, all_lanes)
    shared = pipeline.trunk(report.bucket, report.bus, all_lanes)
    releases = sections.release_rows(report.releases)
    causes = sections.causes(report)
    spread = plots.distributions(report)
    latency = next((plot.quantiles for plot in spread.together if plot.what == plots.LATENCY), ())
    return {
        "report": report,
        "now": now,
        "window": seen.window,
        "is_known": seen.completed.value is not None,
        "style_variables": Markup(style_variables()),  # noqa: S704 - our own constants
        "verdict": verdict(report, seen),
        "tiles": tiles(report, seen, latency),
        "lanes": all_lanes,
        "drawings": (
            ("wide", pipeline.wide(shared, drawn(all_lanes, pipeline.MOST_LANES_WIDE), now)),
            ("narrow", pipeline.narrow(shared, drawn(all_lanes, pipeline.MOST_LANES_NARROW), now)),
        ),
        "most_plotted": plots.MOST_PLOTTED,
        "throughput": plots.throughput(report),
        "distributions": spread,
        "causes": causes[: sections.MOST_CAUSES],
        "rarer_causes": causes[sections.MOST_CAUSES :],
        "longest_error": sections.LONGEST_ERROR,
        "longest_text": sections.LONGEST_TEXT,
        "cut_rulesets": tuple(item.ruleset for item in report.activity if item.is_cut),
        "groups": status_rows.GROUPS,
        "columns": status_rows.COLUMNS,
        "rows": tuple(status_rows.row(ruleset) for ruleset in report.status.rulesets),
        "checks": sections.check_groups(report.checks or ()),
        "Status": Status,
        "releases": releases,
        "older_releases": len(report.releases) - len(releases),
        "problems": sections.problems(report),
    }
