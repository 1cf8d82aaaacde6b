"""Checks of `refinerctl doctor` that look at this machine: programs and packages."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from refinerctl import __version__
from refinerctl.config import Settings
from refinerctl.embedded import NOT_INSTALLED
from refinerctl.errors import RefinerctlError
from refinerctl.images import ImageSettings
from refinerctl.insight.findings import Finding, failed, passed, skipped
from refinerctl.terraform.installation import find_provider_mirror, terraform_version
from refinerctl.transport import Limits, Transport

OLDEST_NODE = 20
SECONDS = 10
DOCKER_SOCKET = Path("/var/run/docker.sock")
_DOCKER = "needed only for `--engine docker` and image builds"
# Of the extra `local`.
_PACKAGES = ("ministack", "psutil") + (("awslambdaric",) if sys.platform == "linux" else ())
_PROVIDERS = "https://registry.terraform.io/.well-known/terraform.json"


def python() -> Iterator[Finding]:
    yield passed(f"refinerctl {__version__}, Python {platform.python_version()} ({sys.executable})")


def terraform(name: str) -> Iterator[Finding]:
    binary, version = terraform_version(name)
    yield passed(f"{version} ({binary})")


def provider(settings: Settings, offline: bool) -> Iterator[Finding]:
    """Where Terraform gets the AWS provider from."""
    downloaded = settings.work_folder / "terraform" / settings.env / settings.stack / "providers"
    configured = Path(os.environ.get("TF_CLI_CONFIG_FILE") or "~/.terraformrc").expanduser()
    if downloaded.is_dir():
        yield passed(f"already downloaded ({downloaded})")
    elif mirror := find_provider_mirror():
        yield passed(f"mirror {mirror}")
    elif configured.is_file():
        yield skipped(f"{configured} configures where providers are installed from")
    elif offline:
        yield skipped("--offline")
    else:
        answer = Transport(Limits(attempts=1, connect_timeout_s=5)).fetch("GET", _PROVIDERS, {})
        yield passed(f"registry.terraform.io can be reached ({answer.status})")


def git() -> Iterator[Finding]:
    found = shutil.which("git")
    yield (
        passed(f"{_said(found, '--version').removeprefix('git version ')} ({found})")
        if found
        else skipped("not installed; needed only in a git repository")
    )


def docker() -> Iterator[Finding]:
    """The engine, not the program: refinerctl uses the SDK."""
    from refinerctl.docker_engine import DockerEngine

    if "DOCKER_HOST" not in os.environ and not DOCKER_SOCKET.exists():  # the SDK takes long to import
        yield skipped(f"no engine; {_DOCKER}")
        return
    try:
        client = DockerEngine(call_seconds=5).client()
    except RefinerctlError as error:
        yield skipped(f"{error.message.partition(': ')[0]}; {_DOCKER}")
        return
    yield passed(f"engine {client.version().get('Version', 'unknown')}")


def node(images: tuple[ImageSettings, ...]) -> Iterator[Finding]:
    """The runtime of images that are run from their folders."""
    needing = [image.name for image in images if (image.context.own_folder / "package.json").is_file()]
    if not needing:
        yield skipped("no image of this stack runs on Node.js")
        return
    found, fix = shutil.which("node"), f"Install Node.js {OLDEST_NODE} or newer, or use `--engine docker`."
    if found is None:
        yield failed(f"node is not installed; image {needing[0]} runs on it", fix)
        return
    version = _said(found, "--version").removeprefix("v")
    major = version.partition(".")[0]
    is_old = major.isdecimal() and int(major) < OLDEST_NODE
    yield failed(f"node is version {version} ({found})", fix) if is_old else passed(f"{version} ({found})")


def packages() -> Iterator[Finding]:
    """The Python packages of the local environment."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    yield failed(f"{', '.join(missing)} not installed", NOT_INSTALLED) if missing else passed(", ".join(_PACKAGES))


def rabbitmq() -> Iterator[Finding]:
    from refinerctl.local.rabbitmq import find_rabbitmq

    yield passed(_where(find_rabbitmq().server))


def redis() -> Iterator[Finding]:
    from refinerctl.local.redis import find_redis

    yield passed(_where(find_redis()))


def _where(program: object) -> str:
    path: str | None = getattr(program, "path", None)
    return path or f"image {getattr(program, 'image', 'unknown')}, in the Docker engine"


def _said(program: str, *arguments: str) -> str:
    """The first line that a program prints. Raises RefinerctlError if it cannot run."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefinerctlError(f"cannot run {program}", hint="Install it again.") from error
    return (done.stdout.strip().splitlines() or ["unknown version"])[0]
