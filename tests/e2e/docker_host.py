"""A Docker engine of the tests' own, and a base image for it that needs no registry."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pip

from refinerctl.terraform.installation import PROVIDER

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "refinerctl" / "local" / "node_runtime.mjs"
START_SECONDS = 30
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What `npm ci` in the image's build needs: a shell, node with npm, and what it asks the system for.
NODE_PROGRAMS = ("node", "npm", "npx", "sh", "env")
NODE_CHANGES = [
    'ENTRYPOINT ["node", "/var/runtime/node_runtime.mjs", "/var/task"]',
    "ENV PATH=/usr/bin:/bin LAMBDA_TASK_ROOT=/var/task HOME=/tmp",
    f"ENV NODE_EXTRA_CA_CERTS={CERTIFICATES}",
]
PYTHON_CHANGES = ["ENV PATH=/usr/local/bin:/usr/bin:/bin", f"ENV PIP_CERT={CERTIFICATES}"]
# Wheels are linked against these, besides what Python itself needs.
OF_WHEELS = ("libstdc++.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")


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
    with _image(host, tag, NODE_CHANGES) as tar:
        _add_system(tar, NODE_PROGRAMS)
        tar.add(RUNTIME, "var/runtime/node_runtime.mjs")


def import_python_base_image(host: str, tag: str) -> None:
    """Make a slim base image from this machine's Python with pip, below /usr/local as in the public one."""
    root, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    library, program = root / "lib" / version, Path(sys.executable).resolve()
    with _image(host, tag, PYTHON_CHANGES) as tar:
        _add_system(tar, ("sh", "env"))
        tar.add(program, "usr/local/bin/python")
        tar.add(library, f"usr/local/lib/{version}", filter=_of_python)
        tar.add(Path(pip.__file__).parent, f"usr/local/lib/{version}/site-packages/pip", filter=_of_python)
        _add_script(tar, "usr/local/bin/pip", 'exec python -m pip "$@"')
        # What the interpreter and its modules load, and what wheels do.
        for binary in (program, *(library / "lib-dynload").glob("*.so")):
            _add_libraries(tar, binary, root)
        names = set(tar.getnames())
        for found in (path for name in OF_WHEELS for path in Path("/lib").glob(f"*-linux-gnu/{name}")):
            if str(found).lstrip("/") not in names:
                tar.add(found.resolve(), str(found).lstrip("/"))


def import_terraform_image(host: str, tag: str, plugins: Path) -> None:
    """Make an image like HashiCorp's from this machine's Terraform, with a mirror of providers instead of a network."""
    terraform = Path(shutil.which("terraform") or "/usr/local/bin/terraform").resolve()
    with _image(host, tag, ["ENV PATH=/usr/bin:/bin"]) as tar:
        _add_system(tar, ("sh", "cp"))
        tar.add(terraform, "bin/terraform")
        tar.add(plugins, "usr/share/terraform/plugins")


def import_terraform_stand_in(host: str, tag: str) -> None:
    """Make an image like HashiCorp's with a script as Terraform: the provider alone has 700 MB."""
    with _image(host, tag, ["ENV PATH=/usr/bin:/bin"]) as tar:
        _add_system(tar, ("sh", "cp", "mkdir"))
        _add_script(tar, "bin/terraform", f"mkdir -p .terraform/providers/{PROVIDER}; echo stand-in for terraform")


def import_program(host: str, tag: str, program: Path, name: str) -> None:
    """Make an image that has only a program of this machine, as `name`."""
    with _image(host, tag, ["ENV PATH=/usr/local/bin"]) as tar:
        _add_program(tar, program)
        _add_link(tar, f"usr/local/bin/{name}", f"/usr/bin/{program.name}")


@contextlib.contextmanager
def _image(host: str, tag: str, changes: list[str]) -> Iterator[tarfile.TarFile]:
    """The content of an image, which is imported at the end."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.tar"
        with tarfile.open(file, mode="w") as tar:
            yield tar
        client = docker.DockerClient(base_url=host)
        repository, _, version = tag.partition(":")
        client.api.import_image_from_file(str(file), repository=repository, tag=version, changes=changes)
        client.close()


def _of_python(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what is installed beside Python, and what no program needs."""
    entry.uid = entry.gid = 0
    left_out = ("/site-packages", "/__pycache__", "/test", "/config-")
    return None if "/site-packages/pip" not in entry.name and any(part in entry.name for part in left_out) else entry


def _add_system(tar: tarfile.TarFile, programs: tuple[str, ...]) -> None:
    """Folders, these programs of the machine, and its certificates."""
    for folder in ("tmp", "var/task", "etc", "usr/lib"):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        tar.addfile(entry)
    for program in programs:
        _add_program(tar, Path(shutil.which(program) or f"/usr/bin/{program}"))
    if CERTIFICATES.exists():
        tar.add(CERTIFICATES.resolve(), str(CERTIFICATES).lstrip("/"))


def _add_script(tar: tarfile.TarFile, name: str, line: str) -> None:
    script = f"#!/bin/sh\n{line}\n".encode()
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o755, len(script)
    tar.addfile(entry, io.BytesIO(script))


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
    _add_libraries(tar, real)


def _add_libraries(tar: tarfile.TarFile, program: Path, root: Path | None = None) -> None:
    """What the program loads; what is below `root`, as if that were /usr."""
    for library in _libraries(program):
        # Under the name by which the loader looks for it, whatever it links to.
        name = str(library).lstrip("/")
        if root is not None and library.is_relative_to(root):
            name = f"usr/lib/{library.name}"
        if name not in tar.getnames():
            entry = tar.gettarinfo(str(library.resolve()), name)
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
