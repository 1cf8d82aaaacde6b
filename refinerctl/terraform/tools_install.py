"""Install the pinned Terraform into the user's cache."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from refinerctl import files
from refinerctl.config import ToolSettings
from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError
from refinerctl.terraform import tools
from refinerctl.terraform.releases_download import TerraformReleases, unpack
from refinerctl.transport import Limits


@dataclass(frozen=True)
class Installed:
    """A Terraform in the cache. `sha256` is its archive's; None if it `was_there` already."""

    version: str
    path: Path
    was_there: bool = False
    sha256: str | None = None


def install(
    settings: ToolSettings,
    version: str | None,
    progress: Progress,
    *,
    force: bool = False,
    limits: Limits | None = None,
) -> Installed:
    """Fetch a release (None: the pinned one), check it, and keep its binary; what fails leaves nothing.

    Nothing is unpacked before its SHA-256 is the published one. With `force` also what is there already. Raises
    UsageError for a version that is none, RefinerctlError for what could not be had or is not what it should be.
    """
    wanted = tools.check_wanted(version or settings.terraform_version)
    path = tools.cached_terraform(wanted)
    if os.access(path, os.X_OK) and not force:
        return Installed(wanted, path, was_there=True)
    platform = tools.platform_name()
    progress.step(f"fetching Terraform {wanted} for {platform} from {settings.terraform_base_url}")
    releases = TerraformReleases(settings.terraform_base_url, progress.step, limits)

    def report(done: int, total: int | None) -> None:
        progress.update(f"{done / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB")

    checksum = releases.checksum(wanted, platform)
    with tempfile.TemporaryFile() as archive:
        releases.download(wanted, platform, checksum, archive, report)
        _keep(archive, path)
    return Installed(wanted, path, sha256=checksum)


def _keep(archive: IO[bytes], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefinerctlError(f"cannot make {path.parent}: {error.strerror}") from error
    with files.replacing(path, private=True) as temporary:
        with temporary.open("wb") as binary:
            unpack(archive, binary)
        temporary.chmod(0o755)
