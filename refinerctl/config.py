"""Settings: flag > environment variable > refinerctl.toml > default, resolved once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from refinerctl.errors import NotFoundError, RefinerctlError, UsageError
from refinerctl.images import DEFAULT_PLATFORM, ImageReference, Platform, RunsOn
from refinerctl.keys import normalize_prefix
from refinerctl.layout import Layout
from refinerctl.stacks import find_stack
from refinerctl.stacks.settings import Pipeline

CONFIG_NAME = "refinerctl.toml"
WORK_FOLDER = ".refinerctl"
# For who stands elsewhere: without a refinerctl.toml the folder itself is taken for the project.
NO_PROJECT = (
    "Is this the project's folder? From elsewhere REFINERCTL_CONFIG names its refinerctl.toml, "
    "and --env aws works on what the AWS credentials lead to."
)
# Without a refinerctl.toml: this machine, or whatever account the credentials are of.
NO_ENVIRONMENTS: dict[str, dict[str, Any]] = {"local": {"embedded": True}, "aws": {}}
STACKS = ("refiner", "registry")
BACKENDS = ("s3", "http")
OUTPUTS = ("text", "json")
DEFAULT_REGION = "us-east-1"
_SWITCH = {"": 0, "false": 0, "no": 0, "off": 0, "true": 1, "yes": 1, "on": 1}

_NO_DOWNLOADS = ("terraform_version", "terraform_base_url")  # of the former `refinerctl tools install`


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
    assume_role: str | None = None
    verbosity: int = 0


@dataclass(frozen=True)
class ImageSettings:
    """An image of this project: its ECR repository and the folder that it is built from.

    `source` is the repository that releases are published to; `stack` deploys it on `platform`, in service `runs_on`.
    """

    name: str
    repository: str
    context: Path
    source: ImageReference | None = None
    stack: str = "refiner"
    platform: Platform = DEFAULT_PLATFORM
    runs_on: RunsOn = RunsOn.LAMBDA


@dataclass(frozen=True)
class Settings:
    """What every command runs with.

    `embedded` marks an environment that lives on this machine, without an account. `region` None leaves it to boto3.
    Without `has_pipeline` nobody has said where the stack keeps things, and `pipeline` is another one's. `backend` is
    the kind of the Terraform backend: "s3" or "http". `environments` are the names of all that the file has.
    """

    env: str
    stack: str
    output: str
    region: str | None
    profile: str | None
    endpoint_url: str | None
    verbosity: int
    embedded: bool
    old_pipeline: Pipeline
    has_pipeline: bool
    images: tuple[ImageSettings, ...]
    project: Path
    environments: tuple[str, ...] = ("local",)
    assume_role: str | None = None
    backend: str = "s3"
    terraform_binary: str = "terraform"
    stack_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return Layout(self.project)

    @property
    def embedded_region(self) -> str:
        """The region that an environment on this machine pretends to be in."""
        return self.region or DEFAULT_REGION

    @property
    def local_repositories(self) -> frozenset[str]:
        """Repositories whose images an environment on this machine runs from their folders; none elsewhere."""
        return frozenset(image.repository for image in self.images) if self.embedded else frozenset()

    @property
    def work_folder(self) -> Path:
        """The ignored folder that holds everything refinerctl writes beside what it is asked for."""
        return self.project / WORK_FOLDER


def find_config(start: Path) -> Path | None:
    """The nearest refinerctl.toml in `start` or a folder above it."""
    for folder in (start, *start.parents):
        candidate = folder / CONFIG_NAME
        if candidate.is_file():
            return candidate
    return None


def check_root_module(module: Path) -> None:
    """Raises NotFoundError if Terraform's folder of a stack is not there."""
    if not module.is_dir():
        hint = None if module.parent.is_dir() else NO_PROJECT
        raise NotFoundError(f"there is no Terraform root module {module}", hint=hint)


def _config_path(environ: Mapping[str, str], cwd: Path) -> Path | None:
    return Path(environ["REFINERCTL_CONFIG"]) if environ.get("REFINERCTL_CONFIG") else find_config(cwd)


