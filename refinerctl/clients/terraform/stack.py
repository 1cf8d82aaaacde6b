"""A stack in an environment: which Terraform, on which files, with which state."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refinerctl.clients.terraform.configuration import configuration_digest, git_commit
from refinerctl.clients.terraform.events import OnApply
from refinerctl.clients.terraform.runner import Terraform
from refinerctl.errors import RefinerctlError, RefusedError, Terminated


@dataclass(frozen=True)
class Stack:
    """A root module with an environment's values. `source` is its own folder in the project, `project` the project's.

    `init_arguments` lead to its state. The folders of a project are those of docs/architecture.md.
    """

    env: str
    name: str
    terraform: Terraform
    project: Path
    init_arguments: Sequence[str] = ()

    @property
    def source(self) -> Path:
        return self.project / "terraform" / "stacks" / self.name

    @property
    def var_file(self) -> Path:
        """The environment's values for this stack; it need not exist."""
        return self.project / "terraform" / "environments" / self.env / f"{self.name}.tfvars"

    def init(self) -> None:
        """`terraform init` with the environment's state."""
        self.terraform.init(*self.init_arguments)

    def prepare(self) -> None:
        """Before a plan: init. Raises RefusedError if an apply has left a state here that it could not save."""
        if (state := self.terraform.errored_state()) is not None:
            raise RefusedError(f"{state} holds the state of an apply that could not save it", hint=self.how_to_push())
        self.init()

    def apply(self, plan: Path, on_progress: OnApply) -> None:
        """Apply exactly `plan`; an error or an interrupt tells, too, of a state that could not be saved."""
        try:
            self.terraform.apply_plan(plan, on_progress)
        except RefinerctlError as error:
            if (state := self.terraform.errored_state()) is not None:
                raise RefinerctlError(
                    f"{error.message}. Its state could not be saved, and is in {state}", hint=self.how_to_push()
                ) from error
            raise
        except (KeyboardInterrupt, Terminated):
            if (state := self.terraform.errored_state()) is not None:
                self.terraform.tell(f"the state could not be saved, and is in {state}. {self.how_to_push()}")
            else:
                self.terraform.tell("what was done so far is in the state; the same command goes on from there")
            raise

    def how_to_push(self) -> str:
        """What to do with an errored.tfstate."""
        terraform = self.terraform
        return (
            f"It is newer than what the backend has. Push it: TF_DATA_DIR={terraform.data_dir} {terraform.binary} "
            f"-chdir={terraform.module} state push errored.tfstate; then remove the file, and plan again."
        )

    def configuration(self) -> str:
        """The digest of everything in the project that a plan depends on."""
        environments = self.project / "terraform" / "environments" / self.env
        roots = [self.source, self.project / "terraform" / "modules", self.var_file, environments / "backend.hcl"]
        return configuration_digest(roots, self.project)

    def commit(self) -> tuple[str | None, bool]:
        """The commit of the project's Terraform files, and whether they differ from it."""
        return git_commit(self.project / "terraform")

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for a plan and its values, for the user's eyes only: both may hold secrets."""
        self.terraform.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="plan-", dir=self.terraform.data_dir) as name:
            yield Path(name).resolve()

    def var_files(self, folder: Path, values: Mapping[str, Any]) -> list[Path]:
        """The environment's values, then `values`, written to a file in `folder`: they win."""
        files = [self.var_file] if self.var_file.is_file() else []
        if values:
            ours = folder / "refinerctl.tfvars.json"
            ours.write_text(json.dumps(dict(values)), encoding="utf-8")
            files.append(ours)
        return files
