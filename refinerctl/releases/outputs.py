"""`refinerctl outputs`."""

from __future__ import annotations

import json
from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.console import Renderer
from refinerctl.errors import NotFoundError, UsageError, known_names
from refinerctl.options import examples, global_options

MASK = "(sensitive)"


@click.command(epilog=examples("refinerctl outputs", "refinerctl outputs bucket"))
@click.argument("name", required=False)
@click.option("--show-sensitive", is_flag=True, help="Print the value of NAME even if it is sensitive.")
@global_options
@click.pass_context
def outputs(ctx: click.Context, name: str | None, show_sensitive: bool) -> None:
    """Print the stack's outputs, or the value of the output NAME."""
    if show_sensitive and name is None:
        raise UsageError("--show-sensitive needs the NAME of an output")
    app = app_context(ctx)
    values, sensitive = app.root_module(0).outputs()
    if name is not None:
        if name not in values:
            hint = known_names(name, values, "Outputs") if values else "Nothing is deployed."
            raise NotFoundError(f"stack {app.settings.stack} has no output {name}", hint=hint)
        values = {name: values[name]}
    if not show_sensitive:
        values |= dict.fromkeys(sensitive & values.keys(), MASK)
    if app.render.is_json:
        app.render.json(values)
        return
    for key, value in values.items():
        write_value(app.render, value, "" if name else f"{key} = ")


def write_value(render: Renderer, value: Any, prefix: str = "") -> None:
    """A string as it is, for scripts; anything else as JSON, objects and lists over several lines."""
    lines = [value] if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2).split("\n")
    for line in (prefix + lines[0], *lines[1:]):
        render.line(line)
