"""Writes the parts of the documentation that are generated: docs/cli.md from the commands' help.

Run it as `make docs`. With --check it writes nothing, and exits with 1 if a file is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from refinerctl.cli import SECTIONS, cli

DOCS = Path(__file__).parent
WIDTH = 100


def cli_reference() -> str:
    """The help of every command, in the order of `refinerctl --help`."""
    names = ["-h", "--help"]
    root = click.Context(cli, info_name="refinerctl", help_option_names=names, max_content_width=WIDTH)
    root.terminal_width = WIDTH
    parts = ["# Command reference", "Generated from the commands' `--help` by `make docs`.", _help(root)]
    for section, commands in SECTIONS.items():
        parts.append(f"## {section}")
        for name in commands:
            if (command := cli.get_command(root, name)) is not None:
                parts += _pages(command, name, root)
    return "\n\n".join(parts) + "\n"


def _pages(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    ctx = click.Context(command, info_name=name, parent=parent)
    yield f"### {ctx.command_path}"
    yield _help(ctx)
    if isinstance(command, click.Group):
        for inner in command.list_commands(ctx):
            if (found := command.get_command(ctx, inner)) is not None:
                yield from _pages(found, inner, ctx)


def _help(ctx: click.Context) -> str:
    return f"```text\n{ctx.get_help()}\n```"


PAGES = {DOCS / "cli.md": cli_reference}


def main() -> None:
    outdated = False
    for path, render in PAGES.items():
        text = render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        outdated = True
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        print(f"{path.name} {'is out of date: run `make docs`' if '--check' in sys.argv else 'written'}")
    sys.exit(1 if outdated and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
