"""`refinerctl remove-prefix`."""

from __future__ import annotations

from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.options import global_options
from refinerctl.rulesets import remove_prefix as operation
from refinerctl.rulesets.ruleset_edits import carry_out_edit, edit_options, read_options


@click.command("remove-prefix")
@click.argument("ruleset", metavar="PREFIX|NAME")
@click.option("--force", is_flag=True, help="Even if its queues hold messages, or nobody can say.")
@edit_options
@global_options
@click.pass_context
def remove_prefix(ctx: click.Context, /, ruleset: str, force: bool, **given: Any) -> None:
    """Take a ruleset out of the environment's values, ready for review; with --deploy destroy it, too.

    Refused (4) while its queue or one of its dead-letter queues holds messages.
    """
    options = read_options(given)
    app = app_context(ctx)
    removal = operation.plan_removal(ruleset, app.values_file)
    if not force and not app.is_down:
        operation.check_empty(removal, app.queues)
    document = {"status": "would-remove" if options.dry_run else "removed", "ruleset": removal.ruleset}
    carry_out_edit(app, removal.edit, options, document, gives_up=removal.ruleset.name)
