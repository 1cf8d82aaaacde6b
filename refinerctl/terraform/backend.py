"""Terraform backends: where a stack's state is, and the arguments of `terraform init`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from refinerctl import files
from refinerctl.config import check_root_module
from refinerctl.errors import RefinerctlError
from refinerctl.layout import Layout
from refinerctl.terraform import hcl

if TYPE_CHECKING:
    from refinerctl.config import Settings

# https://developer.hashicorp.com/terraform/language/backend/http
HTTP_ARGUMENTS = ("address", "lock_address", "unlock_address", "lock_method", "unlock_method", "update_method")
HTTP_CREDENTIALS = ("username", "password")

OVERRIDE_NAME = "refinerctl_override.tf"
_OVERRIDE = (
    '# Written by refinerctl: the state of this environment is not in S3.\nterraform {\n  backend "http" {}\n}\n'
)
_NOT_LINKED = (".terraform", "terraform.tfstate", "errored.tfstate", OVERRIDE_NAME)


@dataclass(frozen=True)
class Backend:
    """A stack's backend: `kind` is "s3" or "http", `settings` its arguments without credentials.

    `init_arguments` are for `terraform init`, `environment` for every call of terraform: secrets among it, so that none
    is an argument or ends in Terraform's data folder.
    """

    kind: str
    settings: Mapping[str, Any]
    init_arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """Where the state is, for messages."""
        if self.kind == "http":
            return str(self.settings["address"])
        return f"s3://{self.settings['bucket']}/{self.settings['key']}"

    def prepare_module(self, layout: Layout, stack: str) -> Path:
        """The folder to run terraform in, brought up to date.

        The stacks declare a backend in S3, and are run where they are. For another backend it is a folder of links to
        the stack and its modules, and a file that overrides the backend.
        """
        if self.kind == "s3":
            return layout.root_module(stack)
        linked = Layout(layout.work_folder.resolve() / "http-backend")
        _link_module(layout, linked, stack)
        return linked.root_module(stack)


def read_backend(
    settings: Settings,
    stack: str,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Backend:
    """The backend of `stack` in the environment that `settings` are about.

    For S3: the stack's own block, then the environment's backend.hcl, then `overrides` (a local environment's
    bucket and region); the later wins. For HTTP: backend.hcl, then TF_HTTP_* variables, then what a GitLab job knows
    about its project; the earlier wins. Raises RefinerctlError if that does not say where the state is.
    """
    environ = os.environ if environ is None else environ
    module = settings.layout.root_module(stack)
    check_root_module(module)
    config = settings.layout.backend_file(settings.env)
    given = hcl.load_values(config, missing_ok=True)
    from_file = (f"-backend-config={config.resolve()}",) if given else ()
    if settings.backend == "http":
        return _http(given, from_file, environ, f"{stack}-{settings.env}")
    given = {**hcl.backend_block(module), **given, **(overrides or {})}
    for name in ("bucket", "key"):
        if not given.get(name):
            raise RefinerctlError(f"no {name} in S3 is set for the state of stack {stack}", hint=f"Set it in {config}.")
    arguments = tuple(f"-backend-config={name}={value}" for name, value in (overrides or {}).items())
    return Backend("s3", given, (*from_file, *arguments))


def _http(given: Mapping[str, Any], from_file: tuple[str, ...], environ: Mapping[str, str], state: str) -> Backend:
    """https://docs.gitlab.com/user/infrastructure/iac/terraform_state/: how a job reaches its project's states."""
    api, project = environ.get("CI_API_V4_URL", ""), environ.get("CI_PROJECT_ID", "")
    found = {name: str(value) for name, value in given.items() if name in (*HTTP_ARGUMENTS, *HTTP_CREDENTIALS)}
    for name in (*HTTP_ARGUMENTS, *HTTP_CREDENTIALS):
        if value := environ.get(f"TF_HTTP_{name.upper()}"):
            found.setdefault(name, value)  # Terraform, too, gives an argument precedence over the variable
    if "address" not in found and api and project:
        found["address"] = f"{api}/projects/{quote(project, safe='')}/terraform/state/{quote(state, safe='')}"
    address = found.get("address")
    if address is None:
        raise RefinerctlError(
            f"the address of the state {state} is not set",
            hint="Set TF_HTTP_ADDRESS, TF_HTTP_USERNAME and TF_HTTP_PASSWORD, or run this in a GitLab job.",
        )
    if "@" in urlsplit(address).netloc:
        raise RefinerctlError(
            f"the address of the state {state} holds a user name or password",
            hint="Remove them from it, and set TF_HTTP_USERNAME and TF_HTTP_PASSWORD.",
        )
    if api and address.startswith(f"{api}/"):  # only for GitLab: the job's token, and GitLab's HTTP methods
        _as_in_gitlab(found, environ.get("CI_JOB_TOKEN"))
    variables = {f"TF_HTTP_{name.upper()}": value for name, value in found.items()}
    arguments = {name: value for name, value in found.items() if name not in HTTP_CREDENTIALS}
    return Backend("http", arguments, from_file, variables)


def _as_in_gitlab(found: dict[str, str], token: str | None) -> None:
    lock = f"{found['address']}/lock"
    for name, value in (("lock_address", lock), ("unlock_address", lock)):
        found.setdefault(name, value)
    found.setdefault("lock_method", "POST")
    found.setdefault("unlock_method", "DELETE")
    if token and "password" not in found:
        found |= {"username": "gitlab-ci-token", "password": token}


def _link_module(layout: Layout, linked: Layout, stack: str) -> None:
    """Link the files of a root module, and what is beside the stacks in the project: its modules."""
    source, module = layout.root_module(stack).resolve(), linked.root_module(stack)
    module.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in source.iterdir() if not path.name.startswith(_NOT_LINKED)}
    for path in module.iterdir():
        if path.is_symlink() and path.name not in wanted:
            path.unlink()
    for name, path in wanted.items():
        _link(path, module / name)
    for path in layout.terraform.resolve().iterdir():
        if path.name != source.parent.name:
            _link(path, linked.terraform / path.name)
    override = module / OVERRIDE_NAME
    if not override.is_file() or override.read_text(encoding="utf-8") != _OVERRIDE:
        files.write_text(override, _OVERRIDE)


def _link(target: Path, link: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    # Another run may do the same, or read. Terraform may have replaced the link to the lock file by its own file.
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(link)
