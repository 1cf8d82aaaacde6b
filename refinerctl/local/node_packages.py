"""The npm packages of Node.js images: `node_modules` in the image's folder, as its package-lock.json says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from refinerctl.console import Progress
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import BuildContext
from refinerctl.local.venvs import locked

# As in the image: no package runs code of its own while it is installed.
_INSTALL = ("ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_NO_NETWORK = {"EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ENOTFOUND", "ERR_SOCKET_TIMEOUT", "ETIMEDOUT"}
_CODE = re.compile(r"^npm (?:error|ERR!) code (\w+)$", re.MULTILINE)
_MESSAGE = re.compile(r"^npm (?:error|ERR!) (?!code |errno |syscall |path )(\S.*)$", re.MULTILINE)


def install_node_packages(work_folder: Path, contexts: Iterable[BuildContext], progress: Progress) -> None:
    """Install the locked packages of these images with npm, unless they are installed.

    A second command that needs the same waits. Raises RefinerctlError with the reason if npm fails.
    """
    folders = dict.fromkeys(context.own_folder for context in contexts)
    if all(is_installed(folder) for folder in folders):
        return
    work_folder.mkdir(parents=True, exist_ok=True)
    with locked(work_folder / "npm.lock", progress, "another command that installs npm packages") as lock:
        for folder in (folder for folder in folders if not is_installed(folder)):
            progress.step(f"installing the npm packages of image {folder.name}, once")
            _install(folder, work_folder / "npm.log", lock)


def is_installed(folder: Path) -> bool:
    """Whether `node_modules` has what package-lock.json locks; also if there is no such file.

    npm writes a list of what it has installed at the end of its work.
    """
    wanted = _packages(folder / "package-lock.json")
    if not wanted:
        return True
    found = _packages(folder / "node_modules" / ".package-lock.json")
    return all(
        _identity(found.get(path, {})) == _identity(package)
        for path, package in wanted.items()
        if path and not package.get("dev") and not package.get("optional")
    )


def _packages(path: Path) -> Mapping[str, dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        packages: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")).get("packages", {})
        return packages
    return {}


def _identity(package: Mapping[str, Any]) -> tuple[Any, Any]:
    return package.get("version"), package.get("integrity")


def _install(folder: Path, log: Path, lock: IO[bytes]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotFoundError(
            f"npm is not installed; it is needed for the packages of {folder}",
            hint="Install Node.js 20 or newer with npm, or use --engine docker.",
        )
    with log.open("wb") as output:
        # It has the lock, too: if this process is killed, nobody else installs into the same folder.
        process = subprocess.Popen(
            [npm, *_INSTALL],
            cwd=folder,
            env={"npm_config_fetch_retries": "1", **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0:
        raise _failure(folder, log, code)
    log.unlink()


def _failure(folder: Path, log: Path, code: int) -> RefinerctlError:
    text = log.read_text(encoding="utf-8", errors="replace")
    what = f"the npm packages of {folder} were not installed"
    kinds, messages = _CODE.findall(text), _MESSAGE.findall(text)
    if not _NO_NETWORK.isdisjoint(kinds):
        return RefinerctlError(
            f"{what}: the registry cannot be reached ({kinds[0]})",
            hint=f"Connect to a network, or set npm_config_registry to a mirror. See {log}.",
        )
    return RefinerctlError(f"{what}: {messages[0] if messages else f'exit code {code}'}", hint=f"See {log}.")
