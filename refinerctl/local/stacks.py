"""The Terraform stacks of the embedded environment: the same root modules, pointed at the emulator."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from refinerctl.clients.aws.session import EMBEDDED_CREDENTIALS
from refinerctl.clients.terraform import Terraform
from refinerctl.local.function_host import PROXY_VARIABLE
from refinerctl.local.instance import MARKER, Instance
from refinerctl.models import LocalStatus

if TYPE_CHECKING:
    from refinerctl.config import Settings

STACKS = ("registry", "refiner")
STATE_BUCKET = "terraform-state"


def aws_environment(region: str, status: LocalStatus) -> dict[str, str]:
    """The variables that point any AWS tool at the emulator, and away from the accounts of whoever runs it."""
    return {
        **EMBEDDED_CREDENTIALS,
        "AWS_SESSION_TOKEN": "",
        "AWS_PROFILE": "",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ENDPOINT_URL": status.endpoint_url or "",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])),
    }


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
        embedded=True,
        disposable=disposable,
    )
