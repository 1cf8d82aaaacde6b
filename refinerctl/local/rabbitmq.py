"""A RabbitMQ server of this machine: on 127.0.0.1, with its data in one folder."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.local.emulator import free_port, port_is_free
from refinerctl.local.server_programs import (
    RABBITMQ_IMAGE,
    ContainerProgram,
    InstalledProgram,
    RunningServer,
    ServerProgram,
    docker_answers,
)

START_SECONDS = 180.0  # 8 s on an idle machine
PORTS = ("amqp", "api", "amqps", "https", "distribution", "epmd")
# Debian's /usr/sbin/rabbitmq-server runs the server as another user, in /var/lib: what it wraps is used instead.
DEBIAN = Path("/usr/lib/rabbitmq/lib")
# Homebrew's folder of servers, which is not on PATH on all Macs.
HOMEBREW = ("/opt/homebrew/sbin", "/usr/local/sbin")
INSTALL = (
    "Install it: `apt-get install rabbitmq-server`, or `brew install rabbitmq`; "
    "or start a Docker engine (extra `docker`)."
)


@dataclass(frozen=True)
class ServerCertificate:
    """Files of a server's TLS certificate, its key, and the certificate authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


@dataclass
class RabbitMQServer:
    """A RabbitMQ node with the management plugin and one user, an administrator of virtual host `/`.

    `kill` and `start` restart it with the same data and ports. `password` is the one of the first start.
    """

    folder: Path
    username: str
    password: str = field(repr=False)
    certificate: ServerCertificate | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    log: Path = Path("rabbitmq.log")
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = self.folder / self.log  # an absolute path remains
        self._programs = find_rabbitmq()
        self._epmd: RunningServer | None = None
        self._node: RunningServer | None = None
        self._log_start = 0

    @property
    def endpoint(self) -> str:
        """The AMQP address without credentials."""
        return f"amqp://127.0.0.1:{self.ports['amqp']}"

    @property
    def amqp_url(self) -> str:
        return f"amqp://{self._credentials}@127.0.0.1:{self.ports['amqp']}/%2F"

    @property
    def amqps_url(self) -> str:
        """Only with a certificate."""
        return f"amqps://{self._credentials}@localhost:{self.ports['amqps']}/%2F"

    @property
    def api_url(self) -> str:
        """The address of the management API, without credentials."""
        return f"http://127.0.0.1:{self.ports['api']}"

    @property
    def api_tls_url(self) -> str:
        """Only with a certificate."""
        return f"https://localhost:{self.ports['https']}"

    @property
    def _credentials(self) -> str:
        return f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"

    @property
    def pid(self) -> int | None:
        """The node's process; None if it does not run."""
        return self._node.pid if self._node is not None and self._node.running else None

    def start(self) -> None:
        """Start it and return when it accepts connections. Raises RefinerctlError with the end of its log."""
        first = not (self.folder / "mnesia").exists()
        for port in PORTS:
            self.ports.setdefault(port, free_port())
        self._write_configuration(first=first)
        environment = self._environment()
        try:
            self.kill()  # a container that has ended is still there
            with self.log.open("ab") as log:
                self._log_start = log.tell()
            if self._programs.epmd is not None:
                self._ensure_port_mapper(self._programs.epmd, environment)
            self._node = self._programs.server.start([], environment, self.folder, self.log)
            self._wait_until_ready(self._node)
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        """Kill the node, as a crash does; its data and ports stay for the next `start`."""
        if self._node is not None:
            self._node.kill()

    def stop(self) -> None:
        """End it with all its processes. Nothing waits for an orderly end: the data is deleted anyway."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd = None

    def _ensure_port_mapper(self, epmd: InstalledProgram, environment: Mapping[str, str]) -> None:
        """Start Erlang's port mapper; return when it answers: a node that finds none starts one that outlives it."""
        if self._epmd is not None and self._epmd.running:
            return
        port = self.ports["epmd"]
        arguments = ["-port", str(port), "-address", "127.0.0.1"]
        self._epmd = epmd.start(arguments, environment, self.folder, self.log)
        deadline = time.monotonic() + START_SECONDS
        while port_is_free(port):
            if not self._epmd.running or time.monotonic() > deadline:
                raise RefinerctlError("Erlang's port mapper epmd did not start", hint=f"See {self.log}.")
            time.sleep(0.02)

    def _wait_until_ready(self, node: RunningServer) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not node.running:
                raise RefinerctlError(f"RabbitMQ exited during startup: {self._first_error()}", hint=f"See {self.log}.")
            if not port_is_free(self.ports["amqp"]) and self._api_answers():
                return
            time.sleep(0.1)
        raise RefinerctlError(f"RabbitMQ did not start within {START_SECONDS:.0f} s", hint=f"See {self.log}.")

    def _api_answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["api"], timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/api/overview")
            return connection.getresponse().status == http.client.UNAUTHORIZED
        return False

    def _first_error(self) -> str:
        """The first logged error; later ones are only its consequences."""
        lines = self.log.read_bytes()[self._log_start :].decode(errors="replace").splitlines()
        return next((text for line in lines if (text := line.partition("[error]")[2])), "no error was logged").strip()

    def _write_configuration(self, *, first: bool) -> None:
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{self.ports['amqp']}",
            "management.tcp.ip": "127.0.0.1",
            "management.tcp.port": str(self.ports["api"]),
            "collect_statistics_interval": "1000",  # the management API's counts are this old
            "log.console": "true",
            "log.console.level": "warning",
            "log.file": "false",
            **self._tls_configuration(),
            **self.settings,
        }
        if first:
            # Not on later starts: it would bring back a password that was changed meanwhile. There is no user `guest`.
            lines["load_definitions"] = str(self.folder / "definitions.json")
            self._write("definitions.json", json.dumps(self._definitions()))
        self._write("rabbitmq.conf", "".join(f"{name} = {value}\n" for name, value in lines.items()))
        self._write("enabled_plugins", "[rabbitmq_management].")

    def _tls_configuration(self) -> dict[str, str]:
        if self.certificate is None:
            return {}
        files = {
            "cacertfile": self.certificate.authority,
            "certfile": self.certificate.certificate,
            "keyfile": self.certificate.key,
        }
        return {
            "listeners.ssl.1": f"127.0.0.1:{self.ports['amqps']}",
            "management.ssl.ip": "127.0.0.1",
            "management.ssl.port": str(self.ports["https"]),
            **{f"ssl_options.{name}": str(file) for name, file in files.items()},
            **{f"management.ssl.{name}": str(file) for name, file in files.items()},
        }

    def _definitions(self) -> dict[str, object]:
        # https://www.rabbitmq.com/docs/passwords#this-is-the-algorithm
        salt = secrets.token_bytes(4)
        hashed = base64.b64encode(salt + hashlib.sha256(salt + self.password.encode()).digest()).decode()
        user = {"name": self.username, "password_hash": hashed, "tags": "administrator"}
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "users": [{**user, "hashing_algorithm": "rabbit_password_hashing_sha256"}],
            "vhosts": [{"name": "/"}],
            "permissions": [{"user": self.username, "vhost": "/", **everything}],
        }

    def _write(self, name: str, content: str) -> None:
        path = self.folder / name
        path.touch(0o600)
        path.write_text(content, encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        """Only these variables: the server reads many others, which may be set for another one."""
        folder = self.folder
        return {
            "HOME": str(folder),  # of Erlang's cookie
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),  # none, instead of those of the installation
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_DIST_PORT": str(self.ports["distribution"]),
            # The API's counts of a quorum queue are as old as the tick interval (ms).
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"
            " -rabbit quorum_tick_interval 1000",
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            # The script then replaces itself by the node instead of waiting for it.
            "RUNNING_UNDER_SYSTEMD": "1",
        }


