"""Files that are written completely or not at all, also if the power fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from refinerctl.dlq.records import MessageFile
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal
from refinerctl.files import Disk, replacing
from tests.unit.lossy_disk import LossyDisk


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_replaced_file_survives_a_power_failure(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    disk = LossyDisk(tmp_path)
    with replacing(path, disk=disk) as temporary:
        temporary.write_bytes(b"new")
        assert disk.after_power_failure().get("file") == old
    assert disk.after_power_failure() == {"file": b"new"}


def test_saved_messages_survive_a_power_failure(tmp_path: Path) -> None:
    disk = LossyDisk(tmp_path)
    with MessageFile(tmp_path / "saved.jsonl", disk) as file:
        file.append(["one", "two"])
        assert disk.after_power_failure() == {"saved.jsonl": b"one\ntwo\n"}
        file.append(["three"])
        assert disk.after_power_failure() == {"saved.jsonl": b"one\ntwo\nthree\n"}


def test_a_journal_survives_a_power_failure_before_anything_is_sent_or_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "redrives"
    folder.mkdir()
    disk = LossyDisk(folder)
    with RedriveJournal.begin(tmp_path, JournalHeader("https://sqs/q", "q"), disk) as journal:
        journal.received([("1", "receipt")])
        journal.left(["1"])
        assert b'"left":["1"]' in disk.after_power_failure()[journal.path.name]
        journal.sent([("1", "new")])
        assert b'"sent":[["1","new"]]' in disk.after_power_failure()[journal.path.name]


def test_a_disk_syncs() -> None:
    """A pipe and a folder of /proc cannot be synced."""
    ends = os.pipe()
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        Disk().sync(ends[1])
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        Disk().sync_folder(Path("/proc"))
    for end in ends:
        os.close(end)
