"""Without the packages of an extra, the error names it; nothing was started or installed by then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.command import spawn
from tests.conftest import ROOT

WITHOUT = "import sys; sys.modules[{!r}] = None; from refinerctl.cli import main; main()"


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("ministack", ["demo"], "local"),
        ("psutil", ["local", "up"], "local"),
        ("docker", ["local", "up", "--engine", "docker"], "docker"),
        (
            "docker",
            ["sync", "--engine", "docker", "127.0.0.1:9/a:v1", "127.0.0.1:9/b"],
            "docker",
        ),
    ],
)
def test_a_missing_extra_is_named(tmp_path: Path, package: str, command: list[str], extra: str) -> None:
    shutil.copy(ROOT / "refinerctl.toml", tmp_path)
    (tmp_path / "terraform").symlink_to(ROOT / "terraform")

    done = spawn(*command, cwd=tmp_path, python=("-c", WITHOUT.format(package)))

    assert done.returncode == 1
    assert f"pip install 'refinerctl[{extra}]'" in done.stderr
    assert "bug" not in done.stderr
    assert "npm" not in done.stderr
