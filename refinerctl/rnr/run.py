"""`refinerctl rnr produce` and `refinerctl rnr postprocess`: run a scheduled function now, and wait for its end."""

from __future__ import annotations

import re
from collections.abc import Callable

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import seconds
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.options import ask, check_consent, examples, global_options, yes_option
from refinerctl.rnr import STACK
from refinerctl.stacks.base import Bucket, Function, Pipeline, Queue, Schedule, Stage


@click.command(epilog=examples("refinerctl rnr produce --yes", "refinerctl rnr produce --yes -v --output json"))
@click.option("--dry-run", is_flag=True, help="Show which function would run, and stop.")
@yes_option
@global_options
@click.pass_context
def produce(ctx: click.Context, dry_run: bool, yes: bool) -> None:
    """Run the producer now, wait, and show what it found and published.

    It does what a run of its schedule does: inputs that were published already are not published again. Exit code 1
    if the run fails. -v prints the end of its log.
    """
    _run(app_context(ctx, changes=True, stack=STACK), "publishes to a broker", _publishes, dry_run, yes)


@click.command(epilog=examples("refinerctl rnr postprocess --yes", "refinerctl rnr postprocess --dry-run"))
@click.option("--dry-run", is_flag=True, help="Show which function would run, and stop.")
@yes_option
@global_options
@click.pass_context
def postprocess(ctx: click.Context, dry_run: bool, yes: bool) -> None:
    """Run the post-processing now, wait, and show what it merged.

    It merges the outputs that are new since its last run. Two runs at the same time merge no output twice. Exit code 1
    if the run fails. -v prints the end of its log.
    """
    _run(app_context(ctx, changes=True, stack=STACK), "merges outputs", _merges, dry_run, yes)


def _publishes(pipeline: Pipeline, function: Function) -> bool:
    return any(isinstance(item, Queue) and item.broker for item in pipeline.downstream_of(function))


def _merges(pipeline: Pipeline, function: Function) -> bool:
    from_bucket = any(isinstance(item, Bucket) for item in pipeline.upstream_of(function))
    return from_bucket and not _publishes(pipeline, function)


def scheduled(app: AppContext, does: str, matches: Callable[[Pipeline, Function], bool]) -> Stage:
    """The stage with the scheduled function that `does` something. Raises UsageError for a stack without one."""
    for stage in app.pipeline.stages:
        if isinstance(stage.source, Schedule) and stage.function and matches(app.pipeline, stage.function):
            return stage
    raise UsageError(
        f"stack {app.stack.name} has no scheduled function that {does}", hint="Choose another stack with --stack."
    )


def _run(app: AppContext, does: str, matches: Callable[[Pipeline, Function], bool], dry_run: bool, yes: bool) -> None:
    from refinerctl.aws.invocations import invoke

    stage = scheduled(app, does, matches)
    if not dry_run:
        check_consent(yes)
    name = stage.function.name if stage.function else ""
    app.tell_settings()
    if dry_run:
        app.functions.get(name)  # raises if it does not exist
        if app.render.is_json:
            app.render.json({"function": name, "dry_run": True})
        else:
            app.render.line(f"would run function {name}")
        return
    ask(f"Run function {name} in {app.location} now?", yes)
    with app.render.progress() as progress:
        progress.step(f"function {name} runs")
        run = invoke(app.session, name)
    for line in run.log.splitlines():
        app.render.detail(line)
    if run.error is not None:
        raise RefinerctlError(
            f"the run of function {name} failed: {run.error}", hint=f"Run `{app.command('logs', stage.name)}`."
        )
    if app.render.is_json:
        app.render.json({"function": name, "result": run.result})
        return
    for key, value in run.result.items():
        shown = seconds(value / 1000) if key == "durationMs" else f"{value:,}" if isinstance(value, int) else value
        app.render.line(f"{_words(key)}: {shown}")


def _words(key: str) -> str:
    """`setAside` as `set aside`."""
    return re.sub(r"[A-Z]", lambda match: f" {match[0].lower()}", key.removesuffix("Ms"))
