"""`refinerctl dlq redrive`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.redrive.types import Method
from refinerctl.errors import UsageError
from refinerctl.options import Duration, global_options

LATEST = ""
WAIT = "--wait"
AUTO = "auto"
AS_LONG_AS_IT_TAKES = -1.0


class Rate(click.ParamType[float]):
    """Messages per second, from `50` or `50/s`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            rate = float(str(value).strip().removesuffix("/s"))
        except ValueError:
            rate = 0.0
        if not 0 < rate < 1e6:
            self.fail(f"{value!r} is not a rate like 50/s", param, ctx)
        return rate


class WaitTime(Duration):
    """Seconds, or AS_LONG_AS_IT_TAKES for `auto`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return AS_LONG_AS_IT_TAKES if value == AUTO else super().convert(value, param, ctx)

    def is_meant(self, text: str) -> bool:
        """Whether this is what stands behind --wait, and not the queue."""
        try:
            self.convert(text, None, None)
        except click.BadParameter:
            return False
        return True


class RedriveCommand(click.Command):
    """Its --wait takes the next word only if that is a duration: `redrive --wait QUEUE` names a queue."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        options = given[: given.index("--")] if "--" in given else given
        for place, (word, following) in enumerate(pairwise(options)):
            if word == WAIT and not following.startswith("-") and not WaitTime().is_meant(following):
                given[place] = f"{WAIT}={AUTO}"
        return super().parse_args(ctx, given)


@click.command("redrive", cls=RedriveCommand)
@click.argument("queue", required=False)
@filter_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many messages.")
@click.option("--rate", type=Rate(), metavar="N/s", help="At most so many per second: spares what comes after.")
@click.option("--to", metavar="QUEUE", help="Send everything to this queue, and not to where it came from.")
@click.option("--edit", is_flag=True, help="Edit the messages in $VISUAL or $EDITOR; those that you edit are sent.")
@click.option("--dry-run", is_flag=True, help="Show the plan, and stop.")
@click.option(
    "--method",
    type=click.Choice(["auto", *(method.value for method in Method)]),
    default="auto",
    show_default=True,
    help="SQS's own move task, or receive, send and delete.",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value=LATEST,
    default=None,
    metavar="[RUN]",
    help="Continue an unfinished run: the latest of the queue, or the one named.",
)
@click.option(
    "--from-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Send what `dlq export` wrote; the queue that it came from is left alone.",
)
@click.option(
    WAIT,
    type=WaitTime(),
    is_flag=False,
    flag_value=AUTO,
    default=None,
    metavar="[DURATION]",
    help="Then watch for messages that come back. [default: as long as the target's retries take]",
)
@click.option(
    "--max-redrives", type=click.IntRange(min=1), metavar="N", help="Leave what was redriven N times already."
)
@click.option("--force", is_flag=True, help="Also if the consumer is broken, or another run is unfinished.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@global_options
@click.pass_context
def command(ctx: click.Context, /, queue: str | None, **given: Any) -> None:
    """Send dead letters back to where they came from, and then out of the dead-letter queue.

    QUEUE is a name, a URL or an ARN. Messages that a queue's consumer gave up go back to that queue, events that
    EventBridge could not deliver to the queue that they were meant for. A run that was killed continues with --resume:
    nothing is lost, and what may have been sent twice is counted.
    Exit code 1 if messages could not be sent or, with --wait, came back, 3 if the wait ended before all was processed,
    4 if the consumer is plainly broken.
    """
    from refinerctl.dlq.redrive.command_run import Flags, Redrive, begin, resume

    app = app_context(ctx)
    method = None if given["method"] == "auto" else Method(given["method"])
    flags = Flags(method, given["edit"], given["dry_run"], given["wait"], given["force"], given["yes"])
    run: Redrive
    if given["resume"] is not None:
        _check_alone(ctx)
        run = resume(app, flags, queue, given["resume"], given["rate"])
    else:
        run = begin(app, flags, queue, given)
    app.tell_settings()
    run.perform()


_WITH_RESUME = {"queue", "resume", "rate", "wait", "dry_run", "force", "yes"}


def _check_alone(ctx: click.Context) -> None:
    """A resumed run does what it was asked for when it began."""
    for param in ctx.command.params:
        name = param.name or ""
        is_given = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if is_given and param.expose_value and name not in _WITH_RESUME:
            raise UsageError(f"{param.opts[0]} does not go with --resume: the run goes on as it was begun")
