"""Checks of `refinerctl doctor` that ask servers: credentials, registries, the state, brokers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from refinerctl.account import account_of
from refinerctl.console import counted, seconds
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.insight.findings import Finding, failed, passed, skipped, warned
from refinerctl.parallel import attempt
from refinerctl.stacks.base import Broker

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.session import AwsSession
    from refinerctl.config import Settings
    from refinerctl.images import ImageSettings
    from refinerctl.ledger.entries import Ledger
    from refinerctl.rabbitmq.endpoint import Address

CONNECT_SECONDS = 5.0
# Credentials that end sooner may end in the middle of a deployment.
SHORT_SECONDS = 15 * 60


def direct_session(settings: Settings, attempts: int = 1) -> AwsSession:
    """A session that gives up early. Raises RefusedError if a variable redirects it."""
    from refinerctl.aws.session import AwsSession, refuse_inherited_endpoint

    if settings.endpoint_url is None:
        refuse_inherited_endpoint(os.environ, settings.env)
    return AwsSession(
        settings.region,
        profile=settings.profile,
        endpoint_url=settings.endpoint_url,
        embedded=False,
        assume_role=settings.assume_role,
        external_id=settings.assume_role_external_id,
        attempts=attempts,
    )


def credentials(app: AppContext) -> Iterator[Finding]:
    """Who the credentials belong to, whether that is the environment's account, and how long they are valid."""
    settings, arn = app.settings, app.session.caller()
    account = account_of(arn)
    if settings.account and account != settings.account:
        yield failed(
            f"{arn} is in account {account}, but environment {settings.env} is in {settings.account}",
            f"Use credentials of account {settings.account}, for instance with --profile, or another --env.",
        )
        return
    if app.session.region_name() is None:
        yield failed(f"{arn}: no region is set", f"Set region in [environments.{settings.env}] of refinerctl.toml.")
        return
    until, is_known = app.session.credential_lifetime()
    if until is None:
        lasts = "no expiry" if is_known else "expiry unknown"
        yield passed(f"{arn}, {lasts}")
        return
    left = (until - datetime.now(UTC)).total_seconds()
    valid = f"{arn}, valid for {seconds(left)}"
    yield passed(valid) if left >= SHORT_SECONDS else warned(valid, "Log in again before a deployment.")


def image_sources(app: AppContext, host: str, images: list[ImageSettings]) -> Iterator[Finding]:
    """Whether the published images of these repositories, all at `host`, can be read."""
    registry = app.registries.impatient_client(host, attempts=1)
    for image in images:
        repository = str(image.source.repository) if image.source else ""
        try:
            tags = registry.repository(repository).tags()
        except NotFoundError as error:
            yield failed(error.message, f"Correct `source` in [images.{image.name}] of refinerctl.toml.")
        except AccessDeniedError as error:
            fix = error.hint or f"Log in to {host}, and correct `source` in [images.{image.name}] of refinerctl.toml."
            yield failed(error.message, fix)
        else:
            yield passed(f"{host}/{repository}: {counted(len(tags), 'tag')}")


def ecr(app: AppContext, images: list[ImageSettings]) -> Iterator[Finding]:
    _need_credentials(app)
    host, names = app.ecr.host, [image.repository for image in images]
    if missing := app.ecr.missing_repositories(names):
        yield warned(f"{host} has no repository {', '.join(missing)}", f"Run `{_deploy(app, 'registry')}`.")
    else:
        yield passed(f"{host} has {', '.join(names)}")


def _deploy(app: AppContext, stack: str) -> str:
    return app.in_environment(app.settings.env, stack).command("deploy")


def state(app: AppContext) -> Iterator[Finding]:
    """Whether the state's place can be read: the ledger is kept beside the state."""
    configured = attempt(lambda: app.backend)
    if configured.error is not None:
        if app.settings.backend == "s3":
            raise SkippedError("it is not configured")
        raise configured.error
    backend = app.backend
    if backend.kind != "http":
        _need_credentials(app)
    try:
        releases = _ledger(app).read()
    except NotFoundError as error:
        fix = f"Correct {app.settings.layout.backend_file(app.settings.env).name}, or create the bucket."
        yield failed(error.message, fix)
    else:
        yield passed(f"{backend.place}: {counted(len(releases), 'release')}")


def _ledger(app: AppContext) -> Ledger:
    if app.backend.kind != "http":
        return app.ledger
    from refinerctl.ledger.http import HttpLedger
    from refinerctl.transport import Limits, Transport

    return HttpLedger(app.backend, transport=Transport(Limits(attempts=1, connect_timeout_s=CONNECT_SECONDS)))


def broker(app: AppContext) -> Iterator[Finding]:
    """Whether the broker runs, and can be reached from here: only some commands connect to it."""
    if app.stack.pipeline is None or not (brokers := list(app.pipeline.by_kind(Broker))):
        yield skipped(f"stack {app.stack.name} has no broker")
        return
    _need_credentials(app)
    for component in brokers:
        yield _reached(app, component)


def _reached(app: AppContext, component: Broker) -> Finding:
    from refinerctl.aws.mq import broker_settings
    from refinerctl.rabbitmq.endpoint import endpoint_of

    try:
        found = broker_settings(app.session, component.name)
        endpoint = endpoint_of(component.name, *found.urls, app.settings.broker_url, ("", ""), component.secret)
    except NotFoundError as error:
        return warned(error.message, f"Run `{_deploy(app, app.stack.name)}`.")
    except AccessDeniedError as error:
        return warned(error.message, error.hint)
    for scheme, address in (("amqps", endpoint.amqp), ("https", endpoint.api)):
        if address is not None and (reason := _refused(address)):
            said = f"broker {component.name} is {found.state}, but {address.host}:{address.port} {reason}"
            fix = f"Needed only for `dlq`, `inputs`, `replay` and `rnr`. {endpoint.route_hint(scheme)}"
            return warned(said, fix)
    return passed(f"{component.name} is {found.state} and can be reached")


def _refused(address: Address) -> str | None:
    """Why no connection can be made."""
    try:
        socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS).close()
    except TimeoutError:
        return f"does not answer within {CONNECT_SECONDS:.0f} s"
    except OSError as error:
        return f"cannot be reached ({error.strerror or error})"
    return None


class SkippedError(RefinerctlError):
    """What a check needs is missing, which another check reports."""


def _need_credentials(app: AppContext) -> None:
    """Raises SkippedError without usable ones. STS itself may be out of reach, in a VPC without its endpoint."""
    error = attempt(app.session.caller).error
    if isinstance(error, AccessDeniedError):
        raise SkippedError("no valid AWS credentials")
