"""Installing Terraform from a server of releases that does well or badly, and finding what is installed."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refinerctl.config import TERRAFORM_VERSION, ToolSettings
from refinerctl.console import Silent
from refinerctl.errors import NotFoundError, RefinerctlError, UsageError
from refinerctl.terraform.tools import cached_terraform, check_version, find_terraform, platform_name
from refinerctl.terraform.tools_install import Installed, install
from refinerctl.transport import Limits
from tests.command import Command
from tests.home import without_home
from tests.integration.servers import Answer, Request, serving
from tests.needs import needs_terraform

VERSION = "1.12.0"
PROGRAM = '#!/bin/sh\necho \'{"terraform_version": "VERSION"}\'\n'
PLATFORM = platform_name()
FOLDER = f"/terraform/{VERSION}"
ZIP = f"{FOLDER}/terraform_{VERSION}_{PLATFORM}.zip"
SUMS = f"{FOLDER}/terraform_{VERSION}_SHA256SUMS"


def archive(**more: str) -> bytes:
    """A release: the program and its licence, and `more` by name."""
    members = {"LICENSE.txt": "licence", "terraform": PROGRAM.replace("VERSION", VERSION), **more}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def sums(content: bytes, name: str | None = None) -> bytes:
    other = f"{'0' * 64}  terraform_{VERSION}_plan9_386.zip\n"
    return f"{other}{hashlib.sha256(content).hexdigest()}  {name or ZIP.rpartition('/')[2]}\n".encode()


def release(content: bytes | None = None, **other: Answer) -> Callable[[Request], Answer]:
    """A server that has one release; `other` answers for `zip` and `sums`."""
    packed = archive() if content is None else content
    answers = {ZIP: other.get("zip", Answer(200, packed)), SUMS: other.get("sums", Answer(200, sums(packed)))}
    return lambda request: answers.get(request.path, Answer(404))


# As often as a user's run, without the pauses.
HASTY = Limits(attempts=4, first_pause_s=0.0, longest_pause_s=0.0, longest_retry_after_s=0.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@contextmanager
def settings(answer: Callable[[Request], Answer]) -> Iterator[ToolSettings]:
    with serving(answer) as server:
        yield ToolSettings(terraform_version=VERSION, terraform_base_url=f"{server.url}/terraform/")


def run(answer: Callable[[Request], Answer], *, force: bool = False) -> Installed:
    with settings(answer) as tools:
        return install(tools, None, Silent(), force=force, limits=HASTY)


def refused(answer: Callable[[Request], Answer], cache: Path) -> RefinerctlError:
    with pytest.raises(RefinerctlError) as caught:
        run(answer)
    assert [path for path in cache.rglob("*") if not path.is_dir()] == []
    return caught.value


class TestInstall:
    def test_a_release(self, cache: Path) -> None:
        content = archive()
        done = run(release(content))

        assert done == Installed(VERSION, done.path, sha256=hashlib.sha256(content).hexdigest())
        assert done.path == cache / "refinerctl" / "terraform" / VERSION / "terraform"
        assert stat.S_IMODE(done.path.stat().st_mode) == 0o755
        assert check_version(done.path) == VERSION
        assert [path.name for path in done.path.parent.iterdir()] == ["terraform"]

    def test_it_is_there_already(self) -> None:
        first = run(release())
        again = run(lambda _: Answer(404))

        assert again == Installed(VERSION, first.path, was_there=True)

    def test_again_by_force(self) -> None:
        first = run(release())
        run(release(archive(terraform="#!/bin/sh\nexit 7\n")), force=True)

        assert first.path.read_text(encoding="utf-8").endswith("exit 7\n")

    def test_a_failure_keeps_what_was_there(self) -> None:
        first = run(release())
        with pytest.raises(RefinerctlError):
            run(release(zip=Answer(200, b"x")), force=True)

        assert check_version(first.path) == VERSION

    def test_redirects_are_followed(self) -> None:
        content = archive()
        answers = {
            SUMS: Answer(200, sums(content)),
            ZIP: Answer(302, b"", {"Location": "/elsewhere"}),
            "/elsewhere": Answer(200, content),
        }
        assert run(lambda request: answers[request.path]).path.is_file()

    def test_a_download_that_breaks_off_is_tried_again(self) -> None:
        content = archive()
        answers = iter([Answer(200, sums(content)), Answer(200, content, cut_after=50), Answer(200, content)])

        assert check_version(run(lambda _: next(answers)).path) == VERSION


class TestRefused:
    def test_a_wrong_checksum(self, cache: Path) -> None:
        said = refused(release(zip=Answer(200, archive(more="x"))), cache)
        assert "is not what was published: its SHA-256 is" in said.message

    def test_no_checksum_of_this_platform(self, cache: Path) -> None:
        said = refused(release(sums=Answer(200, sums(archive(), "terraform_1.12.0_plan9_amd64.zip"))), cache)
        assert f"has no checksum of terraform_{VERSION}_{PLATFORM}.zip" in said.message

    @pytest.mark.parametrize(
        ("answer", "path"), [(release(sums=Answer(404)), SUMS), (release(zip=Answer(404)), ZIP)], ids=["sums", "zip"]
    )
    def test_there_is_none(self, cache: Path, answer: Callable[[Request], Answer], path: str) -> None:
        said = refused(answer, cache)
        assert isinstance(said, NotFoundError)
        assert said.message.endswith(path)

    def test_half_a_download(self, cache: Path) -> None:
        said = refused(release(zip=Answer(200, archive(), cut_after=50)), cache)
        assert "the connection to" in said.message

    def test_no_network(self, cache: Path) -> None:
        with pytest.raises(RefinerctlError, match=r"the connection to 127\.0\.0\.1:9 failed: Connection refused"):
            install(ToolSettings(terraform_base_url="http://127.0.0.1:9"), VERSION, Silent(), limits=HASTY)
        assert not cache.exists()

    def test_without_tls(self) -> None:
        with pytest.raises(RefinerctlError, match="refusing plain HTTP"):
            install(ToolSettings(terraform_base_url="http://mirror.example"), VERSION, Silent())

    def test_a_redirect_away_from_tls(self, cache: Path) -> None:
        said = refused(release(zip=Answer(302, b"", {"Location": "http://mirror.example/x"})), cache)
        assert "refusing plain HTTP" in said.message

    def test_an_archive_without_an_end(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("refinerctl.terraform.releases_download.MAX_ARCHIVE_BYTES", 10)
        assert "far larger than any release" in refused(release(), cache).message

    def test_redirects_without_an_end(self, cache: Path) -> None:
        assert "302" in refused(release(zip=Answer(302, b"", {"Location": ZIP})), cache).message

    def test_a_password_in_the_url(self) -> None:
        with pytest.raises(RefinerctlError) as said:
            install(ToolSettings(terraform_base_url="https://me:secret-1@mirror.example"), VERSION, Silent())
        assert "secret-1" not in said.value.message

    @pytest.mark.parametrize("name", ["../terraform", "/terraform", "bin/terraform", "..\\terraform", "C:terraform"])
    def test_a_path_in_the_archive(self, cache: Path, name: str) -> None:
        assert "which no release does" in refused(release(archive(**{name: "#!/bin/sh\n"})), cache).message

    def test_a_link_in_the_archive(self, cache: Path) -> None:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as opened:
            link = zipfile.ZipInfo("terraform")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            opened.writestr(link, "/bin/sh")
        assert "which no release does" in refused(release(made.getvalue()), cache).message

    def test_an_archive_without_terraform(self, cache: Path) -> None:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as opened:
            opened.writestr("LICENSE.txt", "x")
        assert "holds no terraform" in refused(release(made.getvalue()), cache).message

    @pytest.mark.parametrize(
        "content", [b"", b"no zip", archive()[:-30], archive().replace(b"terraform", b"terraforn", 1)]
    )
    def test_no_archive(self, cache: Path, content: bytes) -> None:
        assert "the archive cannot be read" in refused(release(content), cache).message

    @pytest.mark.parametrize("version", ["latest", "1.11", "../1.11.4", "1.11.4/..", "1.9.8"])
    def test_versions(self, version: str) -> None:
        with pytest.raises(UsageError):
            install(ToolSettings(), version, Silent())

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file", encoding="utf-8")
        with pytest.raises(RefinerctlError, match="cannot make"):
            run(release())


class TestFind:
    @pytest.fixture
    def programs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
        """Writes a program into the only folder on PATH besides the shell's."""
        folder = tmp_path / "bin"
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))

        def write(name: str, content: str) -> Path:
            path = folder / name
            path.write_text(content, encoding="utf-8")
            path.chmod(0o755)
            return path

        return write

    def test_on_the_path(self, programs: Callable[[str, str], Path]) -> None:
        run(release())
        path = programs("terraform", PROGRAM)

        assert find_terraform(ToolSettings(terraform_version=VERSION)) == path

    def test_a_path(self, programs: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        path = programs("tofu", PROGRAM.replace("VERSION", "1.10.6"))
        monkeypatch.chdir(path.parents[1])

        assert find_terraform(ToolSettings("bin/tofu")) == path
        assert find_terraform(ToolSettings("tofu")) == path
        assert check_version(path) == "1.10.6"

    def test_the_installed_one(self, programs: Callable[[str, str], Path]) -> None:
        done = run(release())

        assert find_terraform(ToolSettings(terraform_version=VERSION)) == done.path
        with pytest.raises(NotFoundError):
            find_terraform(ToolSettings(terraform_version="1.13.0"))

    def test_none(self, programs: Callable[[str, str], Path]) -> None:
        with pytest.raises(NotFoundError, match=f"version {TERRAFORM_VERSION}") as said:
            find_terraform(ToolSettings())
        assert "refinerctl tools install" in str(said.value.hint)

    def test_another_name_is_not_replaced_by_the_installed_one(self, programs: Callable[[str, str], Path]) -> None:
        run(release())
        with pytest.raises(NotFoundError, match="no program tofu"):
            find_terraform(ToolSettings("tofu", VERSION))

    @pytest.mark.parametrize("version", ["1.9.8", "0.15.5"])
    def test_too_old(self, programs: Callable[[str, str], Path], version: str) -> None:
        path = programs("terraform", PROGRAM.replace("VERSION", version))
        with pytest.raises(RefinerctlError, match=f"is version {version}: refinerctl needs 1.10"):
            check_version(path)

    @pytest.mark.parametrize("content", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho '[]'\n", "#!/no/such/shell\n"])
    def test_something_else(self, programs: Callable[[str, str], Path], content: str) -> None:
        with pytest.raises(RefinerctlError, match="does not say which version it is"):
            check_version(programs("terraform", content))

    def test_a_relative_cache_counts_as_none(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cached_terraform("1.12.0") == tmp_path / ".cache/refinerctl/terraform/1.12.0/terraform"

    def test_without_a_home_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME")
        without_home(monkeypatch)
        with pytest.raises(RefinerctlError, match="no home folder"):
            cached_terraform("1.12.0")

    def test_terraform_itself(self) -> None:
        needs_terraform()
        assert check_version(find_terraform(ToolSettings())).startswith("1.")


class TestCommand:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Iterator[Path]:
        with settings(release()) as tools:
            (tmp_path / "refinerctl.toml").write_text(
                f'[tools]\nterraform_version = "{VERSION}"\nterraform_base_url = "{tools.terraform_base_url}"\n',
                encoding="utf-8",
            )
            yield tmp_path

    def test_text(self, refinerctl: Command, project: Path) -> None:
        done = refinerctl("tools", "install", cwd=project)

        assert done.code == 0
        assert os.access(done.out.strip(), os.X_OK)
        assert f"Terraform {VERSION} is installed" in done.err
        again = refinerctl("tools", "install", cwd=project)
        assert (again.code, again.out) == (0, done.out)
        assert "is there already" in again.err

    def test_json(self, refinerctl: Command, project: Path, cache: Path) -> None:
        done = refinerctl("tools", "install", "--output", "json", cwd=project)

        assert done.json() == {
            "tool": "terraform",
            "version": VERSION,
            "path": str(cache / "refinerctl" / "terraform" / VERSION / "terraform"),
            "status": "installed",
            "sha256": hashlib.sha256(archive()).hexdigest(),
        }
        assert refinerctl("--output", "json", "tools", "install", cwd=project).json()["status"] == "already-there"

    def test_another_version(self, refinerctl: Command, project: Path) -> None:
        done = refinerctl("tools", "install", "--version", "1.99.0", cwd=project)

        assert done.code == 1
        assert "there is no http://127.0.0.1" in done.err
        assert refinerctl("tools", "install", "--version", "newest", cwd=project).code == 2
