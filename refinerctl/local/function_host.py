"""Runs the functions of the local environment: the emulator posts each invocation here."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.embedded import PROXY_VARIABLE
from refinerctl.errors import RefinerctlError
from refinerctl.local.execution import Engine, ExecutionEnvironment
from refinerctl.local.function_logs import FunctionLogs
from refinerctl.local.runtime_api import InvocationResult, LoopbackServer, failure
from refinerctl.local.web_guard import GuardedHandler

if TYPE_CHECKING:
    from refinerctl.aws.lambda_ import Functions

IDLE_SECONDS = 300.0
log = logging.getLogger(__name__)


class FunctionHost:
    """Warm execution environments per function, configuration and code, one invocation in each at a time."""

    def __init__(self, functions: Functions, engine: Engine, logs: FunctionLogs, environment: dict[str, str]) -> None:
        self._functions = functions
        self._engine = engine
        self._logs = logs
        self._environment = environment
        self._lock = threading.Lock()
        self._idle: dict[str, list[ExecutionEnvironment]] = defaultdict(list)
        self._all: set[ExecutionEnvironment] = set()
        self._server = LoopbackServer(self, _InvocationHandler, "function-host")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def invoke(self, name: str, request_id: str, event: bytes) -> InvocationResult:
        """Run one invocation. An environment whose code has ended is not used again."""
        environment = None
        try:
            function = self._functions.get(name)
            environment = self._acquire(function)
            outcome = environment.invoke(request_id, event)
        except Exception as error:  # whatever the error is: the emulator needs a response
            log.exception("invocation %s of %s", request_id, name)
            text = f"{error} {error.hint or ''}" if isinstance(error, RefinerctlError) else str(error)
            outcome = failure("Runtime.HostError", text.strip())
            self._logs.write(name, environment.stream if environment else "host", request_id, f"ERROR {text}")
        else:
            if not outcome.ok:
                self._logs.write(
                    name, environment.stream, request_id, f"ERROR {outcome.payload.decode(errors='replace')}"
                )
        if environment is not None:
            self._release(environment)
        return outcome

    def close(self) -> None:
        self._server.close()
        with self._lock:
            environments, self._all = list(self._all), set()
            self._idle.clear()
        for environment in environments:
            environment.close()

    def _acquire(self, function: FunctionConfiguration) -> ExecutionEnvironment:
        code_version = self._engine.code_version(function)
        with self._lock:
            stale = self._pop_stale(function, code_version)
            idle = self._idle[function.name]
            warm = idle.pop() if idle else None
        for environment in stale:
            environment.close()
        if warm is not None:
            return warm
        variables = {key: value for key, value in function.environment.items() if key != PROXY_VARIABLE}
        fresh = ExecutionEnvironment(
            self._engine,
            function,
            self._environment | variables,
            lambda stream, request_id, line: self._logs.write(function.name, stream, request_id, line),
        )
        with self._lock:
            self._all.add(fresh)
        return fresh

    def _pop_stale(self, function: FunctionConfiguration, code_version: object) -> list[ExecutionEnvironment]:
        """Remove environments that ended, were idle for too long, or have another configuration or code."""
        horizon = time.monotonic() - IDLE_SECONDS
        idle = self._idle[function.name]
        good = [
            item
            for item in idle
            if item.alive()
            and (item.function, item.code_version) == (function, code_version)
            and item.idle_since > horizon
        ]
        stale = [item for item in idle if item not in good]
        self._idle[function.name] = good
        self._all.difference_update(stale)
        return stale

    def _release(self, environment: ExecutionEnvironment) -> None:
        with self._lock:
            if environment in self._all and environment.alive():
                self._idle[environment.function.name].append(environment)
                return
            self._all.discard(environment)
        environment.close()


class _InvocationHandler(GuardedHandler):
    server: LoopbackServer

    def do_POST(self) -> None:  # noqa: N802 - the base class's name
        event = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.headers.get("X-Amzn-Lambda-Function-Name", "")
        result = self.server.owner.invoke(name, self.headers.get("X-Amzn-Lambda-Request-Id", ""), event)
        # The emulator treats every answer but 2xx as a failed invocation.
        self.answer(200 if result.ok else 500, result.payload)

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        self.answer(200, json.dumps({"status": "ok"}).encode())
