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
from tests.needs import nightly

ROOT = Path(__file__).parents[3] / "terraform"
FOLDERS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/main.tf"))
STACKS = [folder for folder in FOLDERS if folder.startswith("stacks/")]


def folder_of_tests(folder: str) -> str:
    """`terraform init` reads `tests` of a root module; a Terraform older than 1.11 stops at what it finds there."""
    return "tftest" if folder in STACKS else "tests"


def files_of_tests(folder: str) -> list[Path]:
    return sorted((ROOT / folder / folder_of_tests(folder)).glob("*.tftest.hcl"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, so that no lock file or data folder is left in it."""
    copy = tmp_path_factory.mktemp("terraform") / "terraform"
    shutil.copytree(ROOT, copy, symlinks=True)
    return copy


def initialised(copy: Path, folder: str, tests: str) -> Terraform:
    if not (copy / folder / ".terraform.lock.hcl").exists():
        shutil.copy(copy / "stacks" / "registry" / ".terraform.lock.hcl", copy / folder)
    terraform = Terraform(
        module=copy / folder,
        data_dir=copy.parent / "data" / folder,
        work_folder=copy.parent / "work",
        log=copy.parent / "terraform.log",
        environment={"AWS_EC2_METADATA_DISABLED": "true"},
        embedded=True,
    )
    terraform.init("-backend=false", f"-test-directory={tests}")
    return terraform


def for_another_folder(text: str, folder: str) -> str:
    """The tests of a folder as tests of a root module in `terraform`: each run names its module."""

    def run(match: re.Match[str]) -> str:
        opening, body = match.groups()
        if re.search(r"^  module {$", body, re.MULTILINE):
            return opening + body.replace('source = "./', f'source = "../{folder}/')
        return f'{opening}  module {{\n    source = "../{folder}"\n  }}\n\n{body}'

    text = text.replace('"../../mocks"', '"../mocks"')
    return re.sub(r"^(run \"\w+\" {\n)(.*?^}$)", run, text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def outcomes(copy: Path) -> Mapping[str, str]:
    """Output of `terraform test` by file of tests.

    One call tests all modules, and one all stacks, two at a time. A call for each folder would spend six seconds of
    processor time on the provider's checksum and schema, fourteen times.
    """
    groups: dict[str, Terraform] = {}
    for group in ("modules", "stacks"):
        folder = copy / f"all-{group}"
        (folder / "tests").mkdir(parents=True)
        shutil.copy(copy / "stacks" / "registry" / "versions.tf", folder)
        for tested in FOLDERS:
            for path in files_of_tests(tested) if tested.startswith(group) else []:
                text = for_another_folder(path.read_text(), tested)
                (folder / "tests" / f"{tested.replace('/', '_')}_{path.name}").write_text(text)
        # One after the other: they share the provider's download.
        groups[group] = initialised(copy, folder.name, "tests")

    def run(terraform: Terraform) -> str:
        for _ in range(3):
            done = terraform.run("test", "-no-color")
            if "timeout while waiting for plugin to start" not in done.stdout:  # a very busy machine
                break
        return done.stdout

    with ThreadPoolExecutor(max_workers=2) as pool:
        texts = list(pool.map(run, groups.values()))
    started = r"^tests/(\S+)\.\.\. in progress$"
    parts = [part for text in texts for part in re.split(started, text, flags=re.MULTILINE)[1:]]
    assert parts, texts
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_everything_is_formatted() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "-diff", str(ROOT)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


# The others' provider blocks are those that tests/e2e applies.
@pytest.mark.parametrize("folder", ["stacks/access", *(nightly(it) for it in STACKS if it != "stacks/access")])
def test_stack_is_valid(copy: Path, folder: str) -> None:
    """With the modules that it calls. `terraform test` validates too, all but the stack's own provider block."""
    done = initialised(copy, folder, folder_of_tests(folder)).run("validate", "-no-color")

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_module(outcomes: Mapping[str, str], folder: str) -> None:
    for path in files_of_tests(folder):
        output = outcomes[f"{folder.replace('/', '_')}_{path.name}"]
        expected = re.findall(r"^run \"(\w+)\"", path.read_text(), re.MULTILINE)

        assert re.findall(r"^  run \"(\w+)\"\.\.\. pass$", output, re.MULTILINE) == expected, output
        assert re.search(rf"^tests/{folder.replace('/', '_')}_{path.name}\.\.\. pass$", output, re.MULTILINE), output
        assert expected, path


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
