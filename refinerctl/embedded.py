"""The local environment: its folder, lock and status, and the variables that point Terraform and other tools at it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from refinerctl.errors import RefinerctlError
from refinerctl.files import write_text

if TYPE_CHECKING:
    from refinerctl.config import Settings
    from refinerctl.terraform.runner import Terraform

# Set for every process of an instance, so that those of a killed supervisor are found without relying on pids.
MARKER = "REFINERCTL_LOCAL_INSTANCE"
# The emulator forwards a function's invocations to this URL if it is among the function's environment variables.
PROXY_VARIABLE = "MINISTACK_LAMBDA_PROXY_URL"
# Terraform state is in the emulator's own S3 and is deleted with it.
STATE_BUCKET = "terraform-state"
NOT_INSTALLED = "pip install 'refinerctl[local]' installs it."


@dataclass(frozen=True)
class ServerStatus:
    """A server that the environment has started. `address` has no credentials; `pid` None: it does not run."""

    name: str
    address: str
    pid: int | None


@dataclass(frozen=True)
class LocalStatus:
    """A local environment: `state` is `down`, `starting`, `up` or `failed`; `stacks` are those applied to it.

    `endpoints` are those of services which another server than the emulator answers, by boto3's name of the service.
    """

    state: str
    directory: Path
    endpoint_url: str | None = None
    engine: str | None = None
    supervisor_pid: int | None = None
    emulator_pid: int | None = None
    functions_url: str | None = None
    started_at: datetime | None = None
    stacks: tuple[str, ...] = ()
    detail: str | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    servers: tuple[ServerStatus, ...] = ()


@dataclass(frozen=True)
class Instance:
    """The folder of a local environment. Its supervisor holds the lock while it runs; only it writes the state."""

    directory: Path

    @property
    def state_file(self) -> Path:
        return self.directory / "state.json"

    @property
    def applied_file(self) -> Path:
        """Written after Terraform has applied the stacks: the environment is up."""
        return self.directory / "applied.json"

    @property
    def containers(self) -> Path:
        """A file that exists while the environment may have containers."""
        return self.directory / "containers"

    @property
    def temporary(self) -> Path:
        return self.directory / "tmp"

    def log(self, name: str) -> Path:
        """The log file of `emulator`, `functions`, `supervisor`, `terraform`, `rabbitmq` or `redis`."""
        return self.directory / "logs" / f"{name}.log"

    def prepare(self) -> None:
        """Create the folders that a run needs, and empty the logs of the previous one."""
        self.log("supervisor").parent.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        for name in ("emulator", "functions", "terraform", "rabbitmq", "redis"):
            self.log(name).write_bytes(b"")

    @contextlib.contextmanager
    def supervised(self) -> Iterator[bool]:
        """Hold the lock; yields False if another supervisor has it. Retries while others only test it."""
        with self._open_lock() as lock:
            for _ in range(20):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.05)
                else:
                    lock.truncate(0)
                    lock.write(str(os.getpid()))
                    lock.flush()
                    yield True
                    return
            yield False

    def is_supervised(self) -> bool:
        """Whether a supervisor runs: only a running process can hold the lock, whatever the state file says."""
        if not self.directory.is_dir():
            return False
        with self._open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def _open_lock(self) -> IO[str]:
        self.directory.mkdir(parents=True, exist_ok=True)
        return (self.directory / "lock").open("a", encoding="utf-8")

    def supervisor_pid(self) -> int | None:
        """The running supervisor's pid, from the file that it has locked; None without one."""
        if not self.is_supervised():
            return None
        with contextlib.suppress(OSError, ValueError):
            return int((self.directory / "lock").read_text(encoding="utf-8"))
        return None

    def write_state(self, **state: Any) -> None:
        """Called by the supervisor only; readers compare its pid with the one in the lock."""
        write_text(self.state_file, json.dumps({"supervisor_pid": os.getpid(), **state}))

    def write_applied(self, stacks: tuple[str, ...]) -> None:
        """Add `stacks` to those that are applied."""
        applied = list(dict.fromkeys((*(self._applied() or ()), *stacks)))
        write_text(self.applied_file, json.dumps({"stacks": applied}))

    def _applied(self) -> list[str] | None:
        applied: list[str] | None = _read_json(self.applied_file).get("stacks")
        return applied

    def status(self) -> LocalStatus:
        """The current status. A state file without a running supervisor is stale and means down."""
        state = _read_json(self.state_file)
        if not self.is_supervised():
            return LocalStatus("down", self.directory, detail=_stale(state))
        if state.get("supervisor_pid") != self.supervisor_pid():  # left by an earlier one: this one is just starting
            return LocalStatus("starting", self.directory)
        applied, phase, started = self._applied(), state.get("phase", "starting"), state.get("started_at")
        if phase == "running":
            phase = "starting" if applied is None else "up"
        as_written = ("endpoint_url", "engine", "supervisor_pid", "emulator_pid", "functions_url", "detail")
        return LocalStatus(
            phase,
            self.directory,
            started_at=datetime.fromisoformat(started) if started else None,
            stacks=tuple(applied or ()),
            endpoints=state.get("endpoints", {}),
            servers=tuple(ServerStatus(**server) for server in state.get("servers", ())),
            **{name: state.get(name) for name in as_written},
        )

    def clear(self) -> None:
        """Delete what only a running environment needs; its logs stay."""
        for path in (self.state_file, self.applied_file):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def kill_orphans(self) -> int:
        """Kill every other process of this instance; returns how many there were."""
        try:
            import psutil
        except ImportError as error:
            raise RefinerctlError(
                "the packages of the local environment are not installed", hint=NOT_INSTALLED
            ) from error

        killed = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.environ().get(MARKER) == str(self.directory):
                    process.kill()
                    killed.append(process)
        psutil.wait_procs(killed, timeout=5)
        return len(killed)


def embedded_terraform(instance: Instance, settings: Settings, stack: str) -> Terraform:
    """Terraform for the root module of `stack` in a running environment."""
    from refinerctl.aws.session import embedded_environment
    from refinerctl.terraform.runner import Terraform

    status = instance.status()
    return Terraform(
        module=settings.layout.root_module(stack),
        data_dir=instance.directory / "terraform" / stack,
        work_folder=settings.work_folder,
        log=instance.log("terraform"),
        environment={
            **embedded_environment(settings.embedded_region, status.endpoint_url or "", status.endpoints),
            "TF_VAR_function_environment": json.dumps({PROXY_VARIABLE: status.functions_url}),
            MARKER: str(instance.directory),
        },
        embedded=True,
    )


def _stale(state: dict[str, Any]) -> str | None:
    if state.get("phase") == "failed":
        return str(state.get("detail"))
    return "its supervisor was killed; run `refinerctl local down` to clean up" if state else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
