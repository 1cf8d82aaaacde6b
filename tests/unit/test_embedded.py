"""The local environment's folder: its lock, its state, its status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from refinerctl.embedded import MARKER, Instance
from tests.unit.fakes import START


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    instance = Instance(tmp_path / "instance")
    instance.prepare()
    return instance


class TestInstance:
    def test_without_a_folder_it_is_down_and_status_creates_none(self, tmp_path: Path) -> None:
        instance = Instance(tmp_path / "none")
        assert instance.status().state == "down"
        assert instance.status().detail is None
        assert not instance.directory.exists()

    def test_a_state_file_without_a_running_supervisor_is_stale(self, instance: Instance) -> None:
        instance.write_state(phase="running", endpoint_url="http://127.0.0.1:9", supervisor_pid=os.getpid())
        instance.write_applied(("refiner",))
        status = instance.status()
        assert (status.state, status.endpoint_url, status.stacks) == ("down", None, ())
        assert "was killed" in str(status.detail)
        assert "refinerctl local down" in str(status.detail)

    def test_the_reason_of_a_failure_is_kept(self, instance: Instance) -> None:
        instance.write_state(phase="failed", detail="port 80 is taken")
        assert instance.status().detail == "port 80 is taken"

    @pytest.mark.parametrize(
        ("phase", "applied", "state"),
        [
            ("starting", False, "starting"),
            ("running", False, "starting"),
            ("running", True, "up"),
            ("failed", False, "failed"),
        ],
    )
    def test_phases_with_a_running_supervisor(self, instance: Instance, phase: str, applied: bool, state: str) -> None:
        with instance.supervised():
            instance.write_state(phase=phase, started_at=START.isoformat(), supervisor_pid=os.getpid())
            if applied:
                instance.write_applied(("refiner",))
            status = instance.status()
            assert (status.state, status.started_at, status.supervisor_pid) == (state, START, os.getpid())

    def test_state_of_an_earlier_supervisor_is_ignored(self, instance: Instance) -> None:
        with instance.supervised():
            instance.write_state(phase="running", endpoint_url="http://127.0.0.1:9", supervisor_pid=1)
            status = instance.status()
            assert (status.state, status.endpoint_url) == ("starting", None)
            assert instance.supervisor_pid() == os.getpid()
        assert instance.supervisor_pid() is None

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"'])
    def test_an_invalid_state_file_is_ignored(self, instance: Instance, content: str) -> None:
        instance.state_file.write_text(content)
        assert instance.status().state == "down"
        with instance.supervised():
            assert instance.status().state == "starting"

    def test_only_one_supervisor_holds_the_lock(self, instance: Instance) -> None:
        assert not instance.is_supervised()
        with instance.supervised() as ours:
            assert ours
            assert instance.is_supervised()
            with instance.supervised() as second:
                assert not second
            assert instance.is_supervised()
        assert not instance.is_supervised()

    def test_testing_the_lock_does_not_prevent_a_supervisor_from_starting(self, instance: Instance) -> None:
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                instance.is_supervised()

        lookers = [threading.Thread(target=look) for _ in range(3)]
        for looker in lookers:
            looker.start()
        try:
            with instance.supervised() as ours:
                assert ours
        finally:
            stop.set()
            for looker in lookers:
                looker.join()

    def test_state_is_replaced_atomically_and_leaves_no_other_file(self, instance: Instance) -> None:
        for number in range(20):
            instance.write_state(number=number)
        assert json.loads(instance.state_file.read_text()) == {"number": 19, "supervisor_pid": os.getpid()}
        assert sorted(path.name for path in instance.directory.iterdir()) == ["logs", "state.json", "tmp"]

    def test_clear_keeps_the_logs(self, instance: Instance) -> None:
        instance.log("emulator").write_text("said")
        instance.write_state(phase="running")
        instance.write_applied(())
        (instance.temporary / "x").touch()
        instance.clear()
        instance.clear()
        assert sorted(str(path.relative_to(instance.directory)) for path in instance.directory.rglob("*")) == [
            "logs",
            *(f"logs/{name}.log" for name in ("emulator", "functions", "rabbitmq", "redis", "terraform")),
        ]
        assert instance.log("emulator").read_text() == "said"

    def test_kill_orphans_kills_only_processes_of_the_instance(self, instance: Instance, tmp_path: Path) -> None:
        def sleeper(marker: str | None) -> subprocess.Popen[bytes]:
            environ = {**os.environ, **({MARKER: marker} if marker else {})}
            process = subprocess.Popen(
                [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"],
                env=environ,
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            process.stdout.readline()  # it runs: its environment is its own by now
            return process

        own = [sleeper(str(instance.directory)) for _ in range(2)]
        others = [sleeper(None), sleeper(str(tmp_path / "other")), sleeper(f"{instance.directory}2")]
        try:
            assert instance.kill_orphans() == 2
            assert not any(psutil.pid_exists(process.pid) for process in own)
            assert [process.poll() for process in others] == [None] * 3
            assert instance.kill_orphans() == 0
        finally:
            for process in [*own, *others]:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


class TestApplied:
    def test_stacks_are_added_in_the_order_in_which_they_were_applied(self, instance: Instance) -> None:
        with instance.supervised():
            instance.write_state(phase="running")
            instance.write_applied(("registry", "refiner"))
            instance.write_applied(("tiny",))
            instance.write_applied(("registry", "refiner"))
            assert instance.status().stacks == ("registry", "refiner", "tiny")
