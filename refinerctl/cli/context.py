"""Composition root: settings and clients, each made on first use."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.config import GlobalFlags, Settings, load_settings
from refinerctl.errors import RefinerctlError, UsageError

if TYPE_CHECKING:
    from refinerctl.cli.render import Renderer
    from refinerctl.clients.aws.completions import Completions
    from refinerctl.clients.aws.logs import LogGroups
    from refinerctl.clients.aws.s3 import S3Bucket
    from refinerctl.clients.aws.session import AwsSession
    from refinerctl.clients.aws.sqs import Queues
    from refinerctl.local.instance import Instance
    from refinerctl.models import Pipeline


class AppContext:
    """What a command works with. `instance_name` is the embedded environment's folder, if not its name."""

    def __init__(self, flags: GlobalFlags, instance_name: str | None = None) -> None:
        self._flags = flags
        self._instance_name = instance_name

    @cached_property
    def settings(self) -> Settings:
        return load_settings(self._flags, os.environ, Path.cwd())

    def tell_settings(self) -> None:
        """With -v: where this command is about to work."""
        settings = self.settings
        where = self._endpoint_url() or f"AWS, region {settings.region or 'of the profile'}"
        self.render.detail(
            f"environment {settings.env}, stack {settings.stack}, bucket {self.pipeline.bucket}, {where}"
        )

    @cached_property
    def render(self) -> Renderer:
        from refinerctl.cli.render import Renderer

        return Renderer(self.settings.output, self.settings.verbosity)

    @cached_property
    def instance(self) -> Instance:
        from refinerctl.local.instance import Instance

        if not self.settings.embedded:
            raise RefinerctlError(
                f"environment {self.settings.env!r} does not live on this machine", hint="Use --env local."
            )
        return Instance(self.settings.work_folder.resolve() / (self._instance_name or self.settings.env))

    @cached_property
    def session(self) -> AwsSession:
        from refinerctl.clients.aws.session import AwsSession

        return AwsSession(
            self.settings.region,
            profile=self.settings.profile,
            endpoint_url=self._endpoint_url(),
            embedded=self.settings.embedded,
        )

    @cached_property
    def pipeline(self) -> Pipeline:
        if not self.settings.has_pipeline:
            stack = self.settings.stack
            raise UsageError(
                f"refinerctl.toml does not say where stack {stack!r} keeps things", hint=f"Add [stacks.{stack}] to it."
            )
        return self.settings.pipeline

    @cached_property
    def bucket(self) -> S3Bucket:
        from refinerctl.clients.aws.s3 import S3Bucket

        return S3Bucket(self.session, self.pipeline.bucket)

    @cached_property
    def completions(self) -> Completions:
        from refinerctl.clients.aws.completions import Completions

        return Completions(self.bucket, self.pipeline)

    @cached_property
    def queues(self) -> Queues:
        from refinerctl.clients.aws.sqs import Queues

        return Queues(self.session)

    @cached_property
    def log_groups(self) -> LogGroups:
        from refinerctl.clients.aws.logs import LogGroups

        return LogGroups(self.session)

    def _endpoint_url(self) -> str | None:
        if self.settings.endpoint_url or not self.settings.embedded:
            return self.settings.endpoint_url
        status = self.instance.status()
        if status.endpoint_url is None:
            raise RefinerctlError(
                f"the embedded environment of {self.settings.project} is down",
                hint="Start it: refinerctl local up --detach.",
            )
        if status.state == "starting":
            raise RefinerctlError(
                "the embedded environment is still being brought up",
                hint="`refinerctl local status` says when it is up.",
            )
        return status.endpoint_url


def app_context(ctx: click.Context, instance_name: str | None = None, **defaults: str) -> AppContext:
    """The context of this run; `defaults` fill in global options that were not given."""
    flags = ctx.find_root().obj or GlobalFlags()
    missing = {name: value for name, value in defaults.items() if getattr(flags, name) is None}
    return AppContext(replace(flags, **missing), instance_name)
