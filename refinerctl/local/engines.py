"""The two ways to run an image's code: as a process from the image's folder, or as a container of the built image."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.docker_engine import DockerEngine, RunningContainer
from refinerctl.embedded import NOT_INSTALLED
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import BuildContext, ImageReference
from refinerctl.local.ecs_task import Container
from refinerctl.local.execution import OnLine
from refinerctl.local.venvs import is_complete, venv_of

NODE_RUNTIME = Path(__file__).with_name("node_runtime.mjs")
_NO_CODE = ("node_modules", "__pycache__", "test", "tests")
_CMD = re.compile(r"^\s*CMD\s+(\[.*\])\s*$", re.MULTILINE)

# What this project's images are built from, by ECR repository.
Contexts = Mapping[str, BuildContext]


def context_of(image_uri: str, contexts: Contexts) -> tuple[str, BuildContext]:
    """The repository and build context of an image. Raises NotFoundError for another project's image."""
    repository = ImageReference.parse(image_uri).repository
    if repository in contexts:
        return repository, contexts[repository]
    raise NotFoundError(
        f"{image_uri} is not an image of this project",
        hint=f'Add an [images.<name>] with repository = "{repository}" to refinerctl.toml.',
    )


def handler_of(function: FunctionConfiguration, context: BuildContext) -> str:
    """The handler's name: the function's own command, or the last CMD of the image's Dockerfile."""
    return function.command[0] if function.command else command_of(context)[0]


def command_of(context: BuildContext) -> list[str]:
    """The last CMD of the image's Dockerfile. Raises RefinerctlError without one in form `["…"]`."""
    with contextlib.suppress(IndexError, ValueError):
        command = json.loads(_CMD.findall(_dockerfile(context))[-1])
        if command and all(isinstance(word, str) for word in command):
            return list(command)
    raise RefinerctlError(f'{context.dockerfile_path} has no CMD ["…"], which names the handler or the program')


def _dockerfile(context: BuildContext) -> str:
    try:
        return context.dockerfile_path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _node(context: BuildContext, handler: str, _venv: Path | None) -> list[str]:
    """Our own client of the Runtime API: AWS's (aws-lambda-ric) compiles native code when it is installed."""
    node = shutil.which("node")
    if node is None:
        raise RefinerctlError("node is not installed", hint="Install Node.js 20 or newer, or use --engine docker.")
    return [node, str(NODE_RUNTIME), str(context.folder), handler]


def _python(_context: BuildContext, handler: str, venv: Path | None) -> list[str]:
    """AWS's own client of the Runtime API, with the image's packages, or with refinerctl's own."""
    if venv is not None:
        return [str(venv / "bin" / "python"), "-m", "awslambdaric", handler]
    if importlib.util.find_spec("awslambdaric") is None:
        hint = NOT_INSTALLED if sys.platform == "linux" else "It runs on Linux only: use --engine docker."
        raise RefinerctlError(f"{sys.executable} has no awslambdaric, which runs a Python image", hint=hint)
    return [sys.executable, "-m", "awslambdaric", handler]


@dataclass(frozen=True)
class Runtime:
    """A language that a process can run: known by the base image in the Dockerfile, else by a file in the folder."""

    name: str
    base: str
    file: str
    command: Callable[[BuildContext, str, Path | None], list[str]]
    environment: Mapping[str, str]


RUNTIMES = (
    # On Lambda the image has its own Node.js: the SDK's warning about this machine's does not apply.
    Runtime(
        "Node.js", "lambda/nodejs", "package.json", _node, {"AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED": "true"}
    ),
    Runtime("Python", "lambda/python", "requirements.txt", _python, {}),
)


def runtime_of(context: BuildContext) -> Runtime:
    """The runtime of the image. Raises RefinerctlError if it is none of RUNTIMES."""
    text = "\n".join(re.findall(r"^\s*(?:FROM|ARG)\b.*", _dockerfile(context), re.MULTILINE))
    for runtime in RUNTIMES:
        if runtime.base in text:
            return runtime
    for runtime in RUNTIMES:
        if (context.own_folder / runtime.file).is_file():
            return runtime
    files = " and no ".join(runtime.file for runtime in RUNTIMES)
    raise RefinerctlError(f"{context.own_folder} has no {files}: its runtime is unknown", hint="Use --engine docker.")


