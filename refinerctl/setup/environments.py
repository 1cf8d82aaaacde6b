"""What is configured for each environment, in refinerctl.toml and in its Terraform files, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path

from refinerctl.config import GlobalFlags, Settings, default_environment, environment_names, load_settings
from refinerctl.errors import RefinerctlError
from refinerctl.layout import Layout
from refinerctl.parallel import attempt
from refinerctl.stacks import find_stack, stack_names
from refinerctl.stacks.base import Bucket, Stack, Values
from refinerctl.terraform import hcl
from refinerctl.terraform.backend import read_backend
from refinerctl.terraform.unknown_names import unknown_names

# The state of an environment on this machine is in its emulator.
EMULATOR_STATE = "emulator"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class ConfigurationProblem:
    """What is wrong with `key` in `file`, which is relative to the project; `key` None: with the whole file."""

    severity: Severity
    file: str
    key: str | None
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}: {f'{self.key}: ' if self.key else ''}{self.message}"


@dataclass(frozen=True)
class EnvironmentSummary:
    """An environment as it is configured. `state` is where its states are; None: unknown.

    `stacks` are those that it has tfvars for.
    """

    name: str
    default: bool = False
    embedded: bool = False
    account: str | None = None
    region: str | None = None
    bucket: str | None = None
    state: str | None = None
    stacks: tuple[str, ...] = ()
    problems: tuple[ConfigurationProblem, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether a problem is an error."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)


def environments(config: Path) -> tuple[EnvironmentSummary, ...]:
    """All environments of the project of this refinerctl.toml, also those that only have a folder.

    Raises RefinerctlError for a refinerctl.toml that cannot be read.
    """
    project = _Project(config)
    names = environment_names(project.variables, config.parent)
    found = [_Inspection(project, name).summary() for name in names]
    summaries = (*(_with_shared_state(item, found) for item in found), *_without_section(project, names))
    return tuple(sorted(summaries, key=lambda item: item.name))


def environment(config: Path, name: str) -> EnvironmentSummary:
    """One of them."""
    return _with_shared_state(_Inspection(_Project(config), name).summary(), unchecked_environments(config))


def unchecked_environments(config: Path) -> tuple[EnvironmentSummary, ...]:
    """The environments of refinerctl.toml, without their problems: tfvars, which take long to read, are not read."""
    project = _Project(config)
    names = environment_names(project.variables, config.parent)
    return tuple(_Inspection(project, name).unchecked() for name in names)


def settings_of_file(config: Path) -> Settings:
    """The settings of one of the environments, without options and variables, for what all have in common."""
    project = _Project(config)
    return project.settings(environment_names(project.variables, config.parent)[0])


@dataclass(frozen=True)
class _Project:
    """The project of a refinerctl.toml."""

    config: Path

    @property
    def variables(self) -> dict[str, str]:
        """No others: what is configured does not depend on the user's shell."""
        return {"REFINERCTL_CONFIG": str(self.config)}

    @cached_property
    def default(self) -> str | None:
        return default_environment(self.variables, self.config.parent)

    def settings(self, env: str, stack: str | None = None) -> Settings:
        return load_settings(GlobalFlags(env=env, stack=stack), self.variables, self.config.parent)

    def problem(
        self, file: Path, key: str | None, message: str, fix: str, severity: Severity = Severity.ERROR
    ) -> ConfigurationProblem:
        return ConfigurationProblem(severity, str(file.relative_to(self.config.parent)), key, message, fix)


def _without_section(project: _Project, names: Sequence[str]) -> Iterator[EnvironmentSummary]:
    layout = Layout(project.config.parent)
    for folder in sorted(path for path in layout.environments.glob("*/") if path.name not in names):
        stacks = tuple(name for name in stack_names() if layout.values_file(folder.name, name).is_file())
        if stacks:
            section = f"environments.{folder.name}"
            fix = f"Add [{section}] with region, account and bucket, or remove {folder.relative_to(layout.root)}."
            problem = project.problem(project.config, section, "is missing", fix)
            yield EnvironmentSummary(folder.name, stacks=stacks, problems=(problem,))


def _with_shared_state(summary: EnvironmentSummary, found: Sequence[EnvironmentSummary]) -> EnvironmentSummary:
    """Two environments with one state would destroy each other's resources."""
    state = summary.state or ""
    others = [other.name for other in found if other.state == state and other.name != summary.name]
    if not others or not state.startswith("s3://"):
        return summary
    problem = ConfigurationProblem(
        Severity.ERROR,
        f"terraform/environments/{summary.name}/backend.hcl",
        "bucket",
        f"environment {others[0]} has the same state, so that each would replace the other's resources",
        "Use a bucket of its own for each environment.",
    )
    return replace(summary, problems=(*summary.problems, problem))


@cache
def _declared_variables(module: Path) -> tuple[frozenset[str], Values]:
    """Those of a root module, which all environments have; parsing them takes some tenths of a second."""
    return hcl.declared_variables(module)


