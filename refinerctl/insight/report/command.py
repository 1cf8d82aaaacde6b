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
from refinerctl.options import Moment, PathParam, examples, global_options
from refinerctl.parallel import Answer, attempt, concurrently
from refinerctl.shell import stages_option
from refinerctl.stacks.base import Bucket, EventRule, Stage

if TYPE_CHECKING:
    from refinerctl.insight.report.page import PipelineReport

ACTIVITY = "metrics and logs"


@click.command(
    epilog=examples(
        "refinerctl report --html report.html",
        "refinerctl report --html a.html --since 7d --stage RefinerInput --no-verify",
    )
)
@click.option("--html", "file", type=PathParam(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.option(
    "--since",
    type=Moment(),
    default="24h",
    show_default=True,
    help="Start of the period: a time, or a duration before now (7d).",
)
@stages_option("Stage to report")
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


def _read(
    app: AppContext, stages: tuple[Stage, ...], since: datetime, now: datetime, *, with_checks: bool
) -> PipelineReport:
    """Read everything at the same time. Raises RefinerctlError if nothing can be read."""
    from refinerctl.insight.attempts import attempts_pattern
    from refinerctl.insight.report.activity import Activity, read_activity
    from refinerctl.insight.report.page import PipelineReport
    from refinerctl.insight.report.tally import interval_length
    from refinerctl.insight.stage_status import read_status
    from refinerctl.insight.status_model import PipelineStatus, StageStatus
    from refinerctl.insight.verify.command import checked, differences, pipeline_of

    # Other endpoints than AWS support filter patterns only in part, or not at all.
    pattern = None if app.session.endpoint_url else attempts_pattern(app.stack.log_terms)
    reads: dict[str, Callable[[], Any]] = {
        "status": partial(read_status, app, stages, now),
        ACTIVITY: partial(read_activity, app, stages, since, now, pattern),
        "releases": lambda: app.ledger.read(),
    }
    pipeline, problems = app.pipeline, list[str]()
    if with_checks:
        # Runs Terraform, therefore in the main thread, which gets Ctrl-C.
        pipeline = pipeline_of(app, problems.append)
        reads["verify"] = partial(checked, app, pipeline)
    problems += differences(app, pipeline)
    with app.render.progress() as progress:
        progress.step(f"reading {', '.join(reads)} since {since:%Y-%m-%dT%H:%M:%SZ}")
        results = concurrently([partial(attempt, read) for read in reads.values()], len(reads))
    answers: dict[str, Answer[Any]] = dict(zip(reads, results, strict=True))
    errors = {what: answer.error for what, answer in answers.items() if answer.error}
    if len(errors) == len(answers):
        raise next(iter(errors.values()))
    unknown = PipelineStatus(now, tuple(StageStatus(stage.name, stage.prefix) for stage in stages))
    return PipelineReport(
        env=app.settings.env,
        stack=app.settings.stack,
        pipeline=replace(app.pipeline, stages=stages),
        since=since,
        status=answers["status"].value or unknown,
        activity=answers[ACTIVITY].value or Activity(interval_length(since, now)),
        releases=tuple(reversed(answers["releases"].value or ())),
        checks=answers["verify"].value if with_checks else None,
        problems=(*problems, *(f"{what}: {error.message}" for what, error in errors.items())),
        has_completions=app.stack.completion_keys is not None,
    )


def _show(app: AppContext, file: Path, found: PipelineReport) -> None:
    from refinerctl.insight.report.page import all_problems

    if app.render.is_json:
        app.render.json(_document(file, found))
    else:
        app.render.line(summary(file, found))
    for text, names in all_problems(found).items():
        for problem in [f"{name}: {text}" for name in names] or [text]:
            app.render.warning(problem)


def summary(file: Path, found: PipelineReport) -> str:
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


def _document(file: Path, found: PipelineReport) -> dict[str, Any]:
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
        "checks": found.checks,
        "problems": (*found.problems, *found.activity.problems),
    }
