"""`refinerctl env new`: ask, check, and write an environment; create the bucket of its states."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from refinerctl import account as accounts
from refinerctl.config import DEFAULT_REGION, GlobalFlags
from refinerctl.console import can_ask
from refinerctl.errors import AccessDeniedError, NotFoundError, RefusedError, UsageError
from refinerctl.files import FileEdit
from refinerctl.options import ask, check_consent, confirmed, examples, global_options, typed_answer, yes_option
from refinerctl.parallel import Answer, attempt
from refinerctl.setup import new_environment as made
from refinerctl.setup import render_without_settings
from refinerctl.setup.env import project_config
from refinerctl.setup.environments import settings_of_file, unchecked_environments
from refinerctl.setup.new_environment import NewEnvironment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from refinerctl.aws.session import AwsSession
    from refinerctl.aws.state_bucket import StateBucket
    from refinerctl.config import Settings
    from refinerctl.console import Renderer
    from refinerctl.setup.environments import EnvironmentSummary

ATTEMPTS = 3
# Global options that become a part of the environment: they are the same for all its users.
_KEPT = ("endpoint_url", "assume_role", "assume_role_external_id")


@dataclass(frozen=True)
class EnvironmentOptions:
    """The command's own options; None: to be asked for."""

    account: str | None
    state_bucket: str | None
    create_state_bucket: bool
    backend: str
    vpc: str | None
    subnets: str | None
    rnr_bucket: str | None
    gitlab_project: str | None


class Interview:
    """Takes each answer from its option, else from the user. Without a terminal it collects what is missing."""

    def __init__(self, render: Renderer) -> None:
        self._render = render
        self._missing: list[str] = []

    def answer(
        self,
        option: str,
        question: str,
        check: Callable[[str], str],
        given: str | None,
        *,
        default: str | None = None,
        optional: bool = False,
    ) -> str:
        """A valid answer; "" if it is optional, or missing. Raises UsageError for an option that is not valid."""
        if given is not None:
            return self._checked(option, given, check)
        if can_ask():
            return self._ask(question, check, default, optional=optional)
        if default is not None:
            return self._checked(option, default, check)
        if not optional:
            self._missing.append(option)
        return ""

    def end(self) -> None:
        """Raises UsageError with all options that are missing."""
        if self._missing:
            hint = "Pass it" if len(self._missing) == 1 else "Pass them"
            raise UsageError(f"missing {', '.join(self._missing)}", hint=f"{hint}, or run this on a terminal.")

    def _ask(self, question: str, check: Callable[[str], str], default: str | None, *, optional: bool) -> str:
        while True:
            text = typed_answer(question, "" if optional else default).strip()
            if not text and optional:
                return ""
            try:
                return check(text)
            except UsageError as error:
                self._render.warning(error.message)

    @staticmethod
    def _checked(option: str, text: str, check: Callable[[str], str]) -> str:
        try:
            return check(text)
        except UsageError as error:
            raise UsageError(f"{option}: {error.message}", hint=error.hint) from error


@click.command(
    "new",
    epilog=examples(
        "refinerctl env new production",
        "refinerctl env new lab --bucket lab-data --state-bucket lab-state --dry-run",
        "refinerctl env new lab --state-bucket lab-state --create-state-bucket",
    ),
)
@click.argument("name")
@click.option("--account", metavar="ID", help="AWS account. [default: that of the credentials]")
@click.option("--state-bucket", metavar="NAME", help="Bucket for the Terraform state, one for each environment.")
@click.option(
    "--create-state-bucket", is_flag=True, help="Create the state bucket, or protect an existing one in the same way."
)
@click.option(
    "--backend",
    type=click.Choice(["s3", "http"]),
    default="s3",
    show_default=True,
    help="Where the Terraform state is stored.",
)
@click.option("--vpc", metavar="ID|NAME", help="VPC of stack rnr. Without one the environment has no stack rnr.")
@click.option("--subnets", metavar="ID|NAME,…", help="Private subnets of stack rnr.")
@click.option("--rnr-bucket", metavar="NAME", help="Bucket of stack rnr.")
@click.option("--gitlab-project", metavar="GROUP/PROJECT", help="Project whose jobs get the roles of stack access.")
@click.option("--dry-run", is_flag=True, help="Print the files as a patch, and write nothing.")
@yes_option
@global_options
@click.pass_context
def new(ctx: click.Context, /, name: str, dry_run: bool, yes: bool, **given: str | bool | None) -> None:
    """Create environment NAME: its section of refinerctl.toml, and tfvars and backend.hcl below terraform/environments.

    Asks for each value that no option gives; the global options --region and --bucket give the region and the data
    bucket. Without a terminal, a missing value is an error. An environment that exists is refused (4). Nothing is
    written until all values are valid.
    """
    options = EnvironmentOptions(**given)  # type: ignore[arg-type]  # as click's options have them
    config, render = project_config(), render_without_settings(ctx)  # --env may name the one that is created here
    settings = settings_of_file(config)
    made.check_name(name)
    made.refuse_existing(config, name)
    if not settings.layout.root_module("refiner").parent.is_dir():
        raise NotFoundError(f"{settings.project} has no Terraform stacks", hint="Run this in a project.")
    if options.create_state_bucket and not dry_run:
        check_consent(yes)
    flags = ctx.find_root().obj or GlobalFlags()
    _New(render, config, replace(settings, env=name), options, flags).create(dry_run=dry_run, yes=yes)


