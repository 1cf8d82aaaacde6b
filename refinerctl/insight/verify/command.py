"""`refinerctl verify`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import DIFFERENCES, RefinerctlError, UsageError
from refinerctl.files import check_writable, write_text
from refinerctl.insight import verify as operation
from refinerctl.insight.verify.types import CheckResult, PipelineParts, Status, names_from_outputs, names_from_values
from refinerctl.insight.verify.view import junit, result_lines
from refinerctl.options import Duration, global_options
from refinerctl.releases.release import deployed

if TYPE_CHECKING:
    from refinerctl.insight.verify.snapshot import Sources


@click.command()
@click.option("--check", "only", multiple=True, metavar="ID", help="Run this check only; repeatable.")
@click.option("--skip", multiple=True, metavar="ID", help="Leave this check out; repeatable.")
@click.option("--junit", "report", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit report, too.")
@click.option("--canary", is_flag=True, help="Send a small input through each ruleset, too, and remove it afterwards.")
@click.option(
    "--canary-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    help="With --canary: what to send, for functions that do not take plain text.",
)
@click.option("--timeout", type=Duration(), default="2m", show_default=True, help="How long to wait for the canaries.")
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
    """Would an input get through, and could one be lost? Changes nothing; exit code 5 if a check fails.

    docs/verify.md has the checks. With --canary a marked input goes through each ruleset that has a function; its
    completion's event goes to whoever comes downstream.
    """
    operation.check_ids([*only, *skip])
    if report is not None:
        check_writable(report)
    if canary_file is not None and not canary:
        raise UsageError("--canary-file is for --canary")
    app = app_context(ctx)
    if app.settings.stack != "refiner":
        raise UsageError(f"there are no checks of stack {app.settings.stack}", hint="Use --stack refiner.")
    app.tell_settings()
    names = names_of(app, app.render.warning)
    if names.bucket != app.old_pipeline.bucket:
        app.render.warning(f"the stack's bucket is {names.bucket}; other commands would use {app.old_pipeline.bucket}")
    results = list(_results(app, names, only, skip))
    if canary:
        from refinerctl.insight.verify.canary_command import send_canaries

        results += send_canaries(app, names, results, timeout, canary_file)
    if report is not None:
        write_text(report, junit(results))
    _show(app, names, results)
    if any(result.status is Status.FAIL for result in results):
        ctx.exit(DIFFERENCES)


def _results(
    app: AppContext, names: PipelineParts, only: Sequence[str], skip: Sequence[str]
) -> tuple[CheckResult, ...]:
    from refinerctl.insight.verify.snapshot import take_snapshot

    return operation.verify(take_snapshot(sources_of(app), names), only, skip)


def names_of(app: AppContext, tell: Callable[[str], None]) -> PipelineParts:
    """From Terraform's outputs; from the environment's values, and told why, where those are out of reach."""
    try:
        outputs = {name: output.value for name, output in app.root_module(0).outputs().items()}
        if outputs:
            return names_from_outputs(outputs)
        reason = "nothing is deployed, by Terraform's state"
    except RefinerctlError as error:
        reason = error.message
    found = names_in_values(app)
    tell(f"names come from {found.source}, not from Terraform's outputs: {reason}")
    return found


def names_in_values(app: AppContext) -> PipelineParts:
    """From the environment's values. Asks nobody."""
    from refinerctl.terraform.hcl import load_values, variable_defaults

    folder = app.settings.project / "terraform"
    values = folder / "environments" / app.settings.env / f"{app.settings.stack}.tfvars"
    module = folder / "stacks" / app.settings.stack
    defaults = variable_defaults(module) if module.is_dir() else {}
    return names_from_values(load_values(values, missing_ok=True), defaults, app.old_pipeline, values.name)


def sources_of(app: AppContext) -> Sources:
    """The clients that a snapshot is taken with."""
    from refinerctl.aws.bucket_settings import BucketSettings
    from refinerctl.aws.events import EventBuses
    from refinerctl.aws.iam import Roles
    from refinerctl.aws.kms import Keys
    from refinerctl.aws.log_settings import LogSettings
    from refinerctl.insight.verify.snapshot import Sources

    return Sources(
        caller=app.session.caller,
        bucket=lambda bucket: BucketSettings(app.session, bucket),
        buses=EventBuses(app.session),
        queues=app.queues,
        functions=app.functions,
        roles=Roles(app.session),
        logs=LogSettings(app.session),
        ecr=app.ecr,
        keys=Keys(app.session),
        release=lambda: deployed(app.ledger.read()),
        embedded=app.settings.embedded,
    )


def _show(app: AppContext, names: PipelineParts, results: Sequence[CheckResult]) -> None:
    if app.render.is_json:
        app.render.json({"source": names.source, "checks": [check_json(result) for result in results]})
        return
    for line in result_lines(results, names.source, with_passed=app.settings.verbosity > 0):
        app.render.line(line)


def check_json(result: CheckResult) -> dict[str, Any]:
    """A result in the contract's form."""
    return {
        "id": result.id,
        "status": result.status,
        "ruleset": result.ruleset,
        "seen": result.seen,
        "why": result.why,
        "fix": result.fix,
    }
