"""Terraform on this machine: the binary, and mirrors of the AWS provider."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from refinerctl.errors import NotFoundError, RefinerctlError

# The first that locks a state in S3 without a table (`use_lockfile`), of Terraform and of OpenTofu.
OLDEST = (1, 10)
_NEEDED = "refinerctl needs Terraform or OpenTofu 1.10 or newer (tested with Terraform 1.11.4)"
_HINT = (
    "Install it from https://developer.hashicorp.com/terraform/install. "
    "terraform_binary in [tools] of refinerctl.toml selects another program than `terraform` on PATH."
)

# Folders in which images and packages have provider mirrors.
MIRROR_ROOTS = (
    Path("/opt"),
    Path("/usr/share"),
    Path("/usr/local/share"),
    Path("~/.terraform.d"),
)
PROVIDER = Path("registry.terraform.io/hashicorp/aws")


def find_terraform(name: str) -> Path:
    """The binary `name` of Terraform or OpenTofu: a path, or a name on PATH.

    Raises NotFoundError if it does not exist, RefinerctlError if it is older than 1.10.
    """
    return terraform_version(name)[0]


def terraform_version(name: str) -> tuple[Path, str]:
    """The binary `name` and its version. Raises what `find_terraform` does."""
    binary = _which(name)
    if binary is None:
        raise NotFoundError(f"{name} is not installed: {_NEEDED}", hint=_HINT)
    try:
        done = subprocess.run(
            [binary, "version", "-json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "CHECKPOINT_DISABLE": "1"},
        )
        version = str(json.loads(done.stdout)["terraform_version"])  # OpenTofu's, too
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        raise RefinerctlError(
            f"cannot read the version of {binary}",
            hint="terraform_binary in [tools] of refinerctl.toml must name Terraform or OpenTofu.",
        ) from error
    match = re.match(r"(\d+)\.(\d+)\.", version, re.ASCII)
    if match is None or (int(match[1]), int(match[2])) < OLDEST:
        raise RefinerctlError(f"{binary} is version {version}: {_NEEDED}", hint=_HINT)
    return binary, version


def _which(name: str) -> Path | None:
    found = shutil.which(str(Path(name).expanduser()) if name.startswith("~") else name)
    return None if found is None else Path(found).absolute()


def formatted(name: str, text: bytes) -> bytes | None:
    """HCL as `terraform fmt` of the binary `name` writes it; None if it is not installed, or cannot read the text."""
    binary = _which(name)
    if binary is None:
        return None
    try:
        done = subprocess.run([binary, "fmt", "-"], input=text, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return done.stdout if text.endswith(b"\n") else done.stdout.removesuffix(b"\n")  # to stdout it adds a newline


def find_provider_mirror(roots: Iterable[Path] = MIRROR_ROOTS) -> Path | None:
    """A folder, one or two levels below one of `roots`, that holds the AWS provider; None if there is none."""
    for root in roots:
        for pattern in ("*", "*/*"):
            with contextlib.suppress(OSError):
                for found in sorted(root.expanduser().glob(f"{pattern}/{PROVIDER}")):
                    return found.parents[len(PROVIDER.parts) - 1]
    return None