class _Inspection:
    """One environment of a project."""

    def __init__(self, project: _Project, env: str) -> None:
        self._project = project
        self._settings = project.settings(env)
        self._layout = self._settings.layout
        self._folder = self._layout.environment(env)
        self._stacks = tuple(name for name in stack_names() if self._layout.values_file(env, name).is_file())

    def unchecked(self) -> EnvironmentSummary:
        settings = self._settings
        return EnvironmentSummary(
            settings.env,
            default=settings.env == self._project.default,
            embedded=settings.embedded,
            account=settings.account,
            region=settings.region,
            bucket=settings.stack_settings.get("bucket"),
            state=attempt(self.state).value,
            stacks=self._stacks,
        )

    def summary(self) -> EnvironmentSummary:
        problems = (
            *self._of_section(),
            *self._of_folder(),
            *self._of_backend(attempt(self.state).error),
            *(problem for name in self._stacks for problem in self._of_values(find_stack(name))),
        )
        return replace(self.unchecked(), problems=problems)

    def _of_section(self) -> Iterator[ConfigurationProblem]:
        settings, section = self._settings, f"environments.{self._settings.env}"
        if settings.region is None:
            fix = f'Add region = "<region>" to [{section}].'
            yield self._project.problem(self._project.config, f"{section}.region", "is missing", fix)
        if settings.account is None and not settings.embedded and not settings.endpoint_url:
            fix = f'Add account = "<12 digits>" to [{section}]: commands then refuse credentials of other accounts.'
            key = f"{section}.account"
            yield self._project.problem(self._project.config, key, "is missing", fix, Severity.WARNING)

    def _of_folder(self) -> Iterator[ConfigurationProblem]:
        """It has to have values for the stack that commands use by default."""
        env, stack = self._settings.env, self._settings.stack
        if not self._folder.is_dir():
            fix = f"Create it with a tfvars file for each stack, or remove [environments.{env}]."
            yield self._project.problem(self._folder, None, "the folder does not exist", fix)
        elif stack not in self._stacks:
            file, fix = self._layout.values_file(env, stack), f"Create it: {stack} is the default stack."
            yield self._project.problem(file, None, "does not exist", fix)

    def state(self) -> str | None:
        """Where the states are. Raises RefinerctlError if that is not configured."""
        settings, file = self._settings, self._layout.backend_file(self._settings.env)
        if settings.embedded:
            return EMULATOR_STATE
        if settings.backend == "http":
            return str(hcl.load_values(file, missing_ok=True).get("address", "http"))
        if not self._folder.is_dir():
            return None  # which is reported already
        stack = settings.stack if settings.stack in self._stacks else next(iter(self._stacks), settings.stack)
        return f"s3://{read_backend(settings, stack, environ={}).settings['bucket']}"

    def _of_backend(self, error: RefinerctlError | None) -> Iterator[ConfigurationProblem]:
        if error is None:
            return
        file = self._layout.backend_file(self._settings.env)
        if not file.exists():
            yield self._project.problem(file, None, "does not exist", "Create it with bucket and region of the state.")
        elif error.message.startswith("no bucket in S3"):
            yield self._project.problem(file, "bucket", "is missing", "Add the name of the state's bucket.")
        else:
            yield self._unreadable(file, error)

    def _of_values(self, stack: Stack) -> Iterator[ConfigurationProblem]:
        file = self._layout.values_file(self._settings.env, stack.name)
        try:
            given = {name: value for name, value in hcl.load_values(file).items() if value is not None}
            names, defaults = _declared_variables(self._layout.root_module(stack.name))
            buckets = self._buckets(stack, {**defaults, **given})
        except RefinerctlError as error:
            yield self._unreadable(file, error)
            return
        for unknown in unknown_names(file, self._layout.root_module(stack.name)):
            fix = f"{unknown.hint} Terraform ignores it, and refinerctl refuses to deploy."
            yield self._project.problem(file, unknown.key, f"{unknown.what} (line {unknown.line})", fix)
        for name in sorted(names - defaults.keys() - given.keys()):
            yield self._project.problem(file, name, "is missing", "Add it: it has no default.")
        region, env = self._settings.region, self._settings.env
        if given.get("region") and region and given["region"] != region:
            message = f"{given['region']} is not the region of [environments.{env}], {region}"
            yield self._project.problem(file, "region", message, f"Correct it, or {self._project.config.name}.")
        for deployed, used in buckets:
            key = next((name for name, value in given.items() if value == deployed), None)
            message = f"{deployed} is not the bucket that commands use, {used}"
            fix = f'Correct it, or set bucket = "{deployed}" in [environments.{env}.stacks.{stack.name}].'
            yield self._project.problem(file, key, message, fix)

    def _buckets(self, stack: Stack, values: Values) -> list[tuple[str, str]]:
        """Buckets of Terraform's values that are not those of refinerctl.toml, each with what is there instead."""
        if stack.pipeline is None or stack.storage is None:
            return []
        settings = self._project.settings(self._settings.env, stack.name).stack_settings
        storage = stack.storage(settings)
        used = (storage.bucket, storage.result_bucket)
        found = [bucket.name for bucket in stack.pipeline(settings, values).by_kind(Bucket)]
        return [(name, used[min(number, 1)]) for number, name in enumerate(found) if name not in used]

    def _unreadable(self, file: Path, error: RefinerctlError) -> ConfigurationProblem:
        """For an error about the file, whose message may begin with its path."""
        message = error.message.removeprefix(str(file)).lstrip(":").strip()
        return self._project.problem(file, None, message, error.hint or "Correct the file.")
