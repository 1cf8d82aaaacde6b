"""Reading and following the log files of the local environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from refinerctl.embedded import Instance
from refinerctl.local.logs import follow_lines, read_lines


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    instance = Instance(tmp_path / "instance")
    instance.prepare()
    return instance


class TestLogs:
    LINE = json.dumps({"timestamp": "t", "function": "f", "request_id": "r", "message": "said"})

    def test_lines_of_functions_have_fields(self, instance: Instance) -> None:
        instance.log("functions").write_text(f"{self.LINE}\nnot json\n[]\n")
        assert list(read_lines(instance, "functions")) == [
            {"source": "functions", "message": "said", "timestamp": "t", "function": "f", "request_id": "r"},
            {"source": "functions", "message": "not json"},
            {"source": "functions", "message": "[]"},
        ]

    def test_other_logs_are_plain_lines(self, instance: Instance) -> None:
        instance.log("emulator").write_bytes(b"one\ntw\xff\n")
        assert [line["message"] for line in read_lines(instance, "emulator")] == ["one", "tw\ufffd"]

    def test_without_a_file_there_are_no_lines(self, tmp_path: Path) -> None:
        assert list(read_lines(Instance(tmp_path / "none"), "functions")) == []
        assert list(follow_lines(Instance(tmp_path / "none"), "functions")) == []

    def test_following_stops_after_the_last_line_when_the_environment_is_down(self, instance: Instance) -> None:
        log = instance.log("terraform")
        seen: list[str] = []
        with instance.supervised():
            lines: Iterator[dict[str, str]] = follow_lines(instance, "terraform", interval_s=0.01)
            log.write_text("one\ntwo\nhalf")
            seen += [next(lines)["message"], next(lines)["message"]]
            with log.open("a") as file:
                file.write(" and half\nlast\n")
        seen += [line["message"] for line in lines]
        assert seen == ["one", "two", "half and half", "last"]
