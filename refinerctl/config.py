"""Settings: flag > environment variable > refinerctl.toml > default, resolved once."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, UsageError, known_names
from refinerctl.images import DEFAULT_PLATFORM, BuildContext, BuiltBy, ImageReference, ImageSettings, Platform, RunsOn
from refinerctl.keys import normalize_prefix
from refinerctl.layout import CONFIG_NAME, Layout
from refinerctl.stacks import find_stack

# Without a refinerctl.toml: this machine, or the account of the credentials.
DEFAULT_ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {"local": {"embedded": True}, "aws": {}}
DEFAULT_STACK = "refiner"
BACKENDS = ("s3", "http")
OUTPUTS = ("text", "json")
DEFAULT_REGION = "us-east-1"
# Keys of the former `refinerctl tools install`.
_REMOVED_TOOLS = ("terraform_version", "terraform_base_url")
_SWITCH = {"": 0, "false": 0, "no": 0, "off": 0, "true": 1, "yes": 1, "on": 1}

Table = TypeVar("Table", bound=msgspec.Struct)


class EnvironmentTable(msgspec.Struct, forbid_unknown_fields=True):
    """[environments.<name>] of refinerctl.toml."""

    embedded: bool = False
    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    bucket: str | None = None
    account: str | None = None
    assume_role: str | None = None
    assume_role_external_id: str | None = None
    backend: str = "s3"
    stacks: dict[str, dict[str, Any]] = {}


class ImageTable(msgspec.Struct, forbid_unknown_fields=True):
    """[images.<name>] of refinerctl.toml."""

    repository: str
    context: str
    dockerfile: str = "Dockerfile"
    source: str | None = None
    stack: str = DEFAULT_STACK
    platform: str = str(DEFAULT_PLATFORM)
    other_platforms: list[str] = []
    runs_on: str | None = None
    require_provenance: str | None = None


class ToolsTable(msgspec.Struct, forbid_unknown_fields=True):
    """[tools] of refinerctl.toml."""

    terraform_binary: str | None = None


class ConfigFile(msgspec.Struct, forbid_unknown_fields=True):
    """refinerctl.toml; the inner tables are checked one by one, so that an error names its table."""

    environment: str | None = None
    stack: str | None = None
    stacks: dict[str, dict[str, Any]] = {}
    images: dict[str, dict[str, Any]] = {}
    environments: dict[str, dict[str, Any]] = {}
    tools: dict[str, Any] = {}


@dataclass(frozen=True)
class GlobalFlags:
    """The global options as given on the command line; None where not given."""

    env: str | None = None
    stack: str | None = None
    output: str | None = None
    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    bucket: str | None = None
    broker_url: str | None = None
    assume_role: str | None = None
    assume_role_external_id: str | None = None
    verbosity: int = 0


@dataclass(frozen=True)
class Settings:
    """What every command runs with.

    `embedded` marks a local environment, without an account. `region` None: boto3 decides. `account`: the environment
    is in this AWS account and in no other; None: unknown.
    `stack_settings` are the stack's [stacks.<name>] over its defaults. `backend` is the kind of the Terraform backend:
    "s3" or "http". `broker_url` is an address of the broker that is used instead of its own. `environments` are the
    names of all environments. `terraform_binary` is a name or a path.
    """

    env: str
    stack: str
    output: str
    region: str | None
    profile: str | None
    endpoint_url: str | None
    verbosity: int
    embedded: bool
    stack_settings: Mapping[str, str]
    images: tuple[ImageSettings, ...]
    project: Path
    environments: tuple[str, ...] = ("local",)
    account: str | None = None
    broker_url: str | None = None
    assume_role: str | None = None
    assume_role_external_id: str | None = None
    backend: str = "s3"
    terraform_binary: str = "terraform"

    def image(self, name: str) -> ImageSettings:
        """An image of refinerctl.toml. Raises UsageError if it has none of this name."""
        known = {image.name: image for image in self.images}
        if name not in known:
            self.layout.check_project()
            raise UsageError(f"refinerctl.toml has no image {name!r}", hint=known_names(name, known, "Images"))
        return known[name]

    @property
    def layout(self) -> Layout:
        return Layout(self.project)

    @property
    def embedded_region(self) -> str:
        """The region of a local environment."""
        return self.region or DEFAULT_REGION

    @property
    def local_repositories(self) -> frozenset[str]:
        """Repositories whose images a local environment runs from their folders; none in other environments."""
        return frozenset(image.repository for image in self.images) if self.embedded else frozenset()

    @property
    def work_folder(self) -> Path:
        return self.layout.work_folder


def find_config(start: Path) -> Path | None:
    """The nearest refinerctl.toml in `start` or a folder above it."""
    candidates = (folder / CONFIG_NAME for folder in (start, *start.parents))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def check_root_module(module: Path) -> None:
    """Raises NotFoundError if a stack's Terraform root module does not exist."""
    if not module.is_dir():
        Layout(module.parents[2]).check_project()
        raise NotFoundError(f"Terraform root module {module} does not exist")


