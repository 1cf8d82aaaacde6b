"""Functions run from their images' folders: what they answer, how they fail, which processes remain."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from refinerctl.aws.invocations import invoke
from refinerctl.aws.lambda_ import FunctionConfiguration, Functions
from refinerctl.aws.logs import LogGroups
from refinerctl.aws.session import AwsSession
from refinerctl.embedded import MARKER, PROXY_VARIABLE, Instance
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import BuildContext
from refinerctl.local.ecs_task import Container
from refinerctl.local.engines import ProcessEngine
from refinerctl.local.execution import ExecutionEnvironment
from refinerctl.local.function_host import FunctionHost
from refinerctl.local.function_logs import FunctionLogs
from refinerctl.local.runtime_api import InvocationResult
from refinerctl.local.venvs import venv_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "images"
NO_VENVS = FIXTURES / "no-venvs"  # these images have no locked requirements
CONTEXTS = {f"tests/{folder.name}": BuildContext(folder) for folder in sorted(FIXTURES.iterdir())}


def function(image: str, **given: Any) -> FunctionConfiguration:
    values: dict[str, Any] = {
        "name": image,
        "arn": f"arn:aws:lambda:us-east-1:000000000000:function:{image}",
        "version": "$LATEST",
        "image_uri": f"tests/{image}:local",
        "memory_mb": 512,
        "timeout_s": 20,
        "environment": {},
    }
    return FunctionConfiguration(**(values | given))


def eventually(look: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass
class Runner:
    """Makes execution environments and ends them all."""

    made: list[ExecutionEnvironment] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)

    def start(self, image: str, environment: dict[str, str] | None = None, **given: Any) -> ExecutionEnvironment:
        made = ExecutionEnvironment(
            ProcessEngine(CONTEXTS, NO_VENVS),
            function(image, **given),
            environment or {},
            lambda _stream, request, line: self.lines.append((request, line)),
        )
        self.made.append(made)
        return made

    def fail(self, image: str, way: str = "", **given: Any) -> tuple[str, str, ExecutionEnvironment]:
        environment = self.start(image, **given)
        outcome = environment.invoke("r1", json.dumps({"way": way}).encode())
        assert outcome.error_type is not None
        return outcome.error_type, json.loads(outcome.payload)["errorMessage"], environment

    def said(self) -> str:
        return "\n".join(line for _, line in self.lines)


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    for made in runner.made:
        made.close()
        assert not made.alive()


def ask(environment: ExecutionEnvironment, event: Any, request_id: str = "r1") -> Any:
    outcome = environment.invoke(request_id, json.dumps(event).encode())
    assert outcome.ok, outcome
    return json.loads(outcome.payload)


def locked_image(tmp_path: Path) -> tuple[BuildContext, Path]:
    """A Python image with locked requirements, and the folder of virtual environments."""
    folder = tmp_path / "image"
    shutil.copytree(FIXTURES / "python-echo", folder)
    (folder / "requirements.txt").write_text("idna==3.10 --hash=sha256:0\n")
    return BuildContext(folder), tmp_path / "venvs"


@pytest.mark.parametrize("image", ["echo", "python-echo"])
class TestResult:
    def test_the_handlers_result_is_returned(self, runner: Runner, image: str) -> None:
        environment = runner.start(image, {"VARIABLE": "yes"}, name="some-function")
        event = {"text": "Übergröße 報告 🧪", "number": 1.5, "nothing": None}
        answer = ask(environment, event, "request-1")
        assert answer["event"] == event
        assert answer["requestId"] == "request-1"
        assert answer["functionName"] == "some-function"
        assert answer["variable"] == "yes"
        assert 0 < answer["remaining"] <= 20_000

    def test_it_stays_warm(self, runner: Runner, image: str) -> None:
        environment = runner.start(image)
        answers = [ask(environment, {}, f"r{number}") for number in range(3)]
        assert [answer["invocations"] for answer in answers] == [1, 2, 3]
        assert len({answer["pid"] for answer in answers}) == 1

    def test_a_handler_without_a_result_returns_null(self, runner: Runner, image: str) -> None:
        command = ("app.nothing" if image.startswith("python") else "index.nothing",)
        assert ask(runner.start(image, command=command), {}) is None

    def test_the_callers_variables_are_not_passed_on(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch, image: str
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_OF_THE_CALLER", "hush")
        assert "secret" not in ask(runner.start(image), {})

    def test_a_large_event_and_a_large_answer(self, runner: Runner, image: str) -> None:
        event = {"text": "ü" * 3_000_000}
        assert ask(runner.start(image), event)["event"] == event

    def test_output_belongs_to_its_request(self, runner: Runner, image: str) -> None:
        environment = runner.start(image)
        for number in (1, 2):
            ask(environment, number, f"r{number}")
            assert eventually(lambda number=number: (f"r{number}", f"handling {number}") in runner.lines)  # type: ignore[misc]


class TestFailure:
    @pytest.mark.parametrize(
        ("image", "way", "kind", "message"),
        [
            ("faulty", "throw", "RefusedError", "thrown ü"),
            ("faulty", "reject", "TypeError", "rejected"),
            ("faulty", "text", "Error", "no Error at all"),
            ("faulty", "circular", "TypeError", "circular"),
            ("faulty", "unknown", "TypeError", "not a function"),
            ("python-faulty", "throw", "RefusedError", "thrown ü"),
            ("python-faulty", "unserializable", "Runtime.MarshalError", "not JSON serializable"),
            ("python-faulty", "unknown", "KeyError", "unknown"),
        ],
    )
    def test_an_error_of_the_handler_fails_its_invocation_and_the_code_stays_warm(
        self, runner: Runner, image: str, way: str, kind: str, message: str
    ) -> None:
        error_type, text, environment = runner.fail(image, way)
        assert error_type == kind
        assert message in text
        assert environment.alive()
        assert isinstance(ask(environment, {"way": "slow", "ms": 0}), int)

    @pytest.mark.parametrize("image", ["faulty", "python-faulty"])
    def test_an_exit_in_the_handler_fails_the_invocation(self, runner: Runner, image: str) -> None:
        error_type, text, environment = runner.fail(image, "exit")
        assert (error_type, text) == ("Runtime.ExitError", "Runtime exited with error: exit status 3")
        assert not environment.alive()

    def test_an_unhandled_rejection_fails_the_running_invocation(self, runner: Runner) -> None:
        error_type, text, environment = runner.fail("faulty", "unhandled")
        assert (error_type, text) == ("Error", "nobody waits for this")
        assert eventually(lambda: not environment.alive())

    def test_an_exception_after_the_response_keeps_the_response_and_ends_the_code(self, runner: Runner) -> None:
        environment = runner.start("faulty")
        assert ask(environment, {"way": "later"}) == "fine"
        assert eventually(lambda: not environment.alive())
        assert eventually(lambda: "after the response" in runner.said())

    @pytest.mark.parametrize(("image", "way"), [("faulty", "loop"), ("faulty", "hang"), ("python-faulty", "hang")])
    def test_a_handler_that_exceeds_its_timeout_is_killed(self, runner: Runner, image: str, way: str) -> None:
        error_type, text, environment = runner.fail(image, way, timeout_s=1)
        assert (error_type, text) == ("Sandbox.Timedout", "Task timed out after 1.00 seconds")
        assert not environment.alive()

    @pytest.mark.parametrize("image", ["faulty", "python-faulty"])
    def test_a_handler_that_exceeds_its_memory_is_killed(self, runner: Runner, image: str) -> None:
        error_type, text, environment = runner.fail(image, "hog", memory_mb=256)
        assert error_type == "Runtime.OutOfMemory"
        assert "of 256 MB" in text
        assert not environment.alive()


class TestInit:
    @pytest.mark.parametrize(
        ("image", "command", "kind", "message"),
        [
            ("syntax-error", (), "SyntaxError", ""),
            ("init-error", (), "Error", "cannot even start"),
            ("init-exit", (), "Runtime.ExitError", "exit status 7"),
            ("echo", ("other.handler",), "Error", "there is no other.mjs"),
            ("echo", ("index.missing",), "Error", "exports no function missing"),
            ("echo", ("index.notAFunction",), "Error", "exports no function notAFunction"),
            ("python-init", (), "ValueError", "cannot even start"),
            ("python-echo", ("other.handler",), "Runtime.ImportModuleError", "No module named 'other'"),
            ("python-echo", ("app.missing",), "Runtime.HandlerNotFound", "Handler 'missing' missing"),
        ],
    )
    def test_an_init_error_fails_the_invocation_with_the_reason(
        self, runner: Runner, image: str, command: tuple[str, ...], kind: str, message: str
    ) -> None:
        error_type, text, environment = runner.fail(image, command=command)
        assert error_type == kind
        assert message in text
        assert not environment.alive()

    def test_an_image_of_another_project_is_not_found(self, runner: Runner) -> None:
        with pytest.raises(NotFoundError):
            runner.start("echo", image_uri="ghcr.io/their/image:v1")

    def test_an_unknown_runtime_is_refused(self, runner: Runner) -> None:
        with pytest.raises(RefinerctlError, match="its runtime is unknown"):
            runner.start("unknown-runtime")

    def test_a_python_function_runs_with_the_packages_that_its_image_locks(self, tmp_path: Path) -> None:
        context, venvs = locked_image(tmp_path)
        venv = venv_of(context, venvs)
        assert venv is not None
        python = venv / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\necho "started with $*, python is $(command -v python)"\n')
        python.chmod(0o755)
        lines: list[str] = []
        child = ProcessEngine({"tests/python-echo": context}, venvs).start(function("python-echo"), {}, lines.append)
        assert eventually(lambda: lines == [f"started with -m awslambdaric app.handler, python is {python}"])
        child.kill()

    def test_bytecode_is_kept_in_the_virtual_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        context, venvs = locked_image(tmp_path)
        venv = venv_of(context, venvs)
        assert venv is not None
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        before = sorted(context.folder.rglob("*"))
        container = Container("tests/python-echo:local", ("python", "-c", "import app"), memory_mb=512)
        child = ProcessEngine({"tests/python-echo": context}, venvs).start_container(container, {}, print)
        assert eventually(lambda: child.ended() is not None)
        assert child.ended() == "exit status 0"
        assert sorted(context.folder.rglob("*")) == before
        assert list((venv / "bytecode").rglob("app.*.pyc"))

    def test_without_its_virtual_environment_the_error_says_what_creates_it(self, tmp_path: Path) -> None:
        context, venvs = locked_image(tmp_path)
        with pytest.raises(RefinerctlError, match="has no virtual environment") as caught:
            ProcessEngine({"tests/python-echo": context}, venvs).start(function("python-echo"), {}, print)
        assert "refinerctl local up" in str(caught.value.hint)

    def test_running_a_python_image_leaves_no_files_in_its_folder(self, runner: Runner) -> None:
        before = sorted(FIXTURES.rglob("*"))
        ask(runner.start("python-echo"), {})
        assert sorted(FIXTURES.rglob("*")) == before

    def test_a_missing_node_is_reported(self, runner: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RefinerctlError, match="node is not installed"):
            runner.start("echo")


class TestGrandchildren:
    @pytest.mark.parametrize("image", ["faulty", "python-faulty"])
    def test_processes_that_the_handler_started_are_killed_with_it(self, runner: Runner, image: str) -> None:
        environment = runner.start(image)
        pid = ask(environment, {"way": "grandchild"})
        assert not gone(pid)
        environment.close()
        assert eventually(lambda: gone(pid))

    def test_they_are_killed_even_if_the_handler_has_exited(self, runner: Runner) -> None:
        _, _, environment = runner.fail("faulty", "orphan")
        assert eventually(lambda: "grandchild" in runner.said())
        pid = int(runner.said().partition("grandchild ")[2].split()[0])
        environment.close()
        assert eventually(lambda: gone(pid))

    def test_a_process_outside_the_group_is_killed_by_the_instances_marker(
        self, runner: Runner, tmp_path: Path
    ) -> None:
        instance = Instance(tmp_path / "instance")
        environment = runner.start("faulty", {MARKER: str(instance.directory)})
        pid = ask(environment, {"way": "detached"})
        environment.close()
        assert not gone(pid)
        instance.kill_orphans()
        assert eventually(lambda: gone(pid))


@dataclass
class Hosted:
    host: FunctionHost
    session: AwsSession
    log: Path
    copy: Path
    names: dict[str, str] = field(default_factory=dict)

    def create(self, name: str, image: str, **given: Any) -> None:
        self.session.client("lambda").create_function(
            FunctionName=name,
            Role="arn:aws:iam::000000000000:role/r",
            PackageType="Image",
            Code={"ImageUri": f"tests/{image}:local"},
            Timeout=given.pop("timeout", 20),
            Environment={"Variables": {PROXY_VARIABLE: self.host.url, **given}},
        )

    def post(self, name: str, event: Any) -> tuple[int, Any]:
        headers = {"X-Amzn-Lambda-Function-Name": name, "X-Amzn-Lambda-Request-Id": "r1"}
        request = urllib.request.Request(self.host.url, json.dumps(event).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def hosted(session: AwsSession, tmp_path: Path) -> Iterator[Hosted]:
    logs = FunctionLogs(tmp_path / "functions.log", LogGroups(session))
    copy = shutil.copytree(FIXTURES / "echo", tmp_path / "image")
    contexts = {**CONTEXTS, "tests/copy": BuildContext(copy)}
    host = FunctionHost(Functions(session), ProcessEngine(contexts, NO_VENVS), logs, {"BASE": "1"})
    yield Hosted(host, session, tmp_path / "functions.log", copy)
    host.close()
    logs.close()


class TestFunctionHost:
    def test_an_invocation_over_http_runs_the_functions_image(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "echo", VARIABLE="given")
        status, answer = hosted.post(unique, {"a": 1})
        assert (status, answer["event"], answer["variable"]) == (200, {"a": 1}, "given")
        # The next one again, unless it comes before the environment is ready for it.
        assert answer["pid"] in [hosted.post(unique, {})[1]["pid"] for _ in range(3)]

    def test_the_emulator_invokes_through_it(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "echo")
        found = invoke(hosted.session, unique)
        assert (found.result["event"], found.error) == ({}, None)
        hosted.create(f"{unique}-exit", "init-exit")
        assert invoke(hosted.session, f"{unique}-exit").error

    def test_a_changed_configuration_starts_a_new_environment(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "echo", VARIABLE="old")
        _, before = hosted.post(unique, {})
        hosted.session.client("lambda").update_function_configuration(
            FunctionName=unique, Environment={"Variables": {"VARIABLE": "new"}}
        )
        _, after = hosted.post(unique, {})
        assert after["variable"] == "new"
        assert after["pid"] != before["pid"]
        assert eventually(lambda: gone(before["pid"]))

    def test_a_changed_file_takes_effect_with_the_next_invocation(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "copy")
        _, before = hosted.post(unique, {})
        source = hosted.copy / "index.mjs"
        source.write_text(source.read_text().replace("process.pid", "-1"))
        (hosted.copy / "node_modules").mkdir()
        _, after = hosted.post(unique, {})
        assert after["pid"] == -1
        assert eventually(lambda: gone(before["pid"]))

    def test_concurrent_invocations_run_in_separate_processes(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "faulty")
        with ThreadPoolExecutor(3) as pool:
            pids = [
                answer for _, answer in pool.map(lambda _: hosted.post(unique, {"way": "slow", "ms": 700}), range(3))
            ]
        assert len(set(pids)) == 3
        hosted.host.close()
        assert eventually(lambda: all(gone(pid) for pid in pids))

    def test_after_an_exit_the_next_invocation_has_a_new_environment(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "faulty")
        assert hosted.post(unique, {"way": "exit"})[0] == 500
        assert hosted.post(unique, {"way": "slow", "ms": 0})[0] == 200

    def test_after_a_timeout_the_next_invocation_has_a_new_environment(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "faulty", timeout=1)
        status, answer = hosted.post(unique, {"way": "loop"})
        assert (status, answer["errorType"]) == (500, "Sandbox.Timedout")
        assert hosted.post(unique, {"way": "slow", "ms": 0})[0] == 200

    def test_output_is_in_the_file_and_in_the_log_group(self, hosted: Hosted, unique: str) -> None:
        began = datetime.now(UTC) - timedelta(minutes=1)
        hosted.create(unique, "echo")
        hosted.post(unique, "報告")
        hosted.create(f"{unique}-bad", "faulty")
        hosted.post(f"{unique}-bad", {"way": "throw"})
        groups = LogGroups(hosted.session)
        expected = {unique: 'handling "報告"', f"{unique}-bad": "thrown ü"}
        for name, text in expected.items():
            assert eventually(
                lambda name=name, text=text: any(  # type: ignore[misc]
                    text in event.message for event in groups.events(f"/aws/lambda/{name}", began)
                )
            )
            messages = [json.loads(line)["message"] for line in hosted.log.read_text().splitlines()]
            assert any(text in message for message in messages)


def test_closing_a_busy_host_leaves_no_process(hosted: Hosted, unique: str) -> None:
    hosted.create(unique, "faulty")
    answers: list[InvocationResult] = []
    event = json.dumps({"way": "hang"}).encode()
    working = threading.Thread(target=lambda: answers.append(hosted.host.invoke(unique, "r1", event)))
    working.start()
    script = str(FIXTURES / "faulty")

    def children() -> list[psutil.Process]:
        return [child for child in psutil.Process().children(recursive=True) if script in " ".join(child.cmdline())]

    assert eventually(lambda: bool(children()))
    hosted.host.close()
    working.join(20)
    assert not answers[0].ok
    assert children() == []


def test_an_unchanged_configuration_is_equal(session: AwsSession) -> None:
    """Otherwise no environment would ever be warm."""
    assert replace(function("echo")) == function("echo")


def test_node_is_recent_enough() -> None:
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    assert int(version.removeprefix("v").partition(".")[0]) >= 20, sys.platform
