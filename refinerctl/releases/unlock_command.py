"""`refinerctl unlock`."""

from __future__ import annotations

from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.options import global_options
from refinerctl.releases import unlock as operation
from refinerctl.releases.planning import ask, check_consent, yes_option
from refinerctl.terraform.runner import lock_text


@click.command()
@click.option("--id", "lock_id", metavar="ID", help="Free this lock, and no other.")
@yes_option
@global_options
@click.pass_context
def unlock(ctx: click.Context, lock_id: str | None, yes: bool) -> None:
    """Free the state's lock that a dead run has left.

    Shows who holds it since when, and asks: a run that lives and loses its lock can ruin the state.
    """
    app = app_context(ctx)
    stack = app.root_module(0)
    state = operation.look(stack)
    document: dict[str, Any] = {"locked": state.is_held, "lock": vars(state.lock) if state.lock else None}
    if not state.is_held:
        app.render.note("nothing holds the state's lock")
    else:
        chosen = operation.lock_to_free(state, lock_id)
        app.render.note(lock_text(state.lock))
        check_consent(yes)
        ask("Is that run dead, and its lock to be freed?", yes)
        stack.terraform.force_unlock(chosen)
        app.render.note(f"lock {chosen} is freed")
    if app.render.is_json:
        app.render.json({**document, "freed": state.is_held})