def environment_names(environ: Mapping[str, str], cwd: Path) -> list[str]:
    """The names of all environments. Raises RefinerctlError for an invalid file."""
    file = _read(path) if (path := config_path(environ, cwd)) else ConfigFile()
    return sorted(file.environments or ["local"])


def default_environment(environ: Mapping[str, str], cwd: Path) -> str | None:
    """The environment of commands that name none; None if they have to. Raises UsageError if it does not exist."""
    file = _read(path) if (path := config_path(environ, cwd)) else ConfigFile()
    exists = file.environment or "local" in (file.environments or DEFAULT_ENVIRONMENTS)
    return load_settings(GlobalFlags(), environ, cwd).env if exists else None


def load_settings(flags: GlobalFlags, environ: Mapping[str, str], cwd: Path) -> Settings:
    """Resolve the settings. Raises UsageError for an invalid value and RefinerctlError for an invalid file."""
    path = config_path(environ, cwd)
    file = _read(path) if path else ConfigFile()
    project = path.resolve().parent if path else cwd

    def value(name: str, *fallbacks: str | None) -> str | None:
        given = getattr(flags, name, None) or environ.get(f"REFINERCTL_{name.upper()}")
        return given or next((item for item in fallbacks if item), None)

    env = value("env", file.environment, "local") or ""
    stack = value("stack", file.stack, DEFAULT_STACK) or ""
    environments = file.environments or DEFAULT_ENVIRONMENTS
    if env not in environments:
        what = f"environment {env!r} does not exist" if value("env", file.environment) else "no environment is selected"
        known = known_names(env, sorted(environments), "Environments")
        hint = f"{known} Pass --env, or add one: `refinerctl env new NAME`."
        raise UsageError(f"{what} in {path or 'the defaults'}", hint=hint)
    chosen = _convert(environments[env], EnvironmentTable, path, f"environments.{env}")
    role = None if chosen.embedded else value("assume_role", chosen.assume_role)
    external_id = None if chosen.embedded else value("assume_role_external_id", chosen.assume_role_external_id)
    if external_id and not role:
        raise UsageError("an external ID is given, but no role to assume", hint="Pass --assume-role ARN.")
    return Settings(
        env=env,
        stack=find_stack(stack).name,
        output=output_format(flags, environ),
        # boto3 alone of AWS's tools does not know AWS_REGION.
        region=value("region", chosen.region)
        or (DEFAULT_REGION if chosen.embedded else environ.get("AWS_REGION"))
        or None,
        profile=value("profile", chosen.profile),
        # A local environment has its own endpoint: a variable for another environment must not redirect it.
        endpoint_url=flags.endpoint_url if chosen.embedded else value("endpoint_url", chosen.endpoint_url),
        verbosity=flags.verbosity or verbosity(environ),
        embedded=chosen.embedded,
        stack_settings=_stack_settings(file, stack, chosen, flags.bucket if chosen.embedded else value("bucket")),
        images=tuple(_image(name, table, path, project) for name, table in file.images.items()),
        project=project,
        environments=tuple(environments),
        account=None if chosen.embedded else chosen.account,
        broker_url=_without_credentials(value("broker_url")),
        assume_role=role,
        assume_role_external_id=external_id,
        backend=_one_of(BACKENDS, chosen.backend, "backend"),
        terraform_binary=environ.get("REFINERCTL_TERRAFORM_BINARY")
        or file.tools.get("terraform_binary")
        or "terraform",
    )


