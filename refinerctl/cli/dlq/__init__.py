"""`refinerctl dlq`: each command is a module of its own, imported when it is called."""

from __future__ import annotations

import importlib

import click

from refinerctl.cli.options import global_options

# In the order in which somebody at three in the morning needs them.
COMMANDS = ("list", "inspect", "export", "redrive", "purge")


class DeadLetterGroup(click.Group):
    """Finds command NAME as `command` in the module NAME."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None


@click.group(cls=DeadLetterGroup, no_args_is_help=True)
@global_options
def dlq() -> None:
    """Dead letters: see them, send them back, remove them."""
