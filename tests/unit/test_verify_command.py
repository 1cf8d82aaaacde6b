"""`refinerctl verify`: what is refused before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import Command


def test_a_check_that_does_not_exist(refinerctl: Command, tmp_path: Path) -> None:
    done = refinerctl("verify", "--check", "rule", "--skip", "nonsense", cwd=tmp_path)
    assert done.code == 2
    assert "there is no check nonsense" in done.err
    assert "queue-policy" in done.err


def test_something_to_send_without_a_canary(refinerctl: Command, tmp_path: Path) -> None:
    (tmp_path / "c.xml").write_text("<a/>")
    done = refinerctl("verify", "--canary-file", "c.xml", cwd=tmp_path)
    assert (done.code, done.err) == (2, "refinerctl: error: --canary-file is for --canary\n")


def test_a_report_that_could_not_be_written_is_said_before_anything_is_looked_at(
    refinerctl: Command, tmp_path: Path
) -> None:
    done = refinerctl("verify", "--junit", "missing/report.xml", cwd=tmp_path)
    assert done.code == 1
    assert done.err.startswith("refinerctl: error: cannot write missing/report.xml")


@pytest.mark.parametrize("stack", ["registry"])
def test_a_stack_without_checks(refinerctl: Command, tmp_path: Path, stack: str) -> None:
    done = refinerctl("verify", "--stack", stack, cwd=tmp_path)
    assert (done.code, f"there are no checks of stack {stack}" in done.err) == (2, True)


def test_an_environment_that_is_down(refinerctl: Command, tmp_path: Path) -> None:
    (tmp_path / "refinerctl.toml").touch()
    done = refinerctl("verify", cwd=tmp_path)
    assert done.code == 1
    assert "is down" in done.err
    assert "refinerctl local up" in done.err
    assert done.out == ""
