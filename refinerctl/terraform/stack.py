"""A stack in an environment: which Terraform, on which files, with which state."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refinerctl.errors import RefinerctlError, RefusedError, Terminated
from refinerctl.releases.model import HEAD_BYTES, StateVersion
from refinerctl.terraform.configuration import configuration_digest, git_commit
from refinerctl.terraform.events import OnApply
from refinerctl.terraform.runner import Terraform

_PLAN_FOLDER = "plan-"
_JUST_MADE_SECONDS = 60  # by another run, which is about to lock it


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
        """Before a plan: init. Raises RefusedError if an apply has left a state that it could not save."""
        self.init()
        if (left := self.terraform.errored_state()) is None:
            return
        with left.open("rb") as file:
            errored = StateVersion.read(file.read(HEAD_BYTES))
        now = self.terraform.state_version()
        if now.lineage and now.lineage != errored.lineage:
            self.terraform.tell(f"{left} is not of this state, and left alone")
            return
        raise RefusedError(f"{left} holds the state of an apply that could not save it", hint=self.how_to_push(left))

    def check_state(self, planned: StateVersion) -> None:
        """Raises RefusedError if the state is not the one that a plan was made against."""
        if (now := self.terraform.state_version()) != planned:
            raise RefusedError(
                f"the state has moved on since the plan was made: it was at serial {planned.serial}, now {now.serial}",
                hint="Somebody has deployed meanwhile. Plan again, and look at what it would do now.",
            )

    def apply(self, plan: Path, on_progress: OnApply) -> None:
        """Apply exactly `plan`; an error or an interrupt tells, too, of a state that could not be saved."""
        before = self.terraform.errored_state_mark()
        try:
            self.terraform.apply_plan(plan, on_progress)
        except RefinerctlError as error:
            if (state := self.terraform.keep_errored_state(before)) is not None:
                raise RefinerctlError(
                    f"{error.message}. Its state could not be saved, and is in {state}", hint=self.how_to_push(state)
                ) from error
            raise
        except (KeyboardInterrupt, Terminated):
            if (state := self.terraform.keep_errored_state(before)) is not None:
                self.terraform.tell(f"the state could not be saved, and is in {state}. {self.how_to_push(state)}")
            else:
                self.terraform.tell("what was done so far is in the state; the same command goes on from there")
            raise

    def how_to_push(self, state: Path) -> str:
        """What to do with an errored.tfstate."""
        terraform = self.terraform
        places = {"TF_DATA_DIR": str(terraform.data_dir)} | {
            name: value
            for name, value in terraform.environment.items()
            if name.startswith("TF_HTTP_") and name != "TF_HTTP_PASSWORD"
        }
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in places.items())
        command = [str(terraform.binary), f"-chdir={terraform.module}", "state", "push", str(state)]
        return (
            f"It is newer than what the backend has. Push it: {variables} {shlex.join(command)}; "
            "then remove the file, and plan again."
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
        """A folder for a plan and its values, for the user's eyes only: both may hold secrets.

        What killed runs have left goes, too; a folder that is in use is locked.
        """
        data_dir = self.terraform.data_dir
        data_dir.mkdir(0o700, parents=True, exist_ok=True)
        for left in data_dir.glob(f"{_PLAN_FOLDER}*"):
            _remove_abandoned(left)
        with tempfile.TemporaryDirectory(prefix=_PLAN_FOLDER, dir=data_dir) as name, _locked(Path(name)):
            yield Path(name).resolve()

    def var_files(self, folder: Path, values: Mapping[str, Any]) -> list[Path]:
        """The environment's values, then `values`, written to a file in `folder`: they win."""
        files = [self.var_file] if self.var_file.is_file() else []
        if values:
            ours = folder / "refinerctl.tfvars.json"
            ours.write_text(json.dumps(dict(values)), encoding="utf-8")
            files.append(ours)
        return files


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock as long as this process lives; False if another has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError), _locked(folder) as is_free:  # another run may remove it at the same time
        if is_free and time.time() - folder.stat().st_mtime > _JUST_MADE_SECONDS:
            shutil.rmtree(folder)
