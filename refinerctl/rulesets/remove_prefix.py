"""`refinerctl remove-prefix`: take a ruleset out of the environment's values, unless its queues hold messages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import app_context
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, known_names
from refinerctl.options import examples, global_options
from refinerctl.parallel import attempt, concurrently
from refinerctl.rulesets.edit import (
    carry_out_edit,
    edit_options,
    read_options,
    remove_ruleset,
    ruleset_values,
    values_file,
)
from refinerctl.shell import complete_stage
from refinerctl.stacks.base import Stage

if TYPE_CHECKING:
    from refinerctl.aws.sqs import Queues


@click.command(
    "remove-prefix",
    epilog=examples(
        "refinerctl remove-prefix team/MyNew/ --dry-run", "refinerctl remove-prefix MyNew --env production --deploy"
    ),
)
@click.argument("ruleset", metavar="PREFIX|NAME", shell_complete=complete_stage)
@click.option("--force", is_flag=True, help="Remove it even if its queues hold messages, or that is unknown.")
@edit_options
@global_options
@click.pass_context
def remove_prefix(ctx: click.Context, /, ruleset: str, force: bool, **given: Any) -> None:
    """Remove a ruleset from the environment's values; with --deploy destroy it, too.

    Refused (4) while its queue or one of its dead-letter queues holds messages.
    """
    app = app_context(ctx, changes=read_options(given) is not None)
    values = ruleset_values(app)
    stage = app.pipeline.find_stage(ruleset)  # while the values still have it
    found = values.rulesets.get(stage.name) if stage else None
    if stage is None or found is None:
        raise NotFoundError(
            f"{values_file(app)} has no ruleset with name or prefix {ruleset!r}",
            hint=known_names(ruleset, values.rulesets, "Rulesets"),
        )
    edit = remove_ruleset(app, found.name)

    def check() -> None:
        if not force and not app.is_down:
            check_empty(stage, app.queues)

    check()
    document = {"status": "would-remove" if given["dry_run"] else "removed", "ruleset": found}
    # An input may arrive while the plan is made and confirmed.
    carry_out_edit(app, edit, given, document, gives_up=found.name, check=check)


def check_empty(stage: Stage, queues: Queues) -> None:
    """Raises RefusedError if a queue of the stage holds messages; a queue that does not exist holds none.

    Raises RefinerctlError if that cannot be read.
    """
    reads = [partial(queues.state, queue.name) for queue in stage.queues]
    held = []
    for answer in concurrently([partial(attempt, read) for read in reads], len(reads)):
        if answer.error and not answer.not_found:
            raise RefinerctlError(
                f"cannot check whether the queues of {stage.name} are empty: {answer.error.message}",
                hint="Pass --force to remove it anyway.",
            ) from answer.error
        if answer.value and answer.value.total:
            held.append(_counts(answer.value))
    if held:
        raise RefusedError(
            f"ruleset {stage.name} still has messages: {', '.join(held)}",
            hint="Wait until they are processed, or redrive or purge them first; --force deletes them.",
        )


def _counts(depth: QueueState) -> str:
    counts = {"visible": depth.visible, "in flight": depth.in_flight, "delayed": depth.delayed}
    return f"{depth.name} ({', '.join(f'{count} {what}' for what, count in counts.items() if count)})"
