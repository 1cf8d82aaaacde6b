"""A Docker engine of the tests' own, and a base image for it that needs no registry."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "refinerctl" / "local" / "node_runtime.mjs"
START_SECONDS = 30
# What `npm ci` in the image's build needs: a shell, node with npm, and what it asks the system for.
PROGRAMS = ("node", "npm", "npx", "sh", "env")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class EngineError(Exception):
    """dockerd is there but does not start."""


def why_not() -> str | None:
    """Why no engine can be started here; None if one can."""
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    if shutil.which("dockerd") is None:
        return "dockerd is not installed (Debian: docker.io)"
    return None


@contextlib.contextmanager
def docker_engine(folder: Path) -> Iterator[str]:
    """Start dockerd with everything below `folder`; yields what DOCKER_HOST is to be."""
    # A unix socket's path has at most 108 bytes; pytest's folders are longer.
    socket = Path("/tmp") / f"refinerctl-test-{os.getpid()}.sock"
    host = f"unix://{socket}"
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "dockerd",
                *("--host", host),
                *("--data-root", str(folder / "data")),
                *("--exec-root", str(folder / "exec")),
                *("--pidfile", str(folder / "pid")),
                *("--bridge", "none", "--iptables=false", "--ip6tables=false"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(host, process, folder / "dockerd.log")
        yield host
    finally:
        process.terminate()
        process.wait(30)
        socket.unlink(missing_ok=True)
        # It leaves its network namespace mounted, which pytest could not remove.
        subprocess.run(["umount", str(folder / "exec" / "netns" / "default")], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(docker.errors.DockerException):
            client = docker.DockerClient(base_url=host)
            client.ping()
            client.close()
            return
        time.sleep(0.1)
    raise EngineError(f"dockerd did not start:\n{log.read_text(errors='replace')[-2000:]}")


def import_base_image(host: str, tag: str) -> None:
    """Make a base image like AWS's from this machine's Node.js: an entrypoint that runs the handler named by CMD."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("tmp", "var/task", "etc", "usr/lib"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for program in PROGRAMS:
            _add_program(tar, Path(shutil.which(program) or f"/usr/bin/{program}"))
        tar.add(RUNTIME, "var/runtime/node_runtime.mjs")
        if CERTIFICATES.exists():
            tar.add(CERTIFICATES.resolve(), str(CERTIFICATES).lstrip("/"))
    changes = [
        'ENTRYPOINT ["node", "/var/runtime/node_runtime.mjs", "/var/task"]',
        "ENV PATH=/usr/bin:/bin LAMBDA_TASK_ROOT=/var/task HOME=/tmp",
        f"ENV NODE_EXTRA_CA_CERTS={CERTIFICATES}",
    ]
    _import(host, tag, buffer.getvalue(), changes)


def import_program(host: str, tag: str, program: Path, name: str) -> None:
    """Make an image that has only a program of this machine, as `name`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add_program(tar, program)
        _add_link(tar, f"usr/local/bin/{name}", f"/usr/bin/{program.name}")
    _import(host, tag, buffer.getvalue(), ["ENV PATH=/usr/local/bin"])


def _import(host: str, tag: str, content: bytes, changes: list[str]) -> None:
    client = docker.DockerClient(base_url=host)
    repository, _, version = tag.partition(":")
    client.api.import_image_from_data(content, repository=repository, tag=version, changes=changes)
    client.close()


def _add_program(tar: tarfile.TarFile, program: Path) -> None:
    real = program.resolve()
    module = next((parent for parent in real.parents if parent.name in ("npm", "corepack")), None)
    if module is not None:  # npm is a script in a folder of its own
        if str(module).lstrip("/") not in tar.getnames():
            tar.add(module, str(module).lstrip("/"))
        _add_link(tar, f"usr/bin/{program.name}", str(real))
        return
    tar.add(real, f"usr/bin/{program.name}")
    if program.name == "sh":
        _add_link(tar, "bin/sh", "/usr/bin/sh")
    for library in _libraries(real):
        # Under the name by which the loader looks for it, whatever it links to.
        if str(library).lstrip("/") not in tar.getnames():
            entry = tar.gettarinfo(str(library.resolve()), str(library).lstrip("/"))
            with library.open("rb") as file:
                tar.addfile(entry, file)


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _libraries(program: Path) -> list[Path]:
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    words = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    # Name resolution is loaded at run time, so ldd does not tell of it.
    loaded_later = [
        path for name in ("libnss_dns", "libresolv") for path in Path("/lib").glob(f"*-linux-gnu/{name}.so.2")
    ]
    return [Path(word) for word in words] + loaded_later
