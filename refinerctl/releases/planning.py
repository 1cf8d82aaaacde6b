"""What plan, deploy, rollback, drift and destroy have in common: options, pins, the summary, consent."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from refinerctl.app import AppContext
from refinerctl.app_stacks import with_fresh_credentials
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.files import write_text
from refinerctl.options import Duration
from refinerctl.releases.deploy import check_credentials
from refinerctl.releases.model import Pins, Release, deployed
from refinerctl.releases.pin_images import PinRequest, pin_images, ruleset_images
from refinerctl.releases.plan import Planned
from refinerctl.releases.plan_view import gitlab_report, markdown, plan_lines
from refinerctl.terraform.hcl import load_values, variable_defaults
from refinerctl.terraform.stack import Stack

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def lock_timeout_option(command: Decorated) -> Decorated:
    return click.option(
        "--lock-timeout",
        type=Duration(),
        default="2m",
        show_default=True,
        help="How long to wait for another run that holds the state's lock.",
    )(command)


def allow_destroy_option(command: Decorated) -> Decorated:
    return click.option(
        "--allow-destroy",
        "allow",
        multiple=True,
        metavar="ADDRESS",
        help="Destroy or replace this resource, although it holds data; repeatable.",
    )(command)


def apply_options(command: Decorated) -> Decorated:
    """What everything that applies takes."""
    for option in (
        click.option(
            "--min-credential-lifetime",
            type=Duration(),
            default="15m",
            show_default=True,
            help="Refuse to apply with credentials that expire sooner.",
        ),
        lock_timeout_option,
    ):
        command = option(command)
    return command


def yes_option(command: Decorated) -> Decorated:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(command)


def pins_for(app: AppContext, stack: Stack, tag: str | None) -> Pins:
    """The images of a release; without `tag` those that are in place, or those that the environment names."""
    recorded = deployed(app.ledger.read()) if _has_images(stack) else None
    here = app.settings.local_repositories if tag is None else frozenset()
    return _pins(app, stack, PinRequest(tag=tag, recorded=recorded, in_place=recorded, local_repositories=here))


def pins_of(app: AppContext, stack: Stack, target: Release, current: Release) -> Pins:
    """The images of a recorded release, by its digests."""
    return _pins(app, stack, PinRequest(recorded=target, in_place=current, by_record=True, fallback=current.images))


def _has_images(stack: Stack) -> bool:
    return "rulesets" in variable_defaults(stack.source)


def _pins(app: AppContext, stack: Stack, request: PinRequest) -> Pins:
    defaults = variable_defaults(stack.source)
    if "rulesets" not in defaults:
        if request.tag is not None:
            raise UsageError(f"stack {stack.name} has no images, and so no release", hint="Leave out --tag.")
        return Pins()
    values = load_values(stack.var_file, missing_ok=True)
    default_tag = values.get("release_tag", defaults.get("release_tag"))
    wanted = ruleset_images(values, defaults)
    return pin_images(wanted, app.deployable_images, replace(request, default_tag=default_tag))


def show_plan(app: AppContext, stack: Stack, planned: Planned) -> None:
    """The summary: data, unless the data is to be JSON; a person who is asked sees it all the same."""
    write = app.render.note if app.render.is_json else app.render.line
    for line in plan_lines(planned.plan):
        write(line)
    if app.settings.verbosity > 0:
        for line in stack.terraform.show_text(planned.file).splitlines():
            app.render.detail(line)


def write_reports(planned: Planned, report: Path | None, note: Path | None) -> None:
    if report is not None:
        write_text(report, json.dumps(gitlab_report(planned.plan)) + "\n")
    if note is not None:
        write_text(note, markdown(planned.plan))


def check_consent(given: bool, flag: str = "--yes") -> None:
    """Before any work: somebody has to be there to be asked, unless `flag` has answered already."""
    if not given and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("there is no terminal to ask at", hint=f"{flag} goes ahead without asking.")


def ask(question: str, yes: bool) -> None:
    """Raises RefinerctlError for any other answer than yes."""
    if not yes and not click.confirm(question, err=True):
        raise RefinerctlError("not confirmed; nothing was changed")


def ready_to_apply(app: AppContext, stack: Stack, least_s: float, consent: Callable[[], None]) -> Stack:
    """The stack with credentials that last for at least `least_s` seconds, once there is consent.

    Raises RefusedError without such: before anybody is asked, and after, as an answer may take an hour.
    """
    least = timedelta(seconds=least_s)
    check_credentials(app.session.credential_expiry(), least)
    if app.session.has_unknown_expiry():
        app.render.warning("the credentials are temporary, and nothing says for how long")
    consent()
    fresh = with_fresh_credentials(app, stack)
    check_credentials(app.session.credential_expiry(), least)
    return fresh
