"""The Runtime API, execution environments and the function host, with code that runs in threads of this process."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.embedded import PROXY_VARIABLE
from refinerctl.errors import RefinerctlError
from refinerctl.local.execution import ExecutionEnvironment, OnLine
from refinerctl.local.function_host import FunctionHost
from refinerctl.local.function_logs import FunctionLogs
from refinerctl.local.runtime_api import BASE, Invocation, InvocationResult, RuntimeApi, failure
from tests.unit.fakes import FakeFunctions, FakeLogGroups


def function(**given: Any) -> FunctionConfiguration:
    values: dict[str, Any] = {
        "name": "f",
        "arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
        "version": "$LATEST",
        "image_uri": "team/refiner",
        "memory_mb": 256,
        "timeout_s": 30,
        "environment": {"GIVEN": "yes", PROXY_VARIABLE: "http://host/"},
    }
    return FunctionConfiguration(**(values | given))


Handler = Callable[[dict[str, str], bytes], bytes]


def ask(
    address: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


class FakeChild:
    """A runtime client in a thread: asks for invocations, answers with what the handler makes of them."""

    def __init__(self, environment: dict[str, str], handler: Handler, on_line: OnLine) -> None:
        self.environment = environment
        self.reason: str | None = None
        self.memory = 0
        self.killed = False
        self._handler = handler
        self._on_line = on_line
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        address = self.environment["AWS_LAMBDA_RUNTIME_API"]
        while True:
            try:
                _, headers, event = ask(address, "GET", f"{BASE}/invocation/next")
                request_id = headers["lambda-runtime-aws-request-id"]
            except (OSError, http.client.HTTPException, KeyError):
                return
            self._on_line(f"handling {request_id}")
            try:
                kind, body = "response", self._handler(headers, event)
            except DiedError as error:
                self.reason = str(error)
                return
            except Exception as error:
                kind, body = (
                    "error",
                    json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode(),
                )
            with contextlib.suppress(OSError):  # a host that shuts down waits for nobody
                ask(address, "POST", f"{BASE}/invocation/{request_id}/{kind}", body)

    def ended(self) -> str | None:
        return self.reason

    def memory_bytes(self) -> int:
        return self.memory

    def kill(self) -> None:
        self.killed = True
        self.reason = self.reason or "signal: SIGKILL"


class BrokenAtStart:
    """Code that says why it cannot start, and ends, at the moment at which it is looked at."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._address = environment["AWS_LAMBDA_RUNTIME_API"]

    def ended(self) -> str | None:
        ask(self._address, "POST", f"{BASE}/init/error", b'{"errorType": "SyntaxError"}')
        return "exit status 128"

    def memory_bytes(self) -> int:
        return 0

    def kill(self) -> None: ...


class DiedError(Exception):
    """The code ended without an answer."""


class FakeEngine:
    def __init__(self, handler: Handler = lambda _, event: event) -> None:
        self.handler = handler
        self.children: list[FakeChild] = []
        self.error: RefinerctlError | None = None
        self.version = 1

    def code_version(self, function: FunctionConfiguration) -> object:
        return self.version

    def start(self, function: FunctionConfiguration, environment: dict[str, str], on_line: OnLine) -> FakeChild:
        if self.error is not None:
            raise self.error
        child = FakeChild(environment, self.handler, on_line)
        self.children.append(child)
        return child


