"""Terraform backends: where a stack's state is, and what `terraform init` needs to get there."""

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
    """A stack's backend: `kind` is "s3" or "http", `settings` its arguments, credentials not among them.

    `init_arguments` are for `terraform init`, `environment` for every call of terraform: secrets among it, so that none
    is an argument or ends in Terraform's data folder. `module` is the folder to run in, once it is prepared.
    """

    kind: str
    settings: Mapping[str, Any]
    module: Path
    init_arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    linked_from: Path | None = None

    @property
    def place(self) -> str:
        """Where the state is, for messages."""
        if self.kind == "http":
            return str(self.settings["address"])
        return f"s3://{self.settings['bucket']}/{self.settings['key']}"

    def prepare_module(self) -> Path:
        """Return the root module to run terraform in.

        The stacks declare a backend in S3. For another, it is a folder of links to the stack and its modules, and a
        file that overrides the backend; it is brought up to date here.
        """
        if self.linked_from is not None:
            _link_module(self.linked_from, self.module)
        return self.module


def read_backend(
    settings: Settings,
    stack: str,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Backend:
    """The backend of `stack` in the environment that `settings` are about.

    For S3: the stack's own block, then the environment's backend.hcl, then `overrides` (an embedded environment's
    bucket and region); the later wins. For HTTP: backend.hcl, then TF_HTTP_* variables, then what a GitLab job knows
    about its project; the earlier wins. Raises RefinerctlError if that does not say where the state is.
    """
    environ = os.environ if environ is None else environ
    terraform = settings.project / "terraform"
    module = terraform / "stacks" / stack
    check_root_module(module)
    config = terraform / "environments" / settings.env / "backend.hcl"
    given = hcl.load_values(config, missing_ok=True)
    from_file = (f"-backend-config={config.resolve()}",) if given else ()
    if settings.backend == "http":
        linked = settings.work_folder.resolve() / "http-backend" / "terraform" / "stacks" / stack
        return _http(given, from_file, linked, module, environ, f"{stack}-{settings.env}")
    given = {**hcl.backend_block(module), **given, **(overrides or {})}
    for name in ("bucket", "key"):
        if not given.get(name):
            raise RefinerctlError(
                f"nothing says which {name} in S3 holds the state of stack {stack}", hint=f"Set it in {config}."
            )
    arguments = tuple(f"-backend-config={name}={value}" for name, value in (overrides or {}).items())
    return Backend("s3", given, module, (*from_file, *arguments))


def _http(
    given: Mapping[str, Any],
    from_file: tuple[str, ...],
    linked: Path,
    module: Path,
    environ: Mapping[str, str],
    state: str,
) -> Backend:
    """https://docs.gitlab.com/user/infrastructure/iac/terraform_state/: how a job reaches its project's states."""
    api, project = environ.get("CI_API_V4_URL", ""), environ.get("CI_PROJECT_ID", "")
    found = {name: str(value) for name, value in given.items() if name in (*HTTP_ARGUMENTS, *HTTP_CREDENTIALS)}
    for name in (*HTTP_ARGUMENTS, *HTTP_CREDENTIALS):
        if value := environ.get(f"TF_HTTP_{name.upper()}"):
            found.setdefault(name, value)  # Terraform, too, takes an argument before the variable
    if "address" not in found and api and project:
        found["address"] = f"{api}/projects/{quote(project, safe='')}/terraform/state/{quote(state, safe='')}"
    address = found.get("address")
    if address is None:
        raise RefinerctlError(
            f"nothing says where the state {state} is kept",
            hint="Set TF_HTTP_ADDRESS, TF_HTTP_USERNAME and TF_HTTP_PASSWORD, or run it in a GitLab job.",
        )
    if "@" in urlsplit(address).netloc:
        raise RefinerctlError(
            f"the address of the state {state} holds a user name or password",
            hint="Leave them out of it, and set TF_HTTP_USERNAME and TF_HTTP_PASSWORD.",
        )
    if api and address.startswith(f"{api}/"):  # nobody else gets a job's token, or is asked in GitLab's way
        _as_in_gitlab(found, environ.get("CI_JOB_TOKEN"))
    variables = {f"TF_HTTP_{name.upper()}": value for name, value in found.items()}
    arguments = {name: value for name, value in found.items() if name not in HTTP_CREDENTIALS}
    return Backend("http", arguments, linked, from_file, variables, linked_from=module)


def _as_in_gitlab(found: dict[str, str], token: str | None) -> None:
    lock = f"{found['address']}/lock"
    for name, value in (("lock_address", lock), ("unlock_address", lock)):
        found.setdefault(name, value)
    found.setdefault("lock_method", "POST")
    found.setdefault("unlock_method", "DELETE")
    if token and "password" not in found:
        found |= {"username": "gitlab-ci-token", "password": token}


def _link_module(stack: Path, module: Path) -> None:
    """Make `module` a folder of links to what is in `stack`, two levels below one that links to its modules."""
    module.mkdir(parents=True, exist_ok=True)
    stack = stack.resolve()
    wanted = {path.name: path for path in stack.iterdir() if not path.name.startswith(_NOT_LINKED)}
    for path in module.iterdir():
        if path.is_symlink() and path.name not in wanted:
            path.unlink()
    for name, path in wanted.items():
        _link(path, module / name)
    for path in stack.parents[1].iterdir():
        if path.name != "stacks":
            _link(path, module.parents[1] / path.name)
    override = module / OVERRIDE_NAME
    if not override.is_file() or override.read_text(encoding="utf-8") != _OVERRIDE:
        files.write_text(override, _OVERRIDE)


def _link(target: Path, link: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    # Another run may be doing the same, or reading. Terraform leaves a lock file of its own where the link to ours was.
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(link)
