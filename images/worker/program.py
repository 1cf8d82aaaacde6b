"""Runs the program of a processor: with a time limit, with bounded memory for what it prints, without survivors."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

KEPT_BYTES = 8192  # the end of what a program prints is where it says why it fails
_POLL_S = 0.2
_DRAINED_READS = 16  # more than a pipe holds
# A worker that is killed cannot kill its program: the kernel does. Of util-linux, which Debian's images have.
_SETPRIV = shutil.which("setpriv")
_LAUNCH = (_SETPRIV, "--pdeathsig", "KILL", "--") if _SETPRIV else ()


class ProgramError(Exception):
    """The program failed; `output` is the end of what it printed."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class ProgramTimeoutError(ProgramError):
    """The program was killed because its time was over."""


class ProgramStoppedError(ProgramError):
    """The program was killed because the worker stops."""


def run_program(
    argv: Sequence[str], folder: Path, environ: Mapping[str, str], limit_s: float, stop: threading.Event
) -> str:
    """Run a program in `folder` to its end; return the end of its output (stdout and stderr together).

    Raises `ProgramError` if it exits with another code than 0, exceeds the limit, or `stop` is set. The whole process
    group is killed in each case: nothing that the program started is left behind unless it has begun a session.
    """
    process = subprocess.Popen(
        [*_LAUNCH, *argv],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    output = _Tail()
    try:
        _wait(process, output, time.monotonic() + limit_s, limit_s, stop)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout  # noqa: S101 - for mypy: it is a pipe
        output.drain(process.stdout.fileno())
        process.stdout.close()
    if process.returncode:
        raise ProgramError(_reason(process.returncode), output.text())
    return output.text()


def _wait(
    process: subprocess.Popen[bytes], output: _Tail, deadline: float, limit_s: float, stop: threading.Event
) -> None:
    assert process.stdout  # noqa: S101 - for mypy: it is a pipe
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while process.poll() is None:
            if stop.is_set():
                raise ProgramStoppedError("killed because the worker stops", output.text())
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise ProgramTimeoutError(f"killed after {limit_s:g} s (RNR_JOB_TIMEOUT_S)", output.text())
            if selector.get_map() and selector.select(min(left_s, _POLL_S)):
                if not output.read(process.stdout.fileno()):
                    selector.unregister(process.stdout)
            elif not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(left_s, _POLL_S))


def _reason(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{hint}"


class _Tail:
    """The end of a stream."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = False

    def read(self, descriptor: int) -> bool:
        """Read what there is; return False at the stream's end."""
        data = os.read(descriptor, 65536)
        self._kept += data
        if len(self._kept) > KEPT_BYTES:
            del self._kept[:-KEPT_BYTES]
            self._cut = True
        return bool(data)

    def drain(self, descriptor: int) -> None:
        """Read what is left without waiting for a process that still holds the stream."""
        os.set_blocking(descriptor, False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(_DRAINED_READS):
                if not self.read(descriptor):
                    break

    def text(self) -> str:
        """Return the text; it begins with `…` if there was more."""
        return ("…" if self._cut else "") + self._kept.decode(errors="replace").strip()
