"""The journal as a file: what it survives, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import pytest

from refinerctl.dlq.redrive.journal import KEPT_DAYS, JournalHeader, RedriveJournal, find
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError
from refinerctl.files import Disk

HEADER = JournalHeader("https://sqs/q-dlq", "q-dlq", {"rate": 5, "to": None})
START = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a run that was killed: 1 moved, 2 sent, 3 may have been, 4 was refused, 5 in hand, 6 held."""
    with RedriveJournal.begin(tmp_path, HEADER) as journal:
        journal.begin_part(START)
        journal.received([(str(number), f"receipt {number}") for number in range(1, 7)])
        journal.left(["1", "2", "3", "4"])
        journal.refused(["4"])
        journal.sent([("1", "new 1"), ("2", "new 2")])
        journal.deleted(["1"])
        journal.forget(["6"])
    return journal.path


class TestResuming:
    def test_the_state_is_restored(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            state = journal.state
            assert journal.header == HEADER
            assert (state.moved, journal.is_finished) == (1, False)
            assert {key: (item.receipt, item.sends, item.new_id) for key, item in state.unsettled.items()} == {
                "2": ("receipt 2", 1, "new 2"),
                "3": ("receipt 3", 1, None),
                "4": ("receipt 4", 0, None),
                "5": ("receipt 5", 0, None),
                "6": ("receipt 6", 0, None),
            }
            assert state.may_be_new_id("new 1")
            assert not state.may_be_new_id("new 3")
            assert journal.was_deleted("1")
            assert not journal.was_deleted("2")
            assert journal.is_new_id("new 1")
            assert not journal.is_new_id("new 3")

    def test_uncertain_sends_count_until_the_message_is_deleted(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            assert journal.state.sent_twice == 2  # 2 is in both queues, 3 may be
            journal.deleted(["2"])
            assert journal.state.sent_twice == 1
            journal.received([("3", "another receipt")])
            journal.left(["3"])
            journal.sent([("3", "new 3")])
            journal.deleted(["3"])
            assert (journal.state.moved, journal.state.sent_twice) == (3, 1)

    def test_a_later_part_keeps_the_first_start(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            assert journal.begin_part(datetime(2026, 3, 2, tzinfo=UTC)) == START

    def test_the_state_does_not_grow_with_moved_messages(self, tmp_path: Path) -> None:
        with RedriveJournal.begin(tmp_path, HEADER) as journal:
            for number in range(3_000):
                journal.received([(f"{number}", "receipt")])
                journal.left([f"{number}"])
                journal.sent([(f"{number}", f"new {number}")])
                journal.deleted([f"{number}"])
            assert journal.state.unsettled == {}
        with RedriveJournal.resume(journal.path) as resumed:
            assert (resumed.state.unsettled, resumed.state.moved) == ({}, 3_000)
            assert all(resumed.state.may_be_new_id(f"new {number}") for number in range(3_000))

    def test_a_finished_run_stays_finished(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            journal.finish()
        with RedriveJournal.resume(path) as journal:
            assert journal.is_finished


class TestDamage:
    @pytest.mark.parametrize("torn", [b'{"received":[["9","rec', b"\0" * 100, b"\0" * 50 + b"\n"])
    def test_an_incomplete_last_line_is_cut_off(self, path: Path, torn: bytes) -> None:
        whole = path.read_bytes()
        path.write_bytes(whole + torn)
        with RedriveJournal.resume(path) as journal:
            journal.released(["5"])
        assert path.read_bytes() == whole + b'{"released":["5"]}\n'

    @pytest.mark.parametrize("line", [b"what\n", b'{"moved":["1"]}\n', b'{"left":["99"]}\n', b'{"sent":5}\n', b"[]\n"])
    def test_a_damaged_line_is_named(self, path: Path, line: bytes) -> None:
        path.write_bytes(path.read_bytes() + line + b'{"released":["5"]}\n')
        with pytest.raises(RefinerctlError, match="damaged in line 8"):
            RedriveJournal.resume(path)

    @pytest.mark.parametrize("content", [b"", b"{}\n", b"not JSON\n", b'{"redrive":99}\n'])
    def test_other_files_are_refused(self, tmp_path: Path, content: bytes) -> None:
        other = tmp_path / "other.jsonl"
        other.write_bytes(content)
        with pytest.raises(RefinerctlError, match=r"other\.jsonl"):
            RedriveJournal.resume(other)

    def test_a_missing_journal(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError):
            RedriveJournal.resume(tmp_path / "none.jsonl")

    def test_a_folder_that_is_not_writable(self, tmp_path: Path) -> None:
        (tmp_path / "redrives").write_text("a file")
        with pytest.raises(RefinerctlError, match="cannot write a journal to"):
            RedriveJournal.begin(tmp_path, HEADER)

    @pytest.mark.parametrize("what", ["sync", "write", "half a line"])
    def test_after_a_failure_nothing_is_written(self, path: Path, what: str) -> None:
        """Linux reports a failed write once, and an incomplete line can only be the last one."""

        class FailsOnce(Disk):
            failures: ClassVar = [OSError(errno.EIO, "Input/output error")]

            def write(self, descriptor: int, line: bytes) -> int:
                if what == "write" and self.failures:
                    raise self.failures.pop()
                return super().write(descriptor, line[:5] if what == "half a line" else line)

            def sync(self, descriptor: int) -> None:
                if what == "sync" and self.failures:
                    raise self.failures.pop()

        with RedriveJournal.resume(path, FailsOnce()) as journal:
            for _ in range(2):
                with pytest.raises(RefinerctlError, match="cannot write journal"):
                    journal.left(["5"])
        with RedriveJournal.resume(path) as journal:
            journal.released(["5"])

    def test_a_closed_journal_writes_nothing(self, path: Path) -> None:
        journal = RedriveJournal.resume(path)
        journal.close()
        before = path.read_bytes()
        with pytest.raises(RefinerctlError, match="cannot write journal"):
            journal.deleted(["2"])
        assert path.read_bytes() == before


class TestFiles:
    def test_files_are_private(self, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_a_journal_is_locked(self, path: Path) -> None:
        with RedriveJournal.resume(path), pytest.raises(RefusedError):
            RedriveJournal.resume(path)
        RedriveJournal.resume(path).close()

    def test_journals_are_found_newest_first(self, tmp_path: Path, path: Path) -> None:
        other = JournalHeader("https://sqs/other", "a queue/of any name")
        with RedriveJournal.begin(tmp_path, other) as second:
            second.finish()
        (path.parent / "torn.jsonl").write_text('{"redri')
        assert [(found.path, found.is_finished) for found in find(tmp_path)] == [(second.path, True), (path, False)]
        assert [found.header for found in find(tmp_path, HEADER.source_url)] == [HEADER]
        assert find(tmp_path / "nowhere") == []

    def test_a_run_killed_before_its_header_is_written_has_no_journal(self, tmp_path: Path) -> None:
        class Killed(Disk):
            def sync(self, descriptor: int) -> None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            RedriveJournal.begin(tmp_path, HEADER, Killed())
        assert not list(tmp_path.rglob("*.jsonl"))

    def test_old_finished_journals_are_removed(self, tmp_path: Path, path: Path) -> None:
        ended = []
        for _ in range(2):
            with RedriveJournal.begin(tmp_path, HEADER) as journal:
                journal.finish()
            ended.append(journal.path)
        never_begun = path.with_suffix(".new")
        never_begun.touch()
        month_ago = time.time() - (KEPT_DAYS + 1) * 86_400
        for old in (path, ended[0], never_begun):
            os.utime(old, (month_ago, month_ago))
        with RedriveJournal.begin(tmp_path, HEADER) as journal:
            assert set(path.parent.iterdir()) == {path, ended[1], journal.path}

    def test_many_threads_write_whole_lines(self, tmp_path: Path) -> None:
        with RedriveJournal.begin(tmp_path, HEADER) as journal:

            def write(thread: int) -> None:
                for number in range(50):
                    journal.left([f"{thread}-{number}"])

            threads = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
        assert len({line["left"][0] for line in lines[1:]}) == 400
