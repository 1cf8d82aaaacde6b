"""Functions run from their images' sources by node: what they answer, how they fail, what is left of them."""

from __future__ import annotations

import json
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

from refinerctl.aws.lambda_ import FunctionConfiguration, Functions
from refinerctl.aws.logs import LogGroups
from refinerctl.aws.session import AwsSession
from refinerctl.config import ImageSettings
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.local.execution import ExecutionEnvironment
from refinerctl.local.function_host import PROXY_VARIABLE, FunctionHost
from refinerctl.local.function_logs import FunctionLogs
from refinerctl.local.instance import MARKER, Instance
from refinerctl.local.process_engine import ProcessEngine
from refinerctl.local.runtime_api import Outcome

FIXTURES = Path(__file__).parents[1] / "fixtures" / "images"
IMAGES = [ImageSettings(folder.name, f"tests/{folder.name}", folder) for folder in sorted(FIXTURES.iterdir())]


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
            ProcessEngine(IMAGES),
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


class TestResult:
    def test_the_handlers_result_comes_back(self, runner: Runner) -> None:
        environment = runner.start("echo", {"VARIABLE": "yes"}, name="some-function")
        event = {"text": "Übergröße 報告 🧪", "number": 1.5, "nothing": None}
        answer = ask(environment, event, "request-1")
        assert answer["event"] == event
        assert answer["requestId"] == "request-1"
        assert answer["functionName"] == "some-function"
        assert answer["variable"] == "yes"
        assert 0 < answer["remaining"] <= 20_000

    def test_it_stays_warm(self, runner: Runner) -> None:
        environment = runner.start("echo")
        answers = [ask(environment, {}, f"r{number}") for number in range(3)]
        assert [answer["invocations"] for answer in answers] == [1, 2, 3]
        assert len({answer["pid"] for answer in answers}) == 1

    def test_nothing_is_null(self, runner: Runner) -> None:
        assert ask(runner.start("echo", command=("index.nothing",)), {}) is None

    def test_the_callers_variables_do_not_reach_it(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_OF_THE_CALLER", "hush")
        assert "secret" not in ask(runner.start("echo"), {})

    def test_a_large_event_and_a_large_answer(self, runner: Runner) -> None:
        event = {"text": "ü" * 3_000_000}
        assert ask(runner.start("echo"), event)["event"] == event

    def test_what_it_prints_belongs_to_its_request(self, runner: Runner) -> None:
        environment = runner.start("echo")
        for number in (1, 2):
            ask(environment, number, f"r{number}")
            assert eventually(lambda number=number: (f"r{number}", f"handling {number}") in runner.lines)  # type: ignore[misc]


class TestFailure:
    @pytest.mark.parametrize(
        ("way", "kind", "message"),
        [
            ("throw", "RefusedError", "thrown ü"),
            ("reject", "TypeError", "rejected"),
            ("text", "Error", "no Error at all"),
            ("circular", "TypeError", "circular"),
            ("unknown", "TypeError", "not a function"),
        ],
    )
    def test_an_error_of_the_handler_is_its_own_and_the_code_goes_on(
        self, runner: Runner, way: str, kind: str, message: str
    ) -> None:
        error_type, text, environment = runner.fail("faulty", way)
        assert error_type == kind
        assert message in text
        assert environment.alive()
        assert isinstance(ask(environment, {"way": "slow", "ms": 0}), int)

    def test_an_exit_in_the_handler_is_seen_though_nothing_is_posted(self, runner: Runner) -> None:
        error_type, text, environment = runner.fail("faulty", "exit")
        assert (error_type, text) == ("Runtime.ExitError", "Runtime exited with error: exit status 3")
        assert not environment.alive()

    def test_what_nobody_caught_fails_the_invocation_that_runs(self, runner: Runner) -> None:
        error_type, text, environment = runner.fail("faulty", "unhandled")
        assert (error_type, text) == ("Error", "nobody waits for this")
        assert eventually(lambda: not environment.alive())

    def test_an_exception_after_the_response_leaves_the_response_and_ends_the_code(self, runner: Runner) -> None:
        environment = runner.start("faulty")
        assert ask(environment, {"way": "later"}) == "fine"
        assert eventually(lambda: not environment.alive())
        assert eventually(lambda: "after the response" in runner.said())

    @pytest.mark.parametrize("way", ["loop", "hang"])
    def test_what_takes_too_long_is_ended(self, runner: Runner, way: str) -> None:
        error_type, text, environment = runner.fail("faulty", way, timeout_s=1)
        assert (error_type, text) == ("Sandbox.Timedout", "Task timed out after 1.00 seconds")
        assert not environment.alive()

    def test_what_takes_too_much_memory_is_ended(self, runner: Runner) -> None:
        error_type, text, environment = runner.fail("faulty", "hog", memory_mb=256)
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
        ],
    )
    def test_code_that_does_not_start_fails_each_invocation_with_the_reason(
        self, runner: Runner, image: str, command: tuple[str, ...], kind: str, message: str
    ) -> None:
        error_type, text, environment = runner.fail(image, command=command)
        assert error_type == kind
        assert message in text
        assert not environment.alive()

    def test_an_image_of_somebody_else_is_not_found(self, runner: Runner) -> None:
        with pytest.raises(NotFoundError):
            runner.start("echo", image_uri="ghcr.io/their/image:v1")

    def test_an_image_that_is_not_for_node_points_to_docker(self, runner: Runner) -> None:
        with pytest.raises(RefinerctlError, match="--engine docker"):
            runner.start("not-node")

    def test_without_node_it_says_so(self, runner: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RefinerctlError, match="node is not installed"):
            runner.start("echo")


