"""The local environment's processes: if one of them fails, all of them stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.config import GlobalFlags, Settings, load_settings
from refinerctl.embedded import MARKER, Instance, LocalStatus
from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.local.emulator import free_port
from refinerctl.local.launcher import Launch, launch, stop, stopped_afterwards
from tests.command import Command, spawn
from tests.needs import nightly


def eventually(look: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes(instance: Instance) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == str(instance.directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "refinerctl.toml").write_text("[environments.local]\nembedded = true\n")
    return load_settings(GlobalFlags(), {}, tmp_path)


@pytest.fixture
def instance(settings: Settings) -> Iterator[Instance]:
    instance = Instance(settings.work_folder.resolve() / "local")
    yield instance
    try:
        if instance.directory.exists():
            stop(instance)
        assert processes(instance) == []
    finally:
        instance.kill_orphans()


@pytest.fixture
def started(instance: Instance, settings: Settings) -> LocalStatus:
    return launch(instance, settings, Launch())


def answers(status: LocalStatus) -> bool:
    try:
        with urllib.request.urlopen(f"{status.endpoint_url}/_ministack/ready", timeout=10):
            return True
    except OSError:
        return False


class TestStartAndStop:
    def test_it_listens_on_loopback_only_and_reports_its_endpoint(
        self, instance: Instance, started: LocalStatus
    ) -> None:
        assert started.state == "starting"  # until the stacks are applied
        assert answers(started)
        assert {started.supervisor_pid, started.emulator_pid} == {process.pid for process in processes(instance)}
        addresses = {
            connection.laddr.ip
            for process in processes(instance)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}

    def test_stop_ends_all_processes_and_keeps_the_logs(self, instance: Instance, started: LocalStatus) -> None:
        assert stop(instance)
        assert processes(instance) == []
        assert not answers(started)
        assert instance.status() == LocalStatus("down", instance.directory)
        assert {path.name for path in instance.directory.iterdir()} == {"lock", "logs"}
        assert "running" in instance.log("supervisor").read_text()
        assert not stop(instance)

    def test_it_can_be_started_again(self, instance: Instance, settings: Settings, started: LocalStatus) -> None:
        session = AwsSession("us-east-1", profile=None, endpoint_url=started.endpoint_url, embedded=True)
        S3Bucket(session, "first-run").create()
        stop(instance)
        again = launch(instance, settings, Launch())
        fresh = AwsSession("us-east-1", profile=None, endpoint_url=again.endpoint_url, embedded=True)
        with pytest.raises(RefinerctlError, match="does not exist"):
            S3Bucket(fresh, "first-run").check()

    def test_the_requested_port_is_used(self, instance: Instance, settings: Settings) -> None:
        port = free_port()
        assert launch(instance, settings, Launch(port=port)).endpoint_url == f"http://127.0.0.1:{port}"

    def test_a_port_in_use_is_reported(self, instance: Instance, settings: Settings, emulator: object) -> None:
        taken = int(str(getattr(emulator, "port", 0)))
        with pytest.raises(RefinerctlError, match=f"port {taken} on 127.0.0.1 is in use") as caught:
            launch(instance, settings, Launch(port=taken))
        assert str(instance.log("supervisor")) in str(caught.value.hint)
        assert instance.status().state == "down"
        assert f"port {taken}" in str(instance.status().detail)
        assert processes(instance) == []

    @pytest.mark.parametrize("name", ["http_proxy", nightly("HTTP_PROXY"), nightly("all_proxy")])
    def test_the_users_proxy_is_not_used(self, instance: Instance, tmp_path: Path, name: str) -> None:
        """A company's proxy cannot reach 127.0.0.1 of this machine."""
        instance.prepare()
        code = (
            "import sys; from pathlib import Path\n"
            "from refinerctl.embedded import Instance; from refinerctl.local.emulator import start_emulator\n"
            "start_emulator(Instance(Path(sys.argv[1])), None, 'us-east-1', timeout_s=20.0).stop()\n"
        )
        environ = {name: "http://127.0.0.1:9"}
        done = spawn(str(instance.directory), cwd=tmp_path, python=("-c", code), environ=environ)
        assert done.returncode == 0, done.stderr

    def test_a_second_supervisor_exits_at_once_and_changes_nothing(
        self, instance: Instance, settings: Settings, started: LocalStatus, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-m", "refinerctl.local.supervisor", str(instance.directory)]
        command += ["--region", "us-east-1", "--contexts", "{}", "--venvs", str(tmp_path), "--engine", "process"]
        assert subprocess.run(command, check=False, timeout=30).returncode == 75
        assert answers(started)
        assert instance.status() == started


class TestKilled:
    def test_stop_ends_processes_of_a_killed_supervisor(self, instance: Instance, started: LocalStatus) -> None:
        assert started.supervisor_pid is not None
        os.kill(started.supervisor_pid, signal.SIGKILL)
        assert eventually(lambda: not instance.is_supervised())
        status = instance.status()
        assert (status.state, status.endpoint_url) == ("down", None)
        assert "was killed" in str(status.detail)
        assert [process.pid for process in processes(instance)] == [started.emulator_pid]
        assert stop(instance)
        assert processes(instance) == []
        assert instance.status().detail is None

    def test_the_next_start_ends_what_a_killed_supervisor_left(
        self, instance: Instance, settings: Settings, started: LocalStatus
    ) -> None:
        assert started.supervisor_pid is not None
        os.kill(started.supervisor_pid, signal.SIGKILL)
        assert eventually(lambda: not instance.is_supervised())
        again = launch(instance, settings, Launch())
        assert {process.pid for process in processes(instance)} == {again.supervisor_pid, again.emulator_pid}
        assert not answers(started)

    def test_the_supervisor_ends_with_a_reason_if_the_emulator_is_killed(
        self, instance: Instance, started: LocalStatus, settings: Settings, refinerctl: Command
    ) -> None:
        assert started.emulator_pid is not None
        os.kill(started.emulator_pid, signal.SIGKILL)
        assert eventually(lambda: processes(instance) == [])
        assert eventually(lambda: not instance.is_supervised())
        done = refinerctl("local", "status", "--output", "json", cwd=settings.project).json()
        assert done["state"] == "down"
        assert done["detail"] == "the AWS emulator exited unexpectedly with exit code -9"

    @pytest.mark.parametrize("number", [signal.SIGTERM, nightly(signal.SIGINT), nightly(signal.SIGHUP)])
    def test_a_signal_ends_all_processes(
        self, instance: Instance, started: LocalStatus, number: signal.Signals
    ) -> None:
        assert started.supervisor_pid is not None
        os.kill(started.supervisor_pid, number)
        assert eventually(lambda: processes(instance) == [])
        assert eventually(lambda: not instance.is_supervised())
        assert instance.status().detail is None


PARENT = """
import sys, time
from pathlib import Path
from refinerctl.config import GlobalFlags, load_settings
from refinerctl.embedded import Instance
from refinerctl.local.launcher import Launch, launch
settings = load_settings(GlobalFlags(), {}, Path(sys.argv[1]))
launch(Instance(Path(sys.argv[2])), settings, Launch(attached=sys.argv[3] == "attached"))
print("up", flush=True)
time.sleep(60)
"""


class TestLifeline:
    def start(self, instance: Instance, settings: Settings, how: str) -> subprocess.Popen[str]:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(settings.project), str(instance.directory), how],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        return parent

    @pytest.mark.parametrize("number", [signal.SIGKILL, nightly(signal.SIGTERM)])
    def test_an_attached_environment_ends_with_its_command(
        self, instance: Instance, settings: Settings, number: signal.Signals
    ) -> None:
        with self.start(instance, settings, "attached") as parent:
            assert len(processes(instance)) == 2
            parent.send_signal(number)
        assert eventually(lambda: processes(instance) == [])
        assert eventually(lambda: not instance.is_supervised())
        assert instance.status().state == "down"

    def test_a_detached_environment_survives_its_command(self, instance: Instance, settings: Settings) -> None:
        with self.start(instance, settings, "detached") as parent:
            status = instance.status()
            parent.kill()
        assert answers(status)
        assert len(processes(instance)) == 2