def _without_credentials(broker_url: str | None) -> str | None:
    """Raises UsageError if it has any: hints repeat the URL."""
    if broker_url and "@" in broker_url:
        raise UsageError("the URL of a broker must not contain credentials", hint="They are read from its secret.")
    return broker_url


def output_format(flags: GlobalFlags, environ: Mapping[str, str]) -> str:
    """The format of standard output. Raises UsageError for another value than OUTPUTS."""
    return _one_of(OUTPUTS, flags.output or environ.get("REFINERCTL_OUTPUT") or "text", "output")


def verbosity(environ: Mapping[str, str]) -> int:
    """The verbosity by the variables: -1 is quiet, 2 and more adds tracebacks. Raises UsageError for other values."""
    quiet, verbose = _level(environ, "REFINERCTL_QUIET"), _level(environ, "REFINERCTL_VERBOSE")
    return -1 if quiet else verbose


def _level(environ: Mapping[str, str], name: str) -> int:
    given = environ.get(name, "").strip().lower()
    if given in _SWITCH:
        return _SWITCH[given]
    if not given.isdecimal():
        raise UsageError(f"{name} has the invalid value {given!r}", hint="Use a number, true, false, yes, no, on, off.")
    return int(given)


def _one_of(allowed: tuple[str, ...], value: str | None, what: str) -> str:
    if value not in allowed:
        raise UsageError(f"unknown {what} {value!r}", hint=f"Use one of: {', '.join(allowed)}.")
    return value


