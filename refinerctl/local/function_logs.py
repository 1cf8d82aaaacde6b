"""The output of functions and tasks: into a file for `local logs`, and into the emulator's log groups as on AWS."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refinerctl.aws.logs import LogGroups

BATCH_LINES = 500
log = logging.getLogger(__name__)

_Line = tuple[str, str, datetime, str]  # group, stream, time, message


class FunctionLogs:
    """Takes lines from any thread. They are sent in batches by a background thread: a function never waits for it."""

    def __init__(self, path: Path, groups: LogGroups) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._file_lock = threading.Lock()
        self._groups = groups
        self._queue: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._streams: set[tuple[str, str]] = set()
        self._sender = threading.Thread(target=self._send_all, name="function-logs", daemon=True)
        self._sender.start()

    def write(self, function: str, stream: str, request_id: str, message: str, group: str | None = None) -> None:
        """`group` None: the function's on Lambda. For a task, `function` is its service and `request_id` its id."""
        now = datetime.now(UTC)
        record = {
            "timestamp": now.isoformat(timespec="milliseconds"),
            "function": function,
            "request_id": request_id,
            "message": message,
        }
        with self._file_lock:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()
        if message:  # CloudWatch refuses empty messages
            self._queue.put((group or f"/aws/lambda/{function}", stream, now, message))

    def close(self) -> None:
        """Send the remaining lines, if the emulator still answers."""
        self._queue.put(None)
        self._sender.join(timeout=2)
        self._file.close()

    def _send_all(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = self._drain(first)
            try:
                self._send(batch)
            except Exception as error:
                log.warning("%d lines of function output were not sent to the log groups: %s", len(batch), error)
            if ended:
                return

    def _drain(self, first: _Line) -> tuple[list[_Line], bool]:
        batch = [first]
        while len(batch) < BATCH_LINES:
            try:
                line = self._queue.get_nowait()
            except queue.Empty:
                break
            if line is None:
                return batch, True
            batch.append(line)
        return batch, False

    def _send(self, batch: list[_Line]) -> None:
        by_stream: dict[tuple[str, str], list[tuple[datetime, str]]] = defaultdict(list)
        for group, stream, at, message in batch:
            by_stream[group, stream].append((at, message))
        for (group, stream), lines in by_stream.items():
            if (group, stream) not in self._streams:
                self._groups.create_stream(group, stream)
                self._streams.add((group, stream))
            self._groups.put(group, stream, lines)
