"""What a test needs from the machine, and what only nightly runs need."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest
from _pytest.mark import ParameterSet

IN_CI = os.environ.get("CI") == "true"  # tests themselves run without the variable


def absent(reason: str) -> NoReturn:
    """Skip the test; in CI a test that does not run is a failure."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def needs_program(name: str, package: str) -> None:
    """Skip unless the program is installed; `package` is Debian's."""
    if shutil.which(name) is None:
        absent(f"{name} is not installed (Debian: {package})")


def needs_terraform() -> None:
    """Skip unless Terraform is installed; Debian has no package of it."""
    if shutil.which("terraform") is None:
        absent("terraform is not installed")


def nightly(*values: object) -> ParameterSet:
    """Parameters of a test that only `make nightly` runs with: variants of what each run proves."""
    return pytest.param(*values, marks=pytest.mark.nightly)
