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

import pytest

from refinerctl.dlq.redrive.journal import KEPT_DAYS, JournalHeader, RedriveJournal, boot_id, find
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError

HEADER = JournalHeader("https://sqs/q-dlq", "q-dlq", {"rate": 5, "to": None})
START = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a run that was killed: 1 moved, 2 sent, 3 may have been, 4 was refused, 5 in hand, 6 to be given back."""
    with RedriveJournal.begin(tmp_path, HEADER) as journal:
        journal.begin_part(START)
        journal.held([(str(number), f"receipt {number}") for number in range(1, 7)])
        journal.intent(["1", "2", "3", "4"], "https://sqs/q")
        journal.left(["1", "2", "3", "4"])
        journal.refused(["4"])
        journal.sent([("1", "new 1"), ("2", "new 2")])
        journal.deleted(["1"])
        journal.aside(["6"])
    return journal.path


class TestResuming:
    def test_it_knows_what_is_unsettled(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            state = journal.state
            assert journal.header == HEADER
            assert (state.moved, state.dropped, journal.is_finished) == (1, 0, False)
            assert {key: (item.receipt, item.lefts, item.new_id) for key, item in state.unsettled.items()} == {
                "2": ("receipt 2", 1, "new 2"),
                "3": ("receipt 3", 1, None),
                "4": ("receipt 4", 0, None),
                "5": ("receipt 5", 0, None),
                "6": ("receipt 6", 0, None),
            }
            assert state.is_ours("new 1")
            assert not state.is_ours("new 3")
            assert journal.was_deleted("1")
            assert not journal.was_deleted("2")
            assert journal.was_sent("new 1")
            assert not journal.was_sent("new 3")

    def test_what_was_not_heard_of_counts_until_it_is_settled(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            assert journal.state.sent_twice == 2  # 2 is in both queues, 3 may be
            journal.deleted(["2"])
            assert journal.state.sent_twice == 1
            journal.held([("3", "another receipt")])
            journal.left(["3"])
            journal.sent([("3", "new 3")])
            journal.deleted(["3"])
            assert (journal.state.moved, journal.state.sent_twice) == (3, 1)

    def test_a_later_part_keeps_the_first_start(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            assert journal.begin_part(datetime(2026, 3, 2, tzinfo=UTC)) == START

    def test_after_a_power_cut_what_was_intended_may_have_left(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            journal.begin_part(START)
            journal.intent(["4", "5"], "https://sqs/q")
            journal.left(["4"])
        parts = [line for line in path.read_text().splitlines() if "boot" in line]
        assert json.loads(parts[-1])["boot"] == boot_id()
        for boot, twice in ((boot_id(), 3), ("another", 4), ("another", 4)):
            with path.open("a") as file:
                file.write(json.dumps({"part": START.isoformat(), "boot": boot}) + "\n")
            with RedriveJournal.resume(path) as journal:
                assert journal.state.sent_twice == twice

    def test_memory_grows_with_what_is_unsettled_only(self, tmp_path: Path) -> None:
        with RedriveJournal.begin(tmp_path, HEADER) as journal:
            for number in range(3_000):
                journal.held([(f"{number}", "receipt")])
                journal.left([f"{number}"])
                journal.sent([(f"{number}", f"new {number}")])
                journal.deleted([f"{number}"])
            assert journal.state.unsettled == {}
        with RedriveJournal.resume(journal.path) as resumed:
            assert (resumed.state.unsettled, resumed.state.moved) == ({}, 3_000)
            assert all(resumed.state.is_ours(f"new {number}") for number in range(3_000))

    def test_a_finished_one_has_nothing_left(self, path: Path) -> None:
        with RedriveJournal.resume(path) as journal:
            journal.finish()
        with RedriveJournal.resume(path) as journal:
            assert journal.is_finished


class TestDamage:
    @pytest.mark.parametrize("torn", [b'{"held":[["9","rec', b"\0" * 100, b"\0" * 50 + b"\n"])
    def test_a_torn_end_is_cut_off(self, path: Path, torn: bytes) -> None:
        whole = path.read_bytes()
        path.write_bytes(whole + torn)
        with RedriveJournal.resume(path) as journal:
            journal.returned(["5"])
        assert path.read_bytes() == whole + b'{"returned":["5"]}\n'

    @pytest.mark.parametrize("line", [b"what\n", b'{"moved":["1"]}\n', b'{"left":["99"]}\n', b'{"sent":5}\n', b"[]\n"])
    def test_in_the_middle_it_is_said(self, path: Path, line: bytes) -> None:
        path.write_bytes(path.read_bytes() + line + b'{"returned":["5"]}\n')
        with pytest.raises(RefinerctlError, match="damaged in line 10"):
            RedriveJournal.resume(path)

    @pytest.mark.parametrize("content", [b"", b"{}\n", b"not JSON\n", b'{"redrive":99}\n'])
    def test_what_is_no_journal(self, tmp_path: Path, content: bytes) -> None:
        other = tmp_path / "other.jsonl"
        other.write_bytes(content)
        with pytest.raises(RefinerctlError, match=r"other\.jsonl"):
            RedriveJournal.resume(other)

    def test_none_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError):
            RedriveJournal.resume(tmp_path / "none.jsonl")

    def test_a_folder_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "redrives").write_text("a file")
        with pytest.raises(RefinerctlError, match="cannot write a journal to"):
            RedriveJournal.begin(tmp_path, HEADER)

    def test_after_the_disk_has_failed_it_is_not_trusted_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Linux tells of a write that failed once, and says next time that all is well."""
        fdatasync, failures = os.fdatasync, [OSError(errno.EIO, "Input/output error")]

        def fail_once(descriptor: int) -> None:
            if failures:
                raise failures.pop()
            fdatasync(descriptor)

        with RedriveJournal.begin(tmp_path, HEADER) as journal:
            monkeypatch.setattr(os, "fdatasync", fail_once)
            for ids in (["1"], ["2"]):
                with pytest.raises(RefinerctlError, match="Input/output error"):
                    journal.intent(ids, "https://sqs/q")

    def test_nothing_is_written_after_half_a_line(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write = os.write

        def fail(descriptor: int, size: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with RedriveJournal.resume(path) as journal:
            monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:5]))
            monkeypatch.setattr(os, "ftruncate", fail)
            with pytest.raises(RefinerctlError):
                journal.returned(["5"])
            monkeypatch.undo()
            with pytest.raises(RefinerctlError):
                journal.returned(["5"])
        RedriveJournal.resume(path).close()

    def test_after_its_end_nothing_is_written(self, path: Path) -> None:
        journal = RedriveJournal.resume(path)
        journal.close()
        before = path.read_bytes()
        with pytest.raises(RefinerctlError, match="cannot write the journal"):
            journal.deleted(["2"])
        assert path.read_bytes() == before


