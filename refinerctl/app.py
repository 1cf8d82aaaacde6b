"""Composition root: settings and clients, each made on first use."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refinerctl.account import check_account, has_account, location
from refinerctl.config import GlobalFlags, Settings, load_settings
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.options import RUN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refinerctl.aws.alarms import Alarms
    from refinerctl.aws.bucket_versions import BucketVersions
    from refinerctl.aws.ecr import EcrRegistry
    from refinerctl.aws.ecs_services import Services
    from refinerctl.aws.events import EventBuses
    from refinerctl.aws.iam import Roles
    from refinerctl.aws.lambda_ import Functions
    from refinerctl.aws.logs import LogGroups
    from refinerctl.aws.metrics import Metrics
    from refinerctl.aws.s3 import S3Bucket
    from refinerctl.aws.secrets import Secrets
    from refinerctl.aws.session import AwsSession
    from refinerctl.aws.sqs import Queues
    from refinerctl.console import Renderer
    from refinerctl.embedded import Instance
    from refinerctl.ledger.entries import Ledger
    from refinerctl.rabbitmq.management import Management
    from refinerctl.registry.registries import Registries
    from refinerctl.stacks.base import Broker, Pipeline, Stack, Storage, Values
    from refinerctl.terraform.backend import Backend
    from refinerctl.terraform.root_module import RootModule


class AppContext:
    """Settings and clients of a command. `instance_name` is the local environment's folder, if not its name.

    `changes`: the run changes something or plans to, so its account is checked.
    """

    def __init__(self, flags: GlobalFlags, instance_name: str | None = None, *, changes: bool = False) -> None:
        self._flags = flags
        self._instance_name = instance_name
        self._changes = changes
        self._brokers: dict[Broker, Management] = {}

    @cached_property
    def settings(self) -> Settings:
        return load_settings(self._flags, os.environ, Path.cwd())

    def tell_settings(self) -> None:
        """With -v: print the account, the region, the environment and the stack.

        Raises RefinerctlError if there is no endpoint, or one that is refused.
        """
        self._endpoint_url()
        if self.settings.verbosity > 0:
            bucket = f", bucket {self.storage.bucket}" if self.stack.storage else ""
            self.render.detail(f"{self.location}, stack {self.settings.stack}{bucket}")

    @property
    def location(self) -> str:
        """Account (or endpoint), region and environment, for messages. Asks STS."""
        return location(self.settings, self.session)

    def command(self, *arguments: str) -> str:
        """A command line to run next, for this environment and stack, with the global options that were given."""
        flags = vars(self._flags) | {"env": self.settings.env, "stack": self.settings.stack}
        options = [
            word
            for name, value in flags.items()
            if value and name not in ("output", "verbosity")
            for word in (f"--{name.replace('_', '-')}", value)
        ]
        return shlex.join(["refinerctl", *arguments, *options])

    @cached_property
    def render(self) -> Renderer:
        from refinerctl.console import Renderer

        render = Renderer(self.settings.output, self.settings.verbosity)
        render.report_waits()
        return render

    @cached_property
    def instance(self) -> Instance:
        from refinerctl.embedded import Instance

        if not self.settings.embedded:
            raise UsageError(f"environment {self.settings.env!r} is not a local environment", hint="Use --env local.")
        return Instance(self.settings.work_folder.resolve() / (self._instance_name or self.settings.env))

    @cached_property
    def session(self) -> AwsSession:
        from refinerctl.aws.session import AwsSession

        session = AwsSession(
            self.settings.region,
            profile=self.settings.profile,
            endpoint_url=self._endpoint_url(),
            embedded=self.settings.embedded,
            assume_role=self.settings.assume_role,
            external_id=self.settings.assume_role_external_id,
            endpoints=self._endpoints(),
            ends_run=True,
        )
        _ = self.render  # reports slow servers
        return self._guarded(session)

    def _guarded(self, session: AwsSession) -> AwsSession:
        if self._changes and has_account(self.settings):
            session.guard(partial(check_account, self.settings, self.render))
        return session

    @cached_property
    def stack(self) -> Stack:
        """The stack of this run."""
        from refinerctl.stacks import find_stack

        return find_stack(self.settings.stack)

    @cached_property
    def storage(self) -> Storage:
        """Where the stack keeps its data. Raises UsageError for a stack without inputs and completions."""
        if self.stack.storage is None:
            raise UsageError(f"stack {self.stack.name} has no inputs and no completions")
        return self.stack.storage(self.settings.stack_settings)

    @cached_property
    def values(self) -> Values:
        """The environment's tfvars over the defaults of the root module. Takes some tenths of a second."""
        from refinerctl.terraform.hcl import load_values, variable_defaults

        layout = self.settings.layout
        module = layout.root_module(self.stack.name)
        given = load_values(layout.values_file(self.settings.env, self.stack.name), missing_ok=True)
        defaults = variable_defaults(module) if module.is_dir() else {}
        return {**defaults, **{name: value for name, value in given.items() if value is not None}}

    def forget_values(self) -> None:
        """Read the values and what follows from them again: their file was edited."""
        for name in ("values", "pipeline"):
            self.__dict__.pop(name, None)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The stack's components, named as the environment's values name them. Asks no server."""
        if self.stack.pipeline is None:
            raise UsageError(f"stack {self.stack.name} has no pipeline", hint="Choose another stack with --stack.")
        return self.stack.pipeline(self.settings.stack_settings, self.values)

    @cached_property
    def bucket(self) -> S3Bucket:
        from refinerctl.aws.s3 import S3Bucket

        return S3Bucket(self.session, self.storage.bucket)

    @cached_property
    def results(self) -> S3Bucket:
        """The bucket of the outputs and completions."""
        from refinerctl.aws.s3 import S3Bucket

        other = self.storage.output_bucket
        return S3Bucket(self.session, other) if other else self.bucket

    @cached_property
    def queues(self) -> Queues:
        from refinerctl.aws.sqs import Queues

        return Queues(self.session)

    @cached_property
    def ecr(self) -> EcrRegistry:
        from refinerctl.aws.ecr import EcrRegistry
        from refinerctl.terraform.hcl import load_values

        # The variables of stack `registry` in this environment.
        values = self.settings.layout.values_file(self.settings.env, "registry")
        return EcrRegistry(self.session, lambda: load_values(values, missing_ok=True))

    @cached_property
    def registries(self) -> Registries:
        from refinerctl.registry.registries import Registries

        return Registries(self.settings, lambda region: self.in_region(region).ecr, self.render.note)

    @cached_property
    def log_groups(self) -> LogGroups:
        from refinerctl.aws.logs import LogGroups

        return LogGroups(self.session)

    @cached_property
    def metrics(self) -> Metrics:
        from refinerctl.aws.metrics import Metrics

        return Metrics(self.session)

    @cached_property
    def alarms(self) -> Alarms:
        from refinerctl.aws.alarms import Alarms

        return Alarms(self.session)

    @cached_property
    def event_buses(self) -> EventBuses:
        from refinerctl.aws.events import EventBuses

        return EventBuses(self.session)

    @cached_property
    def roles(self) -> Roles:
        from refinerctl.aws.iam import Roles

        return Roles(self.session)

    @property
    def is_down(self) -> bool:
        """Whether this is a local environment that is down: nothing is deployed there."""
        at_home = self.settings.embedded and not self.settings.endpoint_url
        return at_home and self.instance.status().endpoint_url is None

    def broker(self, component: Broker) -> Management:
        """The management API of a broker; its `endpoint` is also that of AMQP. With the credentials of its secret."""
        if component not in self._brokers:
            from refinerctl.aws.mq import broker_settings
            from refinerctl.rabbitmq.endpoint import endpoint_of
            from refinerctl.rabbitmq.management import Management

            name, secret = component.name, component.secret
            urls, given = broker_settings(self.session, name).urls, self.settings.broker_url
            login = self.secrets.texts(secret, "username", "password")
            endpoint = endpoint_of(name, *urls, given, login, secret)
            self._brokers[component] = Management(endpoint)
        return self._brokers[component]

    @cached_property
    def functions(self) -> Functions:
        from refinerctl.aws.lambda_ import Functions

        return Functions(self.session)

    @cached_property
    def secrets(self) -> Secrets:
        from refinerctl.aws.secrets import Secrets

        return Secrets(self.session)

    @cached_property
    def services(self) -> Services:
        from refinerctl.aws.ecs_services import Services

        return Services(self.session)

    @cached_property
    def bucket_versions(self) -> BucketVersions:
        from refinerctl.aws.bucket_versions import BucketVersions

        return BucketVersions(self.session)

    @cached_property
    def backend(self) -> Backend:
        from refinerctl.terraform.backend import read_backend

        overrides = None
        if self.settings.embedded:
            from refinerctl.embedded import STATE_BUCKET

            overrides = {"bucket": STATE_BUCKET, "region": self.settings.embedded_region}
        return read_backend(self.settings, self.settings.stack, overrides)

    @cached_property
    def ledger(self) -> Ledger:
        if self.backend.kind == "http":
            from refinerctl.ledger.http import HttpLedger

            return HttpLedger(self.backend)
        from refinerctl.ledger.s3 import S3Ledger

        return S3Ledger(self.backend, self.session)

    def root_module(self, lock_timeout_s: float) -> RootModule:
        """The root module of this run's stack, with its Terraform and its state.

        Raises RefinerctlError without the root module, or without a supported Terraform.
        """
        from refinerctl.terraform.installation import find_terraform
        from refinerctl.terraform.root_module import RootModule
        from refinerctl.terraform.runner import Terraform

        settings, backend = self.settings, self.backend
        _ = self.session  # raises if a local environment is down; asks STS while terraform says its version
        if settings.verbosity > 0:
            self.render.detail(f"{self.location}, stack {settings.stack}, state in {backend.place}")
        binary = find_terraform(settings.terraform_binary)
        if backend.kind == "s3" and not settings.embedded:
            self.session.check_network()
        if settings.embedded:
            from refinerctl.embedded import embedded_terraform

            terraform = embedded_terraform(self.instance, settings, settings.stack)
        else:
            folder = settings.work_folder.resolve() / "terraform" / settings.env
            terraform = Terraform(
                module=settings.layout.root_module(settings.stack),
                data_dir=folder / settings.stack,
                work_folder=settings.work_folder.resolve(),
                log=folder / f"{settings.stack}.log",
                environment=self.terraform_environment(),
            )
        terraform = replace(
            terraform,
            module=backend.prepare_module(settings.layout, settings.stack),
            binary=str(binary),
            lock_timeout_s=lock_timeout_s,
            tell=self.render.note,
            unlock_hint=f"Run `{self.command('unlock')}`.",
        )
        location, init = self.location if self._changes else "", backend.init_arguments
        return RootModule(
            settings.env, settings.stack, terraform, settings.layout, init, location, settings.assume_role
        )

    def terraform_environment(self) -> dict[str, str]:
        """Terraform's variables: the session's credentials, which it renews by itself, and those of the backend."""
        account = self.settings.account
        # Terraform checks it, too, in a stack with this variable; it ignores what a stack does not declare.
        allowed = {"TF_VAR_allowed_account_ids": json.dumps([account])} if account else {}
        config = self.settings.work_folder.resolve() / "terraform" / self.settings.env / "aws.conf"
        return {**self.session.terraform_environment(config), **allowed, **self.backend.environment}

    @property
    def operator(self) -> str:
        """The operator, for the ledger."""
        from refinerctl.ledger.entries import operator

        return operator(os.environ, None if self.settings.embedded else self.session.caller)

    def in_environment(self, env: str, stack: str | None = None) -> AppContext:
        """The same run in another environment, or on another of its stacks. Only reads there."""
        given = (env, stack or self.settings.stack)
        if given == (self.settings.env, self.settings.stack):
            return self
        return AppContext(replace(self._flags, env=given[0], stack=given[1]), self._instance_name)

    def in_region(self, region: str | None) -> AppContext:
        """The same run, with the same credentials, in another region; None is this one."""
        if region in (None, self.session.region):
            return self
        other = AppContext(self._flags, self._instance_name, changes=self._changes)
        other.settings, other.render = self.settings, self.render
        other.session = self._guarded(self.session.in_region(region))
        return other

    def _endpoints(self) -> Mapping[str, str]:
        at_home = self.settings.embedded and not self.settings.endpoint_url
        return self.instance.status().endpoints if at_home else {}

    def _endpoint_url(self) -> str | None:
        if self.settings.endpoint_url:
            return self.settings.endpoint_url
        if not self.settings.embedded:
            from refinerctl.aws.session import refuse_inherited_endpoint

            refuse_inherited_endpoint(os.environ, self.settings.env)
            return None
        status = self.instance.status()
        if status.endpoint_url is None:
            self.settings.layout.check_project("Or pass --env aws.")
            hint = f"Run `{self.command('local', 'up', '--detach')}`."
            raise RefinerctlError(f"the local environment of {self.settings.project} is down", hint=hint)
        if status.state == "starting":
            hint = "Wait until `refinerctl local status` shows `up`."
            raise RefinerctlError("the local environment is still starting", hint=hint)
        return status.endpoint_url


def app_context(
    ctx: click.Context, instance_name: str | None = None, *, changes: bool = False, **defaults: str
) -> AppContext:
    """The context of this run, which `changes` something or not. `defaults`: for global options that were not given."""
    flags = ctx.find_root().obj or GlobalFlags()
    missing = {name: value for name, value in defaults.items() if getattr(flags, name) is None}
    app = AppContext(replace(flags, **missing), instance_name, changes=changes)
    ctx.meta[RUN] = app, bool(ctx.params.get("dry_run"))
    return app
