"""Runs a function from its image's source folder, as a plain process: no container engine needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.config import ImageSettings
from refinerctl.errors import RefinerctlError
from refinerctl.local.execution import OnLine
from refinerctl.local.images import handler_of, image_of

NODE_RUNTIME = Path(__file__).with_name("node_runtime.mjs")


class ProcessEngine:
    """Starts Node.js on the image's folder with our own runtime client."""

    def __init__(self, images: Sequence[ImageSettings]) -> None:
        self._images = images

    def start(self, function: FunctionConfiguration, environment: dict[str, str], on_line: OnLine) -> ProcessChild:
        image = image_of(function, self._images)
        handler = handler_of(function, image.context)
        if not (image.context / "package.json").is_file():
            raise RefinerctlError(f"{image.context} is not a Node.js image; --engine docker can run it")
        node = shutil.which("node")
        if node is None:
            raise RefinerctlError("node is not installed", hint="Install Node.js 20 or newer, or use --engine docker.")
        command = [node, str(NODE_RUNTIME), str(image.context.resolve()), handler]
        local = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LAMBDA_TASK_ROOT": str(image.context.resolve()),
            # The image has its own Node.js; what the SDK thinks of this machine's helps nobody here.
            "AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED": "true",
        }
        return ProcessChild(command, environment | local, image.context, on_line)


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

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _forward(self, on_line: OnLine) -> None:
        assert self._process.stdout is not None  # noqa: S101 - PIPE was asked for
        with contextlib.suppress(ValueError):  # closed while reading
            for line in self._process.stdout:
                on_line(line.rstrip("\n"))
