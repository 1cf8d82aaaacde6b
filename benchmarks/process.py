"""What a command costs: seconds on the clock, seconds of CPU, peak memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

# The kernel counts a child's peak memory from its parent's on: this parent has hardly any.
LAUNCHER = """
import os, sys, time
start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
print([status, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss])
"""


@dataclass(frozen=True)
class Run:
    """Seconds on the clock, seconds of CPU (user and system, children too), peak memory in MB."""

    wall: float
    cpu: float
    memory: float


def measure(command: Sequence[str], folder: Path, environ: Mapping[str, str] = MappingProxyType({})) -> Run:
    """Run to the end, with none of the caller's settings of AWS and refinerctl."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "REFINERCTL_"))}
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(launcher, cwd=folder, env={**clean, **environ}, capture_output=True, text=True, check=False)
    *said, numbers = done.stdout.splitlines()
    status, wall, cpu, memory = json.loads(numbers)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[:1000]}{said[-5:]}")
    return Run(wall, cpu, memory / 1024)


def median(runs: Sequence[Run]) -> Run:
    """The medians of time, the highest memory."""
    wall, cpu = (statistics.median(values) for values in ([run.wall for run in runs], [run.cpu for run in runs]))
    return Run(wall, cpu, max(run.memory for run in runs))
