"""`refinerctl verify`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import DIFFERENCES, RefinerctlError, UsageError
from refinerctl.files import check_writable, write_text
from refinerctl.options import Duration, PathParam, examples, global_options, notify_option

if TYPE_CHECKING:
    from refinerctl.insight.verify.checks import CheckResult
    from refinerctl.stacks.base import Pipeline


@click.command(
    epilog=examples(
        "refinerctl verify --env production",
        "refinerctl verify --check rule-pattern --check queue-policy",
        "refinerctl verify --canary --junit verify.xml",
    )
)
@click.option("--check", "only", multiple=True, metavar="ID", help="Check to run, instead of all; repeatable.")
@click.option("--skip", multiple=True, metavar="ID", help="Check to skip; repeatable.")
@click.option("--junit", "report", type=PathParam(path_type=Path, dir_okay=False), help="JUnit report to write.")
@click.option("--canary", is_flag=True, help="Send a small input through each stage, and remove it afterwards.")
@click.option(
    "--canary-file",
    type=PathParam(path_type=Path, exists=True, dir_okay=False, readable=True),
    help="Content of the canaries, for functions that do not process plain text.",
)
@click.option("--timeout", type=Duration(), default="2m", show_default=True, help="Maximum wait for the canaries.")
@notify_option
@global_options
@click.pass_context
def verify(
    ctx: click.Context,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    report: Path | None,
    canary: bool,
    canary_file: Path | None,
    timeout: float,
) -> None:
    """Check wiring, permissions and quotas.

    Tells whether an input would be processed and whether one could be lost. Changes nothing; exit code 5 if a check
    fails. docs/verify.md describes the checks. --canary sends an input through each stage that has a function;
    downstream consumers get the event of its completion.
    """
    from refinerctl.insight.findings import Status
    from refinerctl.insight.verify.checks import choose

    app = app_context(ctx, changes=canary)
    if app.stack.pipeline is None:
        raise UsageError(f"stack {app.stack.name} has no pipeline to check", hint="Choose another stack with --stack.")
    choose(app.stack, only, skip)
    if report is not None:
        check_writable(report)
    if canary_file is not None and not canary:
        raise UsageError("--canary-file needs --canary")
    app.tell_settings()
    if canary and (app.stack.storage is None or app.stack.completion_keys is None):
        raise UsageError(f"stack {app.stack.name} has no inputs and completions: --canary is not possible")
    pipeline = pipeline_of(app, app.render.warning)
    for difference in differences(app, pipeline):
        app.render.warning(difference)
    results = list(checked(app, pipeline, only, skip))
    if canary:
        from refinerctl.insight.verify.canary import send_canaries

        results += send_canaries(app, pipeline, results, timeout, canary_file)
    if report is not None:
        from refinerctl.insight.verify.view import junit

        write_text(report, junit(results))
    _show(app, pipeline, results)
    if any(result.status is Status.FAIL for result in results):
        ctx.exit(DIFFERENCES)


def checked(
    app: AppContext, pipeline: Pipeline, only: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[CheckResult, ...]:
    """The results of all checks of the stack, of those in `only`, without those in `skip`."""
    from refinerctl.insight.verify.checks import run_checks
    from refinerctl.insight.verify.snapshot import take_snapshot

    return run_checks(take_snapshot(app, pipeline), app.stack, only, skip)


def pipeline_of(app: AppContext, warn: Callable[[str], None]) -> Pipeline:
    """From Terraform's outputs; from the environment's values if those cannot be read, with a warning that says why."""
    if app.stack.pipeline_of_outputs is None:
        return _pipeline_of_values(app)
    try:
        outputs, _ = app.root_module(0).outputs()
        if outputs:
            return app.stack.pipeline_of_outputs(outputs)
        reason = "nothing is deployed, according to Terraform's state"
    except RefinerctlError as error:
        reason = error.message
    found = _pipeline_of_values(app)
    warn(f"names come from {found.told_by}, not from Terraform's outputs: {reason}")
    return found


def _pipeline_of_values(app: AppContext) -> Pipeline:
    layout = app.settings.layout
    file = layout.values_file(app.settings.env, app.stack.name)
    return replace(app.pipeline, told_by=file.name if layout.is_project else "the stack's defaults")


def differences(app: AppContext, pipeline: Pipeline) -> list[str]:
    """Where the stack keeps its data, if other commands would use another place."""
    if app.stack.storage is None:
        return []
    from refinerctl.parallel import attempt
    from refinerctl.stacks.base import Bucket

    storage = app.storage
    found = [
        f"the stack's bucket is {bucket.name}; other commands would use {storage.bucket}"
        for bucket in pipeline.by_kind(Bucket)
        if bucket.name not in (storage.bucket, storage.result_bucket)
    ]
    configured = attempt(lambda: app.pipeline).value
    expected = {stage.name: stage.completions for stage in configured.stages} if configured else {}
    return found + [
        f"{stage.name} writes completions as {place}; other commands expect {other}"
        for stage in pipeline.stages
        if (place := stage.completions) and (other := expected.get(stage.name)) and place != other
    ]


def _show(app: AppContext, pipeline: Pipeline, results: Sequence[CheckResult]) -> None:
    from refinerctl.insight.verify.view import result_lines

    app.render.result({"source": pipeline.told_by, "checks": results})
    if app.render.is_json:
        return
    for line in result_lines(results, pipeline.told_by, with_passed=app.settings.verbosity > 0):
        app.render.styled(line)
