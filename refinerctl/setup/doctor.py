"""`refinerctl doctor`: is everything there that commands need on this machine and in this environment?"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.app import AppContext, app_context
from refinerctl.config import Settings, config_path
from refinerctl.console import Renderer
from refinerctl.errors import DIFFERENCES, RefinerctlError, UsageError
from refinerctl.insight.findings import STATUS_STYLES, Finding, Status, failed, passed, skipped, warned
from refinerctl.options import Duration, examples, global_options
from refinerctl.parallel import Background, attempt
from refinerctl.setup import render_without_settings

if TYPE_CHECKING:
    from refinerctl.images import ImageSettings

NO_PROJECT = "no refinerctl.toml in this folder or its parent folders; `refinerctl init DIR` creates a project"
_NOUNS = {Status.PASS: "passed", Status.WARN: "warned", Status.FAIL: "failed", Status.SKIP: "skipped"}
_LOCAL, _REMOTE = (
    ("packages", "node", "rabbitmq", "redis", "local"),
    ("credentials", "images", "ecr", "state", "broker"),
)

Look = Callable[[], Iterable[Finding]]
Checks = list[tuple[str, Look]]


@dataclass(frozen=True)
class Diagnosis:
    """A finding of `doctor`, as JSON has it."""

    id: str
    status: Status
    seen: str
    fix: str | None = None


@click.command(epilog=examples("refinerctl doctor", "refinerctl doctor --env production -q"))
@click.option("--offline", is_flag=True, help="Connect to no server.")
@click.option("--timeout", type=Duration(), default="15s", show_default=True, help="Maximum time for all checks.")
@global_options
@click.pass_context
def doctor(ctx: click.Context, offline: bool, timeout: float) -> None:
    """Check tools, credentials, servers and configuration of the environment.

    Prints a line for each check, with a fix for each problem; -q prints only problems. Checks only what this
    environment and stack need. Changes nothing. Exit code 5 if a check fails.
    """
    app = app_context(ctx)
    found = attempt(lambda: app.settings)
    if isinstance(found.error, UsageError):
        raise found.error
    if found.value is None:  # an invalid refinerctl.toml is a reason to run this command
        app.render = render_without_settings(ctx)
    checks = _checks(app, found.value, offline) if found.value else _without_settings(found.error)
    diagnoses: list[Diagnosis] = []
    for diagnosis in _run(checks, timeout):
        diagnoses.append(diagnosis)
        if not app.render.is_json and diagnosis.status is not Status.SKIP:
            _show(app.render, diagnosis)
    _end(app.render, diagnoses)
    if any(diagnosis.status is Status.FAIL for diagnosis in diagnoses):
        ctx.exit(DIFFERENCES)


def _run(checks: Checks, timeout_s: float) -> Iterator[Diagnosis]:
    """The results of all checks, which run at the same time, in their order."""
    running = [(check, Background(partial(_findings, look))) for check, look in checks]
    for _, background in running:
        background.start()
    deadline = time.monotonic() + timeout_s
    for check, background in running:
        try:
            findings = background.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            findings = [failed(f"no answer within {timeout_s:g} s", "Check the network, proxies and firewalls.")]
        for finding in findings:
            yield Diagnosis(check, finding.status, finding.seen, finding.fix)


def _findings(look: Look) -> list[Finding]:
    from refinerctl.setup.reach import SkippedError

    try:
        return list(look())
    except SkippedError as error:
        return [skipped(error.message)]
    except RefinerctlError as error:
        return [failed(error.message, error.hint)]
    except Exception as error:  # must not hide what the other checks find
        return [failed(f"unexpected {type(error).__name__}: {error}", "This is a bug in refinerctl.")]


def _checks(app: AppContext, settings: Settings, offline: bool) -> Checks:
    from refinerctl.setup import tools

    return [
        ("python", tools.python),
        ("terraform", partial(tools.terraform, settings.terraform_binary)),
        ("provider", partial(tools.provider, settings, offline)),
        ("git", tools.git),
        ("docker", tools.docker),
        ("configuration", partial(_configuration, settings)),
        *(_local(app, settings) if settings.embedded else _skipped(_LOCAL, "needed only in a local environment")),
        *_remote(app, settings, offline),
    ]


def _without_settings(error: RefinerctlError | None) -> Checks:
    """What can be checked without the settings that `error` is about."""
    from refinerctl.setup import tools

    def configuration() -> Iterator[Finding]:
        if error is not None:
            yield failed(error.message, error.hint)

    known: Checks = [("python", tools.python), ("terraform", partial(tools.terraform, "terraform")), ("git", tools.git)]
    return [
        *known,
        ("configuration", configuration),
        *_skipped((*_LOCAL, *_REMOTE), "the configuration cannot be read"),
    ]


def _skipped(checks: Sequence[str], reason: str) -> Checks:
    return [(check, lambda: [skipped(reason)]) for check in checks]


def _configuration(settings: Settings) -> Iterator[Finding]:
    """What `env list` finds about this environment."""
    from refinerctl.setup.environments import Severity, environment

    config = config_path(os.environ, Path.cwd())
    if config is None:
        yield skipped(NO_PROJECT)
        return
    summary = environment(config.resolve(), settings.env)
    for problem in summary.problems:
        yield (failed if problem.severity is Severity.ERROR else warned)(str(problem), problem.fix)
    if not summary.problems:
        yield passed(f"environment {settings.env}, stacks {', '.join(summary.stacks)}")


def _local(app: AppContext, settings: Settings) -> Checks:
    """What a local environment needs, and whether it is up."""
    from refinerctl.setup import tools
    from refinerctl.stacks.base import Broker, Cache

    pipeline = attempt(lambda: app.pipeline).value  # an error is one of the configuration
    images = tuple(image for image in settings.images if image.stack == settings.stack)
    servers: Checks = []
    for check, kind, look in (("rabbitmq", Broker, tools.rabbitmq), ("redis", Cache, tools.redis)):
        is_needed = pipeline is not None and any(isinstance(item, kind) for item in pipeline.components)
        servers += [(check, look)] if is_needed else _skipped([check], f"not needed by stack {settings.stack}")
    return [
        ("packages", tools.packages),
        ("node", partial(tools.node, images)),
        *servers,
        ("local", partial(_emulator, app)),
    ]


def _emulator(app: AppContext) -> Iterator[Finding]:
    status = app.instance.status()
    if status.endpoint_url is None and status.detail:
        yield warned(f"the local environment has stopped: {status.detail}", "Run `refinerctl local up --detach`.")
    elif status.endpoint_url is None:
        yield skipped("the local environment is down")
    else:
        yield passed(f"the local environment is {status.state} at {status.endpoint_url}")


def _remote(app: AppContext, settings: Settings, offline: bool) -> Checks:
    """The servers that the environment's commands use."""
    from refinerctl.setup import reach

    if settings.embedded:
        return _skipped(_REMOTE, "not needed in a local environment")
    if offline:
        return _skipped(_REMOTE, "--offline")
    try:
        app.session = reach.direct_session(settings)
    except RefinerctlError as error:
        refused: Checks = [("credentials", partial(_raise, error))]
        return [*refused, *_skipped(_REMOTE[1:], "the credentials are refused")]
    checks: Checks = [("credentials", partial(reach.credentials, app)), *_image_checks(app, settings)]
    if not settings.layout.is_project:
        return [*checks, *_skipped(_REMOTE[3:], NO_PROJECT)]
    return [*checks, ("state", partial(reach.state, app)), ("broker", partial(reach.broker, app))]


