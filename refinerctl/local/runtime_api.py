"""The Lambda Runtime API for one execution environment.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Each environment has a server of its own: the API has no
function name in its paths, and AWS's runtime clients are given a host and a port only.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BASE = "/2018-06-01/runtime"
HOST = "127.0.0.1"
POLL_SECONDS = 0.05  # how soon a server notices that it is to stop


@dataclass(frozen=True)
class Outcome:
    """The result of an invocation: the handler's JSON, or Lambda's error document."""

    payload: bytes
    error_type: str | None = None

    @property
    def ok(self) -> bool:
        return self.error_type is None


def failure(error_type: str, message: str) -> Outcome:
    """A failed invocation in Lambda's form: `{"errorType", "errorMessage"}`."""
    return Outcome(json.dumps({"errorType": error_type, "errorMessage": message}).encode(), error_type)


@dataclass
class Invocation:
    """An event for the handler. `deadline_ms` is in milliseconds since 1970."""

    request_id: str
    event: bytes
    deadline_ms: int
    function_arn: str
    outcome: Future[Outcome] = field(default_factory=Future)

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome unless it is set: a response may race with the deadline."""
        with contextlib.suppress(InvalidStateError):
            self.outcome.set_result(outcome)


class RuntimeApi:
    """Gives invocations to one runtime client and takes its answers."""

    def __init__(self) -> None:
        self.initialized = threading.Event()
        self.init_error: Outcome | None = None
        self._next: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._running: Invocation | None = None
        self._server = ThreadingHTTPServer((HOST, 0), self._handler_class())
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="runtime-api", daemon=True
        ).start()

    @property
    def address(self) -> str:
        """The value of AWS_LAMBDA_RUNTIME_API."""
        return f"{HOST}:{self._server.server_port}"

    def submit(self, invocation: Invocation) -> None:
        self._next.put(invocation)

    def close(self) -> None:
        self._next.put(None)
        self._server.shutdown()
        self._server.server_close()

    def take(self) -> Invocation | None:
        """Wait for the next invocation; None when the environment is closed."""
        self.initialized.set()
        self._running = self._next.get()
        return self._running

    def settle(self, request_id: str, outcome: Outcome) -> bool:
        """Record an answer; return False if it is not for the running invocation."""
        running = self._running
        if running is None or running.request_id != request_id:
            return False
        running.settle(outcome)
        return True

    def fail_init(self, outcome: Outcome) -> None:
        self.init_error = outcome
        self.initialized.set()

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(_Handler):
            runtime = api

        return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    runtime: RuntimeApi

    def do_GET(self) -> None:
        if self.path != f"{BASE}/invocation/next":
            self._answer(404)
            return
        invocation = self.runtime.take()
        if invocation is None:
            self.close_connection = True
            return
        self._answer(
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.removeprefix(BASE).strip("/").split("/")
        match parts:
            case ["init", "error"]:
                self.runtime.fail_init(Outcome(body, _error_type(body)))
                self._answer(202)
            case ["invocation", request_id, "response"]:
                self._answer(202 if self.runtime.settle(request_id, Outcome(body)) else 400)
            case ["invocation", request_id, "error"]:
                self._answer(202 if self.runtime.settle(request_id, Outcome(body, _error_type(body))) else 400)
            case _:
                self._answer(404)

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Not logged: the function's own output tells more."""


def _error_type(body: bytes) -> str:
    try:
        return str(json.loads(body)["errorType"])
    except (ValueError, KeyError, TypeError):
        return "Error"
