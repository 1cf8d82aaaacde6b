"""The folder of an embedded environment: its lock, its state, its logs, and the processes that belong to it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from refinerctl.errors import RefinerctlError
from refinerctl.local.status import LocalStatus

# Every process of an instance carries it, so that orphans of a killed supervisor are found without trusting pids.
MARKER = "REFINERCTL_LOCAL_INSTANCE"


@dataclass(frozen=True)
class Instance:
    """One embedded environment. Its supervisor holds the lock as long as it lives, and alone writes state."""

    directory: Path

    @property
    def state_file(self) -> Path:
        return self.directory / "state.json"

    @property
    def applied_file(self) -> Path:
        """Written once Terraform has applied the stacks: the environment is up."""
        return self.directory / "applied.json"

    @property
    def temporary(self) -> Path:
        return self.directory / "tmp"

    def log(self, name: str) -> Path:
        """The log file of `emulator`, `functions`, `supervisor` or `terraform`."""
        return self.directory / "logs" / f"{name}.log"

    def prepare(self) -> None:
        """Make the folders that a run needs, and empty the logs of the last one."""
        self.log("supervisor").parent.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        for name in ("emulator", "functions", "terraform"):
            self.log(name).write_bytes(b"")

    def open_lock(self) -> IO[str]:
        self.directory.mkdir(parents=True, exist_ok=True)
        return (self.directory / "lock").open("a", encoding="utf-8")

    def is_supervised(self) -> bool:
        """Whether a supervisor lives: only a living process can hold the lock, whatever a file says."""
        if not self.directory.is_dir():
            return False
        with self.open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    @contextlib.contextmanager
    def supervised(self) -> Iterator[bool]:
        """Hold the lock; yields False if another supervisor has it. Waits out those who only look."""
        with self.open_lock() as lock:
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

    def supervisor_pid(self) -> int | None:
        """The living supervisor's pid, from the very file that it holds locked; None without one."""
        if not self.is_supervised():
            return None
        with contextlib.suppress(OSError, ValueError):
            return int((self.directory / "lock").read_text(encoding="utf-8"))
        return None

    def write_state(self, **state: Any) -> None:
        """Only the supervisor does; readers compare its pid with that in the lock."""
        _write_json(self.state_file, {"supervisor_pid": os.getpid(), **state})

    def write_applied(self, stacks: tuple[str, ...]) -> None:
        _write_json(self.applied_file, {"stacks": list(stacks)})

    def status(self) -> LocalStatus:
        """What is there now. A state file without a living supervisor is stale and counts as down."""
        state = _read_json(self.state_file)
        if not self.is_supervised():
            return LocalStatus("down", self.directory, detail=_stale(state))
        applied = _read_json(self.applied_file).get("stacks")
        phase = state.get("phase", "starting")
        started = state.get("started_at")
        if state.get("supervisor_pid") != self.supervisor_pid():  # left by an earlier one: this one is just starting
            return LocalStatus("starting", self.directory)
        return LocalStatus(
            state="up" if phase == "running" and applied is not None else "starting" if phase == "running" else phase,
            directory=self.directory,
            endpoint_url=state.get("endpoint_url"),
            engine=state.get("engine"),
            supervisor_pid=state.get("supervisor_pid"),
            emulator_pid=state.get("emulator_pid"),
            functions_url=state.get("functions_url"),
            started_at=datetime.fromisoformat(started) if started else None,
            stacks=tuple(applied or ()),
            detail=state.get("detail"),
        )

    def clear(self) -> None:
        """Remove what only a running environment needs; logs stay for who wants to know what happened."""
        for path in (self.state_file, self.applied_file):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def kill_orphans(self) -> int:
        """Kill every other process of this instance; returns how many there were."""
        try:
            import psutil
        except ImportError as error:
            raise RefinerctlError(
                "the embedded environment is not installed", hint="pip install 'refinerctl[local]' installs it."
            ) from error

        killed = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.environ().get(MARKER) == str(self.directory):
                    process.kill()
                    killed.append(process)
        psutil.wait_procs(killed, timeout=5)
        return len(killed)


def _stale(state: dict[str, Any]) -> str | None:
    if state.get("phase") == "failed":
        return str(state.get("detail"))
    return "its supervisor was killed; `refinerctl local down` removes what is left" if state else None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all: a reader never sees half a file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