def _raise(error: RefinerctlError) -> Iterable[Finding]:
    raise error


def _image_checks(app: AppContext, settings: Settings) -> Checks:
    """Each registry that images are published to, and ECR. A stack without images has those of all stacks."""
    from refinerctl.setup import reach

    images = [image for image in settings.images if image.stack == settings.stack] or list(settings.images)
    if not images:
        return _skipped(("images", "ecr"), "the project has no images" if settings.layout.is_project else NO_PROJECT)
    by_host: dict[str, list[ImageSettings]] = {}
    for image in images:
        if image.source and image.source.registry:
            by_host.setdefault(image.source.registry, []).append(image)
    published: Checks = [
        ("images", partial(reach.image_sources, app, host, of_host)) for host, of_host in by_host.items()
    ]
    return [
        *(published or _skipped(["images"], "no image has a source in refinerctl.toml")),
        ("ecr", partial(reach.ecr, app, images)),
    ]


def _show(render: Renderer, diagnosis: Diagnosis) -> None:
    if render.is_quiet and diagnosis.status is Status.PASS:
        return
    fix = f". {diagnosis.fix}" if diagnosis.fix else ""
    style = STATUS_STYLES[diagnosis.status]
    render.wrapped(
        [(f"{diagnosis.status.upper():4}", style), (f"  {diagnosis.id:<13}  ", "")], f"{diagnosis.seen}{fix}"
    )


def _end(render: Renderer, diagnoses: Sequence[Diagnosis]) -> None:
    """JSON; or what was skipped, together with others that were skipped for the same reason, and the counts."""
    if render.is_json:
        render.json({"checks": diagnoses})
        return
    if render.is_quiet:
        return
    reasons: dict[str, list[str]] = {}
    for diagnosis in diagnoses:
        if diagnosis.status is Status.SKIP:
            reasons.setdefault(diagnosis.seen, []).append(diagnosis.id)
    for reason, checks in reasons.items():
        render.wrapped([("SKIP", STATUS_STYLES[Status.SKIP]), ("  ", "")], f"{', '.join(checks)}: {reason}")
    counts = Counter(diagnosis.status for diagnosis in diagnoses)
    render.line(", ".join(f"{counts[status]} {noun}" for status, noun in _NOUNS.items() if counts[status]))
