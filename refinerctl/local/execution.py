"""One execution environment: a child that runs the image's code, with the limits that Lambda enforces."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import UTC, datetime
from typing import Protocol

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.local.runtime_api import Invocation, InvocationResult, RuntimeApi, failure

INIT_SECONDS = 10.0  # Lambda's own limit for the init phase
POLL_SECONDS = 0.05
EXIT_SECONDS = 0.1

OnLine = Callable[[str], None]


class Child(Protocol):
    """The running code, however it runs."""

    def ended(self) -> str | None:
        """The reason of its end ("exit status 3", "signal: killed"); None while it runs."""

    def memory_bytes(self) -> int:
        """Its resident memory; 0 if the engine enforces the limit."""

    def kill(self) -> None:
        """Kill it and everything it started."""


class Engine(Protocol):
    """Starts the code behind a function."""

    def code_version(self, function: FunctionConfiguration) -> object:
        """A value that changes with the code that `start` would run."""

    def start(self, function: FunctionConfiguration, environment: dict[str, str], on_line: OnLine) -> Child:
        """Start a runtime client with `environment`. Raises RefinerctlError if the code does not exist."""


class ExecutionEnvironment:
    """Runs one invocation at a time and is kept warm in between, until its process exits or is killed."""

    def __init__(
        self,
        engine: Engine,
        function: FunctionConfiguration,
        environment: dict[str, str],
        on_output: Callable[[str, str, str], None],
    ) -> None:
        self.function = function
        self.code_version = engine.code_version(function)
        self.stream = f"{datetime.now(UTC):%Y/%m/%d}/[{function.version}]{uuid.uuid4().hex}"
        self.idle_since = time.monotonic()
        self._request_id = ""
        self._api = RuntimeApi()
        variables = (
            environment | _lambda_variables(function, self.stream) | {"AWS_LAMBDA_RUNTIME_API": self._api.address}
        )
        try:
            self._child = engine.start(function, variables, lambda line: on_output(self.stream, self._request_id, line))
        except BaseException:
            self._api.close()
            raise

    def alive(self) -> bool:
        return self._child.ended() is None and self._api.init_error is None

    def invoke(self, request_id: str, event: bytes) -> InvocationResult:
        """Run the handler on `event` within the function's timeout and memory, as Lambda does."""
        self._request_id = request_id
        if (broken := self._initialize()) is not None:
            return broken
        deadline = time.monotonic() + self.function.timeout_s
        deadline_ms = int((time.time() + self.function.timeout_s) * 1000)
        invocation = Invocation(request_id, event, deadline_ms, self.function.arn)
        self._api.submit(invocation)
        outcome = self._watch(invocation, deadline)
        if not outcome.ok:
            # A runtime that reports an uncaught error exits right after: it must not get the next invocation.
            time.sleep(EXIT_SECONDS)
        self.idle_since = time.monotonic()
        return outcome

    def close(self) -> None:
        self._child.kill()
        self._api.close()

    def _initialize(self) -> InvocationResult | None:
        """Wait until the runtime asks for its first invocation; return the failure if it does not."""
        deadline = time.monotonic() + INIT_SECONDS
        while not self._api.initialized.wait(POLL_SECONDS):
            if time.monotonic() > deadline:
                self._child.kill()
                return failure("Sandbox.Timedout", f"the init phase took longer than {INIT_SECONDS:.0f} seconds")
            if (broken := self._broken()) is not None:
                return self._api.init_error or broken  # a runtime reports its error, then exits
        return self._api.init_error

    def _watch(self, invocation: Invocation, deadline: float) -> InvocationResult:
        while True:
            try:
                return invocation.answer.result(timeout=POLL_SECONDS)
            except FutureTimeoutError:
                broken = self._broken()
                if broken is None and time.monotonic() > deadline:
                    broken = failure("Sandbox.Timedout", f"Task timed out after {self.function.timeout_s}.00 seconds")
                if broken is not None:
                    invocation.settle(broken)
                    self._child.kill()
                    return invocation.answer.result()

    def _broken(self) -> InvocationResult | None:
        if (reason := self._child.ended()) is not None:
            return failure("Runtime.ExitError", f"Runtime exited with error: {reason}")
        used_mb = self._child.memory_bytes() / 1024 / 1024
        if used_mb > self.function.memory_mb:
            return failure(
                "Runtime.OutOfMemory",
                f"used {used_mb:.0f} MB of {self.function.memory_mb} MB: signal: killed",
            )
        return None


def _lambda_variables(function: FunctionConfiguration, stream: str) -> dict[str, str]:
    """The variables that Lambda sets: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
    return {
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "TZ": ":UTC",
    }
