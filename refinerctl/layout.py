"""The folders and files of a project: no other module contains their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refinerctl.errors import NotFoundError

CONFIG_NAME = "refinerctl.toml"


@dataclass(frozen=True)
class Layout:
    """The folders and files of the project at `root`."""

    root: Path

    @property
    def is_project(self) -> bool:
        """Whether the folder seems to be a project."""
        return (self.root / CONFIG_NAME).exists() or self.terraform.exists()

    def check_project(self, otherwise: str = "") -> None:
        """Raises NotFoundError outside of a project. `otherwise` says how the command works without one."""
        if not self.is_project:
            raise NotFoundError(
                f"no {CONFIG_NAME} in {self.root} or its parent folders",
                hint=f"Run this in a project; `refinerctl init DIR` creates one. {otherwise}".rstrip(),
            )

    @property
    def origin_file(self) -> Path:
        """What `refinerctl init` wrote: its version, and the hash of each file."""
        return self.root / ".refinerctl-init.json"

    @property
    def work_folder(self) -> Path:
        """The folder, ignored by git, of all files that refinerctl writes without being told where."""
        return self.root / ".refinerctl"

    @property
    def provenance(self) -> Path:
        """The folder of the verified builds of images."""
        return self.work_folder / "provenance"

    @property
    def venvs(self) -> Path:
        """The folder of the virtual environments of Python images."""
        return self.work_folder / "venvs"

    @property
    def terraform(self) -> Path:
        return self.root / "terraform"

    @property
    def modules(self) -> Path:
        """The folder of the Terraform modules that root modules share."""
        return self.terraform / "modules"

    def root_module(self, stack: str) -> Path:
        """The folder of a stack's Terraform root module."""
        return self.terraform / "stacks" / stack

    @property
    def environments(self) -> Path:
        """The folder of all environments' settings."""
        return self.terraform / "environments"

    def environment(self, env: str) -> Path:
        """The folder of an environment's settings."""
        return self.environments / env

    def values_file(self, env: str, stack: str) -> Path:
        """The tfvars file of a stack in an environment; need not exist."""
        return self.environment(env) / f"{stack}.tfvars"

    def backend_file(self, env: str) -> Path:
        """The settings of an environment's Terraform backend; need not exist."""
        return self.environment(env) / "backend.hcl"
