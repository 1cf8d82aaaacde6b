"""The command line: `main` is the one place where errors become a message and an exit code."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from refinerctl import __version__
from refinerctl.config import GlobalFlags, verbosity
from refinerctl.console import printable
from refinerctl.errors import RefinerctlError, Terminated, UsageError
from refinerctl.lazy import LazyGroup
from refinerctl.options import global_options

# At its end the interpreter would look through all that was imported for garbage: a tenth of a short command's time.
atexit.register(gc.freeze)

# Loaded on use: a command imports what it needs, `--version` and completion need nothing.
COMMANDS = {
    "add-prefix": "refinerctl.rulesets.add_prefix_command:add_prefix",
    "apply": "refinerctl.releases.deploy_command:deploy",
    "completion": "refinerctl.completion:completion",
    "demo": "refinerctl.local.demo:demo",
    "deploy": "refinerctl.releases.deploy_command:deploy",
    "destroy": "refinerctl.releases.destroy_command:destroy",
    "dlq": "refinerctl.dlq:dlq",
    "drift": "refinerctl.releases.drift_command:drift",
    "images": "refinerctl.releases.images_command:images",
    "local": "refinerctl.local.command:local",
    "logs": "refinerctl.insight.logs_command:logs",
    "outputs": "refinerctl.releases.outputs_command:outputs",
    "plan": "refinerctl.releases.plan_command:plan",
    "poll": "refinerctl.inputs.poll:poll",
    "prefixes": "refinerctl.rulesets.prefixes_command:prefixes",
    "releases": "refinerctl.releases.releases_command:releases",
    "remove-prefix": "refinerctl.rulesets.remove_prefix_command:remove_prefix",
    "report": "refinerctl.insight.report.command:report",
    "rollback": "refinerctl.releases.rollback_command:rollback",
    "status": "refinerctl.insight.status_command:status",
    "sync": "refinerctl.releases.sync_command:sync",
    "tools": "refinerctl.terraform.tools_command:tools",
    "trace": "refinerctl.insight.trace.command:trace",
    "unlock": "refinerctl.releases.unlock_command:unlock",
    "upload": "refinerctl.inputs.upload:upload",
    "verify": "refinerctl.insight.verify.command:verify",
}

INTERRUPTED = 130
TERMINATED = 143
PIPE_CLOSED = 141

TRACEBACK_VERBOSITY = 2


class Commands(LazyGroup):
    commands_at = COMMANDS


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="refinerctl")
@global_options
def cli() -> None:
    """Operate event-driven data pipelines on AWS, or on this machine."""


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _on_sighup(_number: int, _frame: FrameType | None) -> None:
    """The terminal is gone: clean up, whatever further signals of its end come meanwhile."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise Terminated


def main() -> None:
    """Run the command line and exit with one of the contract's codes."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _on_sighup)
    with _errors_as_exit_codes():
        if "_REFINERCTL_COMPLETE" in os.environ:
            cli.main(prog_name="refinerctl")
        # Not `cli.main`: it turns a closed pipe into exit code 1 before we see it.
        with cli.make_context("refinerctl", sys.argv[1:]) as ctx:
            try:
                cli.invoke(ctx)
            except (click.exceptions.Exit, click.ClickException):
                raise
            except Exception:
                if _wants_tracebacks(ctx):
                    traceback.print_exc()
                raise
        sys.stdout.flush()
        sys.exit(0)


def _wants_tracebacks(ctx: click.Context) -> bool:
    """Before the settings are known, if need be: they may be what fails."""
    flags = ctx.obj.verbosity if isinstance(ctx.obj, GlobalFlags) else 0
    try:
        return (flags or verbosity(os.environ)) >= TRACEBACK_VERBOSITY
    except UsageError:
        return False


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    try:
        yield
    except click.exceptions.Exit as asked:
        sys.exit(asked.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        sys.exit(INTERRUPTED)
    except Terminated:
        _say("terminated")
        sys.exit(TERMINATED)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except Exception as error:
        known = error if isinstance(error, RefinerctlError) else _explained(error)
        _say(f"error: {known.message}", known.hint)
        sys.exit(known.exit_code)


def _explained(error: Exception) -> RefinerctlError:
    """An error that no layer below expected. If botocore was never imported, it is not one of its errors."""
    if "botocore" in sys.modules:
        from refinerctl.aws.session import explain

        if (said := explain(error)) is not None:
            return said
    if isinstance(error, OSError):
        return RefinerctlError(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    return RefinerctlError(
        f"unexpected {type(error).__name__}: {error}",
        hint="This is a bug in refinerctl; -vv shows where it happened.",
    )


def _say(*lines: str | None) -> None:
    for line in filter(None, lines):
        click.echo(printable(f"refinerctl: {line}" if line == lines[0] else f"  {line}"), err=True)
