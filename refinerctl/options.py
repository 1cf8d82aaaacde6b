"""Options and parameter types that several commands share."""

from __future__ import annotations

import os
import re
import sys
import termios
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from refinerctl.errors import RefinerctlError, UsageError
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


class Rate(click.ParamType[float]):
    """Messages per second, from `50` or `50/s`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            rate = float(str(value).strip().removesuffix("/s"))
        except ValueError:
            rate = 0.0
        if not 0 < rate < 1e6:
            self.fail(f"{value!r} is not a rate like 50/s", param, ctx)
        return rate


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


class PathParam(click.Path):
    """A path. An empty one, for instance of a variable without a value, is refused: it would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty.", param, ctx)
        return super().convert(value, param, ctx)


class ReleaseTag(click.ParamType[str]):
    """A tag of an image."""

    name = "tag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from refinerctl.images import check_tag

        try:
            return check_tag(str(value))
        except UsageError as error:
            self.fail(f"{error.message}. {error.hint}", param, ctx)


def examples(*lines: str) -> str:
    """The end of a command's help: one to three command lines, and where the global options are."""
    shown = "\n".join(f"  {line}" for line in lines)
    return f"\b\nExamples:\n{shown}\n\nGlobal options, such as --env: see `refinerctl --help`."


def yes_option(command: Decorated) -> Decorated:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")(command)


def build_arg_option(help_text: str) -> Callable[[Decorated], Decorated]:
    """Option --build-arg: parameter `build_arguments`, a dict."""
    return click.option(
        "--build-arg",
        "build_arguments",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_build_arguments,
        help=help_text,
    )


def _build_arguments(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    if wrong := [item for item in given if "=" not in item]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


def check_consent(given: bool, flag: str = "--yes") -> None:
    """Before any work: raises UsageError if a confirmation is needed, `flag` is not given, and there is no terminal."""
    from refinerctl.console import can_ask, in_ci_job

    if not given and not can_ask():
        why = "a CI job cannot answer questions" if in_ci_job() else "stdin is not a terminal"
        raise UsageError(f"{why}; pass {flag}", hint="The change needs a confirmation.")


def ask(question: str, yes: bool) -> None:
    """Ask on the terminal. Raises RefinerctlError for any other answer than yes."""
    if not yes and not confirmed(question):
        raise RefinerctlError("not confirmed; nothing was changed")


def confirmed(question: str) -> bool:
    _discard_typed_input()
    return click.confirm(question, err=True)


def typed_answer(question: str, default: str | None = None) -> str:
    """What the user types; the default, which is shown unless it is "", if that is nothing."""
    _discard_typed_input()
    return str(click.prompt(question, default=default, show_default=bool(default), err=True))


# In the metadata of click's contexts, for cli.py: the webhook; the context of this run, and whether it is a dry run.
NOTIFY = "refinerctl.notify"
RUN = "refinerctl.run"


def notify_option(command: Decorated) -> Decorated:
    """The option of commands whose result cli.py sends to a webhook."""

    def keep(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value:
            from refinerctl.webhook import check_url

            check_url(value)
            ctx.meta[NOTIFY] = value

    return click.option(
        "--notify",
        metavar="URL",
        envvar="REFINERCTL_NOTIFY",
        is_eager=True,  # before other options are checked: their errors are sent, too
        expose_value=False,
        callback=keep,
        help="Webhook (JSON or Slack) that receives the result or the error.",
    )(command)


def _discard_typed_input() -> None:
    """What was typed before a question was shown, while a plan was running, does not answer it."""
    if sys.stdin.isatty():
        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def _remember(name: str, flag_value: str | None = None) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Store the value of a global option, or `flag_value` if it has one. The last one on the command line wins."""

    def callback(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if value:
            from refinerctl.config import GlobalFlags

            root = ctx.find_root()
            root.obj = replace(root.obj or GlobalFlags(), **{name: flag_value or value})

    return callback


def _verbosity(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    _remember("verbosity")(ctx, param, -int(value) if param.name == "quiet" else int(value))


def _environments(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Completions for --env. An invalid file is reported by the command itself."""
    from refinerctl.config import environment_names

    try:
        names = environment_names(os.environ, Path.cwd())
    except (RefinerctlError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def _stacks(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from refinerctl.stacks import stack_names

    return [name for name in stack_names() if name.startswith(incomplete)]


def global_options(command: Decorated, *, hidden: bool = True) -> Decorated:
    """Accept the global options. They may stand before and after a command; only the root's help lists them."""
    named = [
        ("--env", "NAME", "Environment, as named in refinerctl.toml.", _environments),
        ("--stack", "NAME", "Stack, such as refiner or registry.", _stacks),
        ("--output", "text|json", "Output format.", None),
        ("--region", "NAME", "AWS region.", None),
        ("--profile", "NAME", "AWS profile.", None),
        ("--endpoint-url", "URL", "Use this endpoint instead of AWS.", None),
        ("--bucket", "NAME", "Use this bucket instead of the stack's.", None),
        ("--broker-url", "URL", "Connect to this address instead of the broker's, as of a forwarded port.", None),
        ("--assume-role", "ARN", "IAM role to assume.", None),
        ("--assume-role-external-id", "ID", "External ID that the role's trust policy asks for.", None),
    ]
    options = [
        click.option(
            name,
            metavar=metavar,
            type=click.Choice(["text", "json"]) if name == "--output" else str,
            expose_value=False,
            hidden=hidden,
            callback=_remember(name[2:].replace("-", "_")),
            shell_complete=complete,
            help=text,
        )
        for name, metavar, text, complete in named
    ]
    options.insert(
        3,
        click.option(
            "--json",
            is_flag=True,
            expose_value=False,
            hidden=hidden,
            callback=_remember("output", "json"),
            help="Short for --output json.",
        ),
    )
    shared: dict[str, Any] = {"expose_value": False, "callback": _verbosity, "hidden": hidden}
    options += [
        click.option("-v", "--verbose", count=True, help="More messages; -vv adds tracebacks.", **shared),
        click.option("-q", "--quiet", is_flag=True, help="Only results, warnings and errors.", **shared),
    ]
    # A function collects its options from the last to the first, a command from the first to the last.
    for option in options if isinstance(command, click.Command) else reversed(options):
        command = option(command)
    return command
