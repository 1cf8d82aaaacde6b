"""`refinerctl remove-prefix`: take a ruleset out of the environment's values, unless its queues hold messages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import app_context
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError
from refinerctl.options import examples, global_options
from refinerctl.parallel import concurrently
from refinerctl.rulesets.edit import carry_out_edit, edit_options, read_options
from refinerctl.rulesets.model import RulesetFile, RulesetValues
from refinerctl.stacks.base import Stage

if TYPE_CHECKING:
    from refinerctl.aws.sqs import Queues


@click.command(
    "remove-prefix",
    epilog=examples(
        "refinerctl remove-prefix team/MyNew/ --dry-run", "refinerctl remove-prefix MyNew --env production --deploy"
    ),
)
@click.argument("ruleset", metavar="PREFIX|NAME")
@click.option("--force", is_flag=True, help="Remove it even if its queues hold messages, or that is unknown.")
@edit_options
@global_options
@click.pass_context
def remove_prefix(ctx: click.Context, /, ruleset: str, force: bool, **given: Any) -> None:
    """Remove a ruleset from the environment's values; with --deploy destroy it, too.

    Refused (4) while its queue or one of its dead-letter queues holds messages.
    """
    options = read_options(given)
    app = app_context(ctx)
    values, file = RulesetValues.of(app.values), RulesetFile.of(app)
    found = values.find(ruleset)
    if found is None:
        known = ", ".join(f"{item.name} ({item.prefix})" for item in values.rulesets.values())
        raise NotFoundError(f"{file.path} has no ruleset of name or prefix {ruleset!r}", hint=f"Rulesets: {known}.")
    edit = file.remove(found.name)
    if not force and not app.is_down:
        (stage,) = app.pipeline.choose((found.name,))
        check_empty(stage, app.queues)
    document = {"status": "would-remove" if options.dry_run else "removed", "ruleset": found}
    carry_out_edit(app, edit, options, document, gives_up=found.name)


def check_empty(stage: Stage, queues: Queues) -> None:
    """Raises RefusedError if a queue of the stage holds messages; a queue that does not exist holds none.

    Raises RefinerctlError if that cannot be read.
    """
    try:
        depths = concurrently([partial(_depth, queues, queue.name) for queue in stage.queues], 3)
    except RefinerctlError as error:
        raise RefinerctlError(
            f"cannot read whether the queues of {stage.name} are empty: {error.message}",
            hint="Pass --force to remove it anyway.",
        ) from error
    if held := [_counts(depth) for depth in depths if depth and depth.total]:
        raise RefusedError(
            f"ruleset {stage.name} still has messages: {', '.join(held)}",
            hint="Wait until they are processed, or redrive or purge them first; --force loses them.",
        )


def _depth(queues: Queues, name: str) -> QueueState | None:
    try:
        return queues.state(name)
    except NotFoundError:
        return None


def _counts(depth: QueueState) -> str:
    counts = {"visible": depth.visible, "in flight": depth.in_flight, "delayed": depth.delayed}
    return f"{depth.name} ({', '.join(f'{count} {what}' for what, count in counts.items() if count)})"
