"""The output of functions, in the file and in the log groups."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from refinerctl.aws.logs import LogGroups
from refinerctl.local.function_logs import FunctionLogs
from tests.unit.fakes import FakeLogGroups


class BrokenLogGroups(LogGroups):
    """The emulator has ended already."""

    def __init__(self) -> None:
        pass

    def create_stream(self, group: str, stream: str) -> None:
        raise ConnectionError("gone")


class TestFunctionLogs:
    def test_lines_are_in_the_file_at_once_and_in_the_groups_after_close(self, tmp_path: Path) -> None:
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

    def test_lines_of_several_threads_keep_their_order(self, tmp_path: Path) -> None:
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

    def test_an_emulator_that_has_ended_does_not_stop_the_file(self, tmp_path: Path) -> None:
        logs = FunctionLogs(tmp_path / "functions.log", BrokenLogGroups())
        for number in range(5):
            logs.write("f", "s", "r", str(number))
        logs.close()
        assert len((tmp_path / "functions.log").read_text().splitlines()) == 5