class _New:
    """One run of the command."""

    def __init__(
        self, render: Renderer, config: Path, settings: Settings, options: EnvironmentOptions, flags: GlobalFlags
    ) -> None:
        from refinerctl.setup.reach import direct_session

        def option(key: str) -> str | None:
            return getattr(flags, key) or os.environ.get(f"REFINERCTL_{key.upper()}") or None

        self._render, self._config, self._name, self._options = render, config, settings.env, options
        self._more = {key: value for key in _KEPT if (value := option(key))}
        self._region, self._bucket = option("region"), option("bucket")
        self._settings: Settings = replace(
            settings,
            embedded=False,
            region=self._region,
            account=None,
            profile=option("profile"),
            endpoint_url=self._more.get("endpoint_url"),
            assume_role=self._more.get("assume_role"),
            assume_role_external_id=self._more.get("assume_role_external_id"),
        )
        self._default_region = attempt(direct_session(self._settings).region_name).value
        # STS answers in every region; the environment's is not known yet.
        settings = replace(self._settings, region=self._default_region or DEFAULT_REGION)
        self._session: AwsSession = direct_session(settings, ATTEMPTS)
        self._caller = attempt(self._session.caller)

    def create(self, *, dry_run: bool, yes: bool) -> None:
        wanted = self._asked([item for item in unchecked_environments(self._config) if not item.embedded])
        self._settings = replace(self._settings, account=wanted.account, region=wanted.region)
        wanted, bucket, steps = self._with_buckets(wanted, dry_run=dry_run)
        folder = self._settings.layout.environment(self._name)
        files, edit = made.files_of(wanted, self._settings), made.edit_of(self._config, wanted)
        made.check_folder(folder, files)
        edits = [FileEdit(folder / name, None, text.encode()) for name, text in files.items()] + [edit]
        if not dry_run:
            if bucket is not None and steps and self._options.create_state_bucket:
                ask(f"Create {', '.join(steps)}, in account {wanted.account}?", yes)
            steps = bucket.ensure() if bucket is not None else ()
            made.write_environment(folder, files, edit)
        self._show(wanted, edits, steps, dry_run=dry_run)

    def _asked(self, others: Sequence[EnvironmentSummary]) -> NewEnvironment:
        interview, options = Interview(self._render), self._options
        own = accounts.account_of(self._caller.value) if self._caller.value else None
        if own is None and options.account is None and self._caller.error is not None:
            self._render.note(f"cannot determine the account: {self._caller.error.message}")
        account = interview.answer("--account", "AWS account", made.check_account_id, options.account, default=own)
        default = self._default_region or os.environ.get("AWS_REGION")
        region = interview.answer("--region", "Region", made.check_region, self._region, default=default)
        bucket = interview.answer("--bucket", "Data bucket", made.check_bucket, self._bucket)
        state = ""
        if options.backend == "s3":
            check = partial(_check_state_bucket, bucket, others)
            state = interview.answer("--state-bucket", "Bucket for the Terraform state", check, options.state_bucket)
        wanted = NewEnvironment(self._name, account, region, bucket, state or None, more=self._more)
        wanted = self._with_project(self._with_network(wanted, interview), interview)
        interview.end()
        if region and (doubt := made.unknown_region(region)):
            self._render.warning(doubt)
        return replace(wanted, others_here=tuple(other for other in others if other.account == account))

    def _has(self, stack: str) -> bool:
        return self._settings.layout.root_module(stack).is_dir()

    def _with_network(self, wanted: NewEnvironment, interview: Interview) -> NewEnvironment:
        """With what stack rnr needs, if there is a VPC for it."""
        options = self._options
        if not self._has("rnr"):
            return wanted
        question = "VPC of stack rnr: ID or name (empty: without stack rnr)"
        vpc = interview.answer("--vpc", question, made.check_network, options.vpc, optional=True)
        if not vpc:
            if options.subnets or options.rnr_bucket:
                raise UsageError("--subnets and --rnr-bucket need --vpc")
            return wanted
        question = "Private subnets of stack rnr: IDs or names, separated by commas"
        subnets = interview.answer("--subnets", question, _check_subnets, options.subnets)
        bucket = interview.answer("--rnr-bucket", "Bucket of stack rnr", made.check_bucket, options.rnr_bucket)
        return replace(wanted, vpc=vpc, subnets=made.split_names(subnets) if subnets else (), rnr_bucket=bucket)

    def _with_project(self, wanted: NewEnvironment, interview: Interview) -> NewEnvironment:
        """With the project whose jobs get roles, if there is one."""
        if not self._has("access") or wanted.state_bucket is None:
            return wanted
        question = "GitLab project whose jobs get roles (empty: without stack access)"
        given = self._options.gitlab_project
        project = interview.answer("--gitlab-project", question, made.check_project, given, optional=True)
        return replace(wanted, gitlab_project=project or None)

    def _with_buckets(
        self, wanted: NewEnvironment, *, dry_run: bool
    ) -> tuple[NewEnvironment, StateBucket | None, tuple[str, ...]]:
        """With what is known of the buckets; the state bucket if it must be created, and the steps for it."""
        from refinerctl.aws.state_bucket import StateBucket, find_bucket

        create = self._options.create_state_bucket and wanted.state_bucket is not None
        if create:
            self._session.guard(partial(accounts.check_account, self._settings, self._render))
            self._session.admit()
        elif self._caller.value is None or accounts.account_of(self._caller.value) != wanted.account:
            error = self._caller.error
            reason = error.message if error else f"the credentials are not for account {wanted.account}"
            self._render.note(f"cannot check whether the buckets exist: {reason}")
            return wanted, None, ()
        found = {
            name: attempt(partial(find_bucket, self._session.in_region(wanted.region), name))
            for name in filter(None, (wanted.bucket, wanted.rnr_bucket, wanted.state_bucket))
        }
        wanted = replace(wanted, existing_buckets=frozenset(name for name, answer in found.items() if answer.value))
        for name in (wanted.bucket, wanted.rnr_bucket):
            if name and (error := found[name].error):
                self._render.warning(error.message)
        if wanted.state_bucket is None:
            return wanted, None, ()
        state = found[wanted.state_bucket]
        wanted = replace(wanted, state_region=state.value or wanted.region)
        if not (create or self._is_wanted(wanted, state, dry_run=dry_run)):
            return wanted, None, ()
        if isinstance(state.error, AccessDeniedError):
            raise RefusedError(state.error.message, hint=state.error.hint)
        if state.error is not None:
            raise state.error
        bucket = StateBucket(self._session, wanted.state_bucket or "", wanted.state_region)
        return wanted, bucket, bucket.missing(exists=state.value is not None)

    def _is_wanted(self, wanted: NewEnvironment, state: Answer[str | None], *, dry_run: bool) -> bool:
        """Whether to create a bucket that does not exist, although no option says so."""
        if state.value is not None:
            return False
        said = state.error.message if state.error else f"state bucket {wanted.state_bucket} does not exist"
        if state.error is None and can_ask() and not dry_run:
            where = f"region {wanted.region}, account {wanted.account}"
            return confirmed(f"{said}. Create it in {where}?")
        self._render.warning(f"{said}; --create-state-bucket creates it" if state.error is None else said)
        return False

    def _show(self, wanted: NewEnvironment, edits: list[FileEdit], steps: tuple[str, ...], *, dry_run: bool) -> None:
        names = {edit: str(edit.path.relative_to(self._config.parent)) for edit in edits}
        if self._render.is_json:
            region = wanted.state_region or wanted.region
            state = {"name": wanted.state_bucket, "region": region, "created": list(steps)}
            self._render.json(
                {
                    "name": wanted.name,
                    "account": wanted.account,
                    "region": wanted.region,
                    "bucket": wanted.bucket,
                    "state_bucket": state if wanted.state_bucket else None,
                    "dry_run": dry_run,
                    "files": [{"path": names[edit], "content": edit.after.decode()} for edit in edits],
                }
            )
            return
        for step in steps:
            self._render.note(f"{'would create' if dry_run else 'created'} {step}")
        for edit in edits:
            if dry_run:
                self._render.content(edit.diff(names[edit]).encode())
            else:
                self._render.line(names[edit])
        if wanted.shares_registry:
            self._render.note(
                f"no registry.tfvars: environment {wanted.others_here[0].name} already has the repositories"
            )
        if not dry_run:
            self._render.note(f"next: review the files, and run `refinerctl doctor --env {wanted.name}`")


def _check_state_bucket(bucket: str, others: Sequence[EnvironmentSummary], text: str) -> str:
    made.check_bucket(text)
    if text == bucket:
        raise UsageError(f"{text} is the data bucket: use another bucket for the Terraform state")
    if used := next((other.name for other in others if other.state == f"s3://{text}"), None):
        raise UsageError(f"{text} is the state bucket of environment {used}: each environment needs its own")
    return text


def _check_subnets(text: str) -> str:
    subnets = made.split_names(text)
    if len(set(map(made.is_id, subnets))) > 1:
        raise UsageError("use either subnet IDs or subnet names, not both")
    return text
