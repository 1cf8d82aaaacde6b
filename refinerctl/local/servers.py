"""The servers that a local environment has started. One that ends is started again, as AWS does."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from refinerctl.embedded import Instance, ServerStatus
from refinerctl.errors import RefinerctlError

POLL_SECONDS = 0.5
log = logging.getLogger(__name__)


class LocalServer(Protocol):
    """A process on this machine; `endpoint` is its address without credentials, `pid` None if it does not run."""

    @property
    def endpoint(self) -> str: ...

    @property
    def pid(self) -> int | None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


S = TypeVar("S", bound=LocalServer)


class LocalServers:
    """Starts and stops servers, each with a folder of its own; `on_change` is told of each change."""

    def __init__(self, instance: Instance, on_change: Callable[[list[ServerStatus]], None]) -> None:
        self._instance = instance
        self._on_change = on_change
        self._lock = threading.Lock()
        self._running: dict[str, LocalServer] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="servers", daemon=True).start()

    def start(self, kind: str, name: str, start: Callable[[Path, Path], S]) -> S:
        """Start a server with a folder and a log file; one log for all of a kind. Raises what `start` raises."""
        key = f"{kind}-{re.sub(r'[^A-Za-z0-9_-]', '_', name)}"
        server = start(self._instance.temporary / "servers" / key, self._instance.log(kind))
        with self._lock:
            self._running[key] = server
        self._report()
        log.info("%s: %s", key, server.endpoint)
        return server

    def stop(self, server: LocalServer) -> None:
        with self._lock:
            self._running = {key: running for key, running in self._running.items() if running is not server}
        server.stop()
        self._report()

    def close(self) -> None:
        """Stop all."""
        self._closed.set()
        with self._lock:
            running, self._running = list(self._running.values()), {}
        for server in running:
            server.stop()

    def _watch(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            with self._lock:
                ended = {key: server for key, server in self._running.items() if server.pid is None}
            for key, server in ended.items():
                self._restart(key, server)

    def _restart(self, key: str, server: LocalServer) -> None:
        log.warning("%s ended; starting it again", key)
        try:
            server.start()
        except (RefinerctlError, OSError) as error:  # a full disk, too: the next attempt follows
            log.error("%s: %s", key, error)  # noqa: TRY400 - the message says it all
        with self._lock:
            unwanted = self._running.get(key) is not server
        if unwanted:
            server.stop()
        else:
            self._report()

    def _report(self) -> None:
        with self._lock:
            running = [ServerStatus(key, server.endpoint, server.pid) for key, server in self._running.items()]
        self._on_change(running)
