"""The stack that a command works on: which Terraform, where its state is, as whom. Part of the composition root."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from refinerctl.errors import RefinerctlError
from refinerctl.terraform import Terraform
from refinerctl.terraform.stack import Stack

if TYPE_CHECKING:
    from refinerctl.app import AppContext


def make_stack(app: AppContext, lock_timeout_s: float) -> Stack:
    """The stack of the settings in its environment. Raises RefinerctlError without a Terraform that will do."""
    from refinerctl.terraform.tools import check_version, find_terraform

    settings = app.settings
    root = settings.project / "terraform" / "stacks" / settings.stack
    if not root.is_dir():
        raise RefinerctlError(
            f"there is no stack {settings.stack!r} in {settings.project}",
            hint=f"Stacks are folders below terraform/stacks, in the project's folder or one below; {root} is missing.",
        )
    backend = app.backend
    app.render.detail(f"environment {settings.env}, stack {settings.stack}, state in {backend.place}")
    binary = find_terraform(settings.tools)
    check_version(binary)
    terraform = replace(
        _terraform(app),
        module=backend.prepare_module(),
        binary=binary,
        lock_timeout_s=lock_timeout_s,
        tell=app.render.note,
    )
    return Stack(settings.env, settings.stack, terraform, settings.project, backend.init_arguments)


def _terraform(app: AppContext) -> Terraform:
    settings, backend = app.settings, app.backend
    if settings.embedded:
        from refinerctl.embedded import embedded_terraform

        _ = app.session  # says so if the environment is down
        return embedded_terraform(app.instance, settings, settings.stack)
    folder = settings.work_folder.resolve() / "terraform" / settings.env
    return Terraform(
        module=backend.module,
        data_dir=folder / settings.stack,
        work_folder=settings.work_folder.resolve(),
        log=folder / f"{settings.stack}.log",
        environment=_environment(app),
    )


def with_fresh_credentials(app: AppContext, stack: Stack) -> Stack:
    """The same stack with what the session gives now: a role is assumed anew, for its whole hour."""
    if app.settings.embedded:
        return stack
    return replace(stack, terraform=replace(stack.terraform, environment=_environment(app)))


def _environment(app: AppContext) -> dict[str, str]:
    return {**app.session.terraform_environment(), **app.backend.environment}
