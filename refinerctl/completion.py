"""`refinerctl completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script.

    bash: eval "$(refinerctl completion bash)" in ~/.bashrc; zsh likewise in ~/.zshrc; fish: refinerctl completion
    fish > ~/.config/fish/completions/refinerctl.fish
    """
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the choice above is click's own three
    click.echo(made(ctx.find_root().command, {}, "refinerctl", "_REFINERCTL_COMPLETE").source())
