"""What is uploaded to which key, decided before the first byte is sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refinerctl.errors import UsageError
from refinerctl.inputs.types import UploadSource
from refinerctl.inputs.upload import collect

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
    def test_a_file_goes_below_the_prefix_under_its_own_name(self, tree: Path) -> None:
        (source,) = collect([str(tree / "sub" / "a.txt")], "/In/", recursive=False, name=None)
        assert source == UploadSource("In/a.txt", tree / "sub" / "a.txt", len("sub/a.txt"))

    def test_several_keep_their_order(self, tree: Path) -> None:
        assert keys(tree / "b.txt", tree / "a.txt") == ["In/b.txt", "In/a.txt"]

    def test_a_name_replaces_the_files_own(self, tree: Path) -> None:
        assert keys(tree / "a.txt", name="2026/x y.txt") == ["In/2026/x y.txt"]

    def test_an_empty_file_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        assert collect([str(tmp_path / "empty")], "In/", recursive=False, name=None)[0].size == 0

    def test_odd_names_are_taken_as_they_are(self, tmp_path: Path) -> None:
        name = "50% a+b & c=d Übergröße 報告 🧪\n.txt"
        (tmp_path / name).touch()
        assert keys(tmp_path / name) == [f"In/{name}"]

    def test_a_name_that_is_not_utf_8_is_refused(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9.txt")
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match="not UTF-8"):
            keys(tmp_path / name)

    def test_a_key_that_gets_too_long_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / ("d" * 250)
        folder.mkdir()
        (folder / ("f" * 250)).touch()
        assert keys(folder, recursive=True, prefix="p" * 700 + "/")
        with pytest.raises(UsageError, match="1024"):
            keys(folder, recursive=True, prefix="p" * 774 + "/")

    def test_a_symbolic_link_to_a_file_is_the_file(self, tree: Path) -> None:
        (tree / "link").symlink_to("a.txt")
        assert keys(tree / "link") == ["In/link"]


class TestFolders:
    def test_a_folders_files_keep_their_paths_in_a_fixed_order(self, tree: Path) -> None:
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
        with pytest.raises(UsageError, match="no file in"):
            keys(tmp_path, recursive=True)

    def test_a_folder_cannot_have_one_name(self, tree: Path) -> None:
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
        with pytest.raises(UsageError, match=r"no file .*gone"):
            keys(tree, recursive=True)


class TestStandardInput:
    def test_it_needs_a_name(self) -> None:
        assert collect(["-"], "In/", recursive=False, name="a/b") == [UploadSource("In/a/b", None, None)]
        for name in (None, ""):
            with pytest.raises(UsageError, match="standard input has no name"):
                keys("-", name=name)


class TestRefused:
    def test_one_name_for_several(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="--name names one"):
            keys(tree / "a.txt", tree / "b.txt", name="x")

    def test_two_files_for_one_key(self, tree: Path) -> None:
        with pytest.raises(UsageError, match=r"a\.txt and .*a\.txt would both become In/a\.txt"):
            keys(tree / "a.txt", tree / "sub" / "a.txt")

    def test_the_same_file_twice(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="both become"):
            keys(tree / "a.txt", tree / "a.txt")

    def test_standard_input_twice(self) -> None:
        with pytest.raises(UsageError):
            keys("-", "-", name="x")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="there is no file"):
            keys(tmp_path / "nothing")

    def test_a_path_through_a_file(self, tree: Path) -> None:
        with pytest.raises(UsageError, match="there is no file"):
            keys(tree / "a.txt" / "x")

    def test_a_pipe_is_pointed_to_standard_input(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="no regular file") as caught:
            keys(tmp_path / "pipe")
        assert "upload -" in str(caught.value.hint)

    def test_a_prefix_that_is_none(self, tree: Path) -> None:
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
    def test_nobody_may_read_the_rest(self, tree: Path) -> None:
        assert _as_nobody(tree) == "['In/a.txt', 'In/b.txt', 'In/sub/a.txt', 'In/sub/deep/c.txt']"

    def test_a_file_that_may_not_be_read_is_refused_before_anything_is_sent(self, tree: Path) -> None:
        (tree / "b.txt").chmod(0)
        assert _as_nobody(tree) == "refused: b.txt may not be read"

    def test_a_folder_that_may_not_be_read_is_refused_not_left_out(self, tree: Path) -> None:
        (tree / "sub").chmod(0)
        try:
            assert _as_nobody(tree).startswith("refused: ")
        finally:
            (tree / "sub").chmod(0o755)
