"""A Redis or Valkey server of this machine: on 127.0.0.1, in memory only."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.local.emulator import free_port, port_is_free
from refinerctl.local.server_programs import (
    VALKEY_IMAGE,
    ContainerProgram,
    InstalledProgram,
    RunningServer,
    ServerProgram,
    docker_answers,
)

START_SECONDS = 30.0
PROGRAMS = ("valkey-server", "redis-server")
INSTALL = (
    "Install it: `apt-get install redis-server`, or `brew install valkey`; or start a Docker engine (extra `docker`)."
)


@dataclass
class RedisServer:
    """A server without persistence: a restart loses its keys. `password` "": none is needed."""

    folder: Path
    password: str = field(default="", repr=False)
    log: Path = Path("redis.log")
    port: int = 0

    def __post_init__(self) -> None:
        self.log = self.folder / self.log  # an absolute path remains
        self._program = find_redis()
        self._process: RunningServer | None = None

    @property
    def endpoint(self) -> str:
        """The address without the password."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://:{quote(self.password, safe='')}@127.0.0.1:{self.port}" if self.password else self.endpoint

    @property
    def pid(self) -> int | None:
        """The process; None if it does not run."""
        return self._process.pid if self._process is not None and self._process.running else None

    def start(self) -> None:
        """Start it and return when it answers. Raises RefinerctlError if it does not."""
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        self.port = self.port or free_port()
        configuration = self.folder / "redis.conf"
        configuration.touch(0o600)
        configuration.write_text(self._configuration(), encoding="utf-8")
        self.kill()  # a container that has ended is still there
        self._process = self._program.start([str(configuration)], {}, self.folder, self.log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self._process.running or time.monotonic() > deadline:
                self.stop()
                raise RefinerctlError("Redis did not start", hint=f"See {self.log}.")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it, as a crash does; the next `start` has the same port and no keys."""
        if self._process is not None:
            self._process.kill()

    stop = kill

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def _configuration(self) -> str:
        lines = ["bind 127.0.0.1", f"port {self.port}", f"dir {_quoted(str(self.folder))}", 'save ""', "appendonly no"]
        # A title would overwrite the environment variables by which processes of a killed supervisor are found.
        lines.append("set-proc-title no")
        if self.password:
            lines.append(f"requirepass {_quoted(self.password)}")
        return "\n".join([*lines, ""])


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def find_redis() -> ServerProgram:
    """The installed server, else its image. Raises NotFoundError, which says how to install it."""
    for name in PROGRAMS:
        if (program := shutil.which(name)) is not None:
            return InstalledProgram(program)
    if docker_answers():
        return ContainerProgram(VALKEY_IMAGE, "valkey-server")
    raise NotFoundError("neither Redis nor Valkey is installed", hint=INSTALL)


def start_redis(folder: Path, *, password: str = "", log: Path = Path("redis.log")) -> RedisServer:
    """Start a server with its files in `folder`, on a free port. `log` is relative to the folder.

    Raises NotFoundError if neither Redis nor Valkey is installed, RefinerctlError if it does not start.
    """
    while True:
        server = RedisServer(folder, password, log)
        try:
            server.start()
        except RefinerctlError:
            if port_is_free(server.port):  # else another process has bound the free port in the meantime
                raise
        else:
            return server
