"""Starts and ends the supervisor of an embedded environment."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from refinerctl.config import Settings
from refinerctl.errors import RefinerctlError, RefusedError, TimedOutError
from refinerctl.local.instance import MARKER, Instance
from refinerctl.local.status import LocalStatus

START_SECONDS = 45.0
STOP_SECONDS = 20.0
ALREADY_RUNNING = 75
"""The exit code of a supervisor that finds another one in place."""


@dataclass(frozen=True)
class Launch:
    """How to start an environment. `attached`: it ends with the command that started it, however that ends."""

    engine: str = "process"
    port: int | None = None
    attached: bool = False


def launch(instance: Instance, settings: Settings, wanted: Launch) -> LocalStatus:
    """Start the supervisor and return once the emulator answers.

    Raises RefusedError if somebody else is starting it, RefinerctlError with the reason if it does not start.
    """
    if importlib.util.find_spec("ministack") is None:
        raise RefinerctlError(
            "the embedded environment is not installed", hint="pip install 'refinerctl[local]' installs it."
        )
    process = _start(instance, settings, wanted)
    try:
        return _wait_until_running(instance, process)
    except BaseException:
        with masked_signals():
            _end(process)
        raise


def _wait_until_running(instance: Instance, process: subprocess.Popen[bytes]) -> LocalStatus:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = instance.status()
        if status.supervisor_pid == process.pid and status.endpoint_url is not None:
            return status
        if process.poll() is not None and instance.is_supervised():  # by another one, which was faster
            raise RefusedError(
                "another command is starting this environment", hint="Wait until `refinerctl local status` says up."
            )
        if process.poll() is not None:
            reason = instance.status().detail or f"its supervisor ended with exit code {process.returncode}"
            raise RefinerctlError(
                f"the embedded environment did not start: {reason}", hint=f"See {instance.log('supervisor')}."
            )
        time.sleep(0.05)
    raise RefinerctlError(f"the embedded environment did not start within {START_SECONDS:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _start(instance: Instance, settings: Settings, wanted: Launch) -> subprocess.Popen[bytes]:
    images = [
        {"name": image.name, "repository": image.repository, "context": str(image.context)} for image in settings.images
    ]
    # -P: a folder called refinerctl where somebody happens to stand is not the package.
    command = [sys.executable, "-P", "-m", "refinerctl.local.supervisor", str(instance.directory)]
    command += ["--engine", wanted.engine, "--region", settings.embedded_region, "--images", json.dumps(images)]
    if wanted.port is not None:
        command += ["--port", str(wanted.port)]
    with contextlib.ExitStack() as stack:
        descriptors: tuple[int, ...] = ()
        if wanted.attached:
            # We keep the writing end open for as long as we live, and say nothing.
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
    """End the environment and everything in it; False if there was nothing to end."""
    was_there = instance.is_supervised()
    if not _end_supervisor(instance):
        raise TimedOutError(
            f"the supervisor (pid {instance.supervisor_pid()}) has not ended within {STOP_SECONDS:.0f} s",
            hint=f"See {instance.log('supervisor')}.",
        )
    orphans = instance.kill_orphans()
    instance.clear()
    return was_there or orphans > 0


def _end_supervisor(instance: Instance) -> bool:
    """It has the lock a moment before it has written its pid: look again until it has."""
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
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def masked_signals() -> Iterator[None]:
    """Cleaning up is not interrupted: not by a second Ctrl-C, nor by SIGTERM or a closed terminal."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def ended_afterwards(instance: Instance) -> Iterator[None]:
    """Whatever happens inside: the environment is down afterwards."""
    try:
        yield
    finally:
        with masked_signals():
            stop(instance)


@contextlib.contextmanager
def ended_on_failure(instance: Instance) -> Iterator[None]:
    """Half an environment is of no use to anybody: what fails or is interrupted inside leaves none."""
    try:
        yield
    except BaseException:
        with masked_signals():
            stop(instance)
        raise
