"""Which account a run works in, and the guard that changes nothing in another one than the environment's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refinerctl.config import Settings
from refinerctl.errors import FatalError, RefinerctlError, RefusedError
from refinerctl.parallel import attempt

if TYPE_CHECKING:
    from refinerctl.aws.session import AwsSession
    from refinerctl.console import Renderer


def has_account(settings: Settings) -> bool:
    """Whether the account that STS returns can be compared: an emulator's cannot, unless the settings name it."""
    return settings.account is not None or not (settings.embedded or settings.endpoint_url)


def location(settings: Settings, session: AwsSession) -> str:
    """Account (or endpoint), region and environment, for messages. Asks STS."""
    where = f"the {'emulator' if settings.embedded else 'account'} at {session.endpoint_url}"
    if has_account(settings):
        answer = attempt(session.caller)
        where = f"account {account_of(answer.value) if answer.value else 'unknown'}"
    return f"{where}, region {session.region_name() or 'unknown'}, environment {settings.env}"


def check_account(settings: Settings, render: Renderer, session: AwsSession) -> None:
    """Print where this run changes something. Raises FatalError in another account than the environment's."""
    env, account = settings.env, settings.account
    answer = attempt(session.caller)
    if account is None:
        found = account_of(answer.value) if answer.value else "<12 digits>"
        render.warning(
            f'environment {env} is not bound to an account; set account = "{found}" in [environments.{env}] of '
            "refinerctl.toml, so that refinerctl changes nothing in another account"
        )
    elif answer.error is not None:
        said = f"cannot check the account of environment {env}: {answer.error.message}"
        raise FatalError(RefinerctlError(said, hint=answer.error.hint)) from answer.error
    elif answer.value and (found := account_of(answer.value)) != account:
        said = f"environment {env} is in account {account}, but the credentials belong to {found} ({answer.value})"
        hint = f"Use credentials of account {account}, for instance with --profile, or another --env."
        raise FatalError(RefusedError(said, hint=hint))
    render.note(location(settings, session))


def account_of(arn: str) -> str:
    """The account that an ARN names."""
    return arn.split(":")[4]
