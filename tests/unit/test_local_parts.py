"""Parts of the embedded environment that need no process: folder and lock, images, logs, the way of an object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.log_events import LogEvent
from refinerctl.aws.logs import LogGroups
from refinerctl.config import ImageSettings
from refinerctl.errors import NotFoundError, RefinerctlError, UsageError
from refinerctl.inputs.follow import Upload, UploadStatus
from refinerctl.inputs.object_path import object_path
from refinerctl.local import local_logs
from refinerctl.local.function_logs import FunctionLogs
from refinerctl.local.images import handler_of, image_of
from refinerctl.local.instance import MARKER, Instance
from tests.unit.fakes import START, FakeBucket, FakeLogGroups


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    instance = Instance(tmp_path / "instance")
    instance.prepare()
    return instance


class TestInstance:
    def test_without_a_folder_it_is_down_and_asking_makes_none(self, tmp_path: Path) -> None:
        instance = Instance(tmp_path / "none")
        assert instance.status().state == "down"
        assert instance.status().detail is None
        assert not instance.directory.exists()

    def test_a_state_file_without_a_living_supervisor_is_stale(self, instance: Instance) -> None:
        instance.write_state(phase="running", endpoint_url="http://127.0.0.1:9", supervisor_pid=os.getpid())
        instance.write_applied(("refiner",))
        status = instance.status()
        assert (status.state, status.endpoint_url, status.stacks) == ("down", None, ())
        assert "was killed" in str(status.detail)
        assert "refinerctl local down" in str(status.detail)

    def test_what_made_it_fail_is_still_known_when_it_is_down(self, instance: Instance) -> None:
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
    def test_its_phases_under_a_living_supervisor(
        self, instance: Instance, phase: str, applied: bool, state: str
    ) -> None:
        with instance.supervised():
            instance.write_state(phase=phase, started_at=START.isoformat(), supervisor_pid=os.getpid())
            if applied:
                instance.write_applied(("refiner",))
            status = instance.status()
            assert (status.state, status.started_at, status.supervisor_pid) == (state, START, os.getpid())

    def test_what_an_earlier_supervisor_wrote_is_not_believed(self, instance: Instance) -> None:
        with instance.supervised():
            instance.write_state(phase="running", endpoint_url="http://127.0.0.1:9", supervisor_pid=1)
            status = instance.status()
            assert (status.state, status.endpoint_url) == ("starting", None)
            assert instance.supervisor_pid() == os.getpid()
        assert instance.supervisor_pid() is None

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"'])
    def test_a_broken_state_file_is_as_good_as_none(self, instance: Instance, content: str) -> None:
        instance.state_file.write_text(content)
        assert instance.status().state == "down"
        with instance.supervised():
            assert instance.status().state == "starting"

    def test_the_lock_is_one_supervisors(self, instance: Instance) -> None:
        assert not instance.is_supervised()
        with instance.supervised() as ours:
            assert ours
            assert instance.is_supervised()
            with instance.supervised() as second:
                assert not second
            assert instance.is_supervised()
        assert not instance.is_supervised()

    def test_who_only_looks_does_not_keep_a_supervisor_from_starting(self, instance: Instance) -> None:
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

    def test_state_is_written_whole_and_leaves_nothing_else(self, instance: Instance) -> None:
        for number in range(20):
            instance.write_state(number=number)
        assert json.loads(instance.state_file.read_text()) == {"number": 19, "supervisor_pid": os.getpid()}
        assert sorted(path.name for path in instance.directory.iterdir()) == ["logs", "state.json", "tmp"]

    def test_clearing_leaves_the_logs(self, instance: Instance) -> None:
        instance.log("emulator").write_text("said")
        instance.write_state(phase="running")
        instance.write_applied(())
        (instance.temporary / "x").touch()
        instance.clear()
        instance.clear()
        assert sorted(str(path.relative_to(instance.directory)) for path in instance.directory.rglob("*")) == [
            "logs",
            *(f"logs/{name}.log" for name in ("emulator", "functions", "terraform")),
        ]
        assert instance.log("emulator").read_text() == "said"

    def test_kill_orphans_kills_its_own_and_no_others(self, instance: Instance, tmp_path: Path) -> None:
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


def function(**given: Any) -> FunctionConfiguration:
    values: dict[str, Any] = {
        "name": "f",
        "arn": "arn:f",
        "version": "$LATEST",
        "image_uri": "team/refiner",
        "memory_mb": 256,
        "timeout_s": 3,
        "environment": {},
    }
    return FunctionConfiguration(**(values | given))


class TestImages:
    def test_a_function_runs_the_image_of_its_repository(self, tmp_path: Path) -> None:
        images = [ImageSettings("a", "team/other", tmp_path), ImageSettings("b", "team/refiner", tmp_path)]
        uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/refiner@sha256:" + "0" * 64
        assert image_of(function(image_uri=uri), images).name == "b"

    def test_another_image_says_what_to_write_into_the_settings(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="no image of this project") as caught:
            image_of(function(image_uri="ghcr.io/their/image:v1"), [ImageSettings("a", "team/refiner", tmp_path)])
        assert 'repository = "their/image"' in str(caught.value.hint)

    def test_no_image_at_all_is_no_image_uri(self) -> None:
        with pytest.raises(UsageError):
            image_of(function(image_uri=""), [])

    @pytest.mark.parametrize(
        ("dockerfile", "handler"),
        [
            ('FROM x\nCMD ["index.handler"]\n', "index.handler"),
            ('CMD ["first.handler"]\nCMD [ "src/last.handler" ]', "src/last.handler"),
            ('# CMD ["not.this"]\n  CMD ["this.one", "and more"]', "this.one"),
        ],
    )
    def test_the_handler_is_in_the_dockerfiles_last_cmd(self, tmp_path: Path, dockerfile: str, handler: str) -> None:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        assert handler_of(function(), tmp_path) == handler

    def test_the_functions_own_command_goes_first(self, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text('CMD ["index.handler"]')
        assert handler_of(function(command=("other.handler",)), tmp_path) == "other.handler"

    @pytest.mark.parametrize("dockerfile", [None, "", "FROM x", "CMD index.handler", "CMD []", "CMD ['a']"])
    def test_without_one_it_says_where_it_looked(self, tmp_path: Path, dockerfile: str | None) -> None:
        if dockerfile is not None:
            (tmp_path / "Dockerfile").write_text(dockerfile)
        with pytest.raises(RefinerctlError, match="Dockerfile has no CMD"):
            handler_of(function(), tmp_path)

    def test_this_repositorys_image_has_a_handler(self, root: Path) -> None:
        assert handler_of(function(), root / "images" / "refiner") == "index.handler"


class BrokenLogGroups(LogGroups):
    """The emulator is gone already."""

    def __init__(self) -> None:
        pass

    def create_stream(self, group: str, stream: str) -> None:
        raise ConnectionError("gone")


class TestFunctionLogs:
    def test_lines_reach_the_file_at_once_and_the_groups_at_the_end(self, tmp_path: Path) -> None:
        groups = FakeLogGroups()
        logs = FunctionLogs(tmp_path / "functions.log", groups)
        logs.write("f", "stream-1", "r1", "héllo\x1b")
        logs.write("f", "stream-1", "r1", "")
        logs.write("g", "stream-2", "r2", "other")
        records = [json.loads(line) for line in (tmp_path / "functions.log").read_text().splitlines()]
        assert [(r["function"], r["request_id"], r["message"]) for r in records] == [
            ("f", "r1", "héllo\x1b"),
            ("f", "r1", ""),
            ("g", "r2", "other"),
        ]
        logs.close()
        sent = {key: [line for _, line in lines] for key, lines in groups.lines.items()}
        assert sent == {("/aws/lambda/f", "stream-1"): ["héllo\x1b"], ("/aws/lambda/g", "stream-2"): ["other"]}

    def test_many_lines_from_many_threads_all_arrive_in_order(self, tmp_path: Path) -> None:
        groups = FakeLogGroups()
        logs = FunctionLogs(tmp_path / "functions.log", groups)

        def write(stream: str) -> None:
            for number in range(700):
                logs.write("f", stream, "r", f"{number}")

        threads = [threading.Thread(target=write, args=(f"s{index}",)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        logs.close()
        for lines in groups.lines.values():
            assert [line for _, line in lines] == [str(number) for number in range(700)]
        assert len(groups.lines) == 4
        assert len((tmp_path / "functions.log").read_text().splitlines()) == 2800

    def test_log_groups_that_are_gone_do_not_stop_the_file(self, tmp_path: Path) -> None:
        logs = FunctionLogs(tmp_path / "functions.log", BrokenLogGroups())
        for number in range(5):
            logs.write("f", "s", "r", str(number))
        logs.close()
        assert len((tmp_path / "functions.log").read_text().splitlines()) == 5


class TestLocalLogs:
    LINE = json.dumps({"timestamp": "t", "function": "f", "request_id": "r", "message": "said"})

    def test_a_functions_lines_have_fields(self, instance: Instance) -> None:
        instance.log("functions").write_text(f"{self.LINE}\nnot json\n[]\n")
        assert list(local_logs.read(instance, "functions")) == [
            local_logs.LogLine("functions", "said", "t", "f", "r"),
            local_logs.LogLine("functions", "not json"),
            local_logs.LogLine("functions", "[]"),
        ]

    def test_others_are_lines(self, instance: Instance) -> None:
        instance.log("emulator").write_bytes(b"one\ntw\xff\n")
        assert [line.message for line in local_logs.read(instance, "emulator")] == ["one", "tw\ufffd"]

    def test_without_a_file_there_are_none(self, tmp_path: Path) -> None:
        assert list(local_logs.read(Instance(tmp_path / "none"), "functions")) == []
        assert list(local_logs.follow(Instance(tmp_path / "none"), "functions")) == []

    def test_following_ends_when_the_environment_does_with_its_last_lines(
        self, instance: Instance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(local_logs, "LOOK_SECONDS", 0.01)
        log = instance.log("terraform")
        seen: list[str] = []
        with instance.supervised():
            lines: Iterator[local_logs.LogLine] = local_logs.follow(instance, "terraform")
            log.write_text("one\ntwo\nhalf")
            seen += [next(lines).message, next(lines).message]
            with log.open("a") as file:
                file.write(" and half\nlast\n")
        seen += [line.message for line in lines]
        assert seen == ["one", "two", "half and half", "last"]


def _record(at: datetime, **fields: Any) -> LogEvent:
    return LogEvent(at, "/aws/lambda/q", "s", json.dumps({"timestamp": at.isoformat(), **fields}))


class TestObjectPath:
    UPLOAD = Upload("RefinerInput/x", 5, "v2", UploadStatus.COMPLETED, START)

    def hops(self, *events: LogEvent, upload: Upload = UPLOAD) -> list[tuple[str, str]]:
        logs = FakeLogGroups()
        logs.written = list(events)
        return [(hop.station, hop.detail) for hop in object_path(FakeBucket(), logs, upload, "q", "bus")]

    def received(self, message_id: str, version: str | None, key: str = "RefinerInput/x") -> LogEvent:
        return _record(
            START + timedelta(seconds=2),
            message="record received",
            messageId=message_id,
            key=key,
            versionId=version,
            eventTime="2026-03-01T14:00:01Z",
            sentTimestamp=1772373601500,
            requestId="req",
        )

    def test_without_records_only_the_upload_is_known(self) -> None:
        ((station, detail),) = self.hops()
        assert station == "S3"
        assert "s3://data-repository/RefinerInput/x" in detail

    def test_every_station_that_recorded_it(self) -> None:
        hops = self.hops(
            self.received("m1", "v2"),
            _record(START, message="output written", messageId="m1", outputKey="RefinerOutput/1", bytes=5),
            _record(START, message="completion written", messageId="m1", completionKey="RefinerComplete/x.json"),
        )
        assert [station for station, _ in hops] == ["S3", "EventBridge", "SQS", "Lambda", "S3", "S3"]
        assert "RefinerOutput/1 (5 bytes)" in hops[4][1]

    def test_other_versions_other_keys_and_other_text_are_not_its_way(self) -> None:
        hops = self.hops(
            self.received("m1", "v1"),
            self.received("m2", "v2", key="RefinerInput/y"),
            _record(START, message="output written", messageId="m1", outputKey="no"),
            LogEvent(START, "/aws/lambda/q", "s", "START RequestId"),
            LogEvent(START, "/aws/lambda/q", "s", "[]"),
        )
        assert len(hops) == 1

    def test_a_time_that_cannot_be_read_is_none(self) -> None:
        logs = FakeLogGroups()
        logs.written = [
            LogEvent(
                START,
                "/aws/lambda/q",
                "s",
                '{"message": "record received", "key": "RefinerInput/x", "versionId": "v2", "timestamp": 1}',
            )
        ]
        hops = object_path(FakeBucket(), logs, self.UPLOAD, "q", "bus")
        assert [hop.at for hop in hops] == [START, None, None, None]
        assert hops[0].at == datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
