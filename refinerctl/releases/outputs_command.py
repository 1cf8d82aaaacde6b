"""`refinerctl outputs`."""

from __future__ import annotations

import json
from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.console import Renderer
from refinerctl.errors import UsageError
from refinerctl.options import global_options
from refinerctl.releases.model import StackOutput
from refinerctl.releases.outputs import read_outputs

MASK = "(sensitive)"


@click.command()
@click.argument("name", required=False)
@click.option("--show-sensitive", is_flag=True, help="Print the value of NAME even if it is secret.")
@global_options
@click.pass_context
def outputs(ctx: click.Context, name: str | None, show_sensitive: bool) -> None:
    """Print the stack's outputs, or the value of the one called NAME."""
    if show_sensitive and name is None:
        raise UsageError("--show-sensitive shows one output at a time", hint="Say which: NAME.")
    app = app_context(ctx)
    found = read_outputs(app.root_module(0), name)
    if app.render.is_json:
        app.render.json({item.name: _value(item, show_sensitive) for item in found})
    elif name is not None:
        write_value(app.render, _value(found[0], show_sensitive))
    else:
        for item in found:
            write_value(app.render, _value(item, show_sensitive), f"{item.name} = ")


def _value(item: StackOutput, show_sensitive: bool) -> Any:
    return MASK if item.sensitive and not show_sensitive else item.value


def write_value(render: Renderer, value: Any, prefix: str = "") -> None:
    """A string as it is, for scripts; anything else as JSON, what has parts over several lines."""
    lines = [value] if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2).split("\n")
    for line in (prefix + lines[0], *lines[1:]):
        render.line(line)
