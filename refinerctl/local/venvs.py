"""Virtual environments of Python images: one per file of locked requirements, in the work folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import psutil

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError
from refinerctl.images import BuildContext

POLL_SECONDS = 0.1
# -I: PYTHONPATH and the like are not for these packages.
# Not compiled: a function needs a tenth of the modules, and keeps their bytecode itself.
_INSTALL = '--quiet --no-input --disable-pip-version-check install --no-compile --require-hashes --requirement "$3"'
_WITH_OUR_PIP = f'"$1" -I -m venv --without-pip "$2" && exec "$1" -I -m pip --python "$2/bin/python" {_INSTALL}'
_WITH_ITS_PIP = f'"$1" -I -m venv "$2" && exec "$2/bin/python" -I -m pip {_INSTALL}'  # seconds slower
# What the output of venv and pip contains, the reason to name, and what to do.
_FAILURES = (
    (
        "DO NOT MATCH THE HASHES",
        "a package is not the one that was locked: its hash does not match",
        "Find out who changed it. If it was you, run `pip-compile --generate-hashes` again.",
    ),
    (
        "Retrying (Retry(",
        "the package index cannot be reached",
        "Connect to a network, or set PIP_INDEX_URL or PIP_FIND_LINKS to a place with these packages.",
    ),
    (
        "ensurepip is not available",
        "this Python cannot create virtual environments",
        "Install its module venv; on Debian and Ubuntu, the package python3-venv.",
    ),
)


def locked_requirements(context: BuildContext) -> Path | None:
    """The requirements.txt beside the image's Dockerfile, if it has hashes."""
    path = context.own_folder / "requirements.txt"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if "--hash=" in path.read_text(encoding="utf-8"):
            return path
    return None


def venv_of(context: BuildContext, folder: Path) -> Path | None:
    """The image's virtual environment below `folder`, which may not exist yet; None without locked requirements."""
    requirements = locked_requirements(context)
    if requirements is None:
        return None
    python = (sys.implementation.cache_tag or "").encode()
    return folder / hashlib.sha256(python + b"\n" + requirements.read_bytes()).hexdigest()[:32]


def is_complete(venv: Path) -> bool:
    """Whether it can be used: one is moved to its place when it is complete; later its Python may be uninstalled."""
    return (venv / "bin" / "python").exists()


def create_venvs(
    folder: Path, wanted: Iterable[BuildContext], known: Iterable[BuildContext], progress: Progress
) -> None:
    """Create the virtual environments of the images `wanted` below `folder`, and remove those of no image.

    `known` are all images of the project. A second command that needs the same waits. Raises RefinerctlError with the
    reason if packages cannot be installed.
    """
    needed = {venv: context for context in wanted if (venv := venv_of(context, folder)) is not None}
    if not needed and not folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", progress, "another command that creates virtual environments") as lock:
        _remove_others(folder, {venv_of(context, folder) for context in known} | set(needed))
        missing = {venv: context for venv, context in needed.items() if not is_complete(venv)}
        if missing:
            names = ", ".join(sorted(context.own_folder.name for context in missing.values()))
            progress.step(f"creating virtual environments, once: {names}")
            _create_all(missing, lock, progress)


@contextlib.contextmanager
def locked(path: Path, progress: Progress, others: str) -> Iterator[IO[bytes]]:
    """Hold the lock of a file, after waiting for `others`."""
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.step(f"waiting for {others}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _remove_others(folder: Path, keep: set[Path | None]) -> None:
    """Remove incomplete ones, and those that neither an image nor a running process uses."""
    others = [path for path in folder.iterdir() if path.is_dir() and path not in keep]
    in_use = _in_use() if others else set()
    for path in others:
        if str(path) not in in_use:
            shutil.rmtree(path)


def _in_use() -> set[str]:
    """The VIRTUAL_ENV of all processes."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            found.add(process.environ().get("VIRTUAL_ENV", ""))
    return found


def _create_all(missing: Mapping[Path, BuildContext], lock: IO[bytes], progress: Progress) -> None:
    began = time.monotonic()
    running: dict[Path, subprocess.Popen[bytes]] = {}
    try:
        for venv, context in missing.items():
            running[venv] = _start(venv, context, lock)
        while running:
            time.sleep(POLL_SECONDS)
            for venv in [venv for venv, process in running.items() if process.poll() is not None]:
                _finish(venv, missing[venv], running.pop(venv).returncode)
                name = missing[venv].own_folder.name
                progress.step(f"virtual environment of {name}: {time.monotonic() - began:.0f} s")
    finally:
        for process in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _temporary(venv: Path) -> Path:
    return venv.with_suffix(".new")


def _log(venv: Path) -> Path:
    return venv.with_suffix(".log")


def _start(venv: Path, context: BuildContext, lock: IO[bytes]) -> subprocess.Popen[bytes]:
    """It has the lock, too: if this process is killed, nobody removes files that it still writes."""
    shutil.rmtree(venv, ignore_errors=True)  # its Python was uninstalled
    requirements = context.own_folder / "requirements.txt"
    script = _WITH_OUR_PIP if importlib.util.find_spec("pip") else _WITH_ITS_PIP
    with _log(venv).open("wb") as log:
        return subprocess.Popen(
            ["sh", "-c", script, "sh", sys.executable, str(_temporary(venv)), str(requirements)],
            env={"PIP_RETRIES": "2", **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )


def _finish(venv: Path, context: BuildContext, code: int) -> None:
    """Move it to its place. Its scripts would name the old one, but nothing runs them: only `python -m`."""
    if code == 0:
        _temporary(venv).rename(venv)
        _log(venv).unlink()
        return
    text = _log(venv).read_text(encoding="utf-8", errors="replace")
    what = f"the packages of {context.own_folder / 'requirements.txt'} were not installed"
    for sign, reason, hint in _FAILURES:
        if sign in text:
            raise RefinerctlError(f"{what}: {reason}", hint=f"{hint} See {_log(venv)}.")
    lines = [line for line in text.splitlines() if line.startswith("ERROR")] or [f"exit code {code}"]
    raise RefinerctlError(f"{what}: {lines[-1].removeprefix('ERROR: ')}", hint=f"See {_log(venv)}.")
