"""Bring the embedded environment up: supervisor, state bucket, stacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.local.instance import Instance
from refinerctl.local.launcher import Launch, ended_on_failure, launch
from refinerctl.local.stacks import STACKS, STATE_BUCKET, stack_terraform
from refinerctl.local.status import LocalStatus
from refinerctl.releases.ledger import ledger_of
from refinerctl.releases.release import deployed
from refinerctl.terraform.backend import Backend, read_backend
from refinerctl.terraform.root_module import RootModule

if TYPE_CHECKING:
    from refinerctl.config import Settings
    from refinerctl.terraform.events import ApplyProgress
    from refinerctl.terraform.runner import Terraform


_WAITS = {"refiner": " (about a minute: the AWS provider waits 25 s for each level of queues)"}


@dataclass(frozen=True)
class UpRequest:
    """`build_arguments` go to the image builds of engine `docker`."""

    launch: Launch = field(default_factory=Launch)
    build_arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UpResult:
    """`started`: it was down before."""

    status: LocalStatus
    started: bool


def up(instance: Instance, settings: Settings, request: UpRequest, progress: Progress) -> UpResult:
    """Start what does not run and apply the stacks; an environment that is up is brought up to date.

    What was started here and fails is taken down again. Raises RefusedError if it is up with another engine or port, or
    just being started by somebody else; RefinerctlError with what failed otherwise.
    """
    status = instance.status()
    if status.state != "down":
        _refuse_other(status, request.launch)
        progress.step(f"the embedded environment runs at {status.endpoint_url}; bringing it up to date")
        return UpResult(_apply_stacks(instance, settings, status, progress, disposable=False), started=False)
    if request.launch.engine == "docker":
        _build_images(settings, request, progress)
    progress.step(f"starting the embedded environment (engine {request.launch.engine})")
    status = launch(instance, settings, request.launch)
    with ended_on_failure(instance):
        progress.step(f"AWS emulator at {status.endpoint_url}")
        return UpResult(_apply_stacks(instance, settings, status, progress, disposable=True), started=True)


def _refuse_other(status: LocalStatus, wanted: Launch) -> None:
    if status.endpoint_url is None:
        raise RefusedError(
            "another command is starting this environment", hint="Wait until `refinerctl local status` says up."
        )
    running_port = int((status.endpoint_url or ":0").rpartition(":")[2])
    for what, is_there, asked in (
        ("engine", status.engine, wanted.engine),
        ("port", running_port, wanted.port or running_port),
    ):
        if is_there != asked:
            raise RefusedError(
                f"the embedded environment is up with {what} {is_there}, not {asked}",
                hint="refinerctl local down ends it.",
            )


def _build_images(settings: Settings, request: UpRequest, progress: Progress) -> None:
    from refinerctl.docker_engine import DockerEngine
    from refinerctl.local.container_engine import build_images

    progress.step("building the images")
    build_images(DockerEngine(), settings.images, request.build_arguments, progress.update)


def _apply_stacks(
    instance: Instance, settings: Settings, status: LocalStatus, progress: Progress, *, disposable: bool
) -> LocalStatus:
    region = settings.embedded_region
    session = AwsSession(region, profile=None, endpoint_url=status.endpoint_url, embedded=True)
    S3Bucket(session, STATE_BUCKET).create()
    for stack in STACKS:
        terraform = stack_terraform(instance, settings, status, stack, disposable=disposable)
        progress.step(f"terraform apply: stack {stack}{_WAITS.get(stack, '')}")
        _apply(instance, terraform, settings, session, stack, progress)
    instance.write_applied(STACKS)
    status = instance.status()
    if status.state != "up":
        raise RefinerctlError(f"the embedded environment ended while it was brought up: {status.detail}")
    return status


def _apply(
    instance: Instance,
    terraform: Terraform,
    settings: Settings,
    session: AwsSession,
    stack: str,
    progress: Progress,
) -> None:
    def report(at: ApplyProgress) -> None:
        if not instance.is_supervised():  # the emulator may outlive its killed supervisor for a while
            raise RefinerctlError(f"the embedded environment ended while it was brought up: {instance.status().detail}")
        if at.total:
            progress.update(f"stack {stack}: {at.done} of {at.total} resources  {at.address}")

    backend = read_backend(settings, stack, {"bucket": STATE_BUCKET, "region": settings.embedded_region})
    root = RootModule(settings.env, stack, terraform, settings.layout, backend.init_arguments)
    root.init()
    with root.folder() as folder:
        terraform.apply(root.var_files(folder, _release_in_place(backend, session, progress)), report)


def _release_in_place(backend: Backend, session: AwsSession, progress: Progress) -> dict[str, Any]:
    """What was deployed since the environment is up stays, as its ledger says; a new one runs the images' folders."""
    release = deployed(ledger_of(backend, session).read())
    if release is None or not release.images:
        return {}
    progress.step(f"release {release.tag or 'in place'} stays")
    return {"pinned_images": dict(release.images)} | ({"release_tag": release.tag} if release.tag else {})
