"""Options and parameter types that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from refinerctl.config import OUTPUTS, STACKS, GlobalFlags, environment_names
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.images import check_tag
from refinerctl.keys import normalize_prefix

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+", re.ASCII)
LONGEST_SECONDS = 100 * 365 * 86400


class Duration(click.ParamType[float]):
    """Seconds, from `90`, `90s`, `5m`, `1h30m` or `2d`."""

    name = "duration"

    def __init__(self, shortest: float = 0.0) -> None:
        self._shortest = shortest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip()
        if re.fullmatch(r"\d+(?:\.\d+)?", text, re.ASCII):
            text = f"{text}s"
        if not _DURATION.fullmatch(text):
            self.fail(f"{text!r} is not a duration like 90s, 5m, 1h30m or 2d", param, ctx)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
        if seconds > LONGEST_SECONDS:
            self.fail(f"{text[:20]}… is longer than 100 years", param, ctx)
        if seconds < self._shortest:
            self.fail(f"{text} is shorter than {self._shortest:g}s", param, ctx)
        return seconds


class Moment(click.ParamType[datetime]):
    """A time in UTC, from an ISO 8601 time or from how long ago it was (`1h`)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        if _DURATION.fullmatch(text):
            return datetime.now(UTC) - timedelta(seconds=Duration().convert(text, param, ctx))
        try:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is neither a time like 2026-03-01T14:02:00Z nor a duration like 1h", param, ctx)


class Prefix(click.ParamType[str]):
    """A key prefix, with or without leading slash."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return normalize_prefix(str(value))
        except UsageError as error:
            self.fail(f"{error.message}. {error.hint}", param, ctx)


class ReleaseTag(click.ParamType[str]):
    """A tag of an image."""

    name = "tag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_tag(str(value))
        except UsageError as error:
            self.fail(f"{error.message}. {error.hint}", param, ctx)


def examples(*lines: str) -> str:
    """The end of a command's help: one to three command lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Keep a global option, wherever it stood; the one nearest to the command's end counts."""

    def callback(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        root = ctx.find_root()
        flags = root.obj if isinstance(root.obj, GlobalFlags) else GlobalFlags()
        if value:
            flags = replace(flags, **{name: value})
        root.obj = flags

    return callback


def _verbosity(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    sign = -1 if param.name == "quiet" else 1
    _remember("verbosity")(ctx, param, sign * int(value))


def _environments(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """What the shell offers for --env: a broken file is for the command itself to complain about."""
    try:
        names = environment_names(os.environ, Path.cwd())
    except (RefinerctlError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def global_options(command: Decorated) -> Decorated:
    """Accept the global options here, too: they may stand before and after the command."""
    options = [
        click.option(
            "--env",
            metavar="NAME",
            expose_value=False,
            callback=_remember("env"),
            shell_complete=_environments,
            help="Environment (refinerctl.toml says which there are).",
        ),
        click.option(
            "--stack", type=click.Choice(STACKS), expose_value=False, callback=_remember("stack"), help="Stack."
        ),
        click.option(
            "--output",
            type=click.Choice(OUTPUTS),
            expose_value=False,
            callback=_remember("output"),
            help="What standard output is to be.",
        ),
        click.option("--region", metavar="NAME", expose_value=False, callback=_remember("region"), help="AWS region."),
        click.option(
            "--profile", metavar="NAME", expose_value=False, callback=_remember("profile"), help="AWS profile."
        ),
        click.option(
            "--endpoint-url",
            metavar="URL",
            expose_value=False,
            callback=_remember("endpoint_url"),
            help="Another endpoint than AWS's.",
        ),
        click.option(
            "--bucket",
            metavar="NAME",
            expose_value=False,
            callback=_remember("bucket"),
            help="Another bucket than the stack's.",
        ),
        click.option(
            "--assume-role",
            metavar="ARN",
            expose_value=False,
            callback=_remember("assume_role"),
            help="Do everything as this IAM role.",
        ),
        click.option(
            "-v",
            "--verbose",
            count=True,
            expose_value=False,
            callback=_verbosity,
            help="Say more; -vv with tracebacks.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_verbosity,
            help="No progress, only results, warnings and errors.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command