def environment_names(environ: Mapping[str, str], cwd: Path) -> list[str]:
    """The environments that there are. Raises RefinerctlError for a file that makes no sense."""
    config_path = _config_path(environ, cwd)
    return sorted((_read(config_path) if config_path else {}).get("environments") or ["local"])


def load_settings(flags: GlobalFlags, environ: Mapping[str, str], cwd: Path) -> Settings:
    """Resolve the settings. Raises UsageError for values and RefinerctlError for a file that make no sense."""
    config_path = _config_path(environ, cwd)
    document = _read(config_path) if config_path else {}
    project = config_path.resolve().parent if config_path else cwd
    where = str(config_path or "the defaults")

    def value(name: str, *fallbacks: str | None) -> str | None:
        given = getattr(flags, name) or environ.get(f"REFINERCTL_{name.upper()}")
        return given or next((item for item in fallbacks if item), None)

    env = value("env", document.get("environment"), "local") or ""
    stack = _one_of(STACKS, value("stack", document.get("stack"), "refiner"), "stack")
    environments: dict[str, dict[str, Any]] = document.get("environments") or NO_ENVIRONMENTS
    if env not in environments:
        raise UsageError(
            f"there is no environment {env!r} in {where}", hint=f"It has: {', '.join(sorted(environments))}."
        )
    chosen = environments[env]
    embedded = bool(chosen.get("embedded", False))
    return Settings(
        env=env,
        stack=stack,
        output=_one_of(OUTPUTS, value("output", "text"), "output"),
        # boto3 alone of AWS's tools does not know AWS_REGION.
        region=value("region", chosen.get("region"))
        or (DEFAULT_REGION if embedded else environ.get("AWS_REGION"))
        or None,
        profile=value("profile", chosen.get("profile")),
        # An environment on this machine has an endpoint of its own: a variable meant for another must not redirect it.
        endpoint_url=flags.endpoint_url if embedded else value("endpoint_url", chosen.get("endpoint_url")),
        verbosity=flags.verbosity or verbosity(environ),
        embedded=embedded,
        old_pipeline=_pipeline(document, stack, chosen, flags.bucket if embedded else value("bucket")),
        has_pipeline=stack == "refiner" or stack in document.get("stacks", {}),
        images=_images(document, project),
        project=project,
        environments=tuple(environments),
        assume_role=None if embedded else value("assume_role", chosen.get("assume_role")),
        backend=_one_of(BACKENDS, chosen.get("backend", "s3"), "backend"),
        terraform_binary=environ.get("REFINERCTL_TERRAFORM_BINARY")
        or document.get("tools", {}).get("terraform_binary", "terraform"),
        stack_settings=_stack_settings(document, stack, chosen, flags.bucket if embedded else value("bucket")),
    )


def verbosity(environ: Mapping[str, str]) -> int:
    """How much the variables ask for: -1 is quiet, 2 and more adds tracebacks. Raises UsageError for other values."""
    quiet, verbose = _level(environ, "REFINERCTL_QUIET"), _level(environ, "REFINERCTL_VERBOSE")
    return -1 if quiet else verbose


def _level(environ: Mapping[str, str], name: str) -> int:
    given = environ.get(name, "").strip().lower()
    if given in _SWITCH:
        return _SWITCH[given]
    if not given.isdecimal():
        raise UsageError(f"{name} is {given!r}", hint="It is a number, or one of: true, false, yes, no, on, off.")
    return int(given)


def _one_of(allowed: tuple[str, ...], value: str | None, what: str) -> str:
    if value not in allowed:
        raise UsageError(f"there is no {what} {value!r}", hint=f"It is one of: {', '.join(allowed)}.")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RefinerctlError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RefinerctlError(f"{path} is not valid TOML: {error}") from error
    _check_shape(document, path)
    return document


