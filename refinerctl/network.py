"""Connections at the start of a command: without network it ends after two short attempts, not after minutes."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from refinerctl.parallel import Background

# Attempts to connect to a server that has not answered yet, and seconds for each, with the DNS lookup.
START_ATTEMPTS = 2
QUICK_S = 1.25
# If no server has answered after SILENT_S, each further server gets one attempt of BRIEF_S.
SILENT_S = 2.5
BRIEF_S = 0.75
# After this time a command has done work that a failure would waste: it retries for longer.
START_S = 20.0

Address = tuple[str, int]


class Network:
    """Which servers have answered this process, and whether it has just begun to connect."""

    def __init__(self) -> None:
        self._answered: set[str] = set()
        self._began: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether no server has answered yet."""
        return not self._answered

    @property
    def attempts(self) -> int:
        """The number of attempts to connect to a server at the start of a command."""
        return 1 if self._is_late else START_ATTEMPTS

    @property
    def _is_late(self) -> bool:
        return self.is_silent and self._passed_s() > SILENT_S

    def answered(self, url: str) -> None:
        """Remember that this server has sent a response."""
        self._answered.add(_key(url))

    def is_starting(self, url: str) -> bool:
        """Whether a server gets only `attempts`: it has not answered yet, and the command has just started."""
        return _key(url) not in self._answered and self._passed_s() < START_S

    def connect(
        self, address: Address, timeout: Any = None, source_address: Any = None, socket_options: Any = None
    ) -> socket.socket:
        """Like urllib3's create_connection; for a server that has not answered yet within QUICK_S for all addresses."""
        host, port = address[0].strip("[]"), address[1]
        timeout = timeout if isinstance(timeout, int | float) else None
        if self.is_starting(f"//[{host}]:{port}" if ":" in host else f"//{host}:{port}"):
            limit_s = BRIEF_S if self._is_late else QUICK_S
            connection = _connect_within(host, port, min(limit_s, timeout or limit_s), source_address)
            connection.settimeout(timeout)
        else:
            connection = socket.create_connection((host, port), timeout, source_address)
        for option in socket_options or ():
            connection.setsockopt(*option)
        return connection

    def _passed_s(self) -> float:
        self._began = self._began or time.monotonic()
        return time.monotonic() - self._began


def _key(url: str) -> str:
    """Host and port."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (80 if parts.scheme == 'http' else 443)}"


def _connect_within(host: str, port: int, limit_s: float, source_address: Any) -> socket.socket:
    """A connection to the first address of a host that accepts it. Each one but the last gets half of the time left."""
    deadline = time.monotonic() + limit_s
    *others, last = _resolve(host, port, limit_s)
    for address in others:
        with contextlib.suppress(OSError):
            return socket.create_connection(address, max(0.05, (deadline - time.monotonic()) / 2), source_address)
    return socket.create_connection(last, max(0.05, deadline - time.monotonic()), source_address)


def _resolve(host: str, port: int, limit_s: float) -> list[Address]:
    """The addresses of a host. In a thread: a DNS server that does not answer takes ten seconds and more."""
    lookup = Background(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    try:
        return [(str(found[4][0]), port) for found in lookup.result(limit_s)]
    except TimeoutError:
        raise socket.gaierror(socket.EAI_AGAIN, "no answer from the DNS server") from None
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "invalid host name") from None


NETWORK = Network()


def install() -> None:
    """Make urllib3 create all connections with `connect`: those of botocore, its credential providers, and our own.

    botocore has no setting for it: its timeout applies to each address of a host, and not to the DNS lookup.
    """
    import urllib3.util.connection

    urllib3.util.connection.create_connection = NETWORK.connect
