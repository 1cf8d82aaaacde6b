"""A server of Terraform states over HTTP, with GitLab's semantics.

https://docs.gitlab.com/user/infrastructure/iac/terraform_state/; 404 where there is no state (GitLab's 204 for one that
is locked but was never written), 409 with the holder's lock where it is locked, 401 and 403 without the right login.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

USER = "gitlab-ci-token"
PASSWORD = "job-token-1234"
PROJECT = "42"
REQUIRED_LOCK_INFO = ("ID", "Operation", "Info", "Who", "Version", "Created", "Path")


@dataclass
class StateServer:
    """`states` and `locks` by name; `requests` are (method, path with query); `fail` answers a method with a status.

    `before` is called with the method before each answer, and may delay it.
    """

    api_url: str
    states: dict[str, bytes] = field(default_factory=dict)
    locks: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    fail: dict[str, int] = field(default_factory=dict)
    before: Callable[[str], object] = lambda _: None
    mutex: threading.RLock = field(default_factory=threading.RLock)

    def address(self, name: str) -> str:
        return f"{self.api_url}/projects/{PROJECT}/terraform/state/{name}"

    def environment(self) -> dict[str, str]:
        """The variables of a GitLab job in the project."""
        return {"CI_API_V4_URL": self.api_url, "CI_PROJECT_ID": PROJECT, "CI_JOB_TOKEN": PASSWORD}

    def state(self, name: str) -> Any:
        return json.loads(self.states[name])

    def lock(self, name: str, **info: str) -> None:
        """Lock a state as another user."""
        self.locks[name] = dict.fromkeys(REQUIRED_LOCK_INFO, "") | {"ID": "theirs", "Who": "somebody@else"} | info


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        states = self.server.states
        states.before(self.command)
        with states.mutex:
            states.requests.append((self.command, self.path))
            status, answer = states.fail.get(self.command, 0), b""
            if not status:
                status, answer = self._answer(states, body)
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="GitLab"')
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = do_PUT = _do  # noqa: N815 - the base class's names

    def _answer(self, states: StateServer, body: bytes) -> tuple[int, bytes]:
        login = self.headers.get("Authorization", "").removeprefix("Basic ")
        if not login:
            return 401, b""
        if base64.b64decode(login).decode() != f"{USER}:{PASSWORD}":
            return 403, b""
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.split("/")]
        if parts[:7] != ["", "api", "v4", "projects", PROJECT, "terraform", "state"]:
            return 404, b""
        if parts[8:] == ["lock"]:
            return self._lock(states, parts[7], body)
        return self._state(states, parts[7], body, parse_qs(url.query).get("ID", [""])[0])

    def _state(self, states: StateServer, name: str, body: bytes, lock_id: str) -> tuple[int, bytes]:
        lock = states.locks.get(name)
        if self.command == "GET":
            if name in states.states:
                return 200, states.states[name]
            return (204 if lock else 404), b""
        if lock and lock["ID"] != lock_id:
            return 409, json.dumps(lock).encode()
        if self.command == "DELETE":
            return (200 if states.states.pop(name, None) else 404), b""
        if json.loads(body)["serial"] <= json.loads(states.states.get(name, b'{"serial": -1}'))["serial"]:
            return 422, b""  # a version that it has
        states.states[name] = body
        return 200, b""

    def _lock(self, states: StateServer, name: str, body: bytes) -> tuple[int, bytes]:
        info = json.loads(body or b"{}")
        lock = states.locks.get(name)
        if self.command == "POST":
            if any(key not in info for key in REQUIRED_LOCK_INFO):
                return 400, b""
            if lock and lock["ID"] != info["ID"]:
                return 409, json.dumps(lock).encode()
            states.locks[name] = info
            return 200, json.dumps(info).encode()
        if lock and info.get("ID") not in (None, lock["ID"]):
            return 409, b""
        states.locks.pop(name, None)
        return 200, b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states = StateServer(f"http://127.0.0.1:{self.server_port}/api/v4")


@contextmanager
def state_server() -> Iterator[StateServer]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.states
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
