"""The wheel on a clean virtual environment: `refinerctl init`, then `refinerctl demo`, as a new user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pexpect
import pytest

from refinerctl import __version__
from refinerctl.setup.bundle import read_repository
from tests.conftest import ROOT
from tests.e2e.project import Project, eventually
from tests.e2e.wheel import build_distributions, install_from_index, make_new_user, make_virtual_environment
from tests.needs import nightly

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build_distributions(tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="module")
def command(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_virtual_environment(tmp_path_factory.mktemp("clean") / "venv", distributions[0])


@pytest.fixture(scope="module")
def demo_project(command: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_new_user(tmp_path_factory.mktemp("user"), command)


def files_of(project: Project) -> set[str]:
    """Without the npm packages, which the first run installs."""
    return {name for name in project.files() if not name.startswith("my-pipeline/images/refiner/node_modules/")}


def test_distributions_pass_twine_check_and_contain_the_project_files(
    distributions: tuple[Path, Path],
) -> None:
    wheel, source = distributions
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", wheel, source], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        packed = {name.partition("/setup/project/")[2]: file.read(name) for name in names}
    packed.pop("")
    assert packed == read_repository(ROOT)
    ours = [path for path in (ROOT / "refinerctl").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(ROOT)) for path in ours} - names == set()


def test_the_wheel_needs_no_repository(command: Path, tmp_path: Path) -> None:
    """Commands that need no project run in an empty folder, with the modules of the wheel."""
    for arguments, seen in (
        (["--version"], f"refinerctl, version {__version__}"),
        (["completion", "bash"], "_REFINERCTL_COMPLETE"),
        (["inputs", "--help"], "--incomplete"),
        (["report", "--help"], "--html"),
    ):
        done = subprocess.run([command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert seen in done.stdout
    code = "import refinerctl; print(refinerctl.__file__)"
    python = command.with_name("python")
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout).is_relative_to(command.parents[1])


@pytest.mark.nightly
def test_the_extra_local_is_all_that_the_demo_needs(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    command = install_from_index(tmp_path / "venv", distributions[0])
    user = make_new_user(tmp_path / "user", command)

    done = user.run("demo", "--output", "json", timeout=400)

    assert done.code == 0, done.err
    assert done.json()["upload"]["status"] == "completed"


def test_prints_upload_completion_and_hops_and_leaves_only_packages(demo_project: Project) -> None:
    before = files_of(demo_project)

    done = demo_project.run("demo", "--output", "json")

    assert done.code == 0, done.err
    document = done.json()
    key = "RefinerInput/helloworld.txt"
    assert document["upload"]["key"] == key
    assert document["upload"]["status"] == "completed"
    assert document["completion"]["key"] == "RefinerComplete/helloworld.txt.json"
    assert [output["content"] for output in document["completion"]["outputs"]] == ["Hello, world!\n"] * 2
    assert len({output["key"] for output in document["completion"]["outputs"]}) == 2
    components = [hop["component"] for hop in document["hops"]]
    assert components == ["S3", "EventBridge", "SQS", "Lambda", "S3", "S3", "Lambda", "S3", "SQS"]
    assert all(hop["at"] for hop in document["hops"])
    assert demo_project.processes() == []
    assert files_of(demo_project) == before


@pytest.mark.nightly
def test_a_second_run_shows_progress_on_a_terminal(demo_project: Project) -> None:
    """It leaves no files either."""
    before = files_of(demo_project)
    terminal = pexpect.spawn(
        str(demo_project.command),
        ["demo"],
        cwd=str(demo_project.folder),
        env=demo_project.environment(),
        encoding="utf-8",
        timeout=150,
    )
    terminal.expect("AWS emulator at http://127.0.0.1")
    terminal.expect(r"stack refiner: \d+ of \d+ resources")
    terminal.expect("RefinerComplete/helloworld.txt.json")
    terminal.expect("Hello, world!")
    terminal.expect("Hello, world!")
    terminal.expect(r"\d\d:\d\d:\d\d\.\d{3}Z .* Lambda ")
    terminal.expect("done in")
    terminal.expect(pexpect.EOF)
    terminal.close()

    assert terminal.exitstatus == 0
    assert demo_project.processes() == []
    assert files_of(demo_project) == before


@pytest.mark.parametrize("number", [signal.SIGINT, nightly(signal.SIGTERM)])
def test_one_demo_at_a_time_and_an_interrupt_cleans_up(demo_project: Project, number: signal.Signals) -> None:
    before = files_of(demo_project)
    process = demo_project.start("demo")
    assert process.stdout is not None
    seen = ""
    while "terraform apply: stack refiner" not in seen:
        line = process.stdout.readline()
        assert line, f"ended early: {seen}"
        seen += line
    second = demo_project.run("demo")  # meanwhile terraform works
    assert (second.code, "another demo is running" in second.err) == (4, True), second.err
    time.sleep(2)
    assert len(demo_project.processes()) >= 3

    os.kill(process.pid, number)
    rest, _ = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert "Traceback" not in rest
    assert demo_project.processes() == []
    assert files_of(demo_project) == before


@pytest.mark.nightly
def test_a_killed_demo_leaves_no_process(demo_project: Project) -> None:
    process = demo_project.start("demo")
    assert process.stdout is not None
    while "terraform apply: stack refiner" not in process.stdout.readline():
        pass
    process.kill()
    process.communicate()

    assert eventually(lambda: not demo_project.processes(), 60), demo_project.processes()


def test_outside_a_project_the_missing_file_is_reported(tmp_path: Path) -> None:
    project = Project(tmp_path / "empty")
    for folder in (project.folder, project.home, project.temporary):
        folder.mkdir()

    done = project.run("demo", "--output", "json")

    assert done.code == 1
    assert "refinerctl: error: no refinerctl.toml in" in done.err
    assert project.processes() == []
    assert json.loads(done.out or "null") is None
