"""Uploads: which file to which key, checked before the first byte is sent; then the sending itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from refinerctl.console import Progress
from refinerctl.errors import NotFoundError, UsageError
from refinerctl.inputs.follow import UploadStatus
from refinerctl.inputs.upload import UploadSource, collect, send
from tests.unit.fakes import FakeBucket, Recorder

NOBODY = 65534


def keys(*paths: Path | str, recursive: bool = False, name: str | None = None, prefix: str = "In/") -> list[str]:
    return [source.key for source in collect([str(path) for path in paths], prefix, recursive=recursive, name=name)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.txt", "sub/deep/c.txt", "sub/a.txt"):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "tree"


class TestFiles:
    def test_a_file_keeps_its_name_below_the_prefix(self, tree: Path) -> None:
        (source,) = collect([str(tree / "sub" / "a.txt")], "/In/", recursive=False, name=None)
        assert source == UploadSource("In/a.txt", tree / "sub" / "a.txt", len("sub/a.txt"))

    def test_files_keep_their_order(self, tree: Path) -> None:
        assert keys(tree / "b.txt", tree / "a.txt") == ["In/b.txt", "In/a.txt"]

    def test_name_replaces_the_file_name(self, tree: Path) -> None:
        assert keys(tree / "a.txt", name="2026/x y.txt") == ["In/2026/x y.txt"]

    def test_an_empty_file_is_uploaded(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        assert collect([str(tmp_path / "empty")], "In/", recursive=False, name=None)[0].size == 0

    def test_unusual_names_are_not_changed(self, tmp_path: Path) -> None:
        name = "50% a+b & c=d Übergröße 報告 🧪\n.txt"
        (tmp_path / name).touch()
        assert keys(tmp_path / name) == [f"In/{name}"]

    def test_a_name_that_is_not_utf_8_is_refused(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9.txt")
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match="not UTF-8"):
            keys(tmp_path / name)

    def test_a_key_over_1024_bytes_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / ("d" * 250)
        folder.mkdir()
        (folder / ("f" * 250)).touch()
        assert keys(folder, recursive=True, prefix="p" * 700 + "/")
        with pytest.raises(UsageError, match="1024"):
            keys(folder, recursive=True, prefix="p" * 774 + "/")

    def test_a_symbolic_link_to_a_file_is_followed(self, tree: Path) -> None:
        (tree / "link").symlink_to("a.txt")
        assert keys(tree / "link") == ["In/link"]


class TestFolders:
    def test_files_of_a_folder_keep_their_paths_in_sorted_order(self, tree: Path) -> None:
        assert keys(tree, recursive=True) == ["In/a.txt", "In/b.txt", "In/sub/a.txt", "In/sub/deep/c.txt"]

    def test_a_trailing_slash_or_dot_makes_no_difference(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tree)
        expected = keys(tree, recursive=True)
        assert keys(f"{tree}/", recursive=True) == expected
        assert keys(".", recursive=True) == expected

    def test_without_recursive_a_folder_is_refused(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="is a folder") as caught:
            keys(tree)
        assert "--recursive" in str(caught.value.hint)

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no files to upload"):
            keys(tmp_path, recursive=True)

    def test_a_folder_with_name_is_refused(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="--name"):
            keys(tree, recursive=True, name="x")

    def test_a_link_to_a_folder_above_does_not_loop(self, tree: Path) -> None:
        (tree / "sub" / "up").symlink_to(tree, target_is_directory=True)
        assert keys(tree, recursive=True) == ["In/a.txt", "In/b.txt", "In/sub/a.txt", "In/sub/deep/c.txt"]

    def test_a_link_to_itself_is_an_error(self, tree: Path) -> None:
        (tree / "loop").symlink_to("loop")
        with pytest.raises(UsageError, match="loop"):
            keys(tree, recursive=True)

    def test_a_dangling_link_is_an_error(self, tree: Path) -> None:
        (tree / "gone").symlink_to("nowhere")
        with pytest.raises(UsageError, match=r"file .*gone does not exist"):
            keys(tree, recursive=True)


class TestStandardInput:
    def test_standard_input_needs_a_name(self) -> None:
        assert collect(["-"], "In/", recursive=False, name="a/b") == [UploadSource("In/a/b", None, None)]
        for name in (None, ""):
            with pytest.raises(UsageError, match="standard input has no name"):
                keys("-", name=name)


class TestRefused:
    def test_one_name_for_several_files(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="--name needs exactly one"):
            keys(tree / "a.txt", tree / "b.txt", name="x")

    def test_two_files_for_one_key(self, tree: Path) -> None:
        with pytest.raises(UsageError, match=r"a\.txt and .*a\.txt have the same key In/a\.txt"):
            keys(tree / "a.txt", tree / "sub" / "a.txt")

    def test_the_same_file_twice(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="same key"):
            keys(tree / "a.txt", tree / "a.txt")

    def test_standard_input_twice(self) -> None:
        with pytest.raises(UsageError):
            keys("-", "-", name="x")

    def test_a_file_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="does not exist"):
            keys(tmp_path / "nothing")

    def test_a_path_through_a_file(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="does not exist"):
            keys(tree / "a.txt" / "x")

    def test_a_named_pipe_with_a_hint_to_use_standard_input(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="not a regular file") as caught:
            keys(tmp_path / "pipe")
        assert "upload -" in str(caught.value.hint)

    def test_an_invalid_prefix(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="not a prefix"):
            keys(tree / "a.txt", prefix="In")


def _as_nobody(folder: Path) -> str:
    """What `collect` says in a child that is nobody: root may read everything."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "the child failed"
        try:
            os.chdir(folder)  # relative paths from here on: the folders above are not nobody's business
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            said = str([source.key for source in collect(["."], "In/", recursive=True, name=None)])
        except UsageError as error:
            said = f"refused: {error.message}"
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


