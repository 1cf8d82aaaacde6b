"""The terraform binary: which one is used, and the pinned releases in the user's cache."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from refinerctl.config import ToolSettings
from refinerctl.errors import NotFoundError, RefinerctlError, UsageError

# The first that locks a state in S3 without a table (`use_lockfile`), of Terraform and of OpenTofu.
OLDEST = (1, 10)

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z.]+)?", re.ASCII)
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def find_terraform(tools: ToolSettings) -> Path:
    """The binary to run: what the setting names, a path or a name on PATH, else the pinned release in the cache.

    Raises NotFoundError, which says how to get one.
    """
    name = tools.terraform_binary
    found = shutil.which(str(Path(name).expanduser()) if name.startswith("~") else name)
    if found is not None:
        return Path(found).absolute()
    if name == "terraform":
        cached = cached_terraform(tools.terraform_version)
        if os.access(cached, os.X_OK):
            return cached
        raise NotFoundError(
            f"terraform is not installed; version {tools.terraform_version} is the one to use",
            hint="`refinerctl tools install` fetches it.",
        )
    raise NotFoundError(
        f"there is no program {name}",
        hint="terraform_binary in [tools] of refinerctl.toml names it: a path, or a name.",
    )


def check_version(binary: Path) -> str:
    """The version of terraform or tofu, such as "1.11.4". Raises RefinerctlError if it is older than 1.10."""
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
        return _not_too_old(version, str(binary))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        raise RefinerctlError(
            f"{binary} does not say which version it is",
            hint="terraform_binary in [tools] of refinerctl.toml has to name Terraform or OpenTofu.",
        ) from error


def check_wanted(version: str) -> str:
    """Return `version` if it is one to install. Raises UsageError for what is no version or is too old."""
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{version!r} is not a version of Terraform", hint="It looks like 1.11.4.")
    if _number(version) < OLDEST:
        raise UsageError(f"Terraform {version} is too old: refinerctl needs 1.10 or newer")
    return version


def cached_terraform(version: str) -> Path:
    """Where `refinerctl tools install` keeps a release, whether it is there or not."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # https://specifications.freedesktop.org/basedir-spec/latest/: a relative path counts as none
    cache = Path(base) if Path(base).is_absolute() else Path(os.path.expanduser("~/.cache"))  # noqa: PTH111
    if not cache.is_absolute():  # a container's user may have none
        raise RefinerctlError("there is no home folder to keep Terraform in", hint="Set XDG_CACHE_HOME, or HOME.")
    return cache / "refinerctl" / "terraform" / version / "terraform"


def platform_name() -> str:
    """This machine in HashiCorp's words, such as linux_amd64. Raises RefinerctlError where refinerctl does not run."""
    machine = platform.machine().lower()
    if sys.platform not in ("linux", "darwin") or machine not in _ARCHITECTURES:
        raise RefinerctlError(
            f"refinerctl does not install Terraform on {sys.platform}, {machine}",
            hint="Install it yourself; terraform_binary in [tools] of refinerctl.toml names it.",
        )
    return f"{sys.platform}_{_ARCHITECTURES[machine]}"


def _number(version: str) -> tuple[int, int]:
    match = _VERSION.match(version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _not_too_old(version: str, binary: str) -> str:
    if _number(version) < OLDEST:
        raise RefinerctlError(
            f"{binary} is version {version}: refinerctl needs 1.10 or newer",
            hint="`refinerctl tools install` fetches one; terraform_binary in [tools] of refinerctl.toml names it.",
        )
    return version
