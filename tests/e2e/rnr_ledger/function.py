"""`python function.py MODULE`: the process of a warm function. Each line of stdin is a request's id, and invokes it."""

from __future__ import annotations

import contextlib
import importlib
import sys

TIME_MS = 300_000


class Context:
    """Lambda's context, as far as the images use it."""

    def __init__(self, request_id: str) -> None:
        self.aws_request_id = request_id

    def get_remaining_time_in_millis(self) -> int:
        return TIME_MS


def main(module: str) -> None:
    handler = importlib.import_module(module).handler
    for line in sys.stdin:
        with contextlib.suppress(Exception):  # its log says it
            handler({}, Context(line.strip()))


if __name__ == "__main__":
    main(sys.argv[1])