class ProcessEngine:
    """Runs an image's code as a plain process: no container engine is needed. Virtual environments are in `venvs`."""

    def __init__(self, contexts: Contexts, venvs: Path) -> None:
        self._contexts = contexts
        self._venvs = venvs

    def code_version(self, function: FunctionConfiguration) -> object:
        """Path and modification time of each file, so that a change takes effect with the next invocation."""
        return sorted(_files_of(str(self._context(function.image_uri).folder)))

    def start(self, function: FunctionConfiguration, environment: dict[str, str], on_line: OnLine) -> ProcessChild:
        context = self._context(function.image_uri)
        handler, runtime = handler_of(function, context), runtime_of(context)
        local = {"LAMBDA_TASK_ROOT": str(context.folder), "_HANDLER": handler, **runtime.environment}
        venv = existing_venv(context, self._venvs)
        command = runtime.command(context, handler, venv)
        return ProcessChild(command, environment | local | python_variables(venv), context.folder, on_line)

    def start_container(self, container: Container, environment: dict[str, str], on_line: OnLine) -> ProcessChild:
        """Start the image's command in its build context; `python` is that of its virtual environment."""
        context = self._context(container.image)
        command = list(container.command) or command_of(context)
        local = {"PYTHONUNBUFFERED": "1"}  # lines are logged when they are written
        variables = local | environment | python_variables(existing_venv(context, self._venvs))
        try:
            return ProcessChild(command, variables, context.folder, on_line)
        except OSError as error:
            raise RefinerctlError(f"cannot run {command[0]} of {context.dockerfile_path}: {error.strerror}") from error

    def _context(self, image_uri: str) -> BuildContext:
        _, context = context_of(image_uri, self._contexts)
        return replace(context, folder=context.folder.resolve())


def _files_of(folder: str) -> Iterator[tuple[str, int]]:
    """The files below a folder, with modification times; without packages, tests and names that begin with a dot."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _NO_CODE:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files_of(entry.path)
            else:
                with contextlib.suppress(FileNotFoundError):  # editors replace files
                    yield entry.path, entry.stat().st_mtime_ns


def existing_venv(context: BuildContext, folder: Path) -> Path | None:
    """The image's virtual environment; None if its code needs none. Raises RefinerctlError if it does not exist."""
    venv = venv_of(context, folder)
    if venv is not None and not is_complete(venv):
        raise RefinerctlError(
            f"{context.own_folder} has no virtual environment with the packages of its requirements.txt",
            hint="Run `refinerctl local up --detach`, which creates it.",
        )
    return venv


def python_variables(venv: Path | None) -> dict[str, str]:
    """The variables that make `python` this virtual environment's; None: the Python that runs refinerctl.

    Bytecode is kept in the virtual environment, also that of the image's own files: none is written into the project.
    """
    path = os.environ.get("PATH", os.defpath)
    if venv is None:
        return {"PATH": f"{path}:{Path(sys.executable).parent}", "PYTHONDONTWRITEBYTECODE": "1"}
    bytecode = {"PYTHONPYCACHEPREFIX": str(venv / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    return {"PATH": f"{venv / 'bin'}:{path}", "VIRTUAL_ENV": str(venv), **bytecode}


class ProcessChild:
    """A process group of its own, so that what the handler starts ends with it."""

    def __init__(self, command: list[str], environment: dict[str, str], cwd: Path, on_line: OnLine) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._forward, args=(on_line,), name="function-output", daemon=True).start()

    def ended(self) -> str | None:
        code = self._process.poll()
        if code is None:
            return None
        return f"exit status {code}" if code >= 0 else f"signal: {signal.Signals(-code).name}"

    def memory_bytes(self) -> int:
        with contextlib.suppress(psutil.Error):
            rss: int = psutil.Process(self._process.pid).memory_info().rss
            return rss
        return 0

    def terminate(self) -> None:
        """To the program itself, as ECS does; what it started ends with it."""
        self._process.terminate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _forward(self, on_line: OnLine) -> None:
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe
        with contextlib.suppress(ValueError):  # closed while reading
            for line in self._process.stdout:
                on_line(line.rstrip("\n"))


class ContainerEngine:
    """Runs built images. Containers carry the instance's label, by which those of a killed supervisor are found."""

    def __init__(self, contexts: Contexts, label: tuple[str, str]) -> None:
        self._contexts = contexts
        self._label = label
        self._docker = DockerEngine()

    def code_version(self, function: FunctionConfiguration) -> object:
        """The image, which `local up` builds."""
        return function.image_uri

    def start(self, function: FunctionConfiguration, environment: dict[str, str], on_line: OnLine) -> RunningContainer:
        return self.start_container(
            Container(function.image_uri, function.command, function.memory_mb), environment, on_line
        )

    def start_container(self, container: Container, environment: dict[str, str], on_line: OnLine) -> RunningContainer:
        repository, _ = context_of(container.image, self._contexts)
        # The image has its own folders for these.
        inside = {key: value for key, value in environment.items() if key not in ("PATH", "TMPDIR")}
        image = local_tag(repository)
        return self._docker.run(image, container.command, inside, container.memory_mb, self._label, on_line)


def local_tag(repository: str) -> str:
    """The tag of the image that is built for the local environment."""
    return f"refinerctl.local/{repository}:latest"


def build_images(
    contexts: Iterable[tuple[str, BuildContext]], arguments: Mapping[str, str], on_line: Callable[[str], None]
) -> None:
    """Build the images of these repositories for the local environment."""
    docker = DockerEngine()
    for repository, context in contexts:
        docker.build(context, local_tag(repository), arguments, on_line)
