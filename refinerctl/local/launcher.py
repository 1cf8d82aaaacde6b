"""Starts and stops the supervisor of a local environment."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from refinerctl.config import Settings
from refinerctl.embedded import MARKER, NOT_INSTALLED, Instance, LocalStatus
from refinerctl.errors import RefinerctlError, RefusedError, TimedOutError
from refinerctl.local.server_programs import remove_containers

START_SECONDS = 45.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Launch:
    """How to start an environment. `build_arguments` are for the images of engine `docker`.

    `variables` of the stack's root module take precedence over the environment's values.

    `attached`: the environment stops when the command that started it ends, for whatever reason.
    """

    engine: str = "process"
    port: int | None = None
    build_arguments: Mapping[str, str] = field(default_factory=dict)
    attached: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)


def check_packages() -> None:
    """Raises RefinerctlError unless the packages of extra `local` are installed."""
    if any(importlib.util.find_spec(name) is None for name in ("ministack", "psutil")):
        raise RefinerctlError("the packages of the local environment are not installed", hint=NOT_INSTALLED)


def launch(instance: Instance, settings: Settings, wanted: Launch) -> LocalStatus:
    """Start the supervisor and return once the emulator answers.

    Raises RefusedError if another command is starting it, RefinerctlError with the reason if it does not start.
    """
    process = _start(instance, settings, wanted)
    try:
        return _wait_until_running(instance, process)
    except BaseException:
        with _masked_signals():
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        raise


def _wait_until_running(instance: Instance, process: subprocess.Popen[bytes]) -> LocalStatus:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = instance.status()
        if status.supervisor_pid == process.pid and status.endpoint_url is not None:
            return status
        if process.poll() is not None and instance.is_supervised():  # another command has started the supervisor first
            raise RefusedError(
                "another command is starting this environment", hint="Wait until `refinerctl local status` shows `up`."
            )
        if process.poll() is not None:
            reason = instance.status().detail or f"its supervisor exited with exit code {process.returncode}"
            raise RefinerctlError(
                f"the local environment did not start: {reason}", hint=f"See {instance.log('supervisor')}."
            )
        time.sleep(POLL_SECONDS)
    raise RefinerctlError(f"the local environment did not start within {START_SECONDS:.0f} s")


def _start(instance: Instance, settings: Settings, wanted: Launch) -> subprocess.Popen[bytes]:
    contexts = {i.repository: (str(i.context.folder), i.context.dockerfile) for i in settings.images}
    # -P: a folder named refinerctl in the current folder is not imported instead of the package.
    command = [sys.executable, "-P", "-m", f"{__package__}.supervisor", str(instance.directory)]
    command += ["--engine", wanted.engine, "--region", settings.embedded_region, "--contexts", json.dumps(contexts)]
    command += ["--venvs", str(settings.layout.venvs.resolve())]
    if wanted.port is not None:
        command += ["--port", str(wanted.port)]
    with contextlib.ExitStack() as stack:
        descriptors: tuple[int, ...] = ()
        if wanted.attached:
            # The writing end stays open as long as this process lives; nothing is written to it.
            reading, _writing = os.pipe()
            stack.callback(os.close, reading)
            descriptors = (reading,)
            command += ["--lifeline", str(reading)]
        instance.log("supervisor").parent.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context(instance.log("supervisor").open("ab"))
        return subprocess.Popen(
            command,
            env={**os.environ, MARKER: str(instance.directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
            start_new_session=True,
        )


def stop(instance: Instance) -> bool:
    """Stop the environment and delete its data; return False if there was nothing to stop."""
    was_up = instance.is_supervised()
    if not _stop_supervisor(instance):
        raise TimedOutError(
            f"the supervisor (pid {instance.supervisor_pid()}) did not stop within {STOP_SECONDS:.0f} s",
            hint=f"See {instance.log('supervisor')}.",
        )
    orphans = remove_containers(instance) + instance.kill_orphans()
    instance.clear()
    return was_up or orphans > 0


def _stop_supervisor(instance: Instance) -> bool:
    """Send SIGTERM and wait. A supervisor locks the file a moment before it writes its pid: read again until it has."""
    deadline = time.monotonic() + STOP_SECONDS
    told: int | None = None
    while instance.is_supervised():
        pid = instance.supervisor_pid()
        if pid is not None and pid != told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            told = pid
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


@contextlib.contextmanager
def _masked_signals() -> Iterator[None]:
    """Nothing interrupts the cleanup: not a second Ctrl-C, not SIGTERM, not a closed terminal."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def stopped_afterwards(instance: Instance) -> Iterator[None]:
    """Stop the environment at the end of the block, however it ends."""
    try:
        yield
    finally:
        with _masked_signals():
            stop(instance)


@contextlib.contextmanager
def stopped_on_failure(instance: Instance) -> Iterator[None]:
    """Stop the environment if the block fails or is interrupted: an incomplete one is of no use."""
    try:
        yield
    except BaseException:
        with _masked_signals():
            stop(instance)
        raise
