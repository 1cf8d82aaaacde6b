"""npm packages of Node.js images, with npm and a folder of packages instead of a registry."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from pathlib import Path

import pytest

from refinerctl.console import Progress
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import BuildContext
from refinerctl.local.node_packages import install_node_packages, is_installed
from tests.needs import needs_program


class Steps(Progress):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


@pytest.fixture(autouse=True)
def _npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_program("npm", "npm")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")


def make_package(folder: Path, version: str) -> tuple[str, str]:
    """The address and the integrity of package `one`."""
    folder.mkdir(exist_ok=True)
    file = folder / f"one-{version}.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for name, content in (("package.json", json.dumps({"name": "one", "version": version})), ("index.js", "")):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    return f"file:{file}", f"sha512-{digest}"


def image(folder: Path, version: str, address: str, integrity: str) -> BuildContext:
    """An image whose lock file has this package, and one that is only for developers."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"name": "image", "version": "0.0.0", "dependencies": {"one": address}, "devDependencies": {"two": "2.0.0"}}
    (folder / "package.json").write_text(json.dumps(own))
    packages = {
        "": own,
        "node_modules/one": {"version": version, "resolved": address, "integrity": integrity},
        "node_modules/two": {"version": "2.0.0", "resolved": "http://127.0.0.1:9/two.tgz", "dev": True},
    }
    lock = {"name": "image", "version": "0.0.0", "lockfileVersion": 3, "requires": True, "packages": packages}
    (folder / "package-lock.json").write_text(json.dumps(lock))
    return BuildContext(folder)


def install(tmp_path: Path, *contexts: BuildContext) -> list[str]:
    """The steps that were shown."""
    progress = Steps()
    install_node_packages(tmp_path / "work", contexts, progress)
    return progress.steps


def test_locked_packages_are_installed_once_and_again_after_the_lock_changed(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "refiner"
    context = image(folder, "1.0.0", *make_package(tmp_path / "packages", "1.0.0"))
    assert not is_installed(folder)

    steps = install(tmp_path, context)

    assert steps == ["installing the npm packages of image refiner, once"]
    assert is_installed(folder)
    assert [path.name for path in (folder / "node_modules").iterdir() if path.is_dir()] == ["one"]
    assert install(tmp_path, context) == []
    image(folder, "1.1.0", *make_package(tmp_path / "packages", "1.1.0"))
    assert install(tmp_path, context) != []
    assert json.loads((folder / "node_modules/one/package.json").read_text())["version"] == "1.1.0"
    (folder / "node_modules/.package-lock.json").unlink()  # npm was killed
    assert not is_installed(folder)


def test_an_image_without_a_lock_file_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}")
    assert install(tmp_path, BuildContext(tmp_path)) == []


def test_a_second_command_waits_and_finds_it_done(tmp_path: Path) -> None:
    context = image(tmp_path / "image", "1.0.0", *make_package(tmp_path / "packages", "1.0.0"))
    steps: list[list[str]] = []
    threads = [threading.Thread(target=lambda: steps.append(install(tmp_path, context))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(step.startswith("installing") for shown in steps for step in shown) == 1
    assert is_installed(tmp_path / "image")


def test_another_package_than_the_locked_one_is_not_installed(tmp_path: Path) -> None:
    address, _ = make_package(tmp_path / "packages", "1.0.0")
    _, other = make_package(tmp_path / "others", "1.1.0")

    with pytest.raises(RefinerctlError, match=r"were not installed: .*integrity checksum failed"):
        install(tmp_path, image(tmp_path / "image", "1.0.0", address, other))


def test_an_unreachable_registry_is_named_as_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    _, integrity = make_package(tmp_path / "packages", "1.0.0")
    context = image(tmp_path / "image", "1.0.0", "http://127.0.0.1:9/one.tgz", integrity)

    with pytest.raises(RefinerctlError, match="the registry cannot be reached") as raised:
        install(tmp_path, context)

    assert str(tmp_path / "work" / "npm.log") in str(raised.value.hint)


def test_without_npm_the_hint_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = image(tmp_path / "image", "1.0.0", *make_package(tmp_path / "packages", "1.0.0"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NotFoundError, match="npm is not installed") as raised:
        install(tmp_path, context)

    assert "--engine docker" in str(raised.value.hint)
