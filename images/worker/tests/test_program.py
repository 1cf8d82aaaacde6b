"""Programs that succeed, fail, print too much, do not end, or leave processes behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from worker.program import KEPT_BYTES, ProgramError, ProgramStoppedError, ProgramTimeoutError, run_program

IMAGES = Path(__file__).parents[2]


def python(folder: Path, code: str, limit_s: float = 60, stop: threading.Event | None = None) -> str:
    return run_program([sys.executable, "-c", code], folder, os.environ, limit_s, stop or threading.Event())


def test_output_of_both_streams_is_returned(tmp_path: Path) -> None:
    printed = python(tmp_path, "import sys; print('one', flush=True); print('two', file=sys.stderr)")
    assert printed.split() == ["one", "two"]


def test_a_failure_has_the_exit_code_and_the_end_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="exit code 3") as error:
        python(tmp_path, "print('x' * 100_000); print('the reason'); raise SystemExit(3)")
    assert error.value.output.startswith("…x")
    assert error.value.output.endswith("the reason")
    assert len(error.value.output) <= KEPT_BYTES + 1


def test_a_signal_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"killed by SIGKILL \(out of memory\?\)"):
        python(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); time.sleep(1000)"
    with pytest.raises(ProgramTimeoutError, match="killed after 3 s") as error:
        python(tmp_path, code, limit_s=3)
    wait_for_end(int(error.value.output))


def test_a_program_without_output_is_killed_in_time_even_if_it_closes_its_streams(tmp_path: Path) -> None:
    with pytest.raises(ProgramTimeoutError):
        python(tmp_path, "import os, time; os.close(1); os.close(2); time.sleep(1000)", limit_s=2)


def test_what_a_program_leaves_behind_is_killed(tmp_path: Path) -> None:
    # The child holds the output's pipe: the runner waits for the program, not for the pipe's end.
    printed = python(tmp_path, "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid)")
    wait_for_end(int(printed))


def test_a_program_is_killed_when_the_worker_stops(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(ProgramStoppedError):
        python(tmp_path, "import time; time.sleep(1000)", stop=stop)


def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProgramError) as error:
        run_program([str(tmp_path / "not-there")], tmp_path, {}, 10, threading.Event())
    assert "not-there" in error.value.output


def test_a_program_ends_when_the_worker_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"""
import os, pathlib, sys, threading
from worker.program import run_program
program = "import os, pathlib, time; pathlib.Path('pid').write_text(f'{{os.getpid()}} '); time.sleep(1000)"
run_program([sys.executable, "-c", program], pathlib.Path({str(tmp_path)!r}), os.environ, 1000, threading.Event())
"""
    worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(IMAGES)})
    until = time.monotonic() + 60
    while time.monotonic() < until and not (pid_file.exists() and pid_file.read_text().endswith(" ")):
        time.sleep(0.05)
    worker.kill()
    worker.wait()
    wait_for_end(int(pid_file.read_text()))


def wait_for_end(pid: int) -> None:
    """Wait until a process is gone, or only waits for its parent to notice."""
    status = Path(f"/proc/{pid}/stat")
    until = time.monotonic() + 60
    while time.monotonic() < until and status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.05)
    assert time.monotonic() < until, f"process {pid} still runs"
