"""Reading outputs in part, and saving them as files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refinerctl.errors import RefinerctlError
from refinerctl.inputs.outputs import ListedOutput, read_outputs, save_outputs, target_path
from tests.unit.fakes import FakeBucket


@pytest.fixture
def bucket() -> FakeBucket:
    return FakeBucket()


class TestReadOutputs:
    @pytest.mark.parametrize(
        ("limit", "content", "truncated"),
        [(0, b"", True), (2, b"he", True), (5, b"hello", False), (9, b"hello", False)],
    )
    def test_at_most_the_limit_is_read(self, bucket: FakeBucket, limit: int, content: bytes, truncated: bool) -> None:
        bucket.write("o", b"hello")
        assert read_outputs(bucket, limit)("o") == ListedOutput("o", 5, content, truncated)

    def test_an_empty_output_is_not_truncated(self, bucket: FakeBucket) -> None:
        bucket.write("o", b"")
        assert read_outputs(bucket, 0)("o") == ListedOutput("o", 0, b"")


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


class TestSaveOutputs:
    def test_an_output_is_saved_under_its_key(self, bucket: FakeBucket, tmp_path: Path) -> None:
        key = "RefinerOutput/50% a+b/Übergröße 報告 🧪.txt"
        content = os.urandom(3_000_000)
        bucket.write(key, content)
        found = save_outputs(bucket, tmp_path / "new" / "folder")(key)
        assert found == ListedOutput(key, len(content), path=tmp_path / "new" / "folder" / key)
        assert found.path is not None
        assert found.path.read_bytes() == content

    def test_an_earlier_file_is_replaced(self, bucket: FakeBucket, tmp_path: Path) -> None:
        save = save_outputs(bucket, tmp_path)
        for content in (b"longer content", b"short"):
            bucket.write("o", content)
            save("o")
        assert (tmp_path / "o").read_bytes() == b"short"
        assert _files(tmp_path) == ["o"]

    def test_the_file_mode_follows_the_umask(self, bucket: FakeBucket, tmp_path: Path) -> None:
        bucket.write("o", b"x")
        save_outputs(bucket, tmp_path)("o")
        (tmp_path / "plain").touch()
        assert (tmp_path / "o").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_a_lost_connection_leaves_no_file(self, bucket: FakeBucket, tmp_path: Path) -> None:
        bucket.write("sub/o", b"x" * 1000)
        bucket.broken["sub/o"] = 100
        found = save_outputs(bucket, tmp_path)("sub/o")
        assert "connection lost" in str(found.error)
        assert found.path is None
        assert _files(tmp_path) == []

    def test_a_lost_connection_keeps_the_earlier_file(self, bucket: FakeBucket, tmp_path: Path) -> None:
        (tmp_path / "o").write_bytes(b"earlier")
        bucket.write("o", b"x" * 1000)
        bucket.broken["o"] = 100
        assert save_outputs(bucket, tmp_path)("o").error
        assert (tmp_path / "o").read_bytes() == b"earlier"
        assert _files(tmp_path) == ["o"]

    def test_a_missing_output_makes_no_folders(self, bucket: FakeBucket, tmp_path: Path) -> None:
        assert "does not exist" in str(save_outputs(bucket, tmp_path)("a/b").error)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "key",
        ["../x", "a/../../x", "..", ".", "a/./b", "a//b", "a/", "/etc/x", "", "a\0b", "a/..", "./x", "n" * 300],
    )
    def test_a_key_that_is_no_path_below_the_folder_is_an_error_of_that_output(
        self, bucket: FakeBucket, tmp_path: Path, key: str
    ) -> None:
        folder = tmp_path / "inside"
        folder.mkdir()
        bucket.write(key, b"bad")
        found = save_outputs(bucket, folder)(key)
        assert found.error
        assert found.path is None
        assert _files(tmp_path) == []

    def test_a_symbolic_link_out_of_the_folder_is_refused(self, bucket: FakeBucket, tmp_path: Path) -> None:
        folder, outside = tmp_path / "inside", tmp_path / "outside"
        folder.mkdir()
        outside.mkdir()
        (outside / "file").write_bytes(b"theirs")
        (folder / "link").symlink_to(outside, target_is_directory=True)
        (folder / "file-link").symlink_to(outside / "file")
        for key in ("link/o", "link/file", "file-link"):
            bucket.write(key, b"bad")
            assert save_outputs(bucket, folder)(key).error
        assert _files(outside) == ["file"]
        assert (outside / "file").read_bytes() == b"theirs"

    def test_a_symbolic_link_inside_the_folder_is_followed(self, bucket: FakeBucket, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real", target_is_directory=True)
        bucket.write("link/o", b"fine")
        assert save_outputs(bucket, tmp_path)("link/o").error is None
        assert (tmp_path / "real" / "o").read_bytes() == b"fine"

    def test_a_key_that_is_the_folder_of_another_is_an_error(self, bucket: FakeBucket, tmp_path: Path) -> None:
        save = save_outputs(bucket, tmp_path)
        for key in ("a", "a/b"):
            bucket.write(key, b"x")
        assert save("a").error is None
        assert save("a/b").error
        bucket.write("c/d", b"x")
        bucket.write("c", b"x")
        assert save("c/d").error is None
        assert save("c").error
        assert _files(tmp_path) == ["a", "c/d"]

    def test_an_output_with_access_denied_is_an_error(self, bucket: FakeBucket, tmp_path: Path) -> None:
        bucket.denied.add("o")
        assert "access denied" in str(save_outputs(bucket, tmp_path)("o").error)


class TestTargetPath:
    @given(
        st.lists(st.sampled_from(["..", ".", "", "a", "link", "b c", "\0", "…", "\ud800"]) | st.text(), max_size=5).map(
            "/".join
        )
    )
    @example("link/../../x")
    @example("\ud800")
    def test_no_key_leaves_the_folder(self, tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
        base = tmp_path_factory.getbasetemp() / "targets"
        folder = base / "inside"
        if not folder.exists():
            folder.mkdir(parents=True)
            (base / "outside").mkdir()
            (folder / "link").symlink_to(base / "outside")
        try:
            target = target_path(folder, key)
        except RefinerctlError:
            return
        assert target.resolve().is_relative_to(folder.resolve())
        assert target.resolve() != folder.resolve()
        assert str(target.relative_to(folder)) == key