def config_path(environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The refinerctl.toml in use; None without one. Raises RefusedError if another user wrote it."""
    if given := environ.get("REFINERCTL_CONFIG"):
        return Path(given)
    if (found := find_config(cwd)) is not None:
        _check_owner(found, environ)
    return found


def _check_owner(path: Path, environ: Mapping[str, str]) -> None:
    """Raises RefusedError if another user wrote a file that says which programs run: git's rule for repositories.

    Root is trusted: its user can do everything anyway, and checkouts of CI jobs often belong to it.
    """
    trusted = {0, os.geteuid()}
    if os.geteuid() == 0 and (user := environ.get("SUDO_UID", "")).isdecimal():
        trusted.add(int(user))
    for place in (path, path.parent, path.resolve(), path.resolve().parent):
        if (owner := place.lstat().st_uid) not in trusted:
            what = "it belongs" if place == path else f"{place} belongs"
            raise RefusedError(
                f"{path} is not used: {what} to {_user_name(owner)}, not to you",
                hint=f"If you trust that user, name the file: export REFINERCTL_CONFIG={shlex.quote(str(path))}",
            )


def _user_name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _read(path: Path) -> ConfigFile:
    """The whole file, checked: a misspelt key that is silently ignored would send a run to the wrong place."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RefinerctlError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RefinerctlError(f"{path} is not valid TOML: {error}") from error
    file = _convert(document, ConfigFile, path)
    for name, table in file.environments.items():
        environment = _convert(table, EnvironmentTable, path, f"environments.{name}")
        for stack, settings in environment.stacks.items():
            _check_stack_table(stack, settings, path, f"environments.{name}.")
        account = environment.account
        if account is not None and not re.fullmatch(r"\d{12}", account, re.ASCII):
            raise RefinerctlError(f"{path}: environments.{name}.account: expected the 12 digits of an AWS account")
    for name, table in file.images.items():
        _convert(table, ImageTable, path, f"images.{name}")
    for key in _REMOVED_TOOLS:
        if key in file.tools:
            raise RefinerctlError(
                f"{path}: tools.{key} is no longer supported: refinerctl does not install Terraform",
                hint="Remove it. refinerctl runs the terraform on PATH, or the one that tools.terraform_binary names.",
            )
    _convert(file.tools, ToolsTable, path, "tools")
    for name, table in file.stacks.items():
        _check_stack_table(name, table, path)
    return file


def _convert(table: Mapping[str, Any], kind: type[Table], path: Path | None, name: str = "") -> Table:
    """`table` as `kind`; `name` is the table's. Raises RefinerctlError that names the wrong key."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at ")
        key = f"{name}{at.strip('`').removeprefix('$')}".removeprefix(".")
        for pattern, words in _PROBLEMS.items():
            if match := re.fullmatch(pattern, text):
                text = words.format(*(_TYPES.get(group, group) for group in match.groups()))
        raise RefinerctlError(
            f"{path}: {f'{key}: ' if key else ''}{text}", hint=f"Known keys: {', '.join(kind.__struct_fields__)}."
        ) from error


_PROBLEMS = {
    r"Object contains unknown field `(.+)`": "unknown key {}",
    r"Object missing required field `(.+)`": "key {} is missing",
    r"Expected `(.+?)(?: \| null)?`, got `.+`": "expected {}",
}
_TYPES = {"bool": "true or false", "str": "text in quotes", "object": "a table"}


def _check_stack_table(name: str, table: Mapping[str, Any], path: Path, within: str = "") -> None:
    """The keys are those that the stack has settings for."""
    where = f"{within}stacks.{name}"
    try:
        known = find_stack(name).settings
    except UsageError as error:
        raise RefinerctlError(f"{path}: {where}: {error.message}", hint=error.hint) from error
    for key, value in table.items():
        if key not in known:
            hint = f"Known keys: {', '.join(known)}."
            raise RefinerctlError(f"{path}: {where}: unknown key {key}", hint=hint)
        if not isinstance(value, str):
            raise RefinerctlError(f"{path}: {where}.{key}: expected text in quotes")
        if key.endswith("_prefix") and key != "name_prefix":
            normalize_prefix(value)


def _stack_settings(file: ConfigFile, stack: str, env: EnvironmentTable, bucket: str | None) -> dict[str, str]:
    """Of the stack, then of the environment, then of the stack in the environment; `bucket` is an option's."""
    settings = {**find_stack(stack).settings, **file.stacks.get(stack, {})}
    if env.bucket:
        settings["bucket"] = env.bucket
    settings |= env.stacks.get(stack, {})
    return {**settings, "bucket": bucket} if bucket else settings


def _image(name: str, given: Mapping[str, Any], path: Path | None, project: Path) -> ImageSettings:
    table = _convert(given, ImageTable, path, f"images.{name}")
    service = table.runs_on or (RunsOn.LAMBDA if table.stack else None)
    try:
        return ImageSettings(
            name,
            table.repository,
            BuildContext(project / table.context, table.dockerfile),
            source=ImageReference.parse(table.source) if table.source else None,
            stack=find_stack(table.stack).name if table.stack else "",
            platform=Platform.parse(table.platform),
            other_platforms=tuple(map(Platform.parse, table.other_platforms)),
            runs_on=RunsOn(_one_of(tuple(RunsOn), service, "service")) if service else None,
            built_by=BuiltBy.parse(table.require_provenance) if table.require_provenance is not None else None,
        )
    except UsageError as error:
        raise RefinerctlError(f"{path}: images.{name}: {error.message}", hint=error.hint) from error
