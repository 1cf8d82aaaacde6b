"""`refinerctl local logs`: the log files of the local environment."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import IO

import click

from refinerctl.app import app_context
from refinerctl.console import Renderer
from refinerctl.embedded import Instance
from refinerctl.options import examples, global_options

SOURCES = ("functions", "emulator", "terraform", "supervisor", "rabbitmq", "redis")
FIELDS = ("message", "timestamp", "function", "request_id")
POLL_SECONDS = 0.3


@click.command(epilog=examples("refinerctl local logs --follow", "refinerctl local logs --source terraform"))
@click.option("--source", type=click.Choice(SOURCES), default="functions", show_default=True, help="Log to print.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines until the environment stops.")
@global_options
@click.pass_context
def logs(ctx: click.Context, source: str, follow: bool) -> None:
    """Print the logs of the functions, or of another component of the local environment.

    The logs of the last run are kept when the environment stops.
    """
    app = app_context(ctx, env="local")
    for line in follow_lines(app.instance, source) if follow else read_lines(app.instance, source):
        show_line(app.render, line)


def read_lines(instance: Instance, source: str) -> Iterator[dict[str, str]]:
    """All lines up to now: `message` and `source`, those of functions with `timestamp`, `function`, `request_id`."""
    path = instance.log(source)
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                yield _parsed(source, line)


def follow_lines(instance: Instance, source: str, interval_s: float = POLL_SECONDS) -> Iterator[dict[str, str]]:
    """All lines up to now and new ones, until the environment is down."""
    path = instance.log(source)
    while not path.is_file() and instance.is_supervised():
        time.sleep(interval_s)
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            is_up = instance.is_supervised()  # first: lines written before the end are still read
            yield from (_parsed(source, line) for line in _whole_lines(file))
            if not is_up:
                return
            time.sleep(interval_s)


def _whole_lines(file: IO[str]) -> Iterator[str]:
    """Complete lines; an incomplete one is left for the next read."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(start)
            return
        yield line


def _parsed(source: str, line: str) -> dict[str, str]:
    text = line.rstrip("\n")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if source == "functions":
            record = json.loads(text)
            return {"source": source, **{name: record[name] for name in FIELDS}}
    return {"source": source, "message": text}


def show_line(render: Renderer, line: dict[str, str]) -> None:
    """Print a line, as text or as one JSON line."""
    if render.is_json:
        render.json(line, indent=None)
    elif "timestamp" in line:
        render.line(f"{line['timestamp']}  {line['function']}  {line['message']}")
    else:
        render.line(line["message"])
