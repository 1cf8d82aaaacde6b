"""Set-up: from the installed package to a project, its environments and its images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from refinerctl.console import Renderer


def render_without_settings(ctx: click.Context) -> Renderer:
    """The renderer of a command that reads no refinerctl.toml."""
    # Here: the build of the wheel imports this package, and has no other.
    from refinerctl.config import GlobalFlags, output_format, verbosity
    from refinerctl.console import Renderer

    flags = ctx.find_root().obj or GlobalFlags()
    return Renderer(output_format(flags, os.environ), flags.verbosity or verbosity(os.environ))
