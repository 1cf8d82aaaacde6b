"""`refinerctl report`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.files import check_writable, write_text
from refinerctl.insight.report.types import Report
from refinerctl.insight.stage_status import FunctionStatus, PipelineStatus
from refinerctl.insight.status_types import RulesetStatus
from refinerctl.insight.verify.checks import Status
from refinerctl.insight.verify.command import check_json, checked, differences, pipeline_of
from refinerctl.options import Moment, global_options
from refinerctl.parallel import concurrently
from refinerctl.stacks.base import Bucket, EventRule, Pipeline
from refinerctl.stacks.names import RulesetNames
from refinerctl.stations import chosen_rulesets

Found = TypeVar("Found")

ACTIVITY = "metrics and logs"


@click.command()
@click.option("--html", "file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Write this page.")
@click.option(
    "--since", type=Moment(), default="24h", show_default=True, help="From then on: a time, or how long ago (7d)."
)
@click.option("--ruleset", "names", multiple=True, metavar="NAME", help="Only this ruleset; repeatable.")
@click.option("--no-verify", is_flag=True, help="Without verify's checks.")
@global_options
@click.pass_context
def report(ctx: click.Context, file: Path, since: datetime, names: tuple[str, ...], no_verify: bool) -> None:
    """Write one page about the environment: flow, latency, throughput, failures by cause, releases, checks.

    The page needs nothing but itself. What could not be looked at is said on it. Changes nothing else.
    """
    from refinerctl.insight.report.page import page

    check_writable(file)
    now = datetime.now(UTC)
    if since >= now:
        raise UsageError(f"--since {since:%Y-%m-%dT%H:%M:%SZ} has not come yet")
    app = app_context(ctx)
    app.tell_settings()
    found = _looked_at(app, chosen_rulesets(app, names), since, now, with_checks=not no_verify)
    write_text(file, page(found))
    _show(app, file, found)


@dataclass
class _Look(Generic[Found]):
    """What was found, or why it could not be looked at."""

    read: Callable[[], Found]
    found: Found | None = None
    error: RefinerctlError | None = None

    def __call__(self) -> None:
        try:
            self.found = self.read()
        except RefinerctlError as error:
            self.error = error


def _looked_at(
    app: AppContext, rulesets: tuple[RulesetNames, ...], since: datetime, now: datetime, *, with_checks: bool
) -> Report:
    """Raises RefinerctlError if nothing could be looked at."""
    from refinerctl.insight.report import Activity
    from refinerctl.insight.report.tally import Timeline

    pipeline, problems = app.pipeline, list[str]()
    looks = _looks(app, rulesets, _bus(pipeline), since, now)
    if with_checks:
        # Terraform's outputs come first: what runs Terraform stays in the thread that hears of Ctrl-C.
        pipeline = pipeline_of(app, problems.append)
        looks["verify"] = _Look(partial(checked, app, pipeline))
    problems += differences(app, pipeline)
    with app.render.progress() as progress:
        progress.step(f"reading {', '.join(looks)} since {since:%Y-%m-%dT%H:%M:%SZ}")
        concurrently(looks.values(), len(looks))
    errors = {what: look.error for what, look in looks.items() if look.error}
    if len(errors) == len(looks):
        raise next(iter(errors.values()))
    activity: Activity = looks[ACTIVITY].found or Activity(Timeline.over(since, now).step, ())
    problems += [f"{what}: {error.message}" for what, error in errors.items()]
    return Report(
        env=app.settings.env,
        stack=app.settings.stack,
        bucket=next((bucket.name for bucket in pipeline.by_kind(Bucket)), ""),
        bus=_bus(pipeline),
        since=since,
        interval=activity.interval,
        status=looks["status"].found or _unknown(rulesets, now),
        activity=activity.rulesets,
        releases=tuple(reversed(looks["releases"].found or ())),
        checks=looks["verify"].found if "verify" in looks else None,
        problems=(*problems, *activity.problems),
    )


def _looks(
    app: AppContext, rulesets: tuple[RulesetNames, ...], bus: str, since: datetime, now: datetime
) -> dict[str, _Look[Any]]:
    """What is read at the same time. Its clients are made here: an environment that is down is told of at once."""
    from refinerctl.aws.log_settings import LogSettings
    from refinerctl.insight.report import ActivityRequest, Sources, activity
    from refinerctl.insight.report.function_log import PATTERN
    from refinerctl.insight.stage_status import read_status

    stages = app.pipeline.choose(tuple(ruleset.name for ruleset in rulesets))
    # Other endpoints than AWS's know less of its filter patterns, or nothing.
    pattern = None if app.session.endpoint_url else PATTERN
    request = ActivityRequest(rulesets, bus, since, now, pattern)
    sources = Sources(app.log_groups, LogSettings(app.session), app.metrics)
    return {
        "status": _Look(partial(read_status, app, stages, now)),
        ACTIVITY: _Look(partial(activity, sources, request)),
        "releases": _Look(lambda: app.ledger.read()),
    }


def _bus(pipeline: Pipeline) -> str:
    """The event bus that the stages' rules are on."""
    return next((rule.bus for stage in pipeline.stages if isinstance(rule := stage.source, EventRule)), "")


def _unknown(rulesets: tuple[RulesetNames, ...], now: datetime) -> PipelineStatus:
    """What there is to look at, where nothing could be."""
    return PipelineStatus(
        now,
        tuple(
            RulesetStatus(
                ruleset.name, ruleset.prefix, function=FunctionStatus(ruleset.base) if ruleset.has_function else None
            )
            for ruleset in rulesets
        ),
    )


def _show(app: AppContext, file: Path, found: Report) -> None:
    if app.render.is_json:
        app.render.json(_document(file, found))
    else:
        app.render.line(summary(file, found))
    for problem in all_problems(found):
        app.render.warning(problem)


def all_problems(found: Report) -> list[str]:
    """Those of the status, too; each once."""
    status = [*found.status.problems]
    status += [f"{ruleset.name}: {text}" for ruleset in found.status.rulesets for text in ruleset.problems]
    return list(dict.fromkeys([*found.problems, *status]))


def summary(file: Path, found: Report) -> str:
    flows = [activity.flow for activity in found.activity]
    completed = [flow.completed for flow in flows if flow.completed is not None]
    failed = [flow.failed for flow in flows if flow.failed is not None]
    counts = ", ".join(
        f"{sum(numbers)} {what}" if numbers else f"nothing known of what {what}"
        for numbers, what in ((completed, "completed"), (failed, "failed"))
    )
    return f"{file}: {counts} since {found.since:%Y-%m-%dT%H:%M:%SZ}; {_checks_in_short(found)}"


def _checks_in_short(found: Report) -> str:
    if found.checks is None:
        return "checks not run"
    failed = sum(check.status is Status.FAIL for check in found.checks)
    return f"{failed} of {len(found.checks)} checks failed"


def _document(file: Path, found: Report) -> dict[str, Any]:
    fields = {name: value for name, value in vars(found).items() if name != "interval"}
    checks = None if found.checks is None else [check_json(check) for check in found.checks]
    return {"file": file, **fields, "interval_s": found.interval.total_seconds(), "checks": checks}