class TestRuntimeApi:
    @pytest.fixture
    def api(self) -> Iterator[RuntimeApi]:
        api = RuntimeApi()
        yield api
        api.close()

    def test_the_next_invocation_has_the_headers_of_the_runtime_api(self, api: RuntimeApi) -> None:
        api.submit(Invocation("r1", b'{"a": 1}', 1234, "arn:f"))
        status, headers, body = ask(api.address, "GET", f"{BASE}/invocation/next")
        assert (status, body) == (200, b'{"a": 1}')
        assert headers["lambda-runtime-aws-request-id"] == "r1"
        assert headers["lambda-runtime-deadline-ms"] == "1234"
        assert headers["lambda-runtime-invoked-function-arn"] == "arn:f"
        assert api.initialized.is_set()

    def test_a_runtime_waits_for_the_next_invocation(self, api: RuntimeApi) -> None:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(ask(api.address, "GET", f"{BASE}/invocation/next")))
        asking.start()
        assert api.initialized.wait(10)
        assert answers == []
        api.submit(Invocation("r1", b"{}", 0, "arn"))
        asking.join(10)
        assert answers[0][0] == 200

    @pytest.mark.parametrize(
        ("kind", "body", "expected"),
        [
            ("response", b'{"ok": true}', InvocationResult(b'{"ok": true}')),
            ("response", b"", InvocationResult(b"")),
            ("error", b'{"errorType": "T"}', InvocationResult(b'{"errorType": "T"}', "T")),
            ("error", b"not json", InvocationResult(b"not json", "Error")),
            ("error", b"[]", InvocationResult(b"[]", "Error")),
        ],
    )
    def test_an_answer_sets_the_outcome_of_the_invocation(
        self, api: RuntimeApi, kind: str, body: bytes, expected: InvocationResult
    ) -> None:
        invocation = Invocation("r1", b"{}", 0, "arn")
        api.submit(invocation)
        ask(api.address, "GET", f"{BASE}/invocation/next")
        assert ask(api.address, "POST", f"{BASE}/invocation/r1/{kind}", body)[0] == 202
        assert invocation.answer.result(10) == expected

    def test_an_answer_to_another_invocation_is_refused(self, api: RuntimeApi) -> None:
        assert ask(api.address, "POST", f"{BASE}/invocation/r1/response", b"{}")[0] == 400
        invocation = Invocation("r1", b"{}", 0, "arn")
        api.submit(invocation)
        ask(api.address, "GET", f"{BASE}/invocation/next")
        assert ask(api.address, "POST", f"{BASE}/invocation/r0/response", b"{}")[0] == 400
        assert not invocation.answer.done()

    def test_the_first_outcome_counts(self, api: RuntimeApi) -> None:
        invocation = Invocation("r1", b"{}", 0, "arn")
        api.submit(invocation)
        ask(api.address, "GET", f"{BASE}/invocation/next")
        invocation.settle(failure("Sandbox.Timedout", "too late"))
        ask(api.address, "POST", f"{BASE}/invocation/r1/response", b"{}")
        assert invocation.answer.result().error_type == "Sandbox.Timedout"

    def test_an_init_error_is_kept(self, api: RuntimeApi) -> None:
        assert ask(api.address, "POST", f"{BASE}/init/error", b'{"errorType": "SyntaxError"}')[0] == 202
        assert api.init_error == InvocationResult(b'{"errorType": "SyntaxError"}', "SyntaxError")
        assert api.initialized.is_set()

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/"), ("GET", f"{BASE}/invocation/r1"), ("POST", "/"), ("POST", f"{BASE}/invocation/r1/other")],
    )
    def test_other_paths_are_404(self, api: RuntimeApi, method: str, path: str) -> None:
        assert ask(api.address, method, path, b"" if method == "POST" else None)[0] == 404

    def test_a_web_page_gets_no_invocation(self, api: RuntimeApi) -> None:
        api.submit(Invocation("r1", b"secret", 0, "arn"))
        status, _, body = ask(api.address, "GET", f"{BASE}/invocation/next", headers={"Origin": "https://page.example"})
        assert (status, b"secret" in body) == (403, False)
        assert ask(api.address, "GET", f"{BASE}/invocation/next")[2] == b"secret"

    def test_it_listens_on_loopback_only(self, api: RuntimeApi) -> None:
        assert api.address.startswith("127.0.0.1:")

    def test_close_ends_the_request_of_a_waiting_runtime(self) -> None:
        api = RuntimeApi()
        ended: list[object] = []

        def wait() -> None:
            try:
                ended.append(ask(api.address, "GET", f"{BASE}/invocation/next"))
            except (OSError, http.client.HTTPException) as error:
                ended.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert api.initialized.wait(10)
        api.close()
        waiting.join(10)
        assert isinstance(ended[0], Exception)


