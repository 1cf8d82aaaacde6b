"""The command line: the table of commands, and the one place where errors become a message and an exit code."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from refinerctl import __version__
from refinerctl.errors import FatalError, RefinerctlError, Terminated, UsageError
from refinerctl.options import NOTIFY, RUN, examples, global_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# At exit the interpreter would search everything that was imported for garbage: a tenth of a short command's time.
atexit.register(gc.freeze)
# Imports create no garbage: a collection after each 700 objects takes another tenth.
gc.set_threshold(50_000)

# Group of commands → what a command is called → where it is and its help, so that --help imports none of them.
LOCAL = {
    "up": ("refinerctl.local.up:up", "Start the local environment and apply the stacks to it."),
    "status": ("refinerctl.local.status:status", "Show whether the local environment is up, and its endpoint."),
    "logs": ("refinerctl.local.logs:logs", "Print the logs of the functions or of another component."),
    "env": ("refinerctl.local.status:env", "Print variables that point other tools at the local environment."),
    "down": ("refinerctl.local.status:down", "Stop the local environment and delete its data."),
}
IMAGES = {
    "list": ("refinerctl.releases.images:list_command", "List the images in ECR and what uses them."),
    "prune": ("refinerctl.releases.prune:prune", "Delete images that nothing deployed uses."),
}
DLQ = {
    "list": ("refinerctl.dlq.list:command", "List the dead-letter queues and how many messages they hold."),
    "inspect": ("refinerctl.dlq.inspect:command", "Show the messages of a DLQ and why they failed."),
    "export": ("refinerctl.dlq.export:command", "Write the messages of a DLQ to a file."),
    "redrive": ("refinerctl.dlq.redrive.command:command", "Send the messages of a DLQ back to their queue."),
    "purge": ("refinerctl.dlq.purge:command", "Delete messages from a DLQ after saving them."),
}
RNR = {
    "produce": ("refinerctl.rnr.run:produce", "Run the producer now and show what it published."),
    "postprocess": ("refinerctl.rnr.run:postprocess", "Run the post-processing now and show what it merged."),
    "workers": ("refinerctl.rnr.workers:workers", "Show the workers, or set how many there should be."),
    "bucket-policy": ("refinerctl.rnr.bucket_policy:bucket_policy", "Print, check or apply the grants on the buckets."),
    "rotate": ("refinerctl.rnr.rotate:rotate", "Give the broker's user a new password."),
}
ENV = {
    "new": ("refinerctl.setup.env_new:new", "Create an environment: settings, tfvars and backend."),
    "list": ("refinerctl.setup.env:list_environments", "List the environments and what is wrong with them."),
}
IMAGE = {
    "build": ("refinerctl.setup.image_build:build", "Build images as the release workflow does."),
}
Entry = tuple[str | Mapping[str, tuple[str, str]], str]
SECTIONS: dict[str, dict[str, Entry]] = {
    "Set up": {
        "init": ("refinerctl.setup.init:init", "Create a project, or update one to this version."),
        "doctor": ("refinerctl.setup.doctor:doctor", "Check tools, credentials, servers and configuration."),
        "env": (ENV, "Create or list environments."),
        "image": (IMAGE, "Build the images."),
    },
    "Inputs": {
        "upload": ("refinerctl.inputs.upload:upload", "Upload files and follow them to their completions."),
        "poll": ("refinerctl.inputs.poll:poll", "List completions and their outputs."),
        "inputs": ("refinerctl.inputs.list:inputs", "List inputs and whether they are completed."),
        "replay": ("refinerctl.inputs.replay:replay", "Send inputs through the pipeline again."),
    },
    "Releases": {
        "sync": ("refinerctl.releases.sync:sync", "Copy the images of a release to ECR."),
        "releases": ("refinerctl.releases.releases:releases", "List releases: published, in ECR, deployed."),
        "images": (IMAGES, "List or prune the images in ECR."),
        "plan": ("refinerctl.releases.plan:plan", "Show what a deployment would change."),
        "deploy": ("refinerctl.releases.deploy:deploy", "Apply a release with Terraform."),
        "apply": ("refinerctl.releases.deploy:deploy", "Alias of deploy."),
        "rollback": ("refinerctl.releases.rollback:rollback", "Deploy the previous release again."),
        "drift": ("refinerctl.releases.drift:drift", "Show what differs from the deployed release."),
        "destroy": ("refinerctl.releases.destroy:destroy", "Destroy a stack."),
        "outputs": ("refinerctl.releases.outputs:outputs", "Print Terraform's outputs."),
        "unlock": ("refinerctl.releases.unlock:unlock", "Release a state lock left by a crashed run."),
    },
    "Rulesets": {
        "add-prefix": ("refinerctl.rulesets.add_prefix:add_prefix", "Add a ruleset for a prefix."),
        "remove-prefix": ("refinerctl.rulesets.remove_prefix:remove_prefix", "Remove a ruleset."),
        "prefixes": ("refinerctl.rulesets.prefixes:prefixes", "List the rulesets."),
    },
    "Insight": {
        "status": ("refinerctl.insight.status:status", "Show the status of each stage."),
        "trace": ("refinerctl.insight.trace:trace", "Show where an input is, and why."),
        "logs": ("refinerctl.insight.logs:logs", "Print the logs of the functions."),
        "verify": ("refinerctl.insight.verify.command:verify", "Check wiring, permissions and quotas."),
        "report": ("refinerctl.insight.report.command:report", "Write an HTML report."),
    },
    "Dead-letter queues": {
        "dlq": (DLQ, "List, inspect, export, redrive or purge messages."),
    },
    "Stack rnr": {
        "rnr": (RNR, "Run functions now, scale workers, manage password and bucket policy."),
    },
    "Local environment": {
        "local": (LOCAL, "Run the pipelines on this machine, without an AWS account."),
        "demo": ("refinerctl.local.demo:demo", "Run the pipeline end to end once."),
    },
    "Shell": {
        "completion": ("refinerctl.cli:completion", "Print a completion script for a shell."),
    },
}

INTERRUPTED = 130
TERMINATED = 143
PIPE_CLOSED = 141

TRACEBACK_VERBOSITY = 2


class CommandGroup(click.Group):
    """Commands by section, from a table like SECTIONS: each is imported when it runs."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Entry]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.entries = {name: entry for section in sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.entries:
            return super().get_command(ctx, cmd_name)
        target, text = self.entries[cmd_name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return global_options(
            CommandGroup(cmd_name, sections={"Commands": target}, help=text, no_args_is_help=True), hidden=True
        )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """From the table: click itself would import every command."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=text) for name, (_, text) in self.entries.items() if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:  # click itself would suggest only commands that are imported
            raise click.NoSuchCommand(error.command_name, possibilities=self.entries, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in section.items()])


@click.group(
    cls=CommandGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="refinerctl")
def cli() -> None:
    """Operate event-driven data pipelines on AWS, or on this machine."""


global_options(cli, hidden=False)


@click.command(
    epilog=examples(
        'eval "$(refinerctl completion bash)"',
        "refinerctl completion fish > ~/.config/fish/completions/refinerctl.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for a shell.

    Evaluate it in ~/.bashrc or ~/.zshrc. It completes commands, options, and the names of environments, stacks, stages,
    queues, images and releases.
    """
    from click.shell_completion import get_completion_class

    if (made := get_completion_class(shell)) is not None:
        click.echo(made(ctx.find_root().command, {}, "refinerctl", "_REFINERCTL_COMPLETE").source())


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _on_sighup(_number: int, _frame: FrameType | None) -> None:
    """The terminal is closed: clean up, and ignore further signals of that kind meanwhile."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise Terminated


def _open_standard_streams() -> None:
    """Open the null device for each standard stream that the caller has closed, as in `refinerctl status >&-`.

    Otherwise the next file that is opened would get the stream's number, and the output of refinerctl and Terraform.
    """
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - as long as we run


def main() -> None:
    """Run the command line and exit with one of the contract's codes."""
    _open_standard_streams()
    signal.signal(signal.SIGTERM, _on_sigterm)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _on_sighup)
    with _errors_as_exit_codes():
        if "_REFINERCTL_COMPLETE" in os.environ:
            from click.shell_completion import add_completion_class

            from refinerctl.shell import BashWords

            add_completion_class(BashWords)
            cli.main(prog_name="refinerctl")
        # Not `cli.main`: it turns a closed pipe into exit code 1.
        with cli.make_context("refinerctl", sys.argv[1:]) as ctx, _notified(ctx):
            try:
                cli.invoke(ctx)
            except (click.exceptions.Exit, click.ClickException):
                raise
            except Exception:
                if _wants_tracebacks(ctx):
                    import traceback

                    traceback.print_exc()
                raise
        sys.stdout.flush()
        sys.exit(0)