class TestStop:
    def test_a_supervisor_without_a_pid_in_the_lock_yet_is_stopped(self, instance: Instance) -> None:
        """It holds the lock, and has not written its pid yet."""
        code = (
            "import signal, sys, time\n"
            "from pathlib import Path\n"
            "from refinerctl.embedded import Instance\n"
            "import os\n"
            "instance = Instance(Path(sys.argv[1]))\n"
            "with instance.supervised():\n"
            "    print('locked', flush=True)\n"
            "    time.sleep(0.5)\n"
            "    instance.write_state(phase='starting', supervisor_pid=os.getpid())\n"
            "    time.sleep(60)\n"
        )
        instance.prepare()
        with subprocess.Popen(
            [sys.executable, "-c", code, str(instance.directory)], stdout=subprocess.PIPE, text=True
        ) as beginner:
            assert beginner.stdout is not None
            assert beginner.stdout.readline() == "locked\n"
            try:
                assert stop(instance)
            finally:
                beginner.kill()

    def test_an_interrupted_block_stops_the_environment(self, instance: Instance, settings: Settings) -> None:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

        def interrupted() -> None:
            with stopped_afterwards(instance):
                launch(instance, settings, Launch())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert processes(instance) == []
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers

    def test_a_launch_keeps_an_environment_that_another_command_started_meanwhile(
        self, instance: Instance, settings: Settings, started: LocalStatus
    ) -> None:
        """Building images takes minutes between the look and the launch."""
        with pytest.raises(RefusedError, match="another command is starting"):
            launch(instance, settings, Launch())
        assert instance.status() == started
        assert json.loads(instance.state_file.read_text())["phase"] == "running"
        assert instance.temporary.is_dir()
