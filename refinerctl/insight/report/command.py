"""`refinerctl report`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import UsageError
from refinerctl.files import check_writable, write_text
from refinerctl.options import Moment, examples, global_options
from refinerctl.parallel import attempt, concurrently
from refinerctl.stacks.base import Bucket, EventRule, Stage

if TYPE_CHECKING:
    from refinerctl.insight.report.page import Report
    from refinerctl.insight.status_types import PipelineStatus

ACTIVITY = "metrics and logs"


@click.command(
    epilog=examples(
        "refinerctl report --html report.html",
        "refinerctl report --html report.html --since 7d --stage RefinerInput --no-verify",
    )
)
@click.option("--html", "file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.option(
    "--since",
    type=Moment(),
    default="24h",
    show_default=True,
    help="Start of the period: a time, or how long ago (7d).",
)
@click.option("--stage", "--ruleset", "names", multiple=True, metavar="NAME", help="Stage to report; repeatable.")
@click.option("--no-verify", is_flag=True, help="Skip the checks of verify.")
@global_options
@click.pass_context
def report(ctx: click.Context, file: Path, since: datetime, names: tuple[str, ...], no_verify: bool) -> None:
    """Write an HTML page about the environment: throughput, latency, failures by cause, status, checks, releases.

    The page is one file that loads nothing else, and names what could not be read. Changes nothing else.
    """
    from refinerctl.insight.report.page import page

    check_writable(file)
    now = datetime.now(UTC)
    if since >= now:
        raise UsageError(f"--since {since:%Y-%m-%dT%H:%M:%SZ} is in the future")
    app = app_context(ctx)
    app.tell_settings()
    found = _read(app, app.pipeline.choose(names), since, now, with_checks=not no_verify)
    write_text(file, page(found))
    _show(app, file, found)


def _read(app: AppContext, stages: tuple[Stage, ...], since: datetime, now: datetime, *, with_checks: bool) -> Report:
    """Read everything at the same time. Raises RefinerctlError if nothing could be read."""
    from refinerctl.insight.report.activity import Activity
    from refinerctl.insight.report.page import Report
    from refinerctl.insight.report.tally import Timeline

    problems, reads = list[str](), _reads(app, stages, since, now)
    buckets = {bucket.name for bucket in app.pipeline.by_kind(Bucket)}
    if app.stack.storage and buckets and app.storage.bucket not in buckets:
        problems.append(f"the stack's bucket is {', '.join(buckets)}; the status is of {app.storage.bucket}")
    if with_checks:
        # Made here: what runs Terraform stays in the thread that gets Ctrl-C.
        reads |= _checks(app, problems)
    with app.render.progress() as progress:
        progress.step(f"reading {', '.join(reads)} since {since:%Y-%m-%dT%H:%M:%SZ}")
        results = concurrently([partial(attempt, read) for read in reads.values()], len(reads))
    answers = dict(zip(reads, results, strict=True))
    errors = {what: answer.error for what, answer in answers.items() if answer.error}
    if len(errors) == len(answers):
        raise next(iter(errors.values()))
    releases = answers["releases"].value or ()
    return Report(
        env=app.settings.env,
        stack=app.settings.stack,
        pipeline=replace(app.pipeline, stages=stages),
        since=since,
        status=answers["status"].value or _unknown(stages, now),
        activity=answers[ACTIVITY].value or Activity(Timeline.over(since, now).step),
        releases=tuple(reversed(releases)),
        checks=answers["verify"].value if "verify" in answers else None,
        problems=(*problems, *(f"{what}: {error.message}" for what, error in errors.items())),
        has_completions=app.stack.completion_keys is not None,
    )


def _reads(app: AppContext, stages: tuple[Stage, ...], since: datetime, now: datetime) -> dict[str, Callable[[], Any]]:
    """What is read at the same time. Clients are made here: an environment that is down is reported at once."""
    from refinerctl.aws.log_settings import LogSettings
    from refinerctl.insight.report.activity import ActivityReader
    from refinerctl.insight.report.function_log import PATTERN
    from refinerctl.insight.status import Stations, status
    from refinerctl.stations import chosen_rulesets

    rulesets = chosen_rulesets(app, tuple(stage.name for stage in stages))
    stations = Stations(app.queues, app.functions, app.metrics, app.bucket, lambda: app.ledger.read())
    # Other endpoints than AWS's know less of its filter patterns, or nothing.
    pattern = None if app.session.endpoint_url else PATTERN
    reader = ActivityReader(app.log_groups, LogSettings(app.session), app.metrics, pattern)
    return {
        "status": partial(status, rulesets, app.old_pipeline, stations, now),
        ACTIVITY: partial(reader.read, stages, since, now),
        "releases": lambda: app.ledger.read(),
    }


def _checks(app: AppContext, problems: list[str]) -> dict[str, Callable[[], Any]]:
    from refinerctl.insight.verify import verify
    from refinerctl.insight.verify.command import names_of, sources_of
    from refinerctl.insight.verify.snapshot import take_snapshot

    if app.settings.stack != "refiner":
        problems.append(f"verify: stack {app.settings.stack} has no checks")
        return {}
    names = names_of(app, problems.append)
    return {"verify": lambda: verify(take_snapshot(sources_of(app), names))}


def _unknown(stages: tuple[Stage, ...], now: datetime) -> PipelineStatus:
    from refinerctl.insight.status_types import PipelineStatus, RulesetStatus

    return PipelineStatus(now, tuple(RulesetStatus(stage.name, stage.prefix or "") for stage in stages))


def _show(app: AppContext, file: Path, found: Report) -> None:
    from refinerctl.insight.report.page import all_problems

    if app.render.is_json:
        app.render.json(_document(file, found))
    else:
        app.render.line(summary(file, found))
    for text, names in all_problems(found).items():
        for problem in [f"{name}: {text}" for name in names] or [text]:
            app.render.warning(problem)


def summary(file: Path, found: Report) -> str:
    """One line: how much was completed and failed, and how many checks failed."""
    flows = [item.flow for item in found.activity.stages]
    counts = {
        "completed": [flow.completed for flow in flows if flow.completed is not None],
        "failed": [flow.failed for flow in flows if flow.failed is not None],
    }
    parts = [f"{sum(numbers)} {what}" if numbers else f"{what} unknown" for what, numbers in counts.items()]
    checks = "checks not run"
    if found.checks is not None:
        checks = f"{sum(check.status == 'fail' for check in found.checks)} of {len(found.checks)} checks failed"
    return f"{file}: {', '.join(parts)} since {found.since:%Y-%m-%dT%H:%M:%SZ}; {checks}"


def _document(file: Path, found: Report) -> dict[str, Any]:
    from refinerctl.insight.verify.command import check_json

    buses = (stage.source.bus for stage in found.pipeline.stages if isinstance(stage.source, EventRule))
    return {
        "file": file,
        "env": found.env,
        "stack": found.stack,
        "bucket": next((bucket.name for bucket in found.pipeline.by_kind(Bucket)), None),
        "bus": next(buses, None),
        "since": found.since,
        "interval_s": found.activity.interval.total_seconds(),
        "status": found.status,
        "activity": found.activity.stages,
        "releases": found.releases,
        "checks": None if found.checks is None else [check_json(check) for check in found.checks],
        "problems": (*found.problems, *found.activity.problems),
    }
