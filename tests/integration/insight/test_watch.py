"""The live screen on a real terminal, in a real shell: its size, its keys, Ctrl-Z, and how it leaves the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from refinerctl.insight import watch

WATCH = """
import itertools, sys
from rich.text import Text
from refinerctl.insight.watch import watch
from refinerctl.errors import RefinerctlError

numbers = itertools.count()

def read():
    number = next(numbers)
    if number == 3:
        raise RefinerctlError("no answer")
    return number

def draw(value, error, width, height):
    return Text(f"read {value} of {width}x{height} {error.message if error else 'fine'}")

watch(read, draw, 0.2)
"""
SCREEN, END = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[pexpect.spawn[str]]:
    (tmp_path / "watch.py").write_text(WATCH)
    child = pexpect.spawn(
        "/bin/bash",
        ["--norc", "--noprofile", "-i"],
        cwd=str(tmp_path),
        env={"TERM": "xterm-256color", "PS1": "READY> ", "PATH": "/usr/bin:/bin", "COLUMNS": "33", "LINES": "7"},
        dimensions=(24, 90),
        timeout=20,
        encoding="utf-8",
    )
    child.expect_exact("READY> ")
    yield child
    child.close(force=True)


def start(shell: pexpect.spawn[str], redirect: str = "") -> None:
    shell.sendline(f"export COLUMNS=33 LINES=7; {sys.executable} watch.py {redirect}")
    shell.expect_exact(SCREEN)


def modes(shell: pexpect.spawn[str]) -> str:
    shell.sendline("stty -a; echo do''ne")
    shell.expect_exact("done\r\n")
    said: str = shell.before or ""
    shell.expect_exact("READY> ")
    return said


def test_it_continues_after_an_error_and_in_another_size(shell: pexpect.spawn[str]) -> None:
    start(shell)
    shell.expect_exact("read 0 of 90x24 fine")
    shell.expect_exact("read 2 of 90x24 no answer")
    shell.expect_exact("read 4 of 90x24 fine")
    shell.setwinsize(1, 3)
    shell.expect_exact("rea")
    shell.setwinsize(40, 120)
    shell.expect("read \\d+ of 120x40 fine")
    assert "\x1b[2J" not in (shell.before or "")  # overwritten, and never cleared: that would flicker
    shell.send("q")
    shell.expect_exact(END)
    shell.expect_exact("READY> ")
    assert " icanon" in modes(shell)


def test_ctrl_z_restores_the_terminal_and_fg_continues(shell: pexpect.spawn[str]) -> None:
    start(shell)
    shell.expect("read \\d+ of")
    for _ in range(2):
        shell.send("\x1a")
        shell.expect_exact(END)
        left = shell.before or ""
        shell.expect_exact("READY> ")
        assert "\x1b[?25h" in left + (shell.before or "")  # the cursor is back
        said = modes(shell)
        assert " icanon" in said
        assert " echo " in said
        shell.sendline("fg")
        shell.expect_exact(SCREEN)
        shell.expect("read \\d+ of 90x24")
    shell.sendintr()
    shell.expect_exact(END)
    shell.expect_exact("KeyboardInterrupt")
    shell.expect_exact("READY> ")
    assert " icanon" in modes(shell)


def test_a_terminal_at_its_end_does_not_keep_a_processor_busy(tmp_path: Path) -> None:
    """A terminal that was hung up is always ready to be read."""
    began = time.monotonic()
    with (tmp_path / "empty").open("w+") as empty:
        for _ in range(2):
            assert watch.pressed_keys(empty.fileno()) == set()
    assert time.monotonic() - began >= 1.9 * watch.POLL_SECONDS


def test_without_a_keyboard_ctrl_c_ends_it(shell: pexpect.spawn[str]) -> None:
    start(shell, "< /dev/null")
    shell.expect("read \\d+ of 90x24")
    shell.sendintr()
    shell.expect_exact(END)
    shell.expect_exact("READY> ")
    assert " icanon" in modes(shell)
