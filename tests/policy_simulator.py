"""An independent simulator of IAM policies, in one process of Node.js."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.needs import absent

Simulate = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="session")
def simulate() -> Iterator[Simulate]:
    """Return whether a simulation's request is allowed, or its errors."""
    folder = Path(__file__).parent / "simulator"
    if not (folder / "node_modules").is_dir():
        absent("the IAM simulator is not installed (run `make unit`)")
    with subprocess.Popen(
        ["node", "simulate.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        reader, writer = node.stdout, node.stdin

        def ask(simulation: dict[str, Any]) -> Any:
            writer.write(f"{json.dumps(simulation)}\n")
            writer.flush()
            return json.loads(reader.readline())

        yield ask
        writer.close()