_KINDS: dict[type, str] = {bool: "true or false", str: "text", dict: "a table"}
_PIPELINE_KEYS: dict[str, type] = {item.name: str for item in fields(Pipeline)}
_SECTIONS: dict[str, dict[str, type]] = {
    "stacks": _PIPELINE_KEYS,
    "images": {"repository": str, "context": str, "source": str, "stack": str, "platform": str, "runs_on": str},
    "environments": {
        "embedded": bool,
        "region": str,
        "profile": str,
        "endpoint_url": str,
        "bucket": str,
        "assume_role": str,
        "backend": str,
    },
}


def _check_shape(document: dict[str, Any], path: Path) -> None:
    """A misspelt key that is silently ignored would send a run to the wrong place."""
    for key, entry in document.items():
        if key in ("environment", "stack"):
            _expect(entry, str, key, path)
        elif key == "tools":
            _expect(entry, dict, key, path)
            for name in _NO_DOWNLOADS:
                if name in entry:
                    raise RefinerctlError(
                        f"{path}: tools.{name} has no effect any more: refinerctl does not install Terraform",
                        hint="Remove it. The program on PATH is used, or the one that tools.terraform_binary names.",
                    )
            _check_table({"terraform_binary": str}, entry, key, path)
        elif key in _SECTIONS:
            _expect(entry, dict, key, path)
            for name, table in entry.items():
                if key == "stacks" and name not in STACKS:
                    raise RefinerctlError(
                        f"{path}: there is no stack {key}.{name}", hint=f"Known: {', '.join(STACKS)}."
                    )
                _check_table(_SECTIONS[key], table, f"{key}.{name}", path)
        else:
            raise RefinerctlError(f"{path}: unknown key {key!r}")


def _check_table(known: dict[str, type], table: object, where: str, path: Path) -> None:
    _expect(table, dict, where, path)
    assert isinstance(table, dict)  # noqa: S101 - for the type checker; _expect has raised otherwise
    for key, value in table.items():
        if key not in known:
            raise RefinerctlError(f"{path}: unknown key {where}.{key}", hint=f"Known: {', '.join(sorted(known))}.")
        _expect(value, known[key], f"{where}.{key}", path)


def _expect(value: object, kind: type, where: str, path: Path) -> None:
    if not isinstance(value, kind):
        raise RefinerctlError(f"{path}: {where} is not {_KINDS[kind]}")


def _pipeline(document: dict[str, Any], stack: str, chosen: dict[str, Any], bucket: str | None) -> Pipeline:
    given: dict[str, str] = dict(document.get("stacks", {}).get(stack, {}))
    for key in [key for key in given if key.endswith("_prefix") and key != "name_prefix"]:
        given[key] = normalize_prefix(given[key])
    if override := bucket or chosen.get("bucket"):
        given["bucket"] = override
    return Pipeline(**given)


def _stack_settings(document: dict[str, Any], stack: str, chosen: dict[str, Any], bucket: str | None) -> dict[str, str]:
    given = {**find_stack(stack).settings, **document.get("stacks", {}).get(stack, {})}
    if override := bucket or chosen.get("bucket"):
        given["bucket"] = override
    return given


def _images(document: dict[str, Any], project: Path) -> tuple[ImageSettings, ...]:
    return tuple(_image(name, table, project) for name, table in document.get("images", {}).items())


def _image(name: str, table: dict[str, str], project: Path) -> ImageSettings:
    if missing := {"repository", "context"} - table.keys():
        raise RefinerctlError(f"{CONFIG_NAME}: images.{name} has no {' and no '.join(sorted(missing))}")
    try:
        source = ImageReference.parse(table["source"]) if "source" in table else None
        return ImageSettings(
            name,
            table["repository"],
            project / table["context"],
            source=source,
            stack=_one_of(STACKS, table.get("stack", "refiner"), "stack"),
            platform=Platform.parse(table.get("platform", str(DEFAULT_PLATFORM))),
            runs_on=RunsOn(_one_of(tuple(RunsOn), table.get("runs_on", "lambda"), "service")),
        )
    except UsageError as error:
        raise RefinerctlError(f"{CONFIG_NAME}: images.{name}: {error.message}", hint=error.hint) from error
