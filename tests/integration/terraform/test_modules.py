"""terraform fmt, validate and test for every module and stack, offline, against a mocked provider."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refinerctl.terraform.runner import Terraform

ROOT = Path(__file__).parents[3] / "terraform"
FOLDERS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/main.tf"))
STACKS = [folder for folder in FOLDERS if folder.startswith("stacks/")]

# `terraform test` closes with "Success! 2 passed, 0 failed.", after a failure also with ", 1 skipped".
CLOSING = re.compile(r"^(?:Success|Failure)! (\d+) passed, (\d+) failed(?:, (\d+) skipped)?\.$", re.MULTILINE)

Done = subprocess.CompletedProcess[str]


def folder_of_tests(folder: str) -> str:
    """`terraform init` reads `tests` of a root module; a Terraform older than 1.11 stops at what it finds there."""
    return "tftest" if folder in STACKS else "tests"


def files_of_tests(folder: str) -> list[Path]:
    return sorted((ROOT / folder / folder_of_tests(folder)).glob("*.tftest.hcl"))


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Terraform]:
    """Every folder, initialised in a copy, so that no lock file or data folder is left in the tree."""
    base = tmp_path_factory.mktemp("terraform")
    copy = base / "terraform"
    shutil.copytree(ROOT, copy, symlinks=True)
    modules: dict[str, Terraform] = {}
    for folder in FOLDERS:
        if not (copy / folder / ".terraform.lock.hcl").exists():
            shutil.copy(copy / "stacks" / "registry" / ".terraform.lock.hcl", copy / folder)
        modules[folder] = Terraform(
            module=copy / folder,
            data_dir=base / "data" / folder,
            work_folder=base / "work",
            log=base / "terraform.log",
            environment={"AWS_EC2_METADATA_DISABLED": "true"},
            embedded=True,
        )
        # One after the other: they share the provider's download.
        modules[folder].init("-backend=false", f"-test-directory={folder_of_tests(folder)}")
    return modules


@pytest.fixture(scope="module")
def outcomes(modules: Mapping[str, Terraform]) -> Mapping[str, Done]:
    """`terraform test` of every folder, two at a time: most of it is the provider's start, again for every run."""

    def run(folder: str) -> Done:
        for _ in range(3):
            done = modules[folder].run("test", "-no-color", f"-test-directory={folder_of_tests(folder)}")
            if "timeout while waiting for plugin to start" not in done.stdout:  # a very busy machine
                break
        return done

    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(FOLDERS, pool.map(run, FOLDERS), strict=True))


def test_everything_is_formatted() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "-diff", str(ROOT)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", STACKS)
def test_stack_is_valid(modules: Mapping[str, Terraform], folder: str) -> None:
    """With the modules that it calls. `terraform test` validates too, all but the stack's own provider block."""
    done = modules[folder].run("validate", "-no-color")

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_module(outcomes: Mapping[str, Done], folder: str) -> None:
    done = outcomes[folder]
    expected = sum(len(re.findall(r"^run \"", path.read_text(), re.MULTILINE)) for path in files_of_tests(folder))

    assert done.returncode == 0, done.stdout
    closing = CLOSING.findall(done.stdout)
    assert len(closing) == 1, done.stdout
    assert closing == [(str(expected), "0", "")], done.stdout
    assert expected > 0


def test_every_folder_has_tests_and_a_readme() -> None:
    assert len(FOLDERS) == 14
    for folder in FOLDERS:
        assert files_of_tests(folder), folder
        assert (ROOT / folder / "README.md").is_file(), folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_variable_and_attribute_of_one_is_used(folder: str) -> None:
    """One that is only declared has no effect, and Terraform says nothing."""
    text = "".join(path.read_text() for path in (ROOT / folder).glob("*.tf") if path.name != "variables.tf")
    for block in re.split(r"^variable ", (ROOT / folder / "variables.tf").read_text(), flags=re.MULTILINE)[1:]:
        name = block.split('"')[1]
        if re.search(rf"= var\.{name}$", text, re.MULTILINE):
            continue  # passed on whole: the module's variable has the same attributes
        attributes = re.findall(r"^ {4}(\w+) += (?:optional|string|list|number|bool)", block, re.MULTILINE)
        assert re.search(rf"\bvar\.{name}\b", text), name
        assert [item for item in attributes if not re.search(rf"\.{item}\b", text)] == [], name


def test_every_role_of_a_stack_takes_the_permissions_boundary() -> None:
    """A deployment may create no role without it."""
    passed_on = "permissions_boundary = var.permissions_boundary"
    for path in ROOT.glob("modules/*/main.tf"):
        roles = re.findall(r"^resource \"aws_iam_role\" .*?^}", path.read_text(), re.MULTILINE | re.DOTALL)
        bounded = [
            role for role in roles if re.search(r"^  permissions_boundary += var\.permissions_boundary$", role, re.M)
        ]
        assert path.parent.name == "ci-access" or roles == bounded, path
    for stack in STACKS:
        calls = re.findall(r"^module \"\w+\" {.*?^}", (ROOT / stack / "main.tf").read_text(), re.MULTILINE | re.DOTALL)
        for call in calls:
            module = ROOT / "modules" / call.split('"../../modules/')[1].split('"')[0]
            takes_it = 'variable "permissions_boundary"' in (module / "variables.tf").read_text()
            assert (passed_on in call) == takes_it, call


@pytest.mark.parametrize("folder", STACKS)
def test_init_of_a_stack_reads_no_tests(folder: str) -> None:
    assert not (ROOT / folder / "tests").exists()
    assert not list((ROOT / folder).glob("*.tftest.hcl"))
