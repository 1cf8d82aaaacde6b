"""What Terraform makes of a file of variables is what we make of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from refinerctl.terraform.hcl import load_values, variable_defaults
from tests.conftest import ROOT
from tests.needs import needs_terraform

FILES = sorted((ROOT / "tests" / "fixtures" / "tfvars").iterdir())
ENVIRONMENTS = sorted((ROOT / "terraform" / "environments").glob("*/*.tfvars"))


def _terraform(module: Path, *arguments: str) -> str:
    needs_terraform()
    done = subprocess.run(
        ["terraform", f"-chdir={module}", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _as_terraform_reads(module: Path, names: list[str], *arguments: str) -> Any:
    """The variables' values after an apply without any provider."""
    members = ", ".join(f'"{name}" = var.{name}' for name in names)
    (module / "outputs.tf").write_text(f'output "all" {{\n  value = {{ {members} }}\n}}\n', encoding="utf-8")
    _terraform(module, "apply", "-auto-approve", "-no-color", *arguments)
    return json.loads(_terraform(module, "output", "-json", "all"))


@pytest.mark.parametrize("path", [*FILES, *ENVIRONMENTS], ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_file_of_variables(path: Path, tmp_path: Path) -> None:
    ours = load_values(path)
    assert ours
    (tmp_path / "variables.tf").write_text("".join(f'variable "{name}" {{}}\n' for name in ours), encoding="utf-8")

    assert ours == _as_terraform_reads(tmp_path, list(ours), f"-var-file={path}")


def test_defaults_of_variables(root: Path, tmp_path: Path) -> None:
    """Without their types: Terraform would fill in optional attributes."""
    ours = variable_defaults(root / "terraform" / "stacks" / "refiner")
    lines = "".join(f'variable "{name}" {{\n  default = {json.dumps(value)}\n}}\n' for name, value in ours.items())
    (tmp_path / "variables.tf").write_text(lines, encoding="utf-8")

    assert _as_terraform_reads(tmp_path, list(ours)) == ours
