"""`refinerctl dlq`: each command is a module of its own, imported when it is called."""

from __future__ import annotations

from typing import ClassVar

import click

from refinerctl.lazy import LazyGroup
from refinerctl.options import global_options

# In the order in which somebody at three in the morning needs them.
NAMES = ("list", "inspect", "export", "redrive", "purge")


class DeadLetterCommands(LazyGroup):
    commands_at: ClassVar = {
        name: f"{__name__}.redrive.command:command" if name == "redrive" else f"{__name__}.{name}_command:command"
        for name in NAMES
    }


@click.group(cls=DeadLetterCommands, no_args_is_help=True)
@global_options
def dlq() -> None:
    """Dead letters: see them, send them back, remove them."""
