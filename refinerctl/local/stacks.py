"""The Terraform stacks of the embedded environment: the same root modules, pointed at the emulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from refinerctl.aws.session import embedded_environment
from refinerctl.local.function_host import PROXY_VARIABLE
from refinerctl.local.instance import MARKER, Instance
from refinerctl.local.status import LocalStatus
from refinerctl.terraform.runner import Terraform

if TYPE_CHECKING:
    from refinerctl.config import Settings

STACKS = ("registry", "refiner")
STATE_BUCKET = "terraform-state"


def aws_environment(region: str, status: LocalStatus) -> dict[str, str]:
    """The variables that point any AWS tool at the emulator, and away from the accounts of whoever runs it."""
    return embedded_environment(region, status.endpoint_url or "")


def stack_terraform(
    instance: Instance, settings: Settings, status: LocalStatus, stack: str, *, disposable: bool = False
) -> Terraform:
    """Terraform for one stack of a running environment. Its state lives in the emulator and goes with it.

    `disposable`: what interrupts it ends the environment, too.
    """
    return Terraform(
        module=settings.project / "terraform" / "stacks" / stack,
        data_dir=instance.directory / "terraform" / stack,
        work_folder=settings.work_folder,
        log=instance.log("terraform"),
        environment={
            **aws_environment(settings.embedded_region, status),
            "TF_VAR_function_environment": json.dumps({PROXY_VARIABLE: status.functions_url}),
            MARKER: str(instance.directory),
        },
        binary=settings.terraform_binary,
        embedded=True,
        disposable=disposable,
    )
