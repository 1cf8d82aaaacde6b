"""The root module that a command works on: which Terraform, which state, which credentials."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from refinerctl.terraform.installation import check_version, find_terraform
from refinerctl.terraform.root_module import RootModule
from refinerctl.terraform.runner import Terraform

if TYPE_CHECKING:
    from refinerctl.app import AppContext


def make_root_module(app: AppContext, lock_timeout_s: float) -> RootModule:
    """The root module of this run's stack in its environment.

    Raises RefinerctlError without the root module, or without a supported Terraform.
    """
    settings, backend = app.settings, app.backend
    app.render.detail(f"environment {settings.env}, stack {settings.stack}, state in {backend.place}")
    binary = find_terraform(settings.terraform_binary)
    check_version(binary)
    terraform = replace(
        _terraform(app),
        module=backend.prepare_module(settings.layout, settings.stack),
        binary=str(binary),
        lock_timeout_s=lock_timeout_s,
        tell=app.render.note,
    )
    return RootModule(settings.env, settings.stack, terraform, settings.layout, backend.init_arguments)


def _terraform(app: AppContext) -> Terraform:
    settings = app.settings
    if settings.embedded:
        from refinerctl.embedded import embedded_terraform

        _ = app.session  # raises if the environment is down
        return embedded_terraform(app.instance, settings, settings.stack)
    folder = settings.work_folder.resolve() / "terraform" / settings.env
    return Terraform(
        module=settings.layout.root_module(settings.stack),
        data_dir=folder / settings.stack,
        work_folder=settings.work_folder.resolve(),
        log=folder / f"{settings.stack}.log",
        environment=_environment(app),
    )


def with_fresh_credentials(app: AppContext, root: RootModule) -> RootModule:
    """The same root module with the session's credentials of now: a role is assumed again, for its whole hour."""
    if app.settings.embedded:
        return root
    return replace(root, terraform=replace(root.terraform, environment=_environment(app)))


def _environment(app: AppContext) -> dict[str, str]:
    return {**app.session.terraform_environment(), **app.backend.environment}
