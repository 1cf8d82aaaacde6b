"""Finding Terraform on this machine, and its version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.terraform.installation import find_terraform
from tests.needs import needs_terraform

PROGRAM = '#!/bin/sh\necho \'{"terraform_version": "VERSION"}\'\n'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Writes a program into the only folder on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, content: str) -> Path:
        path = folder / name
        path.write_text(content, encoding="utf-8")
        path.chmod(0o755)
        return path

    return write


def test_name_on_path_and_relative_and_home_paths_are_found(
    program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program("tofu", PROGRAM.replace("VERSION", "1.10.6"))
    monkeypatch.chdir(path.parents[1])
    monkeypatch.setenv("HOME", str(path.parents[1]))

    assert {find_terraform(name) for name in ("tofu", "bin/tofu", "~/bin/tofu", str(path))} == {path}


@pytest.mark.parametrize("name", ["terraform", "tofu"])
def test_missing_terraform_is_an_error_with_the_version_and_the_source(
    program: Callable[[str, str], Path], name: str
) -> None:
    with pytest.raises(NotFoundError, match=rf"{name} is not installed: .*1\.10 or newer .*1\.11\.4") as said:
        find_terraform(name)
    assert "https://developer.hashicorp.com/terraform/install" in str(said.value.hint)
    assert "terraform_binary" in str(said.value.hint)


@pytest.mark.parametrize("version", ["1.9.8", "0.15.5", "dev"])
def test_old_version_is_an_error_with_the_source(program: Callable[[str, str], Path], version: str) -> None:
    path = program("terraform", PROGRAM.replace("VERSION", version))
    with pytest.raises(RefinerctlError, match=rf"is version {version}: refinerctl needs .*1\.10") as said:
        find_terraform(str(path))
    assert "https://developer.hashicorp.com/terraform/install" in str(said.value.hint)


@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho '[]'\n", "#!/no/such/shell\n"])
def test_other_program_is_an_error(program: Callable[[str, str], Path], content: str) -> None:
    with pytest.raises(RefinerctlError, match="cannot read the version of"):
        find_terraform(str(program("terraform", content)))


def test_version_of_the_installed_terraform_is_accepted() -> None:
    needs_terraform()
    assert find_terraform("terraform").name == "terraform"