class TestFiles:
    def test_only_its_owner_can_read_it(self, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_two_cannot_have_it(self, path: Path) -> None:
        with RedriveJournal.resume(path), pytest.raises(RefusedError):
            RedriveJournal.resume(path)
        RedriveJournal.resume(path).close()

    def test_they_are_found_newest_first(self, tmp_path: Path, path: Path) -> None:
        other = JournalHeader("https://sqs/other", "a queue/of any name")
        with RedriveJournal.begin(tmp_path, other) as second:
            second.finish()
        (path.parent / "torn.jsonl").write_text('{"redri')
        assert [(found.path, found.is_finished) for found in find(tmp_path)] == [(second.path, True), (path, False)]
        assert [found.header for found in find(tmp_path, HEADER.source_url)] == [HEADER]
        assert find(tmp_path / "nowhere") == []

    def test_one_that_was_killed_before_its_header_was_written_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def kill(descriptor: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fdatasync", kill)
        with pytest.raises(KeyboardInterrupt):
            RedriveJournal.begin(tmp_path, HEADER)
        assert not list(tmp_path.rglob("*.jsonl"))

    def test_those_finished_long_ago_are_removed(self, tmp_path: Path, path: Path) -> None:
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
                    journal.intent([f"{thread}-{number}"], "https://sqs/q")

            threads = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
        assert len({line["intent"][0] for line in lines[1:]}) == 400
