"""How long a command takes with 50 rulesets, 50 ms from AWS: seconds from its start to its end.

An AWS emulator on 127.0.0.1, every request through a forwarder that adds the round trip. Prints seconds; asserts
nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.forwarder import forwarder
from refinerctl.aws.session import AwsSession
from refinerctl.embedded import Instance
from refinerctl.local.emulator import start_emulator

RULESETS = 50
ROUND_TRIP_S = 0.05
RUNS = 5
REGION = "us-east-1"
BUCKET = "data-repository"

SETTINGS = f"""
environment = "bench"
[environments.bench]
region = "{REGION}"
"""

DONE = (0, 5)  # 5: there are differences, as verify has them


def measure(command: str, fill: Callable[[AwsSession], None]) -> None:
    """Run `refinerctl COMMAND` on what `fill` has made, a few times."""
    with tempfile.TemporaryDirectory() as name:
        instance = Instance(Path(name) / "instance")
        instance.prepare()
        emulator = start_emulator(instance, None, REGION)
        try:
            fill(AwsSession(REGION, profile=None, endpoint_url=emulator.endpoint_url, embedded=True))
            folder = Path(name) / "project"
            _write_project(folder)
            with forwarder(f"127.0.0.1:{emulator.port}", ROUND_TRIP_S) as near:
                seconds = sorted(_run(command, folder, f"http://{near}") for _ in range(RUNS))
        finally:
            emulator.stop()
    middle = seconds[len(seconds) // 2]
    print(f"{command}: {RULESETS} rulesets, round trip {ROUND_TRIP_S * 1000:.0f} ms: {middle:.2f} s", end=" ")
    print(f"({seconds[0]:.2f} to {seconds[-1]:.2f} of {RUNS} runs, the command's start included)")


def _write_project(folder: Path) -> None:
    """What an operator has: settings, and values of 50 rulesets."""
    environment = folder / "terraform" / "environments" / "bench"
    module = folder / "terraform" / "stacks" / "refiner"
    for path in (environment, module):
        path.mkdir(parents=True)
    (folder / "refinerctl.toml").write_text(SETTINGS)
    rulesets = "\n".join(f'  R{n} = {{ prefix = "R{n}/", image_uri = "team/refiner" }}' for n in range(RULESETS))
    (environment / "refiner.tfvars").write_text(f"rulesets = {{\n{rulesets}\n}}\n")
    (environment / "backend.hcl").write_text(f'bucket = "state"\nregion = "{REGION}"\n')
    (module / "main.tf").write_text('terraform {\n  backend "s3" {\n    key = "refiner/terraform.tfstate"\n  }\n}\n')


def _run(command: str, folder: Path, endpoint: str) -> float:
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "NO_PROXY": "127.0.0.1"}
    arguments = [sys.executable, "-m", "refinerctl", command, "--endpoint-url", endpoint, "-q", "--output", "json"]
    began = time.monotonic()
    done = subprocess.run(arguments, cwd=folder, env=environment, check=False, capture_output=True)
    elapsed_s = time.monotonic() - began
    if done.returncode not in DONE:
        raise SystemExit(done.stderr.decode())
    return elapsed_s
