"""`refinerctl unlock`."""

from __future__ import annotations

from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.errors import RefusedError, UsageError
from refinerctl.options import ask, check_consent, examples, global_options, yes_option
from refinerctl.terraform.events import StateLock, lock_text


@click.command(epilog=examples("refinerctl unlock", "refinerctl unlock --id e53b3c40-218b-9029-79ce-43439c741cc3"))
@click.option("--id", "lock_id", metavar="ID", help="ID of the lock to release; refuse to release another one.")
@yes_option
@global_options
@click.pass_context
def unlock(ctx: click.Context, lock_id: str | None, yes: bool) -> None:
    """Release a state lock left by a crashed run.

    Shows who holds it since when, and asks: a run that still works and loses its lock can corrupt the state.
    """
    app = app_context(ctx, changes=True)
    root = app.root_module(0)
    root.init()
    lock = root.terraform.find_lock()
    if lock is None:
        app.render.note("the state is not locked")
    else:
        chosen = lock_to_release(lock, lock_id)
        app.render.note(lock_text(lock))
        check_consent(yes)
        ask(f"Release the lock in {root.location}? Only if that run has crashed.", yes)
        root.terraform.force_unlock(chosen)
        app.render.note(f"lock {chosen} is released")
    if app.render.is_json:
        known: dict[str, Any] | None = vars(lock) if lock and lock.id else None
        app.render.json({"locked": lock is not None, "lock": known, "freed": lock is not None})


def lock_to_release(lock: StateLock, lock_id: str | None) -> str:
    """The id to release. Raises RefusedError if `lock_id` is another one, UsageError if the id is unknown."""
    chosen = lock.id or lock_id
    if chosen is None:
        raise UsageError("the state is locked, and its backend does not report the lock's id", hint="Pass it: --id ID.")
    if lock_id not in (None, chosen):
        raise RefusedError(f"the ID of the state lock is {chosen}, not {lock_id}")
    return chosen