def _wants_tracebacks(ctx: click.Context) -> bool:
    """Does not need the settings: reading them may be what fails."""
    from refinerctl.config import verbosity

    try:
        return (getattr(ctx.obj, "verbosity", 0) or verbosity(os.environ)) >= TRACEBACK_VERBOSITY
    except UsageError:
        return False


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        with suppress(OSError):  # nobody reads standard error
            error.show()
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt, Terminated, FatalError) as error:
        code, message, hint = _outcome(error)
        if code == PIPE_CLOSED:
            # The reader of our output has closed it. Python would complain once more while it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        elif message:
            with suppress(OSError):
                _say(message, hint)
        sys.exit(code)


def _outcome(error: Exception | KeyboardInterrupt | Terminated | FatalError) -> tuple[int, str, str | None]:
    """The exit code, the message and the hint of what ended a run; an exit that a command asked for has no message."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code, "", None
        case click.ClickException():
            return error.exit_code, f"error: {error.format_message()}", None
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED, "interrupted", None
        case Terminated():
            return TERMINATED, "terminated", None
        case BrokenPipeError():
            return PIPE_CLOSED, "", None
        case FatalError():
            known = error.error
        case RefinerctlError():
            known = error
        case _:
            known = _explained(error)
    return known.exit_code, f"error: {known.message}", known.hint


@contextmanager
def _notified(ctx: click.Context) -> Iterator[None]:
    """Send what comes of the run to the webhook of --notify; without one do nothing."""
    try:
        yield
    except (Exception, KeyboardInterrupt, Terminated, FatalError) as error:
        _notify(ctx, *_outcome(error))
        raise
    _notify(ctx, 0, "", None)


def _notify(ctx: click.Context, code: int, message: str, hint: str | None) -> None:
    """A webhook that fails is a warning: the exit code is the command's."""
    if not (url := ctx.meta.get(NOTIFY)):
        return
    from refinerctl.app import app_context
    from refinerctl.console import Renderer
    from refinerctl.parallel import attempt
    from refinerctl.webhook import STATUSES, RunReport, post_report

    app, dry_run = ctx.meta.get(RUN) or (app_context(ctx), False)  # the run may have ended before it had one
    settings = attempt(lambda: app.settings).value
    report = RunReport(
        command=ctx.invoked_subcommand or "",
        environment=settings.env if settings else None,
        stack=settings.stack if settings else None,
        status=STATUSES.get(code, "failed"),
        exit_code=code,
        error=". ".join(text for text in (message.removeprefix("error: "), hint) if text) or None,
        dry_run=dry_run,
        job_url=os.environ.get("CI_JOB_URL"),
        result=app.render.document if settings else None,
    )
    render = Renderer("text", 0)
    try:
        post_report(url, report, render.note)
    except Exception as failure:
        known = failure if isinstance(failure, RefinerctlError) else _explained(failure)
        render.warning(f"the webhook was not notified: {known.message}")


def _explained(error: Exception) -> RefinerctlError:
    """An unexpected error as a RefinerctlError. If botocore was never imported, it is not one of its errors."""
    if "botocore" in sys.modules:
        from refinerctl.aws.errors import explain

        if (said := explain(error)) is not None:
            return said
    if isinstance(error, OSError):
        return RefinerctlError(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    return RefinerctlError(
        f"unexpected {type(error).__name__}: {error}",
        hint="This is a bug in refinerctl. Run the command again with -vv for a traceback.",
    )


def _say(message: str, hint: str | None = None) -> None:
    from refinerctl.console import printable

    click.echo(printable(f"refinerctl: {message}"), err=True)
    if hint:
        click.echo(printable(f"  {hint}"), err=True)
