"""Logs: one JSON object per line on stdout."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}


def _write(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


class Logger:
    """Writes lines of LOG_LEVEL (default INFO) and above; each has the fields of the logger and its own."""

    def __init__(self, write: Callable[[str], object] = _write, /, **fields: Any) -> None:
        self._write = write
        self._fields = fields
        self._least = _LEVELS.get(os.environ.get("LOG_LEVEL", "INFO").upper(), 20)

    def child(self, **fields: Any) -> Logger:
        """Return a logger whose lines have these fields, too."""
        return Logger(self._write, **{**self._fields, **fields})

    def debug(self, message: str, **fields: Any) -> None:
        """Write what helps to find a fault."""
        self._line("DEBUG", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Write what happened."""
        self._line("INFO", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        """Write what somebody should know of."""
        self._line("WARN", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Write what failed."""
        self._line("ERROR", message, fields)

    def _line(self, level: str, message: str, fields: dict[str, Any]) -> None:
        if _LEVELS[level] < self._least:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"timestamp": now, "level": level, "message": message, **self._fields, **fields}
        present = {name: value for name, value in line.items() if value is not None}
        self._write(json.dumps(present, default=str, ensure_ascii=False) + "\n")


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return what is worth logging of an exception: its name, message and traceback."""
    stack = "".join(traceback.format_exception(error))
    return {"name": type(error).__name__, "message": str(error) or repr(error), "stack": stack}
