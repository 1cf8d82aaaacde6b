"""terraform fmt, validate and test for every module and stack, offline, against a mocked provider."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from refinerctl.clients.terraform import Terraform

ROOT = Path(__file__).parents[2] / "terraform"
FOLDERS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/main.tf"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that no lock file or data folder is left in the tree."""
    target = tmp_path_factory.mktemp("terraform") / "terraform"
    shutil.copytree(ROOT, target, symlinks=True)
    for folder in FOLDERS:
        if not (target / folder / ".terraform.lock.hcl").exists():
            shutil.copy(target / "stacks" / "registry" / ".terraform.lock.hcl", target / folder)
    return target


def test_everything_is_formatted() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "-diff", str(ROOT)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_module(copy: Path, folder: str) -> None:
    terraform = Terraform(
        module=copy / folder,
        data_dir=copy.parent / "data" / folder,
        work_folder=copy.parent / "work",
        environment={"AWS_EC2_METADATA_DISABLED": "true"},
        embedded=True,
    )
    terraform.init("-backend=false")

    for arguments in (["validate", "-no-color"], ["test", "-no-color"]):
        done = terraform.run(*arguments)
        assert done.returncode == 0, done.stdout
    assert "0 failed" in done.stdout


def test_every_folder_has_tests_and_a_readme() -> None:
    assert len(FOLDERS) == 6
    for folder in FOLDERS:
        assert list((ROOT / folder / "tests").glob("*.tftest.hcl")), folder
        assert (ROOT / folder / "README.md").is_file(), folder
