"""Virtual environments of Python images, with pip and a folder of packages instead of an index."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError
from refinerctl.images import BuildContext
from refinerctl.local.venvs import create_venvs, is_complete, venv_of


class Steps(Progress):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_package(folder: Path, name: str) -> str:
    """A wheel with one module; returns its line of locked requirements."""
    wheel, metadata = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"{name}.py", f"name = {name!r}\n")
        file.writestr(f"{metadata}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{metadata}/RECORD", "")
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def image(tmp_path: Path, name: str, requirements: str) -> BuildContext:
    folder = tmp_path / "images" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requirements.txt").write_text(requirements)
    return BuildContext(folder.parent, f"{name}/Dockerfile")


def test_each_file_of_locked_requirements_gets_one_that_is_kept_until_it_changes(
    tmp_path: Path, packages: Path
) -> None:
    one, two = make_package(packages, "one"), make_package(packages, "two")
    producer, worker = image(tmp_path, "producer", one), image(tmp_path, "worker", one + two)
    same, unlocked = image(tmp_path, "same", one), image(tmp_path, "unlocked", "three==1.0\n")
    images, venvs = [producer, worker, same, unlocked], tmp_path / "work" / "venvs"
    half_made, stale = venvs / "1.new", venvs / "2"
    for left in (half_made, stale):
        left.mkdir(parents=True)

    commands = [threading.Thread(target=create_venvs, args=(venvs, images, images, Progress())) for _ in range(2)]
    for command in commands:
        command.start()
    for command in commands:
        command.join()

    assert venv_of(unlocked, venvs) is None
    of_producer, of_worker = venv_of(producer, venvs), venv_of(worker, venvs)
    assert of_producer == venv_of(same, venvs)
    assert of_producer is not None
    assert of_worker is not None
    assert {path for path in venvs.iterdir() if path.is_dir()} == {of_producer, of_worker}
    subprocess.run([of_worker / "bin" / "python", "-c", "import one, two"], check=True)
    subprocess.run([of_producer / "bin" / "python", "-c", "import one"], check=True)

    again = Steps()
    create_venvs(venvs, images, images, again)
    assert again.steps == []

    image(tmp_path, "worker", one)  # as the others now
    create_venvs(venvs, [producer], images, again)
    assert (is_complete(of_producer), of_worker.exists()) == (True, False)


def test_a_package_with_another_hash_is_not_installed(tmp_path: Path, packages: Path) -> None:
    line = make_package(packages, "one")
    (packages / "one-1.0-py3-none-any.whl").write_bytes(b"changed")
    context, venvs = image(tmp_path, "producer", line), tmp_path / "venvs"
    with pytest.raises(RefinerctlError, match=r"producer/requirements\.txt .* hash does not match"):
        create_venvs(venvs, [context], [context], Progress())
    venv = venv_of(context, venvs)
    assert venv is not None
    assert not venv.exists()


def test_without_a_network_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("INDEX_URL", "http://127.0.0.1:9/simple"), ("RETRIES", "1"), ("CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(f"PIP_{name}", value)
    context = image(tmp_path, "producer", f"one==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(RefinerctlError, match="index cannot be reached") as caught:
        create_venvs(tmp_path / "venvs", [context], [context], Progress())
    assert "PIP_INDEX_URL" in str(caught.value.hint)
