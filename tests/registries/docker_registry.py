"""Debian's docker-registry, started for tests: without accounts, with basic auth, or behind a token server."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.registries.token_server import TokenServer

START_SECONDS = 15
ATTEMPTS = 3

USER = "operator"
PASSWORD = "correct-horse"
# bcrypt of PASSWORD with the least cost that there is: it is computed anew for every request.
HTPASSWD = f"{USER}:$2y$04$abcdefghijklmnopqrstuuPoaPXzWjiVz4HaNq2LJXksWbO79E.S6\n"


@dataclass
class DockerRegistry:
    """A running registry. `user` and `password` are None if no login is needed."""

    host: str
    folder: Path
    user: str | None = None
    password: str | None = None
    tokens: TokenServer | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def headers(self, repository: str) -> dict[str, str]:
        """What a request needs that may do everything in `repository`."""
        if self.tokens is not None:
            return {"Authorization": self.tokens.authorization(repository)}
        if self.user is not None:
            return {"Authorization": "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()}
        return {}


@contextlib.contextmanager
def docker_registry(
    folder: Path, *, accounts: bool = False, tokens: TokenServer | None = None
) -> Iterator[DockerRegistry]:
    """A registry with its data below `folder`; `accounts`: USER alone, with PASSWORD; `tokens`: who signs them."""
    folder.mkdir(parents=True, exist_ok=True)
    auth: dict[str, Any] = {}
    if accounts:
        (folder / "htpasswd").write_text(HTPASSWD)
        auth = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    if tokens is not None:
        auth = {"token": tokens.auth_section(folder)}
    process, port = _start(folder, auth)
    try:
        user, password = (USER, PASSWORD) if accounts or tokens else (None, None)
        yield DockerRegistry(f"127.0.0.1:{port}", folder, user, password, tokens)
    finally:
        process.terminate()
        process.wait(10)


def _start(folder: Path, auth: Mapping[str, Any]) -> tuple[subprocess.Popen[bytes], int]:
    """Somebody else may take the free port first: then another one."""
    for _ in range(ATTEMPTS):
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        config = folder / "registry.yml"
        config.write_text(json.dumps(_config(folder, port, auth)))  # JSON is YAML, too
        with (folder / "registry.log").open("ab") as log:
            process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=subprocess.STDOUT)
        if _answers(process, port):
            return process, port
        process.kill()
        process.wait()
    raise RuntimeError(f"docker-registry did not start:\n{(folder / 'registry.log').read_text()[-2000:]}")


def _config(folder: Path, port: int, auth: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "one for all uploads"},
        "validation": {"manifests": {"urls": {"allow": ["^https?://"]}}},
        **({"auth": auth} if auth else {}),
    }


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v2/")
            answer = connection.getresponse()
            if answer.status in (200, 401) and answer.getheader("Docker-Distribution-Api-Version"):
                return process.poll() is None
        connection.close()
        time.sleep(0.02)
    return False
