"""`refinerctl rnr rotate`: a new password for the broker's user, on the broker and in its secret.

At each moment the password that the broker accepts is in the secret: as AWSCURRENT, or as AWSPENDING, which is written
before the broker gets it and removed at the very end. So a run that was killed is continued by the next one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from enum import StrEnum
from secrets import token_urlsafe

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.secrets import CURRENT, INITIAL, PENDING, Secrets
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, UsageError
from refinerctl.options import ask, check_consent, examples, global_options, yes_option
from refinerctl.rabbitmq.management import Management
from refinerctl.rnr import STACK
from refinerctl.stacks.base import Broker, Service

PASSWORD_BYTES = 32
# The ID of the version that follows a version: two runs at the same time write one new password, not two.
_NAMESPACE = uuid.UUID("9d3b9d7e-3d0f-5d0c-9a2e-5f1c6a0f7b52")


class Step(StrEnum):
    """The steps of a rotation, in their order."""

    SECRET = "write a new password to the secret, as AWSPENDING"  # noqa: S105
    BROKER = "set the password on the broker"
    CURRENT = "log in with it, and make it AWSCURRENT"
    RESTART = "restart the tasks that consume from the broker"
    FINISH = "remove AWSPENDING"


@dataclass(frozen=True)
class Rotation:
    """The versions of a secret and the steps that are left; `pending` is the ID of the new version."""

    current: str
    pending: str
    steps: tuple[Step, ...]

    @property
    def is_continued(self) -> bool:
        """Whether an earlier run began it."""
        return Step.SECRET not in self.steps


@click.command(
    epilog=examples(
        "refinerctl rnr rotate --dry-run",
        "refinerctl rnr rotate --yes --broker-url https://localhost:10443",
    )
)
@click.option("--dry-run", is_flag=True, help="Log in with the present password, show the steps, and stop.")
@yes_option
@global_options
@click.pass_context
def rotate(ctx: click.Context, dry_run: bool, yes: bool) -> None:
    """Give the broker's user a new password.

    Sets it through the broker's management API, writes it to the broker's secret, and replaces the tasks that consume
    from the broker: a busy one finishes its job first. Functions read the secret again by themselves. If the command is
    interrupted, run it again: it continues. The password in Terraform's state is not valid afterwards.
    """
    app = app_context(ctx, changes=True, stack=STACK)
    broker = next(iter(app.pipeline.by_kind(Broker)), None)
    if broker is None:
        raise UsageError(f"stack {app.stack.name} has no broker", hint="Choose another stack with --stack.")
    if not dry_run:
        check_consent(yes)
    app.tell_settings()
    management = app.broker(broker)
    rotation = plan(app.secrets, broker.secret, management)
    if rotation.is_continued:
        app.render.note(f"an earlier rotation of secret {broker.secret} is not finished: it is continued")
    if dry_run:
        _show(app, broker, management, rotation, dry_run=True)
        return
    ask(f"Give user {management.endpoint.username} of broker {broker.name} in {app.location} a new password?", yes)
    _run(app, broker, management, rotation)
    _show(app, broker, management, rotation)


def plan(secrets: Secrets, name: str, management: Management) -> Rotation:
    """What is left to do, by the stages of the secret and by which password the broker accepts; changes nothing.

    Raises AccessDeniedError if it accepts neither, and what says that the broker cannot be reached.
    """
    stages = secrets.state(name).stages
    current, pending = stages[CURRENT], stages.get(PENDING)
    all_steps = tuple(Step)
    if pending == current:
        return Rotation(current, pending, all_steps[3:])
    if pending and _with_version(secrets, name, pending, management).accepts_login():
        return Rotation(current, pending, all_steps[2:])
    if not management.accepts_login():
        endpoint, both = management.endpoint, "the current and the pending" if pending else "the"
        raise AccessDeniedError(
            f"broker {endpoint.name} refuses {both} password of secret {name} for user {endpoint.username}",
            hint="Set the password of AWSCURRENT for this user in the broker's management console, and run the command "
            "again.",
        )
    if pending:
        return Rotation(current, pending, all_steps[1:])
    return Rotation(current, str(uuid.uuid5(_NAMESPACE, current)), all_steps)


def _with_version(secrets: Secrets, name: str, version: str, management: Management) -> Management:
    """The management API with the password of a version."""
    (password,) = secrets.texts(name, "password", version=version)
    return Management(replace(management.endpoint, password=password))


def _run(app: AppContext, broker: Broker, management: Management, rotation: Rotation) -> None:
    done, work = False, _Work(app, broker, management, rotation)
    try:
        with app.render.progress() as progress:
            for step in rotation.steps:
                progress.step(step)
                work.do(step)
        done = True
    finally:
        if not done:
            app.render.warning(
                f"the rotation is not finished, and nothing is lost: `{app.command('rnr', 'rotate')}` continues it"
            )


@dataclass(frozen=True)
class _Work:
    app: AppContext
    broker: Broker
    management: Management
    rotation: Rotation

    def do(self, step: Step) -> None:
        secrets, name, rotation = self.app.secrets, self.broker.secret, self.rotation
        match step:
            case Step.SECRET:
                self._write()
            case Step.BROKER:
                (password,) = secrets.texts(name, "password", version=rotation.pending)
                self.management.set_password(password)
            case Step.CURRENT:
                if not _with_version(secrets, name, rotation.pending, self.management).accepts_login():
                    raise RefinerctlError(f"broker {self.broker.name} refuses the new password of secret {name}")
                secrets.move_stage(name, CURRENT, to=rotation.pending, away_from=rotation.current)
            case Step.RESTART:
                self._restart()
            case Step.FINISH:
                secrets.move_stage(name, PENDING, away_from=rotation.pending)

    def _write(self) -> None:
        secrets, name, rotation = self.app.secrets, self.broker.secret, self.rotation
        if self.app.settings.embedded and INITIAL not in secrets.state(name).stages:
            # The emulator keeps no other stages than AWS's own when Terraform writes a version.
            secrets.move_stage(name, INITIAL, to=rotation.current)
        content = {**secrets.content(name, rotation.current), "password": token_urlsafe(PASSWORD_BYTES)}
        secrets.put_pending(name, rotation.pending, content)
        if secrets.state(name).stages.get(PENDING) != rotation.pending:  # it existed, and has lost the stage
            secrets.move_stage(name, PENDING, to=rotation.pending)

    def _restart(self) -> None:
        for service in consumers(self.app, self.broker):
            try:
                self.app.services.restart(service.cluster, service.name)
            except NotFoundError as error:
                self.app.render.warning(f"{error.message}: it is not restarted")


def consumers(app: AppContext, broker: Broker) -> list[Service]:
    """The services whose queues are on a broker."""
    return [
        stage.service for stage in app.pipeline.stages if stage.service and stage.queue and stage.queue.broker == broker
    ]


def _show(
    app: AppContext, broker: Broker, management: Management, rotation: Rotation, *, dry_run: bool = False
) -> None:
    user = management.endpoint.username
    if app.render.is_json:
        app.render.json(
            {
                "broker": broker.name,
                "user": user,
                "secret": broker.secret,
                "version_id": rotation.pending,
                "continued": rotation.is_continued,
                "dry_run": dry_run,
                "steps": [step.name.lower() for step in rotation.steps],
            }
        )
    elif dry_run:
        for number, step in enumerate(rotation.steps, 1):
            app.render.line(f"{number}. {step}")
    else:
        app.render.line(f"user {user} of broker {broker.name} has a new password, in secret {broker.secret}")
