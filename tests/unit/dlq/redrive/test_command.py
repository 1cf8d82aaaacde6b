"""`refinerctl dlq redrive`: what is wrong whatever the environment is like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import Command


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "missing argument QUEUE"),
        (("--resume", "--limit", "3"), "--limit and --resume are mutually exclusive"),
        (("--resume", "--rate", "fast"), "is not a rate"),
    ],
)
def test_usage_errors_come_before_the_environment_is_read(
    refinerctl: Command, tmp_path: Path, given: tuple[str, ...], said: str
) -> None:
    done = refinerctl("dlq", "redrive", *given, cwd=tmp_path)
    assert (done.code, said in done.err) == (2, True)