class TestUnreadable:
    def test_readable_files_are_collected_without_root(self, tree: Path) -> None:
        assert _as_nobody(tree) == "['In/a.txt', 'In/b.txt', 'In/sub/a.txt', 'In/sub/deep/c.txt']"

    def test_an_unreadable_file_is_refused_before_anything_is_sent(self, tree: Path) -> None:
        (tree / "b.txt").chmod(0)
        assert _as_nobody(tree) == "refused: b.txt cannot be read: permission denied"

    def test_an_unreadable_folder_is_refused_not_skipped(self, tree: Path) -> None:
        (tree / "sub").chmod(0)
        try:
            assert _as_nobody(tree).startswith("refused: ")
        finally:
            (tree / "sub").chmod(0o755)


@pytest.fixture
def bucket() -> FakeBucket:
    return FakeBucket()


def files(folder: Path, *names: str) -> list[UploadSource]:
    sources = []
    for name in names:
        (folder / name).write_text(f"content of {name}")
        sources.append(UploadSource(f"RefinerInput/{name}", folder / name, (folder / name).stat().st_size))
    return sources


class TestSend:
    def test_uploads_have_versions_and_sizes_in_the_order_of_the_sources(
        self, bucket: FakeBucket, tmp_path: Path
    ) -> None:
        sources = files(tmp_path, *(f"{number}.txt" for number in range(20)))
        progress = Recorder()
        done = send(bucket, sources, progress)
        assert [item.key for item in done] == [source.key for source in sources]
        assert all(item.status is UploadStatus.UPLOADED for item in done)
        assert [item.size for item in done] == [source.size for source in sources]
        for item in done:
            found = bucket.head(item.key)
            assert found is not None
            assert item.version_id == found.version_id
        assert progress.done == sum(source.size or 0 for source in sources)

    def test_standard_input_is_read_to_its_end(self, bucket: FakeBucket, monkeypatch: pytest.MonkeyPatch) -> None:
        reading, writing = os.pipe()
        monkeypatch.setattr("sys.stdin", os.fdopen(reading))
        threading.Thread(target=_write_slowly, args=(writing, [b"x" * 50_000, b"y" * 50_000])).start()
        (item,) = send(bucket, [UploadSource("RefinerInput/x", None, None)], Progress())
        assert item.size == 100_000
        assert bucket.content("RefinerInput/x") == b"x" * 50_000 + b"y" * 50_000

    def test_a_failed_upload_does_not_stop_the_others(self, bucket: FakeBucket, tmp_path: Path) -> None:
        sources = files(tmp_path, "a", "b", "c", "d")
        bucket.denied.add("RefinerInput/b")
        (tmp_path / "c").unlink()
        done = send(bucket, sources, Progress())
        assert [item.status.value for item in done] == ["uploaded", "failed", "failed", "uploaded"]
        assert "access denied" in str(done[1].error)
        assert "No such file" in str(done[2].error)
        assert done[1].version_id is None

    def test_nothing_is_sent_if_the_bucket_does_not_exist(self, bucket: FakeBucket, tmp_path: Path) -> None:
        bucket.exists = False
        with pytest.raises(NotFoundError):
            send(bucket, files(tmp_path, "a"), Progress())
        assert bucket.requests["put"] == 0

    def test_an_interrupt_stops_running_and_waiting_uploads(self, bucket: FakeBucket) -> None:
        """Each source is endless: only the interrupt can end it."""
        sources = [UploadSource(f"RefinerInput/{number}", Path("/dev/zero"), None) for number in range(200)]
        once = threading.Lock()

        def interrupt(_key: str) -> None:
            if once.acquire(blocking=False):
                os.kill(os.getpid(), signal.SIGINT)

        bucket.on_put = interrupt
        with pytest.raises(KeyboardInterrupt):
            send(bucket, sources, Progress())
        assert bucket.requests["put"] < len(sources)


def _write_slowly(descriptor: int, chunks: list[bytes]) -> None:
    with os.fdopen(descriptor, "wb", buffering=0) as pipe:
        for chunk in chunks:
            time.sleep(0.3)  # longer than one poll of the pipe
            pipe.write(chunk)
