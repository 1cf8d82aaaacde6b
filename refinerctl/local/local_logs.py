"""What the embedded environment printed, from its log files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from refinerctl.local.instance import Instance

SOURCES = ("functions", "emulator", "terraform", "supervisor")
LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class LogLine:
    """A line and where it is from; the fields of a function's line are set for source `functions` only."""

    source: str
    message: str
    timestamp: str | None = None
    function: str | None = None
    request_id: str | None = None


def read(instance: Instance, source: str) -> Iterator[LogLine]:
    """All lines up to now; the logs of an environment that is down are those of its last run."""
    path = instance.log(source)
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                yield _parsed(source, line)


def follow(instance: Instance, source: str) -> Iterator[LogLine]:
    """All lines up to now and those to come, until the environment is down."""
    path = instance.log(source)
    _wait_for(path, instance)
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            alive = instance.is_supervised()  # looked at first: what was written before the end is still read
            yield from (_parsed(source, line) for line in _whole_lines(file))
            if not alive:
                return
            time.sleep(LOOK_SECONDS)


def _wait_for(path: Path, instance: Instance) -> None:
    while not path.is_file() and instance.is_supervised():
        time.sleep(LOOK_SECONDS)


def _whole_lines(file: IO[str]) -> Iterator[str]:
    """Lines that are complete; half of one stays for the next look."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(start)
            return
        yield line


def _parsed(source: str, line: str) -> LogLine:
    text = line.rstrip("\n")
    if source != "functions":
        return LogLine(source, text)
    try:
        record = json.loads(text)
        return LogLine(source, record["message"], record["timestamp"], record["function"], record["request_id"])
    except (ValueError, KeyError, TypeError):
        return LogLine(source, text)
