"""`refinerctl dlq redrive`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import app_context
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.redrive.options import RedriveFlags, RedriveOptions
from refinerctl.errors import NotFoundError, UsageError
from refinerctl.options import Duration, PathParam, Rate, check_consent, examples, global_options, yes_option
from refinerctl.shell import complete_dlq, complete_queue

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.dlq.filters import MessageFilter
    from refinerctl.dlq.redrive.journal import FoundJournal

AUTO = "auto"
LATEST = "latest"
METHODS = (AUTO, "move-task", "copy")
_WITH_RESUME = {"queue", "resume", "rate", "wait", "dry_run", "force", "yes"}


@click.command(
    "redrive",
    epilog=examples(
        "refinerctl dlq redrive dibbs-ecr-RefinerInput-dlq --dry-run",
        "refinerctl dlq redrive dibbs-ecr-RefinerInput-dlq --rate 50/s --wait",
        "refinerctl dlq redrive dibbs-ecr-RefinerInput-dlq --resume",
    ),
)
@click.argument("queue", required=False, shell_complete=complete_dlq)
@filter_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Maximum number of messages.")
@click.option("--rate", type=Rate(), metavar="N/s", help="Maximum send rate.")
@click.option(
    "--to",
    metavar="QUEUE",
    shell_complete=complete_queue,
    help="Target queue, instead of the queue that each message came from.",
)
@click.option("--edit", is_flag=True, help="Edit messages in $VISUAL or $EDITOR, and send those that were edited.")
@click.option("--dry-run", is_flag=True, help="Show the plan and exit.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default=AUTO,
    show_default=True,
    help="A message move task of SQS; or copy: receive, send, delete.",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value=LATEST,
    default=None,
    metavar="[RUN]",
    help="Continue an unfinished run: the latest one of QUEUE, or RUN.",
)
@click.option(
    "--from-file",
    type=PathParam(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Send the messages in a file of `dlq export`, not those in its queue.",
)
@click.option(
    "--wait",
    is_flag=False,
    flag_value=AUTO,
    default=None,
    metavar="[DURATION]",
    help="After sending, watch for messages that fail again. [default: as long as the target's retries take]",
)
@click.option("--max-redrives", type=click.IntRange(min=1), metavar="N", help="Skip messages redriven N times already.")
@click.option("--force", is_flag=True, help="Send despite a broken consumer or an unfinished run.")
@yes_option
@global_options
@click.pass_context
def command(ctx: click.Context, /, queue: str | None, **given: Any) -> None:
    """Send messages of a DLQ to the queue that they came from, then delete them.

    QUEUE is the name of a queue or of its stage, a URL or an ARN. Messages that a consumer could not process go back to
    its queue; events that EventBridge could not deliver go to the queue that is their target. A killed run loses no
    message: --resume continues it, and the report says how many messages may have been sent twice.

    Exit code 1 if messages could not be sent or, with --wait, failed again; 3 if not all were processed in that time;
    4 if a safety check refuses, for instance because the consumer is broken.
    """
    from refinerctl.dlq.redrive.plan import Method
    from refinerctl.dlq.redrive.run import Redrive

    queue, wait_s = _wait(ctx, queue, given["wait"])
    method = None if given["method"] == AUTO else Method(given["method"])
    resumed, run = None, given["resume"]
    if run is None:
        options = RedriveOptions(queue, **_options(queue, given))
    else:
        _check_resume(ctx)
    app = app_context(ctx, changes=True)
    if run is None:
        options = _with_names(app, options)
    else:
        found = find_unfinished(app, queue, None if run == LATEST else run)
        options = RedriveOptions.of_journal(found.header.options, given["rate"])
        resumed, method = found.path, Method.COPY
    flags = RedriveFlags(
        method, given["edit"], given["dry_run"], given["wait"] is not None, wait_s, given["force"], given["yes"]
    )
    app.tell_settings()
    if not flags.dry_run:
        check_consent(flags.yes)
    with Redrive(app, flags, options, resumed) as redrive:
        plan = redrive.prepare()
        if plan is not None and plan.method is Method.MOVE_TASK:
            redrive.move(plan)
        elif plan is not None:
            redrive.copy(plan)


def _wait(ctx: click.Context, queue: str | None, given: str | None) -> tuple[str | None, float | None]:
    """The queue, and for how long to wait: the word after --wait is the queue if it is not a duration."""
    if given in (None, AUTO):
        return queue, None
    try:
        return queue, Duration().convert(given, None, ctx)
    except click.BadParameter as error:
        if queue is not None:
            raise UsageError(f"--wait: {error.message}") from error
        return given, None


def _options(queue: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The options that the journal stores. Raises UsageError for mutually exclusive options."""
    file: Path | None = given["from_file"]
    if queue is None and file is None:
        raise UsageError("missing argument QUEUE", hint="Pass QUEUE or --from-file FILE.")
    if queue is not None and file is not None:
        raise UsageError(
            "QUEUE and --from-file are mutually exclusive", hint="--to QUEUE sends the messages to another queue."
        )
    if given["edit"] and file is not None:
        raise UsageError("--edit and --from-file are mutually exclusive", hint="Edit the file itself.")
    which: MessageFilter = given["message_filter"]
    return {
        "since": which.since.isoformat() if which.since else None,
        "until": which.until.isoformat() if which.until else None,
        "key_prefix": which.key_prefix,
        "expression": which.expression.text if which.expression else None,
        "to": given["to"],
        "limit": given["limit"],
        "rate": given["rate"],
        "max_redrives": given["max_redrives"],
        "file": str(file.resolve()) if file else None,
    }


def _with_names(app: AppContext, options: RedriveOptions) -> RedriveOptions:
    """The options with full queue names: the command line accepts short names and stages' names."""
    from refinerctl.dlq.services import queue_name

    return replace(
        options,
        queue=options.queue and queue_name(app, options.queue),
        to=options.to and queue_name(app, options.to, is_dlq=False),
    )


def _check_resume(ctx: click.Context) -> None:
    """Raises UsageError for options that a resumed run reads from its journal."""
    for param in ctx.command.params:
        name = param.name or ""
        is_given = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if is_given and param.expose_value and name not in _WITH_RESUME:
            raise UsageError(f"{param.opts[0]} and --resume are mutually exclusive: the run keeps its options")


def find_unfinished(app: AppContext, queue: str | None, run: str | None) -> FoundJournal:
    """The unfinished run of this name, else the latest, of `queue` if given. Raises NotFoundError without one."""
    from refinerctl.dlq.redrive.journal import find
    from refinerctl.dlq.services import at_queue, queue_name, service_of

    found = [item for item in find(app.settings.work_folder) if not item.is_finished]
    if run is not None:
        named = [item for item in found if run in (item.run, item.path.name, str(item.path))]
        if not named and queue is not None:
            names = ", ".join(item.run for item in found)
            raise NotFoundError(f"no unfinished run {run}", hint=f"Unfinished runs: {names or 'none'}.")
        queue, found = (queue, named) if named else (run, found)  # --resume QUEUE
    if queue is not None:
        queue = queue_name(app, queue)
        name = queue.rpartition("/")[2].rpartition(":")[2]
        found = [item for item in found if item.header.queue == name]
        if len({item.header.source_url for item in found}) > 1:  # queues of one name in several environments
            url = service_of(at_queue(app, queue), queue).address(queue).url
            found = [item for item in found if item.header.source_url == url]
    if not found:
        raise NotFoundError(
            f"no unfinished run{f' of {queue}' if queue else ''} to resume",
            hint="A run that was killed before it wrote a journal has moved nothing: run it again without --resume.",
        )
    return found[0]
