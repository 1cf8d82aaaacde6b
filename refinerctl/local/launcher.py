"""Starts and ends the supervisor of an embedded environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from refinerctl.config import Settings
from refinerctl.errors import NotInTimeError, RefinerctlError
from refinerctl.local.instance import MARKER, Instance
from refinerctl.models import LocalStatus

START_SECONDS = 45.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Launch:
    """How to start an environment. `attached`: it ends with the command that started it, however that ends."""

    engine: str = "process"
    port: int | None = None
    attached: bool = False


def launch(instance: Instance, settings: Settings, wanted: Launch) -> LocalStatus:
    """Start the supervisor and return once the emulator answers. Raises RefinerctlError with the reason otherwise."""
    if not instance.is_supervised():
        instance.clear()  # a stale state file must not pass for the new one's
        instance.prepare()
        for name in ("emulator", "functions", "supervisor", "terraform"):
            instance.log(name).write_bytes(b"")
    process = _start(instance, settings, wanted)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = instance.status()
        if status.endpoint_url is not None:
            return status
        if (
            process.poll() is not None and not instance.is_supervised()
        ):  # otherwise another `up` was faster: wait for it
            reason = instance.status().detail or f"its supervisor ended with exit code {process.returncode}"
            raise RefinerctlError(
                f"the embedded environment did not start: {reason}", hint=f"See {instance.log('supervisor')}."
            )
        time.sleep(0.05)
    stop(instance)
    raise RefinerctlError(f"the embedded environment did not start within {START_SECONDS:.0f} s")


def _start(instance: Instance, settings: Settings, wanted: Launch) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "refinerctl.local.supervisor", str(instance.directory)]
    command += ["--project", str(settings.project), "--env", settings.env, "--engine", wanted.engine]
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
        raise NotInTimeError(
            f"the supervisor (pid {instance.status().supervisor_pid}) has not ended within {STOP_SECONDS:.0f} s",
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
        pid = instance.status().supervisor_pid
        if pid is not None and pid != told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            told = pid
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def ended_afterwards(instance: Instance) -> Iterator[None]:
    """Whatever happens inside, and a second Ctrl-C, too: the environment is down afterwards."""
    try:
        yield
    finally:
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, signal.SIG_IGN) for number in numbers]
        try:
            stop(instance)
        finally:
            for number, handler in zip(numbers, previous, strict=True):
                signal.signal(number, handler)