class TestExecutionEnvironment:
    def environment(
        self, engine: FakeEngine, lines: list[tuple[str, str]] | None = None, **given: Any
    ) -> ExecutionEnvironment:
        collected = lines if lines is not None else []
        return ExecutionEnvironment(
            engine, function(**given), {"BASE": "1"}, lambda _s, request, line: collected.append((request, line))
        )

    def test_the_answer_is_returned_and_output_belongs_to_its_request(self) -> None:
        lines: list[tuple[str, str]] = []
        environment = self.environment(FakeEngine(lambda _, event: event.upper()), lines)
        assert environment.invoke("r1", b'"a"') == InvocationResult(b'"A"')
        assert environment.invoke("r2", b'"b"') == InvocationResult(b'"B"')
        assert lines == [("r1", "handling r1"), ("r2", "handling r2")]
        assert environment.alive()
        environment.close()
        assert not environment.alive()

    def test_an_init_error_has_precedence_over_the_exit_status(self) -> None:
        class Engine(FakeEngine):
            def start(  # type: ignore[override]
                self, function: FunctionConfiguration, environment: dict[str, str], on_line: OnLine
            ) -> BrokenAtStart:
                return BrokenAtStart(environment)

        environment = ExecutionEnvironment(Engine(), function(), {}, lambda *_: None)
        assert environment.invoke("r1", b"{}").error_type == "SyntaxError"
        environment.close()

    def test_the_code_has_the_variables_that_lambda_sets(self) -> None:
        engine = FakeEngine()
        environment = self.environment(engine, memory_mb=512)
        seen = engine.children[0].environment
        assert seen["BASE"] == "1"
        assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "f"
        assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
        assert seen["AWS_LAMBDA_LOG_STREAM_NAME"] == environment.stream
        assert seen["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/f"
        environment.close()

    def test_code_that_cannot_start_leaves_no_server(self) -> None:
        engine = FakeEngine()
        engine.error = RefinerctlError("no such image")
        before = _runtime_apis()
        for _ in range(5):
            with pytest.raises(RefinerctlError):
                self.environment(engine)
        assert _runtime_apis() <= before


def _runtime_apis() -> int:
    return sum(thread.name == "runtime-api" for thread in threading.enumerate())


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def functions() -> FakeFunctions:
    return FakeFunctions(function(), function(name="g"))


@pytest.fixture
def host(engine: FakeEngine, functions: FakeFunctions, tmp_path: Path) -> Iterator[FunctionHost]:
    logs = FunctionLogs(tmp_path / "functions.log", FakeLogGroups())
    host = FunctionHost(functions, engine, logs, {"BASE": "1", "GIVEN": "no"})
    yield host
    host.close()
    logs.close()


def said(tmp_path: Path) -> list[tuple[str, str]]:
    lines = (tmp_path / "functions.log").read_text().splitlines()
    return [(record["function"], record["message"]) for record in map(json.loads, lines)]


class TestFunctionHost:
    def test_an_environment_stays_warm(self, host: FunctionHost, engine: FakeEngine) -> None:
        for number in range(3):
            assert host.invoke("f", f"r{number}", b"{}").ok
        assert len(engine.children) == 1

    def test_each_function_has_its_own_environment(self, host: FunctionHost, engine: FakeEngine) -> None:
        host.invoke("f", "r1", b"{}")
        host.invoke("g", "r2", b"{}")
        assert len(engine.children) == 2

    def test_variables_of_the_function_have_precedence_and_the_proxy_url_is_removed(
        self, host: FunctionHost, engine: FakeEngine
    ) -> None:
        host.invoke("f", "r1", b"{}")
        seen = engine.children[0].environment
        assert (seen["BASE"], seen["GIVEN"]) == ("1", "yes")
        assert PROXY_VARIABLE not in seen

    def test_concurrent_invocations_get_separate_environments(self, host: FunctionHost, engine: FakeEngine) -> None:
        barrier = threading.Barrier(3, timeout=20)

        def meet(_headers: dict[str, str], event: bytes) -> bytes:
            barrier.wait()
            return event

        engine.handler = meet
        outcomes: list[InvocationResult] = []
        threads = [
            threading.Thread(target=lambda number=number: outcomes.append(host.invoke("f", f"r{number}", b"{}")))
            for number in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [outcome.ok for outcome in outcomes] == [True] * 3
        assert len(engine.children) == 3
        barrier.abort()
        engine.handler = lambda _, event: event

    def test_a_changed_configuration_replaces_the_environment(
        self, host: FunctionHost, engine: FakeEngine, functions: FakeFunctions
    ) -> None:
        host.invoke("f", "r1", b"{}")
        functions.known["f"] = function(environment={"GIVEN": "new"}, revision="2")
        host.invoke("f", "r2", b"{}")
        assert [child.killed for child in engine.children] == [True, False]
        assert engine.children[1].environment["GIVEN"] == "new"

    def test_an_environment_that_ended_is_not_used_again(self, host: FunctionHost, engine: FakeEngine) -> None:
        host.invoke("f", "r1", b"{}")
        engine.children[0].reason = "exit status 1"
        assert host.invoke("f", "r2", b"{}").ok
        assert len(engine.children) == 2

    def test_an_error_of_the_handler_is_logged_and_keeps_the_environment(
        self, host: FunctionHost, engine: FakeEngine, tmp_path: Path
    ) -> None:
        def fail(_headers: dict[str, str], _event: bytes) -> bytes:
            raise ValueError("bad input")

        engine.handler = fail
        outcome = host.invoke("f", "r1", b"{}")
        assert outcome.error_type == "ValueError"
        assert any("ERROR" in message and "bad input" in message for _, message in said(tmp_path))
        host.invoke("f", "r2", b"{}")
        assert len(engine.children) == 1

    def test_a_function_that_does_not_exist_fails_only_its_invocation(self, host: FunctionHost, tmp_path: Path) -> None:
        outcome = host.invoke("nothing", "r1", b"{}")
        assert outcome.error_type == "Runtime.HostError"
        assert "does not exist" in json.loads(outcome.payload)["errorMessage"]
        assert said(tmp_path)[0][0] == "nothing"
        assert host.invoke("f", "r2", b"{}").ok

    def test_code_that_cannot_start_fails_the_invocation_with_the_hint(
        self, host: FunctionHost, engine: FakeEngine, tmp_path: Path
    ) -> None:
        engine.error = RefinerctlError("node is not installed", hint="Install Node.js.")
        outcome = host.invoke("f", "r1", b"{}")
        assert json.loads(outcome.payload)["errorMessage"] == "node is not installed Install Node.js."
        assert "Install Node.js." in said(tmp_path)[0][1]

    def test_close_kills_every_environment(self, host: FunctionHost, engine: FakeEngine) -> None:
        host.invoke("f", "r1", b"{}")
        host.invoke("g", "r2", b"{}")
        host.close()
        assert all(child.killed for child in engine.children)

    def test_over_http_a_result_is_200(self, host: FunctionHost) -> None:
        assert _post(host.url, "f", b'{"a": 1}') == (200, b'{"a": 1}')

    def test_over_http_a_failure_is_500_with_lambdas_error_document(self, host: FunctionHost) -> None:
        status, body = _post(host.url, "nothing", b"{}")
        assert status == 500
        assert set(json.loads(body)) == {"errorType", "errorMessage"}

    def test_a_web_page_runs_no_function(self, host: FunctionHost, engine: FakeEngine) -> None:
        address = host.url.removeprefix("http://").rstrip("/")
        page = {"Sec-Fetch-Site": "cross-site", "X-Amzn-Lambda-Function-Name": "f"}
        status, headers, body = ask(address, "POST", "/", b"{}", page)
        assert (status, headers["content-type"]) == (403, "text/plain")
        assert b"does not answer requests of web pages" in body
        assert engine.children == []

    def test_over_http_a_get_is_a_health_check(self, host: FunctionHost) -> None:
        with urllib.request.urlopen(host.url, timeout=10) as answer:
            assert json.load(answer) == {"status": "ok"}


def _post(url: str, name: str, body: bytes) -> tuple[int, bytes]:
    headers = {"X-Amzn-Lambda-Function-Name": name, "X-Amzn-Lambda-Request-Id": "r1"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
