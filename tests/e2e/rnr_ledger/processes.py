"""Functions and their logs. A log is read once: what was read is kept."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.tests.environment import LIMIT_S, wait_for

_HOST = Path(__file__).with_name("function.py")
_REQUESTS = itertools.count(1)

Line = dict[str, Any]


class Log:
    """The lines of JSON in a file that a process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[Line] = []
        self._read_to = 0

    def lines(self) -> list[Line]:
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]  # a process that is killed may leave half a line
        self._read_to += len(data)
        self._lines += [_parsed(line) for line in data.splitlines()]
        return self._lines


def _parsed(line: bytes) -> Line:
    try:
        return dict(json.loads(line))
    except ValueError:  # a traceback, for instance: failed assertions show it
        return {"message": line.decode(errors="replace")}


class Function:
    """A warm Lambda function: one process, one run at a time."""

    def __init__(self, module: str, environ: Mapping[str, str], log: Path) -> None:
        self.log = Log(log)
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, str(_HOST), module],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                bufsize=1,
            )

    def begin(self) -> str:
        """Invoke it; return the request's id."""
        assert self._process.stdin
        request = f"request-{next(_REQUESTS)}"
        self._process.stdin.write(f"{request}\n")
        return request

    def end(self, request: str) -> Line:
        """Return the log line that a run ends with: `run done` or `run failed`."""
        return dict(wait_for(f"end of a run, see {self.log.path}", lambda: self._ended(request)))

    def run(self) -> Line:
        return self.end(self.begin())

    def _ended(self, request: str) -> Line | None:
        assert self._process.poll() is None, self.log.path.read_text()[-3000:]
        return next(
            (
                line
                for line in reversed(self.log.lines())
                if line["message"] in ("run done", "run failed") and line["requestId"] == request
            ),
            None,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def run_until_output(module: str, environ: Mapping[str, str], needle: bytes) -> None:
    """Run a function that nobody reads the output of, and kill it as soon as its first output contains `needle`.

    It cannot get beyond what fits into the pipe, so it is killed while it writes its log, not later.
    """
    process = subprocess.Popen(
        [sys.executable, str(_HOST), module],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pipesize=4096,
        bufsize=0,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"killed\n")
    first = process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(LIMIT_S)
    process.stdin.close()
    process.stdout.close()
    assert needle in first, first
