"""How servers of a local environment run: as processes of this machine, or in containers if it has no such program."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from refinerctl.docker_engine import DockerEngine, RunningContainer
from refinerctl.embedded import MARKER, Instance
from refinerctl.errors import RefinerctlError

RABBITMQ_IMAGE = "rabbitmq:3.13-management"
VALKEY_IMAGE = "valkey/valkey:8"


class RunningServer(Protocol):
    """A started server; `kill` ends it with all that it has started."""

    @property
    def pid(self) -> int: ...

    @property
    def running(self) -> bool: ...

    def kill(self) -> None: ...


class ServerProgram(Protocol):
    """What starts a server. It works in `folder`, whose path is the same for the server, and appends to `log`."""

    def start(self, arguments: list[str], environment: Mapping[str, str], folder: Path, log: Path) -> RunningServer: ...


@dataclass(frozen=True)
class InstalledProgram:
    """A program of this machine. It gets PATH in addition to its variables."""

    path: str

    def start(self, arguments: list[str], environment: Mapping[str, str], folder: Path, log: Path) -> RunningServer:
        inherited = {name: os.environ[name] for name in ("PATH", MARKER) if name in os.environ}
        with log.open("ab") as output:
            process = subprocess.Popen(
                [self.path, *arguments],
                env=inherited | dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _ServerProcess(process)


class _ServerProcess:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        import psutil  # of the extra `local`; `local down` imports this module without it

        if not self.running:
            return
        tree = psutil.Process(self.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        for member in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(tree, timeout=5)


@dataclass(frozen=True)
class ContainerProgram:
    """A program of a container image; the engine downloads the image if it is missing."""

    image: str
    program: str

    def start(self, arguments: list[str], environment: Mapping[str, str], folder: Path, log: Path) -> RunningServer:
        instance = os.environ.get(MARKER)
        if instance is not None:
            Instance(Path(instance)).containers.touch()

        def write(line: str) -> None:
            with log.open("a", encoding="utf-8") as output:
                output.write(f"{line}\n")

        return _ServerContainer(
            DockerEngine().start(
                self.image,
                (MARKER, instance or str(folder)),
                write,
                # Not by the image's own script, which would change to a user that may not read the folder.
                entrypoint=[self.program],
                command=arguments,
                environment=dict(environment),
                user=f"{os.getuid()}:{os.getgid()}",
                working_dir=str(folder),
                volumes={str(folder): {"bind": str(folder), "mode": "rw"}},
            )
        )


class _ServerContainer:
    def __init__(self, container: RunningContainer) -> None:
        self._container = container
        self._killed = False
        self.pid = container.pid()

    @property
    def running(self) -> bool:
        return not self._killed and self._container.ended() is None

    def kill(self) -> None:
        self._killed = True
        self._container.kill()


def docker_answers() -> bool:
    """Whether servers can run in containers."""
    try:
        DockerEngine().client()
    except RefinerctlError:
        return False
    return True


def remove_containers(instance: Instance) -> int:
    """Remove all containers of an environment, also those of a killed supervisor; returns their number."""
    if not instance.containers.exists():
        return 0
    try:
        removed = DockerEngine().remove_labelled((MARKER, str(instance.directory)))
    except RefinerctlError:  # no engine, no containers; the next attempt finds those that a stopped engine starts again
        return 0
    instance.containers.unlink(missing_ok=True)
    return removed