class TestGrandchildren:
    def test_what_the_handler_started_ends_with_it(self, runner: Runner) -> None:
        environment = runner.start("faulty")
        pid = ask(environment, {"way": "grandchild"})
        assert not gone(pid)
        environment.close()
        assert eventually(lambda: gone(pid))

    def test_even_when_the_handler_itself_is_gone_already(self, runner: Runner) -> None:
        _, _, environment = runner.fail("faulty", "orphan")
        assert eventually(lambda: "grandchild" in runner.said())
        pid = int(runner.said().partition("grandchild ")[2].split()[0])
        environment.close()
        assert eventually(lambda: gone(pid))

    def test_what_left_the_process_group_still_carries_the_instances_marker(
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
    host = FunctionHost(Functions(session), ProcessEngine(IMAGES), logs, {"BASE": "1"})
    yield Hosted(host, session, tmp_path / "functions.log")
    host.close()
    logs.close()


class TestFunctionHost:
    def test_an_invocation_over_http_runs_the_functions_image(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "echo", VARIABLE="given")
        status, answer = hosted.post(unique, {"a": 1})
        assert (status, answer["event"], answer["variable"]) == (200, {"a": 1}, "given")
        assert hosted.post(unique, {})[1]["pid"] == answer["pid"]

    def test_the_emulator_invokes_through_it(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "echo")
        answer = hosted.session.client("lambda").invoke(FunctionName=unique, Payload=b'{"b": 2}')
        assert json.load(answer["Payload"])["event"] == {"b": 2}

    def test_a_change_of_configuration_makes_a_new_environment(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "echo", VARIABLE="old")
        _, before = hosted.post(unique, {})
        hosted.session.client("lambda").update_function_configuration(
            FunctionName=unique, Environment={"Variables": {"VARIABLE": "new"}}
        )
        _, after = hosted.post(unique, {})
        assert after["variable"] == "new"
        assert after["pid"] != before["pid"]
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

    def test_after_an_exit_the_next_invocation_gets_a_fresh_environment(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "faulty")
        assert hosted.post(unique, {"way": "exit"})[0] == 500
        assert hosted.post(unique, {"way": "slow", "ms": 0})[0] == 200

    def test_after_a_timeout_too(self, hosted: Hosted, unique: str) -> None:
        hosted.create(unique, "faulty", timeout=1)
        status, answer = hosted.post(unique, {"way": "loop"})
        assert (status, answer["errorType"]) == (500, "Sandbox.Timedout")
        assert hosted.post(unique, {"way": "slow", "ms": 0})[0] == 200

    def test_what_functions_print_is_in_the_file_and_in_the_log_group(self, hosted: Hosted, unique: str) -> None:
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


def test_a_host_that_is_closed_while_it_works_leaves_nothing(hosted: Hosted, unique: str) -> None:
    hosted.create(unique, "faulty")
    answers: list[Outcome] = []
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


def test_two_looks_at_one_function_are_equal(session: AwsSession) -> None:
    """Otherwise no environment would ever be warm."""
    assert replace(function("echo")) == function("echo")


def test_node_is_recent_enough() -> None:
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    assert int(version.removeprefix("v").partition(".")[0]) >= 20, sys.platform
