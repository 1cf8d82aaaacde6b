"""The distributions as a release builds them, and the machine of a new user who has installed the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.project import ROOT, Project

# A copy without what git ignores: nothing that only this working copy has may get into the wheel.
_SOURCES = ("refinerctl", "images", "terraform", "templates")
_FILES = ("LICENSE", "README.md", "pyproject.toml", "refinerctl.toml", "setup.cfg", "setup.py")
_IGNORED = shutil.ignore_patterns("node_modules", "__pycache__", ".terraform", ".refinerctl", "*.tfstate*")


def build_distributions(folder: Path) -> tuple[Path, Path]:
    """The wheel, built from the source distribution, and the latter; both below `folder`."""
    repository, built = folder / "repository", folder / "dist"
    for name in _SOURCES:
        shutil.copytree(ROOT / name, repository / name, ignore=_IGNORED, symlinks=True)
    for name in _FILES:
        shutil.copy(ROOT / name, repository)
    _run(sys.executable, "-m", "build", "--outdir", str(built), str(repository))
    shutil.rmtree(repository)
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    return wheel, source


def make_virtual_environment(folder: Path, wheel: Path) -> Path:
    """A clean virtual environment with the wheel; returns its command. Other packages are those of the tests."""
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = folder / "bin" / "python"
    install = ("install", "--quiet", "--no-index", "--no-deps", str(wheel))
    _run(sys.executable, "-m", "pip", "--python", str(python), *install)
    (packages,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "others.pth").write_text("\n".join(others))
    return folder / "bin" / "refinerctl"


def install_from_index(folder: Path, wheel: Path) -> Path:
    """A virtual environment with the wheel and what its extra `local` needs; returns its command."""
    _run(sys.executable, "-m", "venv", str(folder))
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    _run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *constraints, f"{wheel}[local]")
    return folder / "bin" / "refinerctl"


def make_new_user(base: Path, command: Path) -> Project:
    """A project in an empty folder that `refinerctl init` has created. npm's cache is the machine's."""
    cache = _run("npm", "config", "get", "cache").strip()
    project = Project(base / "my-pipeline", {"npm_config_cache": cache}, command)
    for path in (project.home, project.temporary):
        path.mkdir(parents=True)
    made = subprocess.run(
        [command, "init", "my-pipeline"],
        cwd=base,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return project


def _run(*command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
