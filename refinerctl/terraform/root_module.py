"""A stack's root module in an environment: which Terraform, on which files, with which state."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError, RefusedError, Terminated, UsageError
from refinerctl.layout import Layout
from refinerctl.terraform.events import HEAD_BYTES, StateVersion
from refinerctl.terraform.hcl import load_values
from refinerctl.terraform.losses import tainted
from refinerctl.terraform.runner import Terraform
from refinerctl.terraform.unknown_names import refuse_unknown_names

# The variable of the stacks for a role that terraform assumes by itself.
_ROLE = "assume_role"
_ERRORED_STATE = "errored.tfstate"

_PLAN_FOLDER = "plan-"
_JUST_MADE_SECONDS = 60  # created by another run, which is about to lock it


@dataclass(frozen=True)
class RootModule:
    """The root module of stack `name` with the values of environment `env`. `init_arguments` lead to its state.

    `location` is where a plan would be applied: account, region and environment. `role` is the one whose credentials
    `terraform` has.
    """

    env: str
    name: str
    terraform: Terraform
    layout: Layout
    init_arguments: Sequence[str] = ()
    location: str = ""
    role: str | None = None

    @property
    def var_file(self) -> Path:
        """The environment's values for this stack; need not exist."""
        return self.layout.values_file(self.env, self.name)

    def check_values(self) -> None:
        """Raises RefusedError if the environment's values have unknown variables or attributes."""
        refuse_unknown_names(self.var_file, self.layout.root_module(self.name))

    def init(self) -> None:
        """`terraform init` with the environment's state, if anything has changed since the last one."""
        layout = self.layout
        roots = [layout.root_module(self.name), layout.modules, layout.backend_file(self.env)]
        self.terraform.init(*self.init_arguments, configuration=configuration_digest(roots, layout.root))

    def outputs(self) -> tuple[dict[str, Any], frozenset[str]]:
        """Its outputs by name, and the names of the sensitive ones, after init."""
        self.init()
        return self.terraform.outputs()

    def prepare(self) -> None:
        """Before a plan: init. Raises RefusedError if an apply has left a state that it could not save."""
        self.init()
        left = next((path for path in self._errored_states() if path.exists()), None)
        if left is None:
            return
        with left.open("rb") as file:
            errored = StateVersion.read(file.read(HEAD_BYTES))
        now = self.terraform.state_version()
        if now.lineage and now.lineage != errored.lineage:
            self.terraform.tell(f"{left} belongs to another state, and is ignored")
            return
        raise RefusedError(f"{left} holds the state of an apply that could not save it", hint=self.how_to_push(left))

    def check_state(self, planned: StateVersion) -> None:
        """Raises RefusedError if the state is not the one that a plan was made against."""
        if (now := self.terraform.state_version()) != planned:
            raise RefusedError(
                f"the state has changed since the plan was made: it was at serial {planned.serial}, now {now.serial}",
                hint="Another deployment has finished meanwhile. Make a new plan and review it.",
            )

    def _errored_states(self) -> tuple[Path, Path]:
        """Where Terraform leaves a state that it could not save, and where that is kept.

        Terraform leaves it in the module, which all environments share: there it could be taken for another's.
        """
        return self.terraform.module / _ERRORED_STATE, self.terraform.data_dir / _ERRORED_STATE

    def apply(self, plan: Path, progress: Progress, resume: str, created: Sequence[str] = ()) -> None:
        """Apply exactly `plan`. An interrupt says which command continues: `resume`.

        `created` are the addresses that the plan creates.

        An error or an interrupt also says where a state is that could not be saved.
        """

        def show(done: int, total: int, address: str) -> None:
            progress.update(f"stack {self.name}: {done} of {total} resources  {address}")

        left, kept = self._errored_states()
        before = _mtime(left)  # one that existed before is not this run's
        try:
            self.terraform.apply_plan(plan, show)
        except (RefinerctlError, KeyboardInterrupt, Terminated) as error:
            is_left = _mtime(left) not in (None, before)
            if is_left:
                left.chmod(0o600)
                shutil.move(left, kept)
            if not isinstance(error, RefinerctlError):
                if is_left:
                    said = f"the state could not be saved, and is in {kept}. {self.how_to_push(kept)}"
                else:
                    said = f"what was done so far is in the state; {self._how_to_continue(resume, created)}"
                self.terraform.tell(said)
            elif is_left:
                message = f"{error.message}. Its state could not be saved, and is in {kept}"
                raise RefinerctlError(message, hint=self.how_to_push(kept)) from error
            raise

    def _how_to_continue(self, resume: str, created: Sequence[str]) -> str:
        """The hint with command `resume`, which accepts the replacement of what was created only in part."""
        try:
            partial = sorted(set(tainted(self.terraform.show_state())) & set(created))
        except RefinerctlError:
            partial = []  # the next plan names them
        options = "".join(f" --allow-destroy {shlex.quote(address)}" for address in partial)
        why = "; it creates again what was created only in part" if partial else ""
        return f"to continue, run `{resume}{options}`{why}"

    def how_to_push(self, state: Path) -> str:
        """The hint for an errored.tfstate."""
        terraform = self.terraform
        places = {"TF_DATA_DIR": str(terraform.data_dir)} | {
            name: value
            for name, value in terraform.environment.items()
            if name.startswith("TF_HTTP_") and name != "TF_HTTP_PASSWORD"
        }
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in places.items())
        command = [str(terraform.binary), f"-chdir={terraform.module}", "state", "push", str(state)]
        return (
            f"It is newer than the backend's state. Push it: {variables} {shlex.join(command)}; "
            "then remove the file, and plan again."
        )

    def configuration(self) -> str:
        """The digest of everything in the project that a plan depends on."""
        layout = self.layout
        roots = [layout.root_module(self.name), layout.modules, self.var_file, layout.backend_file(self.env)]
        return configuration_digest(roots, layout.root)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for a plan and its values, readable by its owner only: both may hold secrets.

        Folders that killed runs have left are removed; a folder in use is locked.
        """
        data_dir = self.terraform.data_dir
        data_dir.mkdir(0o700, parents=True, exist_ok=True)
        for left in data_dir.glob(f"{_PLAN_FOLDER}*"):
            _remove_abandoned(left)
        with tempfile.TemporaryDirectory(prefix=_PLAN_FOLDER, dir=data_dir) as name, _locked(Path(name)):
            yield Path(name).resolve()

    def var_files(self, folder: Path, values: Mapping[str, Any]) -> list[Path]:
        """The environment's values, then `values`, written to a file in `folder`: which take precedence.

        Raises UsageError if the environment's values name another role than refinerctl has assumed.
        """
        files = [self.var_file] if self.var_file.is_file() else []
        named = load_values(self.var_file, missing_ok=True).get(_ROLE)
        if isinstance(named, Mapping):
            self._check_role(named.get("role_arn"))
            values = {**values, _ROLE: None}  # a role need not be allowed to assume itself
        if values:
            ours = folder / "refinerctl.tfvars.json"
            ours.write_text(json.dumps(dict(values)), encoding="utf-8")
            files.append(ours)
        return files

    def _check_role(self, named: Any) -> None:
        if named != self.role:
            raise UsageError(
                f"{self.var_file} names the role {named}, but refinerctl has assumed {self.role or 'no role'}",
                hint=f'Set assume_role = "{named}" in [environments.{self.env}] of refinerctl.toml.',
            )


def _mtime(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def configuration_digest(roots: Iterable[Path], base: Path) -> str:
    """A digest over names (relative to `base`) and contents of the files `roots` and of all files in folders of them.

    What Terraform itself leaves in a root module does not count, nor a file that does not exist.
    """
    digest = hashlib.sha256()
    for path in sorted({file for root in roots for file in _files(root)}):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(base).as_posix()}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    elif root.is_dir():
        for path in root.rglob("*"):
            inside = path.relative_to(root).parts
            if ".terraform" not in inside and ".tfstate" not in path.name and path.is_file():
                yield path


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
    with contextlib.suppress(OSError), _locked(folder) as is_free:  # another run may remove it concurrently
        if is_free and time.time() - folder.stat().st_mtime > _JUST_MADE_SECONDS:
            shutil.rmtree(folder)
