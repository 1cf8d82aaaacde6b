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
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from refinerctl.local.web_guard import GuardedHandler

BASE = "/2018-06-01/runtime"
HOST = "127.0.0.1"
POLL_SECONDS = 0.05  # how soon a server notices that it must stop


@dataclass(frozen=True)
class InvocationResult:
    """The result of an invocation: the handler's JSON, or Lambda's error document."""

    payload: bytes
    error_type: str | None = None

    @property
    def ok(self) -> bool:
        return self.error_type is None


def failure(error_type: str, message: str) -> InvocationResult:
    """A failed invocation in Lambda's form: `{"errorType", "errorMessage"}`."""
    return InvocationResult(json.dumps({"errorType": error_type, "errorMessage": message}).encode(), error_type)


@dataclass
class Invocation:
    """An event for the handler. `deadline_ms` is in milliseconds since 1970."""

    request_id: str
    event: bytes
    deadline_ms: int
    function_arn: str
    answer: Future[InvocationResult] = field(default_factory=Future)

    def settle(self, result: InvocationResult) -> None:
        """Set the result unless it is set: a response may race with the deadline."""
        with contextlib.suppress(InvalidStateError):
            self.answer.set_result(result)


class LoopbackServer(ThreadingHTTPServer):
    """An HTTP server on a free port of 127.0.0.1. `owner` is the object that its handlers work for."""

    daemon_threads = True

    def __init__(self, owner: Any, handler: type[GuardedHandler], name: str) -> None:
        super().__init__((HOST, 0), handler)
        self.owner = owner
        threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name=name, daemon=True).start()

    def server_bind(self) -> None:
        """Without the name of HOST, which HTTPServer asks a name server for: on macOS that may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class RuntimeApi:
    """Gives invocations to one runtime client and takes its answers."""

    def __init__(self) -> None:
        self.initialized = threading.Event()
        self.init_error: InvocationResult | None = None
        self._next: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._running: Invocation | None = None
        self._server = LoopbackServer(self, _RuntimeHandler, "runtime-api")

    @property
    def address(self) -> str:
        """The value of AWS_LAMBDA_RUNTIME_API."""
        return f"{HOST}:{self._server.server_port}"

    def submit(self, invocation: Invocation) -> None:
        self._next.put(invocation)

    def close(self) -> None:
        self._next.put(None)
        self._server.close()

    def take(self) -> Invocation | None:
        """Wait for the next invocation; None when the environment is closed."""
        self.initialized.set()
        self._running = self._next.get()
        return self._running

    def settle(self, request_id: str, result: InvocationResult) -> bool:
        """Record an answer; return False if it is not for the running invocation."""
        running = self._running
        if running is None or running.request_id != request_id:
            return False
        running.settle(result)
        return True

    def fail_init(self, result: InvocationResult) -> None:
        self.init_error = result
        self.initialized.set()


class _RuntimeHandler(GuardedHandler):
    server: LoopbackServer

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        if self.path != f"{BASE}/invocation/next":
            self.answer(404)
            return
        invocation = self.server.owner.take()
        if invocation is None:
            self.close_connection = True
            return
        self.answer(
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
            },
        )

    def do_POST(self) -> None:  # noqa: N802 - the base class's name
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.removeprefix(BASE).strip("/").split("/")
        match parts:
            case ["init", "error"]:
                self.server.owner.fail_init(InvocationResult(body, _error_type(body)))
                self.answer(202)
            case ["invocation", request_id, "response" | "error" as kind]:
                result = InvocationResult(body, _error_type(body) if kind == "error" else None)
                self.answer(202 if self.server.owner.settle(request_id, result) else 400)
            case _:
                self.answer(404)


def _error_type(body: bytes) -> str:
    try:
        return str(json.loads(body)["errorType"])
    except (ValueError, KeyError, TypeError):
        return "Error"