@dataclass(frozen=True)
class RabbitMQPrograms:
    """The server's script, and Erlang's port mapper; None: the server starts one in its container."""

    server: ServerProgram
    epmd: InstalledProgram | None


def find_rabbitmq() -> RabbitMQPrograms:
    """The installed server, else its image. Raises NotFoundError, which says how to install it."""
    debian = sorted(DEBIAN.glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *HOMEBREW))
    server = str(debian[-1]) if debian else shutil.which("rabbitmq-server", path=path)
    if server is None and docker_answers():
        return RabbitMQPrograms(ContainerProgram(RABBITMQ_IMAGE, "rabbitmq-server"), None)
    if server is None:
        raise NotFoundError("RabbitMQ is not installed", hint=INSTALL)
    epmd = shutil.which("epmd")
    if epmd is None:
        raise NotFoundError("epmd, a part of Erlang that RabbitMQ needs, is not on PATH", hint=INSTALL)
    return RabbitMQPrograms(InstalledProgram(server), InstalledProgram(epmd))


def start_rabbitmq(
    folder: Path,
    *,
    username: str = "admin",
    password: str | None = None,
    certificate: ServerCertificate | None = None,
    settings: Mapping[str, str] | None = None,
    log: Path = Path("rabbitmq.log"),
) -> RabbitMQServer:
    """Start a server with its data in `folder`, on free ports; `settings` are additional lines of rabbitmq.conf.

    `log` is relative to the folder.

    Raises NotFoundError if RabbitMQ is not installed, RefinerctlError if it does not start.
    """
    while True:
        given = (username, password or secrets.token_hex(16), certificate, settings or {}, log)
        server = RabbitMQServer(folder, *given)
        try:
            server.start()
        except RefinerctlError:
            # Another process may have bound one of the free ports in the meantime.
            if all(port_is_free(port) for port in server.ports.values()):
                raise
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return server
