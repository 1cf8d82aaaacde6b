"""The command line, run in this process, and in one of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refinerctl.cli import main


@dataclass(frozen=True)
class Finished:
    """What a command left."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Command:
    """Runs `refinerctl` in this process: quick, and every module stays loaded."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, cwd: Path | None = None) -> Finished:
        self.monkeypatch.setattr(sys, "argv", ["refinerctl", *arguments])
        if cwd is not None:
            self.monkeypatch.chdir(cwd)
        self.capsys.readouterr()
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        seen = self.capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Finished(code, seen.out, seen.err)


def spawn(
    *arguments: str,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    python: tuple[str, ...] = ("-m", "refinerctl"),
    **streams: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter to its end."""
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.run(
        [sys.executable, *python, *arguments],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        text=True,
        check=False,
        timeout=60,
        **(given | streams),
    )
